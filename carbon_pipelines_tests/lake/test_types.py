import re
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.types import DecimalType, IcebergType, ListType, StringType

from carbon_pipelines.errors import UnsupportedTypeError
from carbon_pipelines.lake.type_table import (
    TYPE_ROWS,
    TypeRow,
    render_differences,
    render_types,
)
from carbon_pipelines.lake.types import arrow_type, copy_type, iceberg_type, json_type
from carbon_pipelines.source.relation import SourceType
from carbon_pipelines_tests.lake.local_lake import TYPES, numeric

MAPPING = {
    "int2": ("int", "int32", "int64"),
    "int4": ("int", "int32", "int64"),
    "int8": ("long", "int64", "int64"),
    "oid": ("long", "int64", "int64"),
    "bool": ("boolean", "bool", "bool"),
    "float4": ("float", "float", "float"),
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


@pytest.mark.parametrize("declared", [None, "string"])
def test_a_pseudo_type_is_refused_by_its_name(declared: str | None) -> None:
    with pytest.raises(UnsupportedTypeError, match="record"):
        iceberg_type(SourceType(2249, -1, "record", "p", "record"), declared)


def base(name: str) -> SourceType:
    """A type of PostgreSQL's own without a modifier."""
    return SourceType(1, -1, name, "b", name)


def array_of(element: SourceType) -> SourceType:
    return SourceType(2, -1, f"{element.name}[]", "b", f"_{element.base_name}", element)


@pytest.mark.parametrize("row", TYPE_ROWS, ids=lambda row: row.postgres[0])
def test_the_documented_types_are_those_of_the_code(row: TypeRow) -> None:
    kinds = {"range": "r", "multirange": "m", "enum": "e", "composite": "c"}
    own = SourceType(16600, -1, "public.own", "b", "own")
    examples = {
        "numeric(p,s)": [numeric(9, 2)],
        "base type of an extension": [own],
        "array": [array_of(base("int4")), array_of(SourceType(1, -1, "public.m", "e", "m"))],
        "array of box": [array_of(base("box"))],
        "array of a base type of an extension": [array_of(own)],
        "domain": [],  # resolved before a type is asked for
    }
    for name in row.postgres:
        kind = SourceType(1, -1, f"public.{name}", kinds[name], name) if name in kinds else None
        for source in [kind] if kind else examples.get(name, [base(name)]):
            spelled = str(iceberg_type(source)).replace("(9, 2)", "(p,s)").split("<")[0]
            assert (name, spelled) == (name, row.iceberg)


def test_the_page_shows_the_tables_of_types_and_differences() -> None:
    page = (Path(__file__).parents[2] / "docs/lake.md").read_text("utf-8")

    assert render_types() in page
    assert render_differences() in page


@pytest.mark.parametrize("kind", ["e", "c", "r", "b"])
@pytest.mark.parametrize("name", ["numeric", "bool", "int4", "uuid"])
def test_a_type_named_like_a_built_in_one_is_text(name: str, kind: str) -> None:
    lookalike = SourceType(16600, -1, f"public.{name}", kind, name)

    assert iceberg_type(lookalike) == StringType()
    assert json_type(lookalike) == pa.string()


def test_an_array_of_a_domain_over_an_array_is_a_list_of_texts() -> None:
    nested = array_of(array_of(base("int4")))

    assert iceberg_type(nested) == ListType(-1, StringType(), element_required=False)
    assert json_type(nested) == pa.list_(pa.string())


@pytest.mark.parametrize("name", ["numeric(12,2)", "time", "timestamptz", "int4[]", "uuid"])
def test_a_column_with_another_text_form_may_be_declared_a_string(name: str) -> None:
    assert iceberg_type(TYPES[name], "string") == StringType()
    assert json_type(TYPES[name], "string") == pa.string()


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("int8", "string"),
        ("bool", "string"),
        ("float8", "string"),
        ("bytea", "string"),
        ("text", "decimal(9,2)"),
        ("int4", "decimal(9,2)"),
    ],
)
def test_a_declared_type_that_is_no_other_form_of_the_column_is_refused(
    name: str, declared: str
) -> None:
    with pytest.raises(UnsupportedTypeError, match=re.escape(f"declared as {declared}")):
        iceberg_type(TYPES[name], declared)


def test_copy_reads_numbers_and_booleans_directly_and_all_else_as_text() -> None:
    direct = {name: copy_type(TYPES[name]) for name in MAPPING}

    assert {name: kind for name, kind in direct.items() if kind is not None} == {
        "int2": pa.int64(),
        "int4": pa.int64(),
        "int8": pa.int64(),
        "oid": pa.int64(),
        "bool": pa.bool_(),
        "float4": pa.float32(),
        "float8": pa.float64(),
    }
