"""Tables on local files to be scored.

What belongs here: a lake with a facility and its readings, and scoring one. What does not:
assertions.
"""

import atexit
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.table_creation import create_table
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines.quality.lake_scan import open_engine
from carbon_pipelines.quality.scoring import ScoredTable, score_table
from carbon_pipelines_tests.catalog.declarations import declare
from carbon_pipelines_tests.lake.local_lake import START, open_local, relation

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
READING = {
    "id": "int8",
    "facility_id": "int4",
    "read_at": "timestamptz",
    "tonnes": "numeric(9,2)",
    "load": "float8",
    "quality": "text",
    "operator": "text",
}
FACILITY = {"facility_id": "int4", "name": "text"}
_HEAD = "source_table: {0}\nkey: [{1}]\nfreshness: 15m\ndescription: Rows.\n"


def reading(number: int, **other: Any) -> dict[str, Any]:
    """A row that meets everything."""
    return {
        "id": number,
        "facility_id": number % 2 + 1,
        "read_at": datetime(2026, 3, 1, 11, number % 60, tzinfo=UTC),
        "tonnes": "1.50",
        "load": 0.5,
        "quality": "measured",
        "operator": f"person {number}",
        **other,
    }


@cache
def local_engine() -> duckdb.DuckDBPyConnection:
    """The engine of all tests: opening one takes longer than scoring."""
    opened = ExitStack()
    engine = opened.enter_context(open_engine(None, memory_bytes=200_000_000, threads=1))
    atexit.register(opened.close)
    return engine


class ScoredLake:
    """Two tables, ``market/facility`` and ``market/reading``, and their declarations."""

    def __init__(self, path: Path, expectations: str, *, more: str = "") -> None:
        readings = _HEAD.format("reading", "id") + "expectations:\n" + expectations + more
        declare(
            path / "declared",
            "market",
            reading=readings,
            facility=_HEAD.format("facility", "facility_id"),
        )
        self.declaration = path / "declared" / "market" / "reading.yaml"
        self.catalog: Catalog = open_local(path)
        self.database: DatabaseSpec = load_catalog(path / "declared").database("market")

    @property
    def reading(self) -> TableSpec:
        return self.database.table("reading")

    def fill(self, rows: Sequence[Mapping[str, Any]], facilities: Sequence[int] = (1, 2)) -> Table:
        """Copy both tables."""
        self.replace_facilities(facilities)
        return self._copy("reading", READING, rows)

    def replace_facilities(self, facilities: Sequence[int]) -> Table:
        """Copy ``facility``, in place of the rows it has."""
        named = [{"facility_id": number, "name": f"Plant {number}"} for number in facilities]
        return self._copy("facility", FACILITY, named, anew=True)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> Table:
        """Add rows to ``reading`` in a commit of their own."""
        return self._copy("reading", READING, rows)

    def score(self, **more: Any) -> ScoredTable:
        """Score ``reading``."""
        how = {"now": NOW, **more}
        return score_table(self.catalog, local_engine(), self.database, self.reading, **how)

    def _copy(
        self,
        name: str,
        columns: Mapping[str, str],
        rows: Sequence[Mapping[str, Any]],
        *,
        anew: bool = False,
    ) -> Table:
        spec = self.database.table(name)
        table = create_table(self.catalog, spec, relation(columns, spec.key))
        schema = arrow_schema(table.schema())
        files = []
        if rows:
            writer = PartitionedWriter(file_target(table))
            typed = [pa.array([row[f.name] for row in rows]).cast(f.type) for f in schema]
            writer.write(pa.Table.from_arrays(typed, schema=schema))
            files = writer.close()
        before = load_table_files(table.current_snapshot(), table.io)
        removed = before.data if anew else ()
        changes = FileChanges(files, removed_data=removed, manifests=before.manifests)
        committed = commit_files(table, changes, START.to_properties())
        assert committed is not None
        return committed.table
