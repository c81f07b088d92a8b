"""How many rows there are, and one sum over all of them, made alike by every engine.

What belongs here: the sum's definition, and its SQL for DuckDB and Trino. What does not: running
it, the same for Doris (``doris_statements.py``) and rows in Python (``doris_rows.py``).

Of each row the text of its values is hashed by MD5, and the first 60 bits are summed, so the order
of rows does not matter. A value's text is its own, with its length before a string and ``;`` behind
it; null is ``n;``. Three kinds count for less, because engines do not write them alike: of a float
its sign and whether it is NaN, of a list its length, and of a moment outside the years 1000 to 9999
on which side of them it lies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    ListType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from carbon_pipelines.lake.trino import quoted

Engine = Literal["duckdb", "trino"]


@dataclass(frozen=True, slots=True)
class RowSum:
    """How many rows, and the sum of the first 60 bits of each one's MD5."""

    rows: int
    total: int


def sum_select(engine: Engine, columns: Mapping[str, IcebergType]) -> str:
    """The two numbers as a SELECT list, for rows that have these columns, at least one."""
    texts = [_text(engine, name, kind) for name, kind in columns.items()]
    listed = ", ".join(texts)
    if engine == "duckdb":
        hashed = f"CAST('0x' || left(md5(concat({listed})), 15) AS BIGINT)"
        return f"count(*), coalesce(sum({hashed}), 0)"
    # Trino's concat takes at most 127 values.
    row = f"array_join(ARRAY[{listed}], '')"
    hashed = f"from_base(substr(to_hex(md5(to_utf8({row}))), 1, 15), 16)"
    return f"count(*), coalesce(sum(CAST({hashed} AS decimal(38, 0))), 0)"


def _text(engine: Engine, name: str, kind: IcebergType) -> str:
    column = quoted(name)
    return f"CASE WHEN {column} IS NULL THEN 'n;' ELSE {_value(engine, column, kind)} || ';' END"


def _value(engine: Engine, column: str, kind: IcebergType) -> str:
    """The text of a value that is not null."""
    duckdb = engine == "duckdb"
    if isinstance(kind, BooleanType):
        return f"CASE WHEN {column} THEN '1' ELSE '0' END"
    if isinstance(kind, FloatType | DoubleType):
        nan = "isnan" if duckdb else "is_nan"
        signs = f"WHEN {column} < 0 THEN '-' WHEN {column} > 0 THEN '+' ELSE '0'"
        return f"CASE WHEN {nan}({column}) THEN 'N' {signs} END"
    if isinstance(kind, StringType):
        return f"CAST(length({column}) AS VARCHAR) || ':' || {column}"
    if isinstance(kind, BinaryType | FixedType):
        return f"hex({column})" if duckdb else f"to_hex({column})"
    if isinstance(kind, ListType):
        counted = "len" if duckdb else "cardinality"
        return f"CAST({counted}({column}) AS VARCHAR)"
    if isinstance(kind, TimeType):
        of_day = f"strftime(DATE '2000-01-01' + {column}, '%H:%M:%S.%f')"
        return of_day if duckdb else f"CAST({column} AS VARCHAR)"
    if isinstance(kind, DateType):
        shown = f"strftime({column}, '%Y-%m-%d')" if duckdb else f"CAST({column} AS VARCHAR)"
        return _within(column, shown, "DATE '1000-01-01'", "DATE '9999-12-31'")
    if isinstance(kind, TimestampType | TimestamptzType):
        moment = _in_utc(engine, column) if isinstance(kind, TimestamptzType) else column
        text = f"strftime({moment}, '%Y-%m-%d %H:%M:%S.%f')"
        shown = text if duckdb else f"CAST({moment} AS VARCHAR)"
        last = "TIMESTAMP '9999-12-31 23:59:59.999999'"
        return _within(moment, shown, "TIMESTAMP '1000-01-01 00:00:00.000000'", last)
    return f"CAST({column} AS VARCHAR)"


def _in_utc(engine: Engine, column: str) -> str:
    if engine == "duckdb":
        return f"({column} AT TIME ZONE 'UTC')"
    return f"CAST({column} AT TIME ZONE 'UTC' AS timestamp(6))"


def _within(value: str, shown: str, first: str, last: str) -> str:
    return f"CASE WHEN {value} < {first} THEN '<' WHEN {value} > {last} THEN '>' ELSE {shown} END"
