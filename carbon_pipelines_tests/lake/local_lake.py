"""A lake on local files for unit tests: a SQLite catalog to write with, DuckDB to read with.

What belongs here: what several lake tests need to make tables and read them back. What does not:
assertions, and anything that needs a service.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extension_avro
import duckdb_extension_iceberg
import numpy as np
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.lake.change_batch import ChangeBatch, EnvelopeReader
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.merge import Merge, Merged, MergeHooks
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.schema_change import plan_change
from carbon_pipelines.lake.schema_commit import commit_change
from carbon_pipelines.lake.state import TableProgress, load_progress
from carbon_pipelines.lake.table_creation import create_table
from carbon_pipelines.lake.types import json_type
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceColumn, SourceRelation, SourceType
from carbon_pipelines.stream.consumer import RawBatch


def numeric(precision: int, scale: int) -> SourceType:
    """PostgreSQL's ``numeric(precision, scale)``."""
    typmod = ((precision << 16) | (scale & 0x7FF)) + 4
    return SourceType(1700, typmod, f"numeric({precision},{scale})", "b", "numeric")


TYPES = {
    "int2": SourceType(21, -1, "smallint", "b", "int2"),
    "int4": SourceType(23, -1, "integer", "b", "int4"),
    "int8": SourceType(20, -1, "bigint", "b", "int8"),
    "oid": SourceType(26, -1, "oid", "b", "oid"),
    "text": SourceType(25, -1, "text", "b", "text"),
    "varchar": SourceType(1043, 24, "character varying(20)", "b", "varchar"),
    "jsonb": SourceType(3802, -1, "jsonb", "b", "jsonb"),
    "mood": SourceType(16500, -1, "mood", "e", "mood"),
    "numeric": SourceType(1700, -1, "numeric", "b", "numeric"),
    "numeric(9,2)": numeric(9, 2),
    "numeric(12,2)": numeric(12, 2),
    "numeric(30,4)": numeric(30, 4),
    "timestamptz": SourceType(1184, -1, "timestamp with time zone", "b", "timestamptz"),
    "timestamp": SourceType(1114, -1, "timestamp without time zone", "b", "timestamp"),
    "date": SourceType(1082, -1, "date", "b", "date"),
    "time": SourceType(1083, -1, "time without time zone", "b", "time"),
    "float4": SourceType(700, -1, "real", "b", "float4"),
    "float8": SourceType(701, -1, "double precision", "b", "float8"),
    "bool": SourceType(16, -1, "boolean", "b", "bool"),
    "uuid": SourceType(2950, -1, "uuid", "b", "uuid"),
    "bytea": SourceType(17, -1, "bytea", "b", "bytea"),
}
TYPES |= {
    f"{name}[]": SourceType(0, kind.typmod, f"{kind.name}[]", "b", f"_{name}", kind)
    for name, kind in TYPES.items()
}

START = TableProgress(Position(0, 0), 0, 1, "cluster", "topic", "7000", 1, 16384)


def relation(columns: Mapping[str, str], key: Sequence[str], *, version: int = 1) -> SourceRelation:
    """A source relation with attnums in order."""
    return SourceRelation(
        oid=16384,
        schema="public",
        name="t",
        kind="r",
        replica_identity="d",
        columns=tuple(
            SourceColumn(
                number,
                name,
                TYPES[kind],
                name not in key,
                key.index(name) if name in key else None,
            )
            for number, (name, kind) in enumerate(columns.items(), start=1)
        ),
        version=version,
    )


def table_spec(key: Sequence[str], **more: Any) -> TableSpec:
    """A declaration of table ``market/t``."""
    return TableSpec(
        database="market",
        name="t",
        source_table="t",
        key=tuple(key),
        owner="team:tests",
        freshness="15m",
        description="A table.",
        **more,
    )


def open_local(path: Path, **properties: str) -> Catalog:
    """A catalog in memory, its tables under ``path``."""
    warehouse = f"file://{path}/warehouse"
    return SqlCatalog("local", uri="sqlite://", warehouse=warehouse, **properties)


def read_events(
    events: Iterable[Mapping[str, Any]], shape: SourceRelation, spec: TableSpec, *, first: int
) -> ChangeBatch:
    """The batch of envelopes that ``LocalLake.batch`` makes, behind ``first`` others."""
    values = []
    for number, event in enumerate(events, first + 1):
        source = {
            "txId": 700 + number,
            "commit_lsn": event.get("commit", 1000 + number),
            "ordinal": number if "commit" in event else 1,
            "schema_version": shape.version,
        }
        if event.get("unchanged"):
            source["unchanged"] = "\x1f".join(event["unchanged"])
        body = {
            "before": event.get("before"),
            "after": event.get("after"),
            "source": source,
            "op": event["op"],
            "ts_ms": source["commit_lsn"],
        }
        values.append(json.dumps(body).encode())
    end = first + len(values)
    raw = RawBatch(
        values=values, first_offset=first, next_offset=end, offsets=list(range(first, end))
    )
    columns = {c.name: json_type(c.type) for c in shape.columns}
    topic = "cdc.market.public.t"
    return EnvelopeReader(topic, columns, spec.key, whole_rows=spec.is_bag).read(raw)


class LocalLake:
    """One table and the events that go into it."""

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, str],
        key: Sequence[str],
        *,
        catalog: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        self.spec = table_spec(key, **more)
        self.relation = relation(columns, key)
        self.catalog = open_local(path, **(catalog or {}))
        self.table = create_table(self.catalog, self.spec, self.relation)
        self.progress = START
        self._ordinal = 0

    def load(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Commit a first copy of ``rows`` (Python values) at the start position."""
        schema = arrow_schema(self.table.schema())
        self.load_table(pa.Table.from_pylist(list(rows), schema=schema) if rows else None)

    def load_table(self, rows: pa.Table | None) -> None:
        """Commit a first copy of typed rows at the start position."""
        files = []
        if rows is not None:
            writer = PartitionedWriter(file_target(self.table))
            writer.write(rows)
            files = writer.close()
        snapshot = self.fresh().current_snapshot()
        manifests = snapshot.manifests(self.table.io) if snapshot else ()
        changes = FileChanges(added_data=files, manifests=manifests)
        committed = commit_files(self.fresh(), changes, self.progress.to_properties())
        assert committed is not None

    def evolve(self, after: SourceRelation, before: SourceRelation | None = None) -> Table:
        """Follow a DDL, from ``before`` or the lake's shape to ``after``."""
        change = plan_change(self.fresh(), after, self.spec, before or self.relation)
        if change:
            commit_change(self.fresh(), self.spec.label, change, (0, after.version))
        return self.fresh()

    def fresh(self) -> Table:
        return self.catalog.load_table(self.spec.identifier)

    def batch(self, events: Iterable[Mapping[str, Any]]) -> ChangeBatch:
        """Envelopes of ``events``: {op, after, before, unchanged, commit}.

        Each is a transaction, unless ``commit`` says which commit LSN it belongs to.
        """
        batch = read_events(events, self.relation, self.spec, first=self._ordinal)
        self._ordinal += len(batch)
        return batch

    def merge(
        self, events: Sequence[Mapping[str, Any]], *, hooks: MergeHooks | None = None
    ) -> Merged:
        """Merge ``events`` as one batch."""
        batch = self.batch(events)
        base = load_progress(self.fresh().metadata, self.spec.label)
        assert base is not None
        after = base.moved_to(
            Position(int(batch.commit_lsn[-1]), 1),
            int(batch.offset[-1]) + 1,
            self.relation.version,
            base.ddl_offset,
        )
        return Merge(self.catalog, self.spec, hooks=hooks).apply(batch, base, after)

    def rows(self, columns: str = "*", where: str = "") -> list[tuple[Any, ...]]:
        """Every row, or those that ``where`` takes, read by DuckDB, sorted."""
        return sorted(duckdb_rows(self.fresh(), columns, where), key=repr)


def duckdb_rows(table: Table, columns: str = "*", where: str = "") -> list[tuple[Any, ...]]:
    """Read a table with DuckDB's Iceberg reader, which shares no code with PyIceberg."""
    path = table.metadata_location.removeprefix("file://")
    query = f"SELECT {columns} FROM iceberg_scan('{path}')"
    if where:
        query += f" WHERE {where}"
    return open_duckdb().execute(query).fetchall()


def last_sequence_numbers(table: Table) -> list[int]:
    """``last-sequence-number`` of every metadata version that is still known, oldest first."""
    log = [entry.metadata_file for entry in table.metadata.metadata_log]
    documents = [table.io.new_input(path).open().read() for path in (*log, table.metadata_location)]
    return [json.loads(document)["last-sequence-number"] for document in documents]


@cache
def open_duckdb() -> duckdb.DuckDBPyConnection:
    """DuckDB with the Iceberg extension from its wheel, offline; opened once, for it takes long."""
    connection = duckdb.connect(config={"allow_unsigned_extensions": "false"})
    for package in (duckdb_extension_avro, duckdb_extension_iceberg):
        (path,) = Path(next(iter(package.__path__))).rglob("*.duckdb_extension")
        connection.execute(f"LOAD '{path}'")
    return connection


def positions(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)
