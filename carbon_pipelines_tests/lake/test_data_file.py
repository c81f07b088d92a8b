import datetime as dt
import math
import uuid
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import EqualTo
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.locations import load_location_provider
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from carbon_pipelines.lake import data_file
from carbon_pipelines.lake.data_file import FileTarget, write_data_file
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.types import arrow_type
from carbon_pipelines_tests.lake.local_lake import LocalLake, open_duckdb

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
MOMENTS = st.integers(-(2**63) + 1, 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(
    st.sampled_from("a\U0010ffff\ud7ff\ue000é"), min_size=14, max_size=20
)
BYTES = st.binary(max_size=40) | st.text("\xff\xfe", min_size=14, max_size=20).map(
    lambda text: text.encode("latin-1")
)
VALUES: list[tuple[PrimitiveType, st.SearchStrategy[Any]]] = [
    (IntegerType(), INT32),
    (LongType(), INT64),
    (DateType(), INT32),
    (TimeType(), st.integers(0, 86_399_999_999)),
    (TimestampType(), MOMENTS),
    (TimestamptzType(), MOMENTS),
    (FloatType(), st.floats(width=32)),
    (DoubleType(), st.floats()),
    (BooleanType(), st.booleans()),
    (StringType(), TEXTS),
    (BinaryType(), BYTES),
    (DecimalType(9, 2), st.decimals(-9999999, 9999999, places=2)),
    (DecimalType(18, 2), st.decimals(-(10**15), 10**15, places=2)),
    (DecimalType(30, 4), st.decimals(-(10**25), 10**25, places=4)),
]
ROWS = st.lists(
    st.tuples(*(st.none() | strategy for _, strategy in VALUES)), min_size=1, max_size=12
)
SCHEMA = Schema(*(NestedField(i, f"c{i}", kind) for i, (kind, _) in enumerate(VALUES, start=1)))


def target(path: Path, schema: Schema) -> FileTarget:
    locations = load_location_provider(f"file://{path}", {})
    return FileTarget(PyArrowFileIO(), locations, schema, UNPARTITIONED_PARTITION_SPEC)


def arrow_column(values: Sequence[Any], kind: PrimitiveType) -> pa.Array:
    """Dates and times are given as integers, for Python's do not reach as far."""
    arrow = arrow_type(kind)
    if isinstance(kind, DateType):
        return pa.array(values, pa.int32()).view(arrow)
    if isinstance(kind, TimeType | TimestampType | TimestamptzType):
        return pa.array(values, pa.int64()).view(arrow)
    return pa.array(values, arrow)


def written(path: Path, rows: Sequence[Sequence[Any]], schema: Schema = SCHEMA) -> DataFile:
    columns = [
        arrow_column([row[i] for row in rows], field.field_type)
        for i, field in enumerate(schema.fields)
    ]
    table = pa.Table.from_arrays(columns, schema=arrow_schema(schema))
    return write_data_file([table], target(path, schema))


@pytest.fixture(scope="module")
def small_row_groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_file, "ROW_GROUP_ROWS", 3)
        yield tmp_path_factory.mktemp("files")


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_no_value_lies_outside_the_bounds_of_its_column(
    small_row_groups: Path, rows: list[tuple[Any, ...]]
) -> None:
    file = written(small_row_groups, rows)

    for field, values in zip(SCHEMA.fields, zip(*rows, strict=True), strict=True):
        present = [value for value in values if value is not None]
        numbers = [v for v in present if not (isinstance(v, float) and math.isnan(v))]
        low = file.lower_bounds.get(field.field_id)
        high = file.upper_bounds.get(field.field_id)
        if low is not None:
            assert from_bytes(field.field_type, low) <= min(numbers)
        if high is not None:
            assert from_bytes(field.field_type, high) >= max(numbers)
        assert (low is not None) == bool(present and len(numbers) == len(present)), field
        assert file.null_value_counts[field.field_id] == len(values) - len(present)
        assert file.value_counts[field.field_id] == len(values)
        assert file.nan_value_counts.get(field.field_id, 0) == len(present) - len(numbers)


def test_negative_wide_decimals_of_one_row_group_are_below_positive_ones_of_another(
    small_row_groups: Path,
) -> None:
    schema = Schema(NestedField(1, "amount", DecimalType(38, 2)))
    amounts = ["5.00", "7.00", "6.00", "-3.00", "-2.00", "-4.00"]

    file = written(small_row_groups, [(Decimal(amount),) for amount in amounts], schema)

    assert from_bytes(DecimalType(38, 2), file.lower_bounds[1]) == Decimal("-4.00")
    assert from_bytes(DecimalType(38, 2), file.upper_bounds[1]) == Decimal("7.00")


def test_a_uuid_has_no_bounds_because_engines_order_uuids_differently(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "id", UUIDType()), NestedField(2, "n", IntegerType()))

    file = written(tmp_path, [(uuid.uuid4(), 1)], schema)

    assert (file.lower_bounds.keys(), file.upper_bounds.keys()) == ({2}, {2})


def test_numbers_beside_a_nan_have_no_bounds_but_the_nan_is_counted(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "x", DoubleType()), NestedField(2, "y", FloatType()))

    file = written(tmp_path, [(1.0, 1.0), (math.nan, 2.0)], schema)

    assert (file.lower_bounds.keys(), file.upper_bounds.keys()) == ({2}, {2})
    assert file.nan_value_counts == {1: 1, 2: 0}


def test_text_too_long_for_parquets_statistics_has_no_bounds(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "doc", StringType()))

    file = written(tmp_path, [("a",), ("z" * 5000,)], schema)

    assert (file.lower_bounds, file.upper_bounds, file.null_value_counts) == ({}, {}, {1: 0})


def test_bounds_belong_to_the_column_and_not_to_one_whose_path_reads_the_same(
    tmp_path: Path,
) -> None:
    schema = Schema(
        NestedField(1, "tags", ListType(10, LongType(), element_required=False)),
        NestedField(2, "tags.list.element", LongType()),
    )
    rows = pa.Table.from_pylist(
        [{"tags": [900, 1], "tags.list.element": 5}], schema=arrow_schema(schema)
    )

    file = write_data_file([rows], target(tmp_path, schema))

    low = {i: from_bytes(LongType(), bound) for i, bound in file.lower_bounds.items()}
    high = {i: from_bytes(LongType(), bound) for i, bound in file.upper_bounds.items()}
    assert (low, high) == ({2: 5}, {2: 5})


def test_a_file_without_rows_has_counts_of_zero_and_no_bounds(tmp_path: Path) -> None:
    file = write_data_file([], target(tmp_path, SCHEMA))

    assert (file.record_count, file.lower_bounds, file.upper_bounds) == (0, {}, {})
    assert set(file.value_counts.values()) == {0}


# PostgreSQL's type -> values as an envelope has them and as DuckDB shows them.
SHOWN: dict[str, list[tuple[Any, str]]] = {
    "int2": [(-32768, "-32768"), (32767, "32767")],
    "int4": [(-(2**31), "-2147483648"), (2**31 - 1, "2147483647")],
    "int8": [(-(2**63), "-9223372036854775808"), (2**63 - 1, "9223372036854775807")],
    "oid": [(0, "0"), (2**32 - 1, "4294967295")],
    "bool": [(True, "true"), (False, "false")],
    "float4": [("NaN", "nan"), (0.1, "0.1")],
    "float8": [("-Infinity", "-inf"), (0.1, "0.1")],
    "numeric": [("NaN", "NaN"), ("1.500", "1.500")],
    "numeric(9,2)": [("-1234567.89", "-1234567.89"), ("0.01", "0.01")],
    "numeric(12,2)": [("-0.01", "-0.01"), ("9999999999.99", "9999999999.99")],
    "numeric(30,4)": [("-12345678901234567890.5000",) * 2, ("7.0000", "7.0000")],
    "text": [("", ""), ("naïve \U0001f600 text that is longer than sixteen",) * 2],
    "varchar": [("it's", "it's"), ("line\nbreak", "line\nbreak")],
    "jsonb": [('{"a": [1, null]}',) * 2, ("null", "null")],
    "mood": [("happy", "happy"), ("sad", "sad")],
    "date": [("infinity", "infinity"), ("0044-03-15 BC", "0044-03-15 (BC)")],
    "time": [("00:00:00", "00:00:00"), ("23:59:59.999999", "23:59:59.999999")],
    "timestamp": [("-infinity", "-infinity"), ("2024-02-29 12:00:00.000001",) * 2],
    "timestamptz": [("infinity", "infinity"), ("2024-02-29 12:00:00.5+00",) * 2],
    "uuid": [("ffffffff-ffff-ffff-ffff-ffffffffffff",) * 2, (str(uuid.UUID(int=1)),) * 2],
    "bytea": [("", ""), ("00ff61", "\\x00\\xFFa")],
    "int4[]": [([], "[]"), ([1, None, -3], "[1, NULL, -3]")],
    "text[]": [(["a,b", ""], "['a,b', '']"), ([None], "[NULL]")],
    "numeric(12,2)[]": [(["1.50"], "[1.50]"), ([None, "-2.00"], "[NULL, -2.00]")],
    "timestamptz[]": [(["infinity"], "[infinity]"), ([], "[]")],
    "uuid[]": [([str(uuid.UUID(int=7))], f"[{uuid.UUID(int=7)}]"), ([None], "[NULL]")],
    "bool[]": [([True, False], "[true, false]"), ([], "[]")],
}


def test_duckdb_reads_every_type_as_postgresql_wrote_it(tmp_path: Path) -> None:
    columns = {"id": "int8", **{f"c{i}": kind for i, kind in enumerate(SHOWN)}}
    lake = LocalLake(tmp_path, columns, ["id"])
    rows = [
        {"id": n, **{f"c{i}": values[n][0] for i, values in enumerate(SHOWN.values())}}
        for n in range(2)
    ]
    lake.load([])

    lake.merge([{"op": "c", "after": row} for row in [*rows, {"id": 2}]])

    texts = ", ".join(f"c{i}::VARCHAR" for i in range(len(SHOWN)))
    found = {row[0]: row[1:] for row in lake.rows(f"id, {texts}")}
    for n in range(2):
        assert dict(zip(SHOWN, found[n], strict=True)) == {k: v[n][1] for k, v in SHOWN.items()}
    assert found[2] == (None,) * len(SHOWN)


def test_pyiceberg_reads_the_bounds_of_infinite_timestamps(tmp_path: Path) -> None:
    lake = LocalLake(tmp_path, {"id": "int8", "until": "timestamptz"}, ["id"])
    lake.load([])
    lake.merge([{"op": "c", "after": {"id": 1, "until": "infinity"}}])

    found = lake.fresh().scan(row_filter="until > '2100-01-01T00:00:00+00:00'").to_arrow()

    assert found.column("until").cast(pa.int64()).to_pylist() == [2**63 - 1]


PROBED: dict[str, tuple[Any, ...]] = {
    "int4": (-5, 0, 5),
    "numeric(9,2)": (Decimal("-1.50"), Decimal("0.00"), Decimal("1.50")),
    "numeric(30,4)": (Decimal("-1.5000"), Decimal("0.0000"), Decimal("1.5000")),
    "float8": (-0.0, math.inf, 2.5),
    "text": ("é" * 20, "", "\U0010ffff" * 17),
    "bytea": (b"\xff" * 17, b"\x00", b"a"),
    "date": (dt.date(1969, 12, 31), dt.date(2024, 2, 29), dt.date(1, 1, 1)),
    "timestamptz": (
        dt.datetime(1969, 12, 31, 23, 59, 59, 999999, dt.UTC),
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        None,
    ),
    "time": (dt.time(0), dt.time(23, 59, 59, 999999), dt.time(12)),
    "bool": (True, None, False),
    "uuid": (uuid.UUID(int=1), uuid.UUID(int=2**128 - 1), uuid.UUID(int=2**127)),
}


def test_a_filter_on_any_value_finds_its_row_in_duckdb_and_pyiceberg(tmp_path: Path) -> None:
    columns = {"id": "int8", **{f"c{i}": kind for i, kind in enumerate(PROBED)}}
    lake = LocalLake(tmp_path, columns, ["id"])
    for n in range(3):
        lake.load([{"id": n, **{f"c{i}": v[n] for i, v in enumerate(PROBED.values())}}])

    table = lake.fresh()
    path = table.metadata_location.removeprefix("file://")
    for i, values in enumerate(PROBED.values()):
        for n, value in ((n, value) for n, value in enumerate(values) if value is not None):
            query = f"SELECT id FROM iceberg_scan('{path}') WHERE c{i} = ?"
            assert open_duckdb().execute(query, [value]).fetchall() == [(n,)], (i, value)
            if not isinstance(value, uuid.UUID):  # Arrow compares none, whatever wrote them
                scan = table.scan(row_filter=EqualTo(f"c{i}", value), selected_fields=("id",))
                assert scan.to_arrow().column("id").to_pylist() == [n], (i, value)
