"""What is declared about one captured table.

What belongs here: the fields of a ``<table>.yaml`` and the values they may take. What does not: the
rules between them (``rules.py``), reading files and naming lines (``load.py``), and anything only
PostgreSQL knows, such as whether a column exists (``source/setup.py``).
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.catalog.expectations import Expectation
from carbon_pipelines.catalog.quality import QualitySpec
from carbon_pipelines.catalog.rules import contradictions
from carbon_pipelines.catalog.values import (
    WORD,
    Declared,
    Name,
    Team,
    Text,
    Word,
    duration,
    mistake,
)

MOST_DEAD_LETTERS = 1_000
"""Dead letters that one table may have: each of its snapshots names them all."""

_TRANSFORM = re.compile(r"identity|year|month|day|hour|(bucket|truncate)\[[1-9][0-9]*\]")
_DECIMAL = re.compile(r"decimal\(([0-9]{1,2}), ?([0-9]{1,2})\)")
_LARGEST_PRECISION = 38  # Iceberg specification, primitive types
Engine = Literal["native", "trino"]
"""Who compacts a table."""
TEXT_TYPE = "string"
"""The declared type of a column that the lake keeps as PostgreSQL's own text."""


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


def _cpu(value: object) -> object:
    """Accept cores as Kubernetes writes them: ``2`` or ``500m``."""
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,5}m?", value):
        return value
    reason = "must be cores as Kubernetes writes them, like 2 or 500m"
    raise mistake(reason)


def _memory(value: object) -> object:
    """Accept bytes as Kubernetes writes them, with a unit: a bare number would be a slip."""
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,5}(Mi|Gi)", value):
        return value
    reason = "must be memory as Kubernetes writes it, like 8Gi or 512Mi"
    raise mistake(reason)


class PodSpec(Declared):
    """What the pod of a run that keeps one table in order asks for, and may not exceed in memory.

    Only where runs are pods (Dagster's K8sRunLauncher); on one machine it says nothing.
    """

    cpu: Annotated[str, BeforeValidator(_cpu)]
    memory: Annotated[str, BeforeValidator(_memory)]


class TableSpec(Declared):
    """What we capture from one source table and what we promise about it.

    ``source_schema`` and ``source_table`` are spelled as in PostgreSQL and may hold any characters;
    ``name`` is the logical name, the same word in the topic's keys, the lake and Dagster.
    ``identity: full`` mirrors a table without a key: PostgreSQL sends whole old rows, and the lake
    holds each row as many times as the source does. ``mode: history`` keeps every version of a row
    and since when until when it was the row. ``freshness`` is the age a reader may count on.
    ``on_rewrite`` says what answers a DDL that has no effect in place: a copy anew, at most
    ``recopies_per_hour`` times, or somebody's decision. ``engine`` compacts its files.
    ``pod`` is what upkeep of it needs in Kubernetes, if more than other runs.
    ``expectations`` say what its rows promise beyond being the source's, and ``quality`` how they
    make one score.
    """

    database: Word
    name: Word
    source_schema: Name = "public"
    source_table: Name
    key: tuple[Name, ...] = ()
    identity: Literal["full"] | None = None
    mode: Literal["mirror", "history", "append"] = "mirror"
    partitioning: tuple[PartitionField, ...] = ()
    sort_order: tuple[SortField, ...] = ()
    owner: Team
    freshness: Annotated[timedelta, BeforeValidator(duration), Field(ge=timedelta(minutes=1))]
    description: Text
    on_rewrite: Literal["recopy", "park"] = "recopy"
    recopies_per_hour: Annotated[int, BeforeValidator(_count)] = 3
    engine: Engine = "native"
    pod: PodSpec | None = None
    columns: Mapping[Name, ColumnSpec] = Field(default_factory=dict[str, ColumnSpec])
    dead_letters: DeadLettersSpec = DeadLettersSpec()
    expectations: tuple[Expectation, ...] = ()
    quality: QualitySpec = QualitySpec()
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
    def is_bag(self) -> bool:
        """Whether rows are known by all of their values, and counted."""
        return self.identity == "full"

    @property
    def is_history(self) -> bool:
        """Whether every version of a row is kept."""
        return self.mode == "history"

    @property
    def dropped_columns(self) -> frozenset[str]:
        """Columns that never leave the source."""
        return frozenset(name for name, column in self.columns.items() if column.protect == "drop")

    def declared_type(self, column: str) -> str | None:
        """The lake's type of a column as declared: ``string``, ``decimal(p,s)`` or none."""
        spec = self.columns.get(column)
        return spec.type if spec else None

    @property
    def protected_columns(self) -> frozenset[str]:
        """Columns whose values are never shown outside of the table: confidential or stricter."""
        return frozenset(
            name
            for name, column in self.columns.items()
            if column.classification in {"confidential", "restricted"}
        )

    @property
    def text_columns(self) -> frozenset[str]:
        """Columns that are declared to be strings in the lake."""
        return frozenset(name for name, column in self.columns.items() if column.type == TEXT_TYPE)

    @model_validator(mode="after")
    def _without_contradiction(self) -> Self:
        for at, reason in contradictions(self):
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
