"""Reading a table snapshot of the lake with DuckDB, which shares no code with our writer.

What belongs here: a DuckDB connection with its Iceberg extension (from the wheels, nothing is
downloaded), a memory limit and access to the lake's object store, and naming one pinned table
snapshot in SQL. What does not: what is then asked of it.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import duckdb
import duckdb_extension_avro
import duckdb_extension_iceberg
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import S3FileSystem
from pyiceberg.table import Table

from carbon_pipelines.catalog.rules import HISTORY_COLUMNS
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import LakeEndpoint
from carbon_pipelines.errors import LakeUnreadableError
from carbon_pipelines.lake.connection import load_table, open_catalog
from carbon_pipelines.lake.history_columns import TO_LSN


class _ObjectStore(ArrowFSWrapper):
    """Arrow's S3 client under the scheme that Iceberg paths have.

    DuckDB's own S3 client is in an extension (httpfs) that the Iceberg wheels do not bring.
    """

    protocol = "s3"  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]


@dataclass(frozen=True, slots=True)
class LakeSnapshot:
    """One pinned table snapshot; ``columns`` maps its column names to DuckDB types."""

    sql: str
    columns: dict[str, str]
    snapshot_id: int


@contextmanager
def open_engine(
    lake: LakeEndpoint | None, *, memory_bytes: int, threads: int
) -> Generator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection that reads the lake and, past its limit, spills to a directory.

    Without ``lake`` it reads tables on local files alone.
    """
    with TemporaryDirectory(prefix="carbon-verify-") as spill:
        engine = duckdb.connect(
            config=engine_config(Path(spill), memory_bytes=memory_bytes, threads=threads)
        )
        try:
            equip_engine(engine, lake)
            yield engine
        finally:
            engine.close()


def engine_config(
    spill: Path, *, memory_bytes: int, threads: int
) -> dict[str, str | bool | int | float | list[str]]:
    """What an engine that reads the lake is opened with; past its limit it spills to ``spill``."""
    return {
        "memory_limit": f"{memory_bytes // 1_000_000}MB",
        "threads": threads,
        "temp_directory": str(spill),
        "extension_directory": str(spill / "extensions"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "preserve_insertion_order": False,
        "enable_external_file_cache": False,
        "disabled_optimizers": "build_side_probe_side",
    }


def equip_engine(engine: duckdb.DuckDBPyConnection, lake: LakeEndpoint | None) -> None:
    """Teach an engine to read Iceberg tables, and those of ``lake`` in its object store."""
    for package in (duckdb_extension_avro, duckdb_extension_iceberg):
        engine.load_extension(_extension_file(package))
    engine.execute("SET TimeZone = 'UTC'")
    engine.execute("SET enable_progress_bar = false")  # output is the command's
    if lake is not None:
        engine.register_filesystem(_ObjectStore(_object_store(lake)))


def _extension_file(package: ModuleType) -> str:
    """The one extension that a wheel holds, whatever DuckDB's version is called in its path."""
    (file,) = Path(next(iter(package.__path__))).rglob("*.duckdb_extension")
    return str(file)


def _object_store(lake: LakeEndpoint) -> S3FileSystem:
    return S3FileSystem(
        endpoint_override=lake.s3_endpoint,
        access_key=lake.s3_access_key,
        secret_key=lake.s3_secret_key,
        region=lake.s3_region,
        force_virtual_addressing=False,
        connect_timeout=5,
        request_timeout=60,
    )


def pin_snapshot(
    engine: duckdb.DuckDBPyConnection,
    lake: LakeEndpoint,
    table: TableSpec,
    snapshot_id: int | None,
) -> LakeSnapshot:
    """Name the rows of one table snapshot in SQL; a table without any is empty.

    Of a history these are the versions that are still the row, without the columns that it adds.

    Raises:
        LakeUnreadableError: DuckDB cannot read it.
    """
    with open_catalog(lake) as catalog:
        iceberg = load_table(catalog, table.identifier)
    if iceberg is None or snapshot_id is None:
        return LakeSnapshot("(SELECT NULL WHERE false)", {}, 0)
    sql = scan_sql(iceberg, table, snapshot_id)
    try:
        described = engine.execute(f"DESCRIBE SELECT * FROM {sql}").fetchall()
    except duckdb.Error as error:
        raise LakeUnreadableError(table.label, snapshot_id, str(error)) from error
    return LakeSnapshot(sql, {name: kind for name, kind, *_ in described}, snapshot_id)


def scan_sql(
    iceberg: Table, table: TableSpec, snapshot_id: int, *, file_column: str | None = None
) -> str:
    """The rows of one table snapshot as DuckDB reads them; of a history those that are the row.

    ``file_column`` is the name of a further column: the data file that each row is in.
    """
    sql = snapshot_sql(iceberg, snapshot_id)
    columns = f"*, filename AS {file_column}" if file_column else "*"
    if table.is_history:
        columns = columns.replace("*", f"* EXCLUDE ({', '.join(HISTORY_COLUMNS)})", 1)
        return f"(SELECT {columns} FROM {sql} WHERE {TO_LSN} IS NULL)"
    return f"(SELECT {columns} FROM {sql})" if file_column else sql


def snapshot_sql(iceberg: Table, snapshot_id: int) -> str:
    """All rows of one table snapshot as DuckDB reads them, whatever table it is."""
    location = iceberg.metadata_location.removeprefix("file://").replace("'", "''")
    return f"iceberg_scan('{location}', snapshot_from_id => {snapshot_id}::UBIGINT)"
