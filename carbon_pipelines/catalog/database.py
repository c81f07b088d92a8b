"""What is declared about one captured database, and the names PostgreSQL knows our objects by.

What belongs here: the fields of a ``_database.yaml`` and names that follow from the database's
alone. What does not: addresses and passwords (the environment, ``embedded/endpoints.py``), and
topic names (``stream/topics.py``).
"""

from collections import Counter
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.catalog.values import Declared, Team, Word, duration, mistake
from carbon_pipelines.errors import UnknownTableError

# PostgreSQL cuts names at 63 bytes, and "carbon_<name>_keyless" has to fit.
LONGEST_NAME = 48


RESERVED_DATABASES = frozenset({"mart", "mart_build", "quality"})
"""Iceberg namespaces of our own tables."""


def _free(value: str) -> str:
    if value in RESERVED_DATABASES:
        reason = f'"{value}" is the name of a namespace of our own in the lake; call it otherwise'
        raise mistake(reason)
    return value


def _short(value: str) -> str:
    if len(value) > LONGEST_NAME:
        reason = (
            f"must have at most {LONGEST_NAME} characters, so that the names of its slot and "
            "publications fit into PostgreSQL's 63 bytes"
        )
        raise mistake(reason)
    return value


Interval = Annotated[timedelta, BeforeValidator(duration), Field(ge=timedelta(minutes=1))]


class DatabaseSpec(Declared):
    """One source database: who answers for it, how it is captured, and which of its tables.

    ``heal_slots``: a slot that lost changes is replaced, and every mirrored table copied anew,
    without asking. ``certify_every``: so often every table with expectations is compared with its
    source, scored, and certified if it is good. ``visible_within``: so soon a change is promised to
    be where people look.
    """

    name: Annotated[Word, AfterValidator(_short), AfterValidator(_free)]
    owner: Team
    capture: Literal["native", "debezium"] = "native"
    debezium: DebeziumSpec | None = None
    heal_slots: bool = True
    certify_every: Interval = timedelta(hours=1)
    visible_within: Interval = timedelta(hours=2)
    tables: tuple[TableSpec, ...] = ()

    @property
    def connector(self) -> DebeziumSpec | None:
        """How the connector that captures this database writes values; None: we capture it."""
        return (self.debezium or DebeziumSpec()) if self.capture == "debezium" else None

    @property
    def slot_name(self) -> str:
        """The replication slot."""
        return f"carbon_{self.name}"

    @property
    def publication_name(self) -> str:
        """The publication of tables with a key."""
        return f"carbon_{self.name}"

    @property
    def keyless_publication_name(self) -> str:
        """The publication of tables without one: inserts and truncates only."""
        return f"carbon_{self.name}_keyless"

    def table(self, name: str) -> TableSpec:
        """The table with this logical name.

        Raises:
            UnknownTableError: No such table is declared.
        """
        for table in self.tables:
            if table.name == name:
                return table
        label = f"{self.name}/{name}"
        raise UnknownTableError(label, known=[table.label for table in self.tables])

    @model_validator(mode="after")
    def _each_table_once(self) -> "DatabaseSpec":
        names = Counter(table.name for table in self.tables)
        sources = Counter((table.source_schema, table.source_table) for table in self.tables)
        for name, times in names.items():
            if times > 1:
                reason = f'{times} tables are called "{name}"'
                raise mistake(reason)
        for (schema, table), times in sources.items():
            if times > 1:
                reason = f"{schema}.{table} is declared {times} times"
                raise mistake(reason)
        if any(table.database != self.name for table in self.tables):
            reason = f'a table of another database is listed under "{self.name}"'
            raise mistake(reason)
        return self

    @model_validator(mode="after")
    def _captured_one_way(self) -> "DatabaseSpec":
        if self.capture == "native":
            if self.debezium is not None:
                reason = 'is only for "capture: debezium"; set that or remove this'
                raise mistake(reason, ("debezium",))
            return self
        for table in self.tables:
            if table.debezium != self.connector:
                reason = f'table "{table.name}" is declared for another capture'
                raise mistake(reason)
        return self

    def __hash__(self) -> int:
        return hash(self.name)
