import pyarrow as pa
import pytest
from pyiceberg.types import DecimalType, IcebergType, ListType, StringType

from carbon_pipelines.errors import UnsupportedTypeError
from carbon_pipelines.lake.types import arrow_type, copy_type, iceberg_type, json_type
from carbon_pipelines.source.relation import SourceType
from carbon_pipelines_tests.lake.local_lake import TYPES, numeric

MAPPING = {
    "int2": ("int", "int32", "int64"),
    "int4": ("int", "int32", "int64"),
    "int8": ("long", "int64", "int64"),
    "oid": ("long", "int64", "int64"),
    "bool": ("boolean", "bool", "bool"),
    "float4": ("float", "float", "double"),
    "float8": ("double", "double", "double"),
    "numeric": ("string", "string", "string"),
    "numeric(12,2)": ("decimal(12, 2)", "decimal128(12, 2)", "string"),
    "text": ("string", "string", "string"),
    "varchar": ("string", "string", "string"),
    "jsonb": ("string", "string", "string"),
    "mood": ("string", "string", "string"),
    "date": ("date", "date32[day]", "string"),
    "time": ("time", "time64[us]", "string"),
    "timestamp": ("timestamp", "timestamp[us]", "string"),
    "timestamptz": ("timestamptz", "timestamp[us, tz=UTC]", "string"),
    "uuid": ("uuid", "extension<arrow.uuid>", "string"),
    "bytea": ("binary", "binary", "string"),
    "int4[]": ("list<int>", "list<element: int32>", "list<item: int64>"),
    "timestamptz[]": (
        "list<timestamptz>",
        "list<element: timestamp[us, tz=UTC]>",
        "list<item: string>",
    ),
}


@pytest.mark.parametrize("name", MAPPING)
def test_each_postgresql_type_has_one_place_in_the_lake_and_one_in_an_envelope(name: str) -> None:
    source = TYPES[name]
    iceberg = iceberg_type(source)

    assert (str(iceberg), str(arrow_type(iceberg)), str(json_type(source))) == MAPPING[name]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (numeric(38, 0), DecimalType(38, 0)),
        (numeric(39, 2), StringType()),
        (numeric(3, -2), DecimalType(5, 0)),
        (numeric(3, 5), DecimalType(5, 5)),
    ],
)
def test_a_numeric_becomes_the_decimal_that_holds_it_or_text(
    source: SourceType, expected: IcebergType
) -> None:
    assert iceberg_type(source) == expected


def test_a_declared_decimal_takes_the_place_of_an_unbounded_numeric_also_in_lists() -> None:
    assert iceberg_type(TYPES["numeric"], "decimal(18,4)") == DecimalType(18, 4)
    assert iceberg_type(TYPES["numeric[]"], "decimal(18,4)") == ListType(
        -1, DecimalType(18, 4), element_required=False
    )


@pytest.mark.parametrize(
    "source",
    [
        SourceType(3904, -1, "int4range", "r", "int4range"),
        SourceType(16600, -1, "public.pair", "c", "pair"),
        SourceType(600, -1, "point", "b", "point"),
    ],
)
def test_a_type_without_a_place_is_refused_by_its_name(source: SourceType) -> None:
    with pytest.raises(UnsupportedTypeError, match=source.name):
        iceberg_type(source)


def test_copy_reads_numbers_and_booleans_directly_and_all_else_as_text() -> None:
    direct = {name: copy_type(TYPES[name]) for name in MAPPING}

    assert {name: kind for name, kind in direct.items() if kind is not None} == {
        "int2": pa.int64(),
        "int4": pa.int64(),
        "int8": pa.int64(),
        "oid": pa.int64(),
        "bool": pa.bool_(),
        "float4": pa.float64(),
        "float8": pa.float64(),
    }
