import datetime as dt
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import (
    DayTransform,
    HourTransform,
    MonthTransform,
    YearTransform,
    parse_transform,
)
from pyiceberg.types import DateType, LongType, NestedField, TimestamptzType

from carbon_pipelines.errors import UnrepresentableValueError
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.partition_values import split_by_partition
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines_tests.lake.local_lake import LocalLake

SCHEMA = Schema(
    NestedField(1, "id", LongType()),
    NestedField(2, "at", TimestamptzType()),
    NestedField(3, "day", DateType()),
)
INFINITE = 2**63 - 1


def rows(moments: list[int | None], days: list[int | None]) -> pa.Table:
    columns = [
        pa.array(range(len(moments)), pa.int64()),
        pa.array(moments, pa.int64()).view(pa.timestamp("us", tz="UTC")),
        pa.array(days, pa.int32()).view(pa.date32()),
    ]
    return pa.Table.from_arrays(columns, schema=arrow_schema(SCHEMA))


def split(table: pa.Table, *fields: tuple[int, Any]) -> dict[tuple[Any, ...], list[int]]:
    """Ids of the rows of each partition."""
    spec = PartitionSpec(
        *(
            PartitionField(source, 1000 + n, transform, f"p{n}")
            for n, (source, transform) in enumerate(fields)
        )
    )
    return {
        tuple(partition.partition): part.column("id").to_pylist()
        for partition, part in split_by_partition(table, spec, SCHEMA)
    }


@given(st.lists(st.none() | st.datetimes(timezones=st.just(dt.UTC)), min_size=1, max_size=20))
def test_years_months_days_and_hours_are_pyicebergs_wherever_it_can_count(
    moments: list[dt.datetime | None],
) -> None:
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    micros = [None if m is None else (m - epoch) // dt.timedelta(microseconds=1) for m in moments]
    days = [None if m is None else m // 86_400_000_000 for m in micros]
    table = rows(micros, days)

    for transform in (YearTransform(), MonthTransform(), DayTransform(), HourTransform()):
        of_moment = transform.transform(TimestamptzType())
        expected: dict[Any, list[int]] = {}
        for number, value in enumerate(micros):
            expected.setdefault((of_moment(value),), []).append(number)
        assert split(table, (2, transform)) == expected
        if not isinstance(transform, HourTransform):
            assert split(table, (3, transform)) == expected


def test_infinite_moments_have_partitions_at_the_ends_and_never_that_of_null() -> None:
    table = rows([INFINITE, -INFINITE, None, 0], [2**31 - 1, -(2**31) + 1, None, 0])

    assert split(table, (2, YearTransform())) == {
        (292277,): [0],
        (-292278,): [1],
        (None,): [2],
        (0,): [3],
    }
    assert split(table, (2, DayTransform())) == {
        (106751991,): [0],
        (-106751992,): [1],
        (None,): [2],
        (0,): [3],
    }
    assert split(table, (3, MonthTransform()), (3, DayTransform())).keys() == {
        (70555326, 2**31 - 1),
        (-70555327, -(2**31) + 1),
        (None, None),
        (0, 0),
    }


def test_a_moment_past_the_hours_that_iceberg_counts_is_named() -> None:
    with pytest.raises(UnrepresentableValueError, match=f"column at: '{INFINITE} microseconds'"):
        split(rows([INFINITE], [0]), (2, HourTransform()))


@pytest.mark.parametrize(
    ("kind", "lowest", "held"),
    [
        ("int4", -(2**31), -(2**31) + 8),
        ("int8", -(2**63), -(2**63) + 8),
        ("numeric(9,2)", Decimal("-9999999.99"), Decimal("-9999999.90")),
        ("numeric(30,4)", Decimal("-" + "9" * 26 + ".9999"), Decimal("0.0001")),
    ],
)
def test_a_number_too_low_for_its_truncated_value_is_named(
    tmp_path: Path, kind: str, lowest: Any, held: Any
) -> None:
    by_ten = [{"column": "p", "transform": "truncate[10]"}]
    lake = LocalLake(tmp_path, {"id": "int8", "p": kind}, ["id"], partitioning=by_ten)
    lake.load([{"id": 1, "p": held}, {"id": 2, "p": None}])
    value = lowest if isinstance(lowest, int) else str(lowest)

    with pytest.raises(UnrepresentableValueError, match=r"column p: .*truncate\[10\]"):
        lake.merge([{"op": "u", "after": {"id": 2, "p": value}}])

    assert lake.rows("id") == [(1,), (2,)]


def test_partitions_by_two_columns_of_one_fixed_type_are_read_by_duckdb(tmp_path: Path) -> None:
    kinds = {"a": "uuid", "b": "uuid", "m": "numeric(9,2)", "n": "numeric(9,2)"}
    lake = LocalLake(
        tmp_path,
        {"id": "int8", **kinds},
        ["id"],
        partitioning=[{"column": name, "transform": "identity"} for name in kinds],
    )
    values = uuid.UUID(int=1), uuid.UUID(int=2), Decimal("1.50"), Decimal("-2.25")
    lake.load([{"id": number, **dict(zip(kinds, values, strict=True))} for number in (1, 2)])

    lake.merge([{"op": "d", "before": {"id": 1}}])

    where = "n = -2.25 AND m = 1.5"
    assert lake.rows("id, b", where) == [(2, uuid.UUID(int=2))]
    assert lake.fresh().scan(selected_fields=("id",)).to_arrow().num_rows == 1


PLACES: dict[str, tuple[str, Any, Any]] = {
    "int8": ("truncate[10]", 15, 7),
    "text": ("truncate[1]", "été", "a/b"),
    "uuid": ("identity", uuid.UUID(int=1), str(uuid.UUID(int=2**127))),
    "bool": ("identity", True, False),
    "numeric(30,4)": ("identity", Decimal("-1.5000"), "2.2500"),
    "date": ("month", dt.date(1969, 12, 31), "infinity"),
    "timestamptz": ("day", dt.datetime(1969, 12, 31, 23, tzinfo=dt.UTC), "-infinity"),
    "timestamp": ("identity", dt.datetime.fromisoformat("2024-01-01"), "infinity"),
    "bytea": ("bucket[4]", b"\xff", "00"),
    "int4": ("truncate[10]", -1, 1),
    "numeric(9,2)": ("truncate[50]", Decimal("-0.01"), "0.01"),
    "varchar": ("truncate[2]", "🐘é!", "é🐘!"),
    "time": ("identity", dt.time(23, 59, 59, 999999), "00:00:00"),
}


@pytest.mark.parametrize("kind", PLACES)
def test_a_row_moves_to_another_partition_and_is_found_there(tmp_path: Path, kind: str) -> None:
    transform, old, new = PLACES[kind]
    lake = LocalLake(
        tmp_path,
        {"id": "int8", "p": kind},
        ["id"],
        partitioning=[{"column": "p", "transform": transform}],
    )
    lake.load([{"id": 1, "p": old}, {"id": 2, "p": None}, {"id": 3, "p": old}])

    lake.merge([{"op": "u", "after": {"id": 1, "p": new}}, {"op": "d", "before": {"id": 2}}])

    files = load_table_files(lake.fresh().current_snapshot(), lake.table.io)
    assert len({f.file.partition for f in files.data}) == 2
    assert lake.rows("id") == [(1,), (3,)]
    assert lake.rows("id", "p IS NULL") == []
    assert lake.fresh().scan(selected_fields=("id",)).to_arrow().num_rows == 2


def test_a_filter_finds_infinite_moments_in_their_partition(tmp_path: Path) -> None:
    lake = LocalLake(
        tmp_path,
        {"id": "int8", "at": "timestamptz"},
        ["id"],
        partitioning=[{"column": "at", "transform": "month"}],
    )
    lake.load([{"id": 1, "at": dt.datetime(2024, 1, 1, tzinfo=dt.UTC)}])
    lake.merge(
        [
            {"op": "c", "after": {"id": 2, "at": "infinity"}},
            {"op": "c", "after": {"id": 3, "at": "-infinity"}},
        ]
    )

    late = lake.fresh().scan(row_filter="at > '2025-01-01T00:00:00+00:00'", selected_fields=("id",))
    assert late.to_arrow().to_pylist() == [{"id": 2}]
    assert lake.rows("id", "\"at\" > TIMESTAMPTZ '2025-01-01 00:00:00+00'") == [(2,)]
    assert lake.rows("id", "\"at\" < TIMESTAMPTZ '2023-01-01 00:00:00+00'") == [(3,)]


def test_every_transform_of_a_declaration_is_understood() -> None:
    table = rows([0], [0])

    for text in ("identity", "year", "month", "day", "hour", "bucket[4]"):
        assert len(split(table, (2, parse_transform(text)))) == 1
