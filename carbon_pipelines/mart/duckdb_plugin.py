"""dbt-duckdb's plugin: certified snapshots come in, published marts go out.

What belongs here: what dbt calls. The profile names this module, and dbt looks for ``Plugin``. What
does not: the commit (``lake_table.py``).

Whoever starts dbt says in CARBON_MART_CERTIFIED which snapshots to read; dbt run by hand reads the
certified ones of every table that the project has. Sources are views in DuckDB's memory, each under
its own name, and so are the marts until they are published.
"""

import atexit
import json
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import duckdb
import pyarrow as pa
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import TargetConfig

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.embedded.endpoints import catalog_directory, resolve_endpoints
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.mart.certified import load_certified
from carbon_pipelines.mart.lake_table import replace_rows
from carbon_pipelines.mart.project import NAMESPACE, load_marts, require_project
from carbon_pipelines.quality.lake_scan import engine_config, equip_engine, pin_snapshot

CERTIFIED_VARIABLE = "CARBON_MART_CERTIFIED"
"""JSON object of ``database.table`` to the snapshot id to read."""
BUILT_FROM = "carbon.built_from"
"""Summary property of a mart's snapshot: the same of what it was built from."""

MEMORY_BYTES = 1_000_000_000
THREADS = 2
BATCH_ROWS = 100_000


class Plugin(BasePlugin):
    """Reads and writes the lake for dbt."""

    _connection: duckdb.DuckDBPyConnection
    _certified: dict[str, int]

    def update_connection_config(
        self,
        creds: DuckDBCredentials,  # noqa: ARG002
        config: dict[str, Any],
    ) -> None:
        """Open DuckDB with a memory limit, spilling to a directory of its own."""
        spill = mkdtemp(prefix="carbon-mart-")
        atexit.register(shutil.rmtree, spill, ignore_errors=True)
        config.update(engine_config(Path(spill), memory_bytes=MEMORY_BYTES, threads=THREADS))

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Name the certified snapshots, as views ``<database>.<table>``.

        Raises:
            NotCertifiedError: Nobody said what to read, and a source has no such snapshot.
            LakeUnreadableError: DuckDB cannot read one of them.
        """
        self._connection = conn
        self._certified = self._to_read()
        if not self._certified:  # dbt's unit tests bring their own rows
            return
        lake = resolve_endpoints(os.environ).lake
        catalog = load_catalog(catalog_directory(os.environ))
        equip_engine(conn, lake)
        for name, snapshot_id in self._certified.items():
            database, _, table = name.partition(".")
            declared = catalog.database(database).table(table)
            pinned = pin_snapshot(conn, lake, declared, snapshot_id)
            conn.execute(f"CREATE SCHEMA IF NOT EXISTS {database}")
            conn.execute(f"CREATE VIEW {database}.{table} AS SELECT * FROM {pinned.sql}")

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Each cursor has a time zone of its own."""
        cursor.execute("SET TimeZone = 'UTC'")

    def store(self, target_config: TargetConfig) -> None:
        """Publish a mart that has passed its tests.

        Raises:
            CommitConflictError: Others committed first again and again.
        """
        relation, mart = str(target_config.relation), str(target_config.config["mart"])
        cursor = self._connection.cursor()
        self.configure_cursor(cursor)

        def rows() -> pa.RecordBatchReader:
            result = cursor.execute(f"SELECT * FROM {relation} ORDER BY ALL")
            return result.to_arrow_reader(BATCH_ROWS)

        built_from = {BUILT_FROM: json.dumps(self._certified, sort_keys=True)}
        with open_catalog(resolve_endpoints(os.environ).lake) as catalog:
            replace_rows(catalog, (NAMESPACE, mart), rows, built_from)

    def _to_read(self) -> dict[str, int]:
        told = os.environ.get(CERTIFIED_VARIABLE)
        if told is not None:
            return json.loads(told)
        marts = load_marts(require_project(os.environ))
        with open_catalog(resolve_endpoints(os.environ).lake) as catalog:
            return dict(load_certified(catalog, marts))
