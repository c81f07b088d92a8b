"""Whether the declared expectations fit the columns that the lake's table has.

What belongs here: columns that do not exist or have a type that an expectation cannot be about, and
bounds that are no value of their column, each with its file and line. What does not: rules that the
declaration alone breaks (``catalog/expectation_rules.py``), and SQL that somebody wrote, which the
engine binds (``custom_sql.py``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path

from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from carbon_pipelines.catalog.expectations import (
    Between,
    ExpectationSpec,
    Fresh,
    InSet,
    LengthBetween,
    Matches,
    References,
)
from carbon_pipelines.catalog.rules import HISTORY_COLUMNS
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.quality.sql_text import typed

Problem = tuple[Path, int, str]

FLOATS = (FloatType, DoubleType)
_NUMBERS = (IntegerType, LongType, DecimalType, *FLOATS)
_MOMENTS = (DateType, TimestampType, TimestamptzType)
_SQL_TYPES: Mapping[type[IcebergType], str] = {
    BooleanType: "BOOLEAN",
    DateType: "DATE",
    StringType: "VARCHAR",
    TimeType: "TIME",
    TimestampType: "TIMESTAMP",
    TimestamptzType: "TIMESTAMP WITH TIME ZONE",
    UUIDType: "UUID",
}
_FITTING: Mapping[type[ExpectationSpec], tuple[tuple[type[IcebergType], ...], str]] = {
    Between: ((*_NUMBERS, *_MOMENTS, TimeType), "a number, date, time or timestamp"),
    Matches: ((StringType,), "a text"),
    LengthBetween: ((StringType,), "a text"),
    Fresh: (_MOMENTS, "a date or timestamp"),
}


@dataclass(frozen=True, slots=True)
class LakeColumns:
    """The columns of a lake table by name, as readers see them."""

    types: Mapping[str, IcebergType]

    @classmethod
    def of(cls, schema: Schema, table: TableSpec) -> "LakeColumns":
        """Those of a schema; of a history without the columns that it adds."""
        added = HISTORY_COLUMNS if table.is_history else ()
        return cls({one.name: one.field_type for one in schema.fields if one.name not in added})


def misfits(table: TableSpec, columns: LakeColumns) -> Iterator[Problem]:
    """Every expectation that the table's columns cannot meet or fail."""
    for expectation in table.expectations:
        place = expectation.place
        for name, reason in _misfits(expectation, columns):
            yield place.path, place.line_of(name), f"{expectation.label}: {reason}"


def _misfits(expectation: ExpectationSpec, columns: LakeColumns) -> Iterator[tuple[str, str]]:
    """The fields of one expectation that do not fit, and why."""
    missing = False
    for field, name in expectation.reads:
        if name not in columns.types:
            missing = True
            yield field, _no_column(name, columns.types)
    if missing:
        return
    fitting = _FITTING.get(type(expectation))
    if fitting is not None:
        ((field, name), *_) = expectation.reads
        kinds, words = fitting
        if not isinstance(columns.types[name], kinds):
            yield field, _wrong_type(name, columns.types[name], words)
            return
    if isinstance(expectation, Between):
        yield from _bound_misfits(expectation, columns.types[expectation.column])
    if isinstance(expectation, InSet):
        kind = columns.types[expectation.column]
        if isinstance(kind, ListType | BinaryType):
            yield "column", _wrong_type(expectation.column, kind, "a single value, not bytes")
            return
        for value in expectation.values:
            if sql_value(value, kind) is None:
                yield "values", f'"{value}" is no {kind}'


def reference_misfits(
    columns: LakeColumns, reference: References, to: TableSpec, other: LakeColumns
) -> Iterator[Problem]:
    """What is wrong with a reference to a table whose columns are known."""
    place = reference.place
    names = reference.to or to.key
    if len(names) != len(reference.columns):
        reason = (
            f"{len(reference.columns)} columns refer to {len(names)} of {to.name} "
            f'({", ".join(names) or "it has no key"}); name as many in "to"'
        )
        yield place.path, place.line_of("to"), f"{reference.label}: {reason}"
        return
    for mine, theirs in zip(reference.columns, names, strict=True):
        if theirs not in other.types:
            reason = f"{to.name}: {_no_column(theirs, other.types)}"
            yield place.path, place.line_of("to"), f"{reference.label}: {reason}"
        elif mine in columns.types and _family(columns.types[mine]) != _family(other.types[theirs]):
            reason = (
                f'column "{mine}" is {columns.types[mine]} and {to.name}\'s "{theirs}" '
                f"{other.types[theirs]}; they are never equal"
            )
            yield place.path, place.line_of("columns"), f"{reference.label}: {reason}"


def sql_value(text: str, kind: IcebergType) -> str | None:
    """A value of a column's type in SQL; None if the text is none."""
    try:
        if isinstance(kind, _NUMBERS):
            number = Decimal(text)
            return f"{number:f}" if number.is_finite() else None
        if isinstance(kind, BooleanType):
            return text.upper() if text in {"true", "false"} else None
        value = _parsed(text, kind)
    except (ValueError, InvalidOperation):
        return None
    return typed(value, _SQL_TYPES[type(kind)])


def sql_moment(moment: datetime, kind: IcebergType) -> str:
    """A point in time as a value of a date's or timestamp's type, in UTC."""
    universal = moment.astimezone(UTC)
    if isinstance(kind, DateType):
        return typed(universal.date().isoformat(), "DATE")
    naive = universal.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    zone = "+00:00" if isinstance(kind, TimestamptzType) else ""
    return typed(naive + zone, _SQL_TYPES[type(kind)])


def _parsed(text: str, kind: IcebergType) -> str:
    """The text as every engine reads it; ValueError if it is no value of the type."""
    if isinstance(kind, DateType):
        return date.fromisoformat(text).isoformat()
    if isinstance(kind, TimeType):
        return time.fromisoformat(text).isoformat()
    if isinstance(kind, TimestampType | TimestamptzType):
        moment = datetime.fromisoformat(text)
        zoned = isinstance(kind, TimestamptzType)
        if moment.tzinfo is not None:
            if not zoned:
                raise ValueError(text)
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        return moment.isoformat(sep=" ") + ("+00:00" if zoned else "")
    return text


def _bound_misfits(between: Between, kind: IcebergType) -> Iterator[tuple[str, str]]:
    bounds = {"min": between.min, "max": between.max}
    for name, text in bounds.items():
        if text is not None and sql_value(text, kind) is None:
            yield name, f'"{text}" is no {kind}'
            return
    if between.min is not None and between.max is not None and _above(between, kind):
        yield "max", f"is below min, {between.min}, so that nothing could meet it"


def _above(between: Between, kind: IcebergType) -> bool:
    low, high = str(between.min), str(between.max)
    if isinstance(kind, _NUMBERS):
        return Decimal(low) > Decimal(high)
    return _parsed(low, kind) > _parsed(high, kind)


def _family(kind: IcebergType) -> str:
    """Types whose values may be equal have one family."""
    return "number" if isinstance(kind, _NUMBERS) else str(kind)


def _no_column(name: str, known: Mapping[str, IcebergType]) -> str:
    close = get_close_matches(name, known, n=1)
    hint = f'did you mean "{close[0]}"?' if close else f"the columns are {', '.join(known)}"
    return f'the lake\'s table has no column "{name}"; {hint}'


def _wrong_type(name: str, kind: IcebergType, words: str) -> str:
    reason = f'column "{name}" is {kind}, and this needs {words}'
    if isinstance(kind, StringType):
        return f'{reason}; for a numeric without precision, declare "type: decimal(p,s)"'
    return reason
