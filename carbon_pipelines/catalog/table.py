"""What is declared about one captured table.

What belongs here: the fields of a ``<table>.yaml``, the values they may take, and the rules between
them. What does not: reading files and naming lines (``load.py``), and anything only PostgreSQL
knows, such as whether a column exists (``source/setup.py``).
"""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from carbon_pipelines.catalog.debezium import DebeziumSpec

WORD = re.compile(r"[a-z][a-z0-9_]*")
RESERVED_SCHEMAS = frozenset({"carbon", "information_schema", "pg_catalog", "pg_toast"})

RESERVED_TABLES = frozenset({"carbon_dead_letters"})
MOST_DEAD_LETTERS = 1_000
"""Dead letters that one table may have: each of its snapshots names them all."""

_DURATION = re.compile(r"([1-9][0-9]*)(m|h|d)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_TRANSFORM = re.compile(r"identity|year|month|day|hour|(bucket|truncate)\[[1-9][0-9]*\]")
_DECIMAL = re.compile(r"decimal\(([0-9]{1,2}), ?([0-9]{1,2})\)")
_LARGEST_PRECISION = 38  # Iceberg specification, primitive types
TEXT_TYPE = "string"
"""The declared type of a column that the lake keeps as PostgreSQL's own text."""


class Contradiction(NamedTuple):
    """Two fields that cannot both hold; ``at`` is the path of the one to change."""

    at: tuple[str | int, ...]
    reason: str


def mistake(reason: str, at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """What a validator raises: a sentence, and the path of the field to change if not this one."""
    kind = "mistake"
    return PydanticCustomError(kind, "{reason}", {"reason": reason, "at": at})


def _duration(value: object) -> object:
    """Turn ``15m``, ``1h`` or ``2d`` into a timedelta; a timedelta passes."""
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        reason = "must be a whole number of minutes, hours or days, like 15m, 1h or 2d"
        raise mistake(reason)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _count(value: object) -> object:
    """Accept a whole number from 1 on, written out or as a number."""
    if re.fullmatch("[1-9][0-9]{0,3}", str(value)):
        return int(str(value))
    reason = "must be a whole number from 1 to 9999, like 3"
    raise mistake(reason)


def _transform(value: object) -> object:
    """Accept only the partition transforms of the Iceberg specification."""
    if isinstance(value, str) and _TRANSFORM.fullmatch(value):
        return value
    reason = "must be identity, year, month, day, hour, bucket[N] or truncate[N] with N above 0"
    raise mistake(reason)


def _lake_type(value: object) -> object:
    """Accept only ``string``, and ``decimal(p,s)`` with p from 1 to 38 and s from 0 to p."""
    if value is None or value == TEXT_TYPE:
        return value
    found = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        precision, scale = int(found[1]), int(found[2])
        if 1 <= precision <= _LARGEST_PRECISION and scale <= precision:
            return f"decimal({precision},{scale})"
    reason = (
        "must be string, or decimal(p,s) with p from 1 to 38 and s from 0 to p, like decimal(18,4)"
    )
    raise mistake(reason)


def _dead_letters(value: object) -> object:
    """Accept a whole number from 0 to the largest."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, int) and 0 <= value <= MOST_DEAD_LETTERS:
        return value
    reason = f"must be a whole number from 0 to {MOST_DEAD_LETTERS}"
    raise mistake(reason)


def _team(value: object) -> object:
    """Accept only ``team:<name>``, which Dagster shows as the owner."""
    if isinstance(value, str) and re.fullmatch(r"team:[A-Za-z0-9][A-Za-z0-9_.-]*", value):
        return value
    reason = "must name a team, like team:market-data"
    raise mistake(reason)


def _word(value: object) -> object:
    """Accept only names that work in every engine without quotes."""
    if isinstance(value, str) and WORD.fullmatch(value):
        return value
    reason = "must start with a letter a-z and hold only a-z, 0-9 and _, like price_tick"
    raise mistake(reason)


Word = Annotated[str, BeforeValidator(_word)]
Team = Annotated[str, BeforeValidator(_team)]
Name = Annotated[str, StringConstraints(min_length=1)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Declared(BaseModel):
    """Base of every declaration: a field it does not know is an error, and no value changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnSpec(Declared):
    """What is declared about one column; a column without a declaration is simply copied."""

    classification: Literal["public", "internal", "confidential", "restricted"] | None = None
    protect: Literal["drop"] | None = None
    type: Annotated[str | None, BeforeValidator(_lake_type)] = None


class PartitionField(Declared):
    """One field of the Iceberg partition spec: a source column and its transform."""

    column: Name
    transform: Annotated[str, BeforeValidator(_transform)]


class SortField(Declared):
    """One field of the table's sort order."""

    column: Name
    direction: Literal["asc", "desc"] = "asc"


class DeadLettersSpec(Declared):
    """What becomes of events that cannot be merged.

    Up to ``at_most`` of them may be set aside while the table goes on without them. At the next one
    it stops before it: until somebody releases it (``park``), or to try again at each run.
    """

    at_most: Annotated[int, BeforeValidator(_dead_letters)] = 0
    then: Literal["park", "stop"] = "park"


class TableSpec(Declared):
    """What we capture from one source table and what we promise about it.

    ``source_schema`` and ``source_table`` are spelled as in PostgreSQL and may hold any characters;
    ``name`` is the logical name, the same word in the topic's keys, the lake and Dagster.
    ``freshness`` is the age a reader may count on. ``on_rewrite`` says what answers a DDL that has
    no effect in place: a copy anew, at most ``recopies_per_hour`` times, or somebody's decision.
    """

    database: Word
    name: Word
    source_schema: Name = "public"
    source_table: Name
    key: tuple[Name, ...] = ()
    mode: Literal["mirror", "append"] = "mirror"
    partitioning: tuple[PartitionField, ...] = ()
    sort_order: tuple[SortField, ...] = ()
    owner: Team
    freshness: Annotated[timedelta, BeforeValidator(_duration), Field(ge=timedelta(minutes=1))]
    description: Text
    on_rewrite: Literal["recopy", "park"] = "recopy"
    recopies_per_hour: Annotated[int, BeforeValidator(_count)] = 3
    columns: Mapping[Name, ColumnSpec] = Field(default_factory=dict[str, ColumnSpec])
    dead_letters: DeadLettersSpec = DeadLettersSpec()
    debezium: DebeziumSpec | None = None
    """How the connector that captures the table writes values, told by its database."""

    @property
    def identifier(self) -> tuple[str, str]:
        """Iceberg namespace and table name."""
        return (self.database, self.name)

    @property
    def label(self) -> str:
        """The table as commands and messages spell it, like ``market/price_tick``."""
        return f"{self.database}/{self.name}"

    @property
    def dropped_columns(self) -> frozenset[str]:
        """Columns that never leave the source."""
        return frozenset(name for name, column in self.columns.items() if column.protect == "drop")

    def declared_type(self, column: str) -> str | None:
        """The lake's type of a column as declared: ``string``, ``decimal(p,s)`` or none."""
        spec = self.columns.get(column)
        return spec.type if spec else None

    @property
    def text_columns(self) -> frozenset[str]:
        """Columns that are declared to be strings in the lake."""
        return frozenset(name for name, column in self.columns.items() if column.type == TEXT_TYPE)

    @model_validator(mode="after")
    def _without_contradiction(self) -> Self:
        for at, reason in _contradictions(self):
            raise mistake(reason, at)
        return self

    def __hash__(self) -> int:
        return hash(self.identifier)


def default_name(source_schema: str, source_table: str) -> str:
    """The logical name of a table that declares none.

    ``<table>`` in schema public and ``<schema>_<table>`` elsewhere, in lower case, with every other
    character as ``_`` and ``t_`` in front of a name that does not start with a letter.
    """
    spelled = source_table if source_schema == "public" else f"{source_schema}_{source_table}"
    word = re.sub(r"[^a-z0-9_]", "_", spelled.lower())
    return word if WORD.fullmatch(word) else f"t_{word}"


def _contradictions(table: TableSpec) -> Iterator[Contradiction]:
    """Every rule that needs more than one field."""
    if table.source_schema in RESERVED_SCHEMAS:
        reason = f"schema {table.source_schema} belongs to the system and cannot be captured"
        yield Contradiction(("source_schema",), reason)
    if table.name in RESERVED_TABLES:
        reason = f'"{table.name}" is the name of a table of our own; give it another "name"'
        yield Contradiction(("name",), reason)
    yield from _key_contradictions(table)
    if table.debezium is not None and table.mode == "append":
        reason = (
            "a Debezium connector reads one publication, and tables without a key need another; "
            'give the table a key, or its database "capture: native"'
        )
        yield Contradiction(("mode",), reason)
    fields = (("partitioning", table.partitioning), ("sort_order", table.sort_order))
    for place, declared in fields:
        for index, field in enumerate(declared):
            if field.column in table.dropped_columns:
                reason = (
                    f'column "{field.column}" is dropped before it reaches the lake; '
                    f'remove it here or remove its "protect: drop"'
                )
                yield Contradiction((place, index, "column"), reason)
            if field in declared[:index]:
                yield Contradiction((place, index), f'repeats column "{field.column}"')
    if table.on_rewrite == "park" and "recopies_per_hour" in table.model_fields_set:
        reason = 'counts copies that "on_rewrite: park" never makes; remove one of the two'
        yield Contradiction(("recopies_per_hour",), reason)
    for name, column in table.columns.items():
        if column.protect == "drop" and column.type is not None:
            reason = f'column "{name}" is dropped, so its type is never used; remove one of the two'
            yield Contradiction(("columns", name, "type"), reason)


def _key_contradictions(table: TableSpec) -> Iterator[Contradiction]:
    if table.mode == "mirror" and not table.key:
        reason = (
            "a mirrored table needs its key columns, like [id]; "
            'declare "mode: append" for a table that has none'
        )
        yield Contradiction(("key",), reason)
    if table.mode == "append" and table.key:
        reason = (
            "an appended table has no key, because its updates and deletes are not seen; "
            'remove the key or "mode: append"'
        )
        yield Contradiction(("mode",), reason)
    for index, name in enumerate(table.key):
        if name in table.key[:index]:
            yield Contradiction(("key", index), f'names column "{name}" twice')
        if name in table.dropped_columns:
            reason = (
                f'column "{name}" is part of the key, so it cannot be dropped; '
                'remove its "protect: drop" or leave it out of the key'
            )
            yield Contradiction(("columns", name, "protect"), reason)
