"""Text of PostgreSQL and values of the lake meet in one form."""

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.quality.canonical import ComparedColumn, compared_column, text_lists
from carbon_pipelines.source.relation import SourceColumn, SourceType


def source_type(base_name: str, *, typmod: int = -1, kind: str = "b") -> SourceType:
    return SourceType(
        oid=0, typmod=typmod, name=base_name, kind=kind, base_name=base_name, element=None
    )


def column_of(kind: SourceType, declared: str | None = None) -> ComparedColumn:
    return compared_column(SourceColumn(1, "c", kind, nullable=True), declared)


def array_of(element: SourceType) -> SourceType:
    return SourceType(0, element.typmod, f"{element.name}[]", "b", f"_{element.base_name}", element)


def numeric(precision: int, scale: int) -> SourceType:
    return source_type("numeric", typmod=(precision << 16 | scale & 0x7FF) + 4)


@pytest.fixture(scope="module")
def engine() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def cast(
    engine: duckdb.DuckDBPyConnection, column: ComparedColumn, facts: str, text: str
) -> tuple[object, ...] | None:
    """SQL ``facts`` about a text ``x`` and the value ``y`` it is cast to."""
    casts = f"SELECT x, {column.cast('x')} AS y FROM (SELECT ? AS x)"
    return engine.execute(f"SELECT {facts} FROM ({casts})", [text]).fetchone()


@pytest.mark.parametrize(
    ("kind", "declared", "expected"),
    [
        (source_type("int2"), None, "INTEGER"),
        (source_type("oid"), None, "BIGINT"),
        (source_type("mood", kind="e"), None, "VARCHAR"),
        (source_type("jsonb"), None, "VARCHAR"),
        (source_type("timetz"), None, "VARCHAR"),
        (source_type("uuid"), None, "UUID"),
        (numeric(10, 2), None, "DECIMAL(10,2)"),
        (numeric(3, -2), None, "DECIMAL(5,0)"),
        (numeric(2, 5), None, "DECIMAL(5,5)"),
        (numeric(39, 2), None, "VARCHAR"),
        (source_type("numeric"), None, "VARCHAR"),
        (source_type("numeric"), "decimal(18,4)", "DECIMAL(18,4)"),
        (array_of(source_type("int8")), None, "BIGINT[]"),
        (array_of(numeric(6, 3)), None, "DECIMAL(6,3)[]"),
    ],
)
def test_each_type_has_one_type_that_holds_it_exactly(
    kind: SourceType, declared: str | None, expected: str
) -> None:
    assert column_of(kind, declared).type == expected


@pytest.mark.parametrize(
    ("base_name", "text", "value"),
    [
        ("int8", "-9223372036854775808", "(-9223372036854775808)::BIGINT"),
        ("bool", "t", "true"),
        ("float8", "1e-07", "1e-07::DOUBLE"),
        ("float8", "-Infinity", "'-inf'::DOUBLE"),
        ("float4", "NaN", "'nan'::FLOAT"),
        ("date", "infinity", "'infinity'::DATE"),
        ("date", "0044-03-15 BC", "'0044-03-15 (BC)'::DATE"),
        ("time", "24:00:00", "'24:00:00'::TIME"),
        ("timestamp", "-infinity", "'-infinity'::TIMESTAMP"),
        ("timestamp", "2024-02-29 23:59:59.999999", "make_timestamp(1709251199999999)"),
        ("timestamp", "0001-12-31 00:00:00.5 BC", "'0001-12-31 (BC) 00:00:00.5'::TIMESTAMP"),
        ("timestamptz", "10000-01-01 00:00:00+00", "'10000-01-01 00:00:00+00'::TIMESTAMPTZ"),
        ("timestamptz", "0044-03-15 12:00:00+00 BC", "'0044-03-15 (BC) 12:00:00+00'::TIMESTAMPTZ"),
        (
            "uuid",
            "c2d29867-3d0b-d497-9191-18a9d8ee7830",
            "'c2d29867-3d0b-d497-9191-18a9d8ee7830'::UUID",
        ),
        ("bytea", "\\x00ff", "'\\x00\\xFF'::BLOB"),
        ("bytea", "\\x", "''::BLOB"),
        ("text", "NULL", "'NULL'"),
    ],
)
def test_a_text_of_postgresql_is_the_value_the_lake_holds(
    engine: duckdb.DuckDBPyConnection, base_name: str, text: str, value: str
) -> None:
    column = column_of(source_type(base_name))
    facts = f"y IS NOT DISTINCT FROM {value}, {column.refused('x', 'y') or 'false'}"

    assert cast(engine, column, facts, text) == (True, False)


@pytest.mark.parametrize(
    ("kind", "declared", "text"),
    [
        (numeric(10, 2), None, "NaN"),
        (source_type("numeric"), "decimal(18,4)", "0.00001"),
        (source_type("numeric"), "decimal(4,2)", "100.00"),
        (source_type("timestamp"), None, "294276-12-31 23:59:59"),
    ],
)
def test_a_text_without_an_exact_place_is_refused_rather_than_null(
    engine: duckdb.DuckDBPyConnection, kind: SourceType, declared: str | None, text: str
) -> None:
    column = column_of(kind, declared)

    assert cast(engine, column, str(column.refused("x", "y")), text) == (True,)


def test_trailing_zeros_beyond_a_declared_scale_are_not_refused(
    engine: duckdb.DuckDBPyConnection,
) -> None:
    column = column_of(source_type("numeric"), "decimal(18,2)")

    facts = f"y::VARCHAR, {column.refused('x', 'y')}"

    assert cast(engine, column, facts, "1.5000") == ("1.50", False)


def _array_text(elements: list[str | None]) -> str:
    """array_out of PostgreSQL: quotes only where it quotes."""

    def spelled(element: str | None) -> str:
        if element is None:
            return "NULL"
        plain = (
            element and element.upper() != "NULL" and not set(element) & set('"\\{}, \t\n\r\v\f')
        )
        return element if plain else '"' + element.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "{" + ",".join(map(spelled, elements)) + "}"


_ELEMENT = (
    st.none()
    | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=4)
    | st.sampled_from(["NULL", "null", "", "{}", "a,b", "it's", '"', "\\"])
)


@given(st.lists(st.none() | st.lists(_ELEMENT, max_size=4), max_size=6))
def test_array_texts_become_the_lists_they_spell(rows: list[list[str | None] | None]) -> None:
    texts = pa.array([None if row is None else _array_text(row) for row in rows], pa.string())

    assert text_lists(texts).to_pylist() == rows


@pytest.mark.parametrize("text", ["{{1,2},{3,4}}", "[0:1]={1,2}", "[1:1][2:2]={{1}}"])
def test_an_array_that_is_more_than_a_list_equals_no_list(text: str) -> None:
    assert text_lists(pa.array([text, "{3}"])).to_pylist() == [["\x00array"], ["3"]]
