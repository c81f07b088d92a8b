"""Every SQL statement that is sent to Doris, as text.

What belongs here: pure functions from names to statements. What does not: running them.
Sources, by the names of Doris' manual pages: CREATE CATALOG, ALTER CATALOG, SHOW CATALOG, REFRESH,
REFRESH MATERIALIZED VIEW, MV_INFOS, TASKS, CREATE TABLE, ALTER TABLE REPLACE, ALTER TABLE RENAME,
DROP TABLE, INSERT, Iceberg Catalog (time travel).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

RefreshMode = Literal["AUTO", "COMPLETE"]
"""AUTO takes tables outside Doris for unchanged, so a view of the lake needs COMPLETE."""


@dataclass(frozen=True, slots=True)
class DorisColumn:
    """A column and its Doris type: BOOLEAN, INT, BIGINT, DOUBLE, DECIMAL, STRING, DATE, DATETIME.

    A DECIMAL has its precision and scale in ``kind``, ``DECIMAL(12, 4)``; a DATETIME is of
    microseconds in UTC, ``DATETIME(6)``.
    """

    name: str
    kind: str


def create_database(database: str) -> str:
    """Make a database unless it is there."""
    return f"CREATE DATABASE IF NOT EXISTS {_name(database)}"


def list_tables(database: str) -> str:
    """Names of a database's tables, as ``name``."""
    return (
        "SELECT TABLE_NAME AS `name` FROM information_schema.tables "
        f"WHERE TABLE_SCHEMA = {_text(database)}"
    )


def list_columns(database: str, table: str) -> str:
    """Names of a table's columns in their order, as ``name``."""
    return (
        "SELECT COLUMN_NAME AS `name` FROM information_schema.columns "
        f"WHERE TABLE_SCHEMA = {_text(database)} AND TABLE_NAME = {_text(table)} "
        "ORDER BY ORDINAL_POSITION"
    )


def create_table(
    database: str, table: str, columns: Sequence[DorisColumn], *, replicas: int
) -> str:
    """Make a table that keeps every row as it is: no key, so that nothing is merged or sorted."""
    listed = ", ".join(f"{_name(column.name)} {column.kind} NULL" for column in columns)
    properties = {
        "replication_num": str(replicas),
        "enable_duplicate_without_keys_by_default": "true",
    }
    return (
        f"CREATE TABLE {_name(database)}.{_name(table)} ({listed}) "
        f"DISTRIBUTED BY RANDOM BUCKETS AUTO {_properties(properties)}"
    )


def drop_table(database: str, table: str) -> str:
    """Remove a table, if it is there, for good."""
    return f"DROP TABLE IF EXISTS {_name(database)}.{_name(table)} FORCE"


def rename_table(database: str, table: str, name: str) -> str:
    """Give a table another name; refused if there is one of it."""
    return f"ALTER TABLE {_name(database)}.{_name(table)} RENAME {_name(name)}"


def replace_table(database: str, table: str, other: str) -> str:
    """Put ``other`` in the place of ``table`` at once, and drop what was there.

    Not ``swap = true``: were that repeated after its answer was lost, the rows of before came back.
    A repeated one of this kind is refused, for ``other`` is gone.
    """
    return (
        f"ALTER TABLE {_name(database)}.{_name(table)} REPLACE WITH TABLE {_name(other)} "
        "PROPERTIES ('swap' = 'false')"
    )


def insert_from_lake(
    database: str,
    table: str,
    columns: Sequence[DorisColumn],
    *,
    lake_table: str,
    snapshot_id: int,
) -> str:
    """Copy a snapshot of a lake table, named by `lake_name`."""
    listed = ", ".join(_name(column.name) for column in columns)
    return (
        f"INSERT INTO {_name(database)}.{_name(table)} ({listed}) "
        f"SELECT {listed} FROM {lake_table} FOR VERSION AS OF {snapshot_id:d}"
    )


def internal_name(database: str, table: str) -> str:
    """A table of Doris itself, in a query."""
    return f"internal.{_name(database)}.{_name(table)}"


def lake_name(catalog: str, namespace: str, table: str) -> str:
    """A table of the lake, in a query."""
    return ".".join(map(_name, (catalog, namespace, table)))


def check_rows(table: str, columns: Sequence[DorisColumn]) -> str:
    """The number of rows, and the sum that ``doris_rows.py`` makes of the same rows.

    Of each row the text of its values is hashed by MD5; the first 60 bits are summed.
    """
    parts = ", ".join(_value_text(column) for column in columns)
    hashed = f"CONV(SUBSTRING(MD5(CONCAT({parts})), 1, 15), 16, 10)"
    total = f"SUM(CAST({hashed} AS DECIMAL(38, 0)))"
    return f"SELECT COUNT(*) AS `row_count`, {total} AS `check_sum` FROM {table}"


def create_catalog(catalog: str, properties: Mapping[str, str]) -> str:
    """Make a catalog unless it is there. Holds secrets."""
    return f"CREATE CATALOG IF NOT EXISTS {_name(catalog)} {_properties(properties)}"


def alter_catalog(catalog: str, properties: Mapping[str, str]) -> str:
    """Set properties of a catalog; the others stay. Holds secrets."""
    return f"ALTER CATALOG {_name(catalog)} SET {_properties(properties)}"


def list_catalogs() -> str:
    """Catalogs, as ``CatalogName``."""
    return "SHOW CATALOGS"


def show_catalog(catalog: str) -> str:
    """Properties of a catalog as ``Key`` and ``Value``; secrets are masked."""
    return f"SHOW CATALOG {_name(catalog)}"


def refresh_catalog(catalog: str) -> str:
    """Forget all that is cached of a catalog."""
    return f"REFRESH CATALOG {_name(catalog)}"


def refresh_database(catalog: str, namespace: str) -> str:
    """Forget all that is cached of a database in a catalog."""
    return f"REFRESH DATABASE {_name(catalog)}.{_name(namespace)}"


def refresh_table(catalog: str, namespace: str, table: str) -> str:
    """Forget all that is cached of a table in a catalog."""
    return f"REFRESH TABLE {lake_name(catalog, namespace, table)}"


def refresh_view(database: str, view: str, mode: RefreshMode) -> str:
    """Begin to refresh an asynchronous materialized view."""
    return f"REFRESH MATERIALIZED VIEW {_name(database)}.{_name(view)} {mode}"


def view_tasks(database: str, view: str) -> str:
    """Refreshes of a view: id, state, error and what began them."""
    return (
        "SELECT `TaskId`, `Status`, `ErrorMsg`, `TaskContext` FROM tasks('type' = 'mv') "
        f"WHERE `MvDatabaseName` = {_text(database)} AND `MvName` = {_text(view)}"
    )


def view_state(database: str, view: str) -> str:
    """How a view is, and whether it agrees with its tables."""
    return (
        "SELECT `State`, `SchemaChangeDetail`, `RefreshState`, `SyncWithBaseTables` "
        f"FROM mv_infos('database' = {_text(database)}) WHERE `Name` = {_text(view)}"
    )


def _value_text(column: DorisColumn) -> str:
    """A value as text that no other value of the column has, the same on every version."""
    name = _name(column.name)
    kind = column.kind.partition("(")[0]
    if kind == "BOOLEAN":
        shown = f"IF({name}, '1', '0')"
    elif kind == "DOUBLE":
        shown = f"IF({name} < 0, '-', IF({name} > 0, '+', '0'))"
    elif kind == "DATE":
        shown = f"DATE_FORMAT({name}, '%Y-%m-%d')"
    elif kind == "DATETIME":
        shown = f"DATE_FORMAT({name}, '%Y-%m-%d %H:%i:%s.%f')"
    elif kind == "STRING":
        shown = f"CONCAT(CHAR_LENGTH({name}), ':', {name})"
    else:
        shown = f"CAST({name} AS STRING)"
    return f"IF({name} IS NULL, 'n;', CONCAT({shown}, ';'))"


def _name(name: str) -> str:
    doubled = name.replace("`", "``")
    return f"`{doubled}`"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _properties(properties: Mapping[str, str]) -> str:
    listed = ", ".join(f"{_text(key)} = {_text(value)}" for key, value in properties.items())
    return f"PROPERTIES ({listed})"
