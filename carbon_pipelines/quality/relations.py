"""Table snapshots under their logical names in an engine that scores.

What belongs here: the schemas that hold the same relations with other columns or rows, so that one
text can be run on each. What does not: the texts (``checks.py``).
"""

from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.quality.sql_text import FILE_COLUMN, listed, literal, quoted

WHOLE = "whole"
"""All columns and rows."""
SHOWN = "shown"
"""Without the columns that are protected."""
FILED = "filed"
"""With the data file that each row is in."""
PART = "part"
"""The rows of some data files alone; other tables whole."""


@dataclass(frozen=True, slots=True)
class Relation:
    """One table snapshot in an engine: its declaration, and its rows in SQL.

    ``filed_sql`` has the data file of each row besides, as ``FILE_COLUMN``.
    """

    table: TableSpec
    sql: str
    filed_sql: str

    @property
    def name(self) -> str:
        """Its logical name in SQL."""
        return quoted(self.table.name)


def name_relations(engine: duckdb.DuckDBPyConnection, relations: Sequence[Relation]) -> None:
    """Name table snapshots in every schema but ``PART``; those of before are dropped."""
    engine.execute("SET python_enable_replacements = false")  # a name is no variable of ours
    for schema in (WHOLE, SHOWN, FILED):
        _renew(engine, schema)
    for relation in relations:
        name = relation.name
        engine.execute(f"CREATE VIEW {WHOLE}.{name} AS SELECT * FROM {relation.sql}")
        engine.execute(f"CREATE VIEW {FILED}.{name} AS SELECT * FROM {relation.filed_sql}")
        found = engine.execute(f"DESCRIBE {WHOLE}.{name}").fetchall()
        hidden = [row[0] for row in found if row[0] in relation.table.protected_columns]
        kept = f"* EXCLUDE ({listed(hidden)})" if hidden else "*"
        if len(hidden) < len(found):
            engine.execute(f"CREATE VIEW {SHOWN}.{name} AS SELECT {kept} FROM {relation.sql}")
    engine.execute(f"SET schema = '{WHOLE}'")


@contextmanager
def within(engine: duckdb.DuckDBPyConnection, schema: str) -> Generator[None]:
    """Relations are those of ``schema``."""
    engine.execute(f"SET schema = '{schema}'")
    try:
        yield
    finally:
        engine.execute(f"SET schema = '{WHOLE}'")


@contextmanager
def part_of(
    engine: duckdb.DuckDBPyConnection,
    table: TableSpec,
    others: Collection[TableSpec],
    files: Collection[str],
) -> Generator[None]:
    """Relations are whole, but ``table`` has the rows of some data files alone."""
    _renew(engine, PART)
    name = quoted(table.name)
    engine.execute(
        f"CREATE VIEW {PART}.{name} AS SELECT * EXCLUDE ({FILE_COLUMN}) FROM {FILED}.{name} "
        f"WHERE {in_files(files)}"
    )
    for other in others:
        if other.name != table.name:
            named = quoted(other.name)
            engine.execute(f"CREATE VIEW {PART}.{named} AS SELECT * FROM {WHOLE}.{named}")
    with within(engine, PART):
        yield


def in_files(files: Collection[str]) -> str:
    """Whether a row is in one of these data files."""
    if not files:
        return "false"
    return f"{FILE_COLUMN} IN ({', '.join(literal(path) for path in sorted(files))})"


def _renew(engine: duckdb.DuckDBPyConnection, schema: str) -> None:
    engine.execute("SET schema = 'main'")
    engine.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    engine.execute(f"CREATE SCHEMA {schema}")
