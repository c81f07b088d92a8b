"""A mart's rows as Doris takes them, and the sum that tells whether it shows the same.

What belongs here: Iceberg types to Doris types, rows to JSON lines, and the check sum of
``doris_statements.check_rows`` made here, which is that of ``row_sum.py``. What does not: where
rows come from.

Why JSON lines: each value but a boolean is sent as text, which Doris reads into the column's type
without a float in between, so that decimals and microseconds stay exact; and null is told from
every text, as CSV cannot. Parquet would leave a timestamp's zone to the server's settings. A value
that Doris cannot hold fails the load (``strict_mode``), and no row is left out
(``max_filter_ratio`` 0).
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, BinaryIO

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
)

from carbon_pipelines.errors import ServedValueError
from carbon_pipelines.serving.doris_statements import DorisColumn
from carbon_pipelines.serving.row_sum import RowSum

_KINDS: dict[type[IcebergType], str] = {
    BooleanType: "BOOLEAN",
    IntegerType: "INT",
    LongType: "BIGINT",
    DoubleType: "DOUBLE",
    StringType: "STRING",
    DateType: "DATE",
    TimestampType: "DATETIME(6)",
    TimestamptzType: "DATETIME(6)",
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """Rows written as JSON lines."""

    sum: RowSum
    size: int


def doris_columns(mart: str, schema: Schema) -> tuple[DorisColumn, ...]:
    """The columns of a mart in Doris.

    Raises:
        ServedValueError: A column has a type that is none for marts.
    """
    return tuple(
        DorisColumn(field.name, _kind(mart, field.name, field.field_type))
        for field in schema.fields
    )


def content_digest(columns: Sequence[DorisColumn], rows: RowSum) -> str:
    """What tells one content from another, whatever the order of its rows: 12 letters."""
    told = json.dumps([[[one.name, one.kind] for one in columns], rows.rows, rows.total])
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def write_rows(
    mart: str,
    columns: Sequence[DorisColumn],
    batches: Iterable[pa.RecordBatch],
    target: BinaryIO,
) -> Rendered:
    """Write rows as JSON lines, a batch at a time, and sum them.

    Raises:
        ServedValueError: A value that Doris cannot hold.
    """
    names = [json.dumps(column.name, ensure_ascii=False) for column in columns]
    writers = [_WRITERS[column.kind.partition("(")[0]] for column in columns]
    rows = total = size = 0
    for batch in batches:
        values = [
            _values(mart, column, batch.column(column.name), writer)
            for column, writer in zip(columns, writers, strict=True)
        ]
        for row in zip(*values, strict=True):
            sent = ", ".join(f"{n}: {v[0]}" for n, v in zip(names, row, strict=True))
            size += target.write(f"{{{sent}}}\n".encode())
            summed = "".join(value[1] for value in row).encode()
            total += int(hashlib.md5(summed, usedforsecurity=False).hexdigest()[:15], 16)
            rows += 1
    return Rendered(RowSum(rows, total), size)


_Pair = tuple[str, str]
"""A value in JSON, and its text in the sum."""
_NULL: _Pair = ("null", "n;")


def _values(
    mart: str, column: DorisColumn, array: pa.Array, writer: Callable[[Any], _Pair]
) -> list[_Pair]:
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("us", tz=array.type.tz))
    try:
        return [_NULL if one is None else writer(one) for one in array.to_pylist()]
    except (ValueError, OverflowError) as error:
        # Which value it is stays unsaid: it may be a classified one.
        raise ServedValueError(
            mart, column.name, f"has a value that {column.kind} lacks"
        ) from error


def _boolean(value: bool) -> _Pair:  # noqa: FBT001 - the value itself
    return ("true", "1;") if value else ("false", "0;")


def _plain(value: object) -> _Pair:
    return f'"{value}"', f"{value};"


def _decimal(value: Decimal) -> _Pair:
    return _plain(format(value, "f"))


def _double(value: float) -> _Pair:
    if not math.isfinite(value):
        raise ValueError
    sign = "-" if value < 0 else "+" if value > 0 else "0"
    return f'"{value!r}"', f"{sign};"


def _string(value: str) -> _Pair:
    return json.dumps(value, ensure_ascii=False), f"{len(value)}:{value};"


def _date(value: date) -> _Pair:
    return _plain(value.isoformat())


def _datetime(value: datetime) -> _Pair:
    naive = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    return _plain(naive.isoformat(" ", "microseconds"))


_WRITERS: dict[str, Callable[[Any], _Pair]] = {
    "BOOLEAN": _boolean,
    "INT": _plain,
    "BIGINT": _plain,
    "DOUBLE": _double,
    "DECIMAL": _decimal,
    "STRING": _string,
    "DATE": _date,
    "DATETIME": _datetime,
}


def _kind(mart: str, name: str, kind: IcebergType) -> str:
    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if type(kind) not in _KINDS:
        raise ServedValueError(mart, name, f"has the type {kind}, which marts do not have")
    return _KINDS[type(kind)]
