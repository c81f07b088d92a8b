"""One round of a comparison: both ends brought to one point, and compared there.

What belongs here: the steps of a round in their order, and which keys it compares. What does not:
how many rounds there are and what they say together (``reconcile.py``), the comparison of two ends
that stand still (``comparison.py``), and reading them (``source_scan.py``, ``lake_scan.py``).

A round, in this order, which is what makes its point consistent:

0. source and stream are of the same cluster, database and timeline, or their LSNs mean nothing to
   each other;
1. a source snapshot S is exported; then L is read; then a message is committed synchronously, so
   that nothing S sees can be lost in a crash;
2. the stream is waited for until it holds everything up to L, and the lake applies exactly the
   events with commit_lsn <= L; if it shows changes beyond L already, be it those that a copy made
   meanwhile holds, the round is void;
3. both ends are summed per bucket of key hashes in bounded memory, without the keys touched by
   transactions that S cannot see although they are <= L (old and new keys of key changes);
4. a TRUNCATE, rewrite or ALTER that S could not see voids the round: the lake is never held to be
   wrong, or right, because of it.

A key left out is compared in the next round, under a fresh S. Differences at other keys are real.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    RelationRewrittenError,
    TableMissingError,
)
from carbon_pipelines.lake.connection import load_lake_table, open_catalog
from carbon_pipelines.lake.sync import TableSynced, sync_table
from carbon_pipelines.quality.canonical import compared_column
from carbon_pipelines.quality.changed_keys import load_changed_keys, merged_since
from carbon_pipelines.quality.comparison import Compared, Comparison, Ends
from carbon_pipelines.quality.lake_scan import LakeSnapshot, pin_snapshot
from carbon_pipelines.quality.rowhash import RowShape
from carbon_pipelines.quality.source_scan import (
    SourceStream,
    can_read_by_key,
    rows_of_keys,
    source_batches,
)
from carbon_pipelines.quality.topic_tail import read_topic_since
from carbon_pipelines.quality.touched_keys import MARGIN, Key, touched_keys
from carbon_pipelines.quality.verification import DifferingRows, VerifyLimits
from carbon_pipelines.source.connection import SourceConnection, load_identity, session
from carbon_pipelines.source.copy import ExportedSnapshot
from carbon_pipelines.source.relation import SourceRelation, load_relation
from carbon_pipelines.source.visibility import emit_marker
from carbon_pipelines.stream.drain import drain, wait_captured
from carbon_pipelines.stream.progress import load_progress
from carbon_pipelines.stream.resume import check_same_source


@dataclass(frozen=True, slots=True)
class Voided:
    """A round that says nothing, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Round:
    """What one complete round found."""

    compared: Compared
    synced: TableSynced
    pending: int
    taken_at: datetime
    schema_differences: tuple[str, ...] = ()
    rows: DifferingRows | None = None


@dataclass(slots=True)
class Rounds:
    """Makes the rounds of one table's comparison.

    ``changed`` is how many keys are compared in all, if not all of them. ``wanted`` are those to be
    compared in the next round, once that is known of all of them.
    """

    table: TableSpec
    database: DatabaseSpec
    endpoints: Endpoints
    limits: VerifyLimits
    now: Callable[[], datetime]
    engine: duckdb.DuckDBPyConnection
    comparison: Comparison
    proven: int | None
    pin: Callable[[int], None]
    changed: int | None = None
    wanted: tuple[Key, ...] | None = None
    is_first: bool = True

    def make_one(self) -> Round | Voided:
        """One round; the first compares every key, the others those still pending."""
        try:
            with session(self._dsn) as connection:
                if not self._check_same_history(connection):
                    return Voided("capture has not followed the source's failover yet")
                relation = self._load_relation(connection)
                taken_at = self.now()
                with ExportedSnapshot(self._dsn) as snapshot:
                    lsn = snapshot.insert_lsn
                    synced = self._bring_to(lsn, emit_marker(connection, b"verify"))
                    if "first_copy" in synced.seconds_by_step or synced.through_lsn > lsn:
                        return Voided("another run brought the lake beyond the source snapshot")
                    if self.is_first and synced.snapshot_id is not None:
                        self.pin(synced.snapshot_id)
                    outcome = self._compare(relation, snapshot, taken_at, synced)
                if self._load_relation(connection).columns != relation.columns:
                    return Voided("the source table was altered meanwhile")
        except (RelationRewrittenError, TableMissingError) as change:
            return Voided(str(change))
        return outcome

    def _check_same_history(self, connection: SourceConnection) -> bool:
        """Whether LSNs of source and stream may be compared, which a failover ends for a while.

        Raises:
            WrongDatabaseError: The stream is of another cluster or database.
        """
        here = load_identity(connection)
        stream = load_progress(self.endpoints, self.database)
        if stream is not None:
            check_same_source(self.database.name, stream, here)
        if stream is None or stream.timeline != here.timeline:
            drain(self.database, self.endpoints, timeout=self.limits.timeout)
            stream = load_progress(self.endpoints, self.database)
        return stream is not None and stream.timeline == here.timeline

    @property
    def _dsn(self) -> str:
        return self.endpoints.source_dsn(self.database.name)

    def _load_relation(self, connection: SourceConnection) -> SourceRelation:
        return load_relation(connection, self.table.source_schema, self.table.source_table)

    def _bring_to(self, lsn: int, marker_lsn: int) -> TableSynced:
        """Have stream and lake at ``lsn``, and what is before the marker safe from a crash."""
        wait_captured(
            self.database, self.endpoints, max(lsn, marker_lsn), timeout=self.limits.timeout
        )
        return sync_table(self.table, self.database, self.endpoints, until_lsn=lsn)

    def _compare(
        self,
        relation: SourceRelation,
        snapshot: ExportedSnapshot,
        taken_at: datetime,
        synced: TableSynced,
    ) -> Round | Voided:
        shape = row_shape(relation, self.table)
        key = [shape.columns[i] for i in shape.key_positions]
        bootstrap = self.endpoints.stream_bootstrap
        tail = read_topic_since(bootstrap, self.table, taken_at - MARGIN)
        touched = touched_keys(tail, key, snapshot.visibility, snapshot.insert_lsn)
        if touched.truncated:
            return Voided("a transaction that the source snapshot cannot see truncated the table")
        lake = pin_snapshot(self.engine, self.endpoints.lake, self.table, synced.snapshot_id)
        differences = schema_differences(shape, lake)
        if differences:
            return Round(Compared(0, 0), synced, 0, taken_at, differences)
        if self.is_first:
            self._begin(shape, synced)
        self.comparison.leave_out(touched.keys, shape)
        wanted = self.wanted if can_read_by_key(shape) else None
        source = SourceStream(
            lambda: (
                source_batches(self._dsn, snapshot, relation, shape.columns)
                if wanted is None
                else rows_of_keys(self._dsn, snapshot, relation, shape, wanted)
            ),
            shape.columns,
        )
        nothing = wanted is not None and not wanted
        compared = Compared(0, 0) if nothing else self.comparison.compare(Ends(shape, source, lake))
        rows = None
        if compared.source is not None and compared.lake_keys is not None:
            rows = DifferingRows(synced.progress, relation, compared.source, compared.lake_keys)
        self._leave_pending(touched.keys)
        return Round(compared, synced, self.comparison.settle(), taken_at, rows=rows)

    def _begin(self, shape: RowShape, synced: TableSynced) -> None:
        """Choose what is compared in all: what changed since the proof, if that can be told."""
        self.wanted = self._changed_since(shape, synced)
        self.changed = None if self.wanted is None else len(self.wanted)
        self.comparison.begin(self.wanted, shape)

    def _changed_since(self, shape: RowShape, synced: TableSynced) -> tuple[Key, ...] | None:
        if self.proven is None or synced.snapshot_id is None or not can_read_by_key(shape):
            return None
        with open_catalog(self.endpoints.lake) as catalog:
            iceberg = load_lake_table(catalog, self.table.identifier)
        between = merged_since(iceberg.metadata, self.table.label, self.proven, synced.snapshot_id)
        if between is None:
            return None
        key = [shape.columns[i] for i in shape.key_positions]
        return load_changed_keys(self.endpoints.stream_bootstrap, self.table, *between, key)

    def _leave_pending(self, left_out: Sequence[Key]) -> None:
        """A round is complete: the next one compares what this one left out."""
        self.is_first = False
        chosen = None if self.wanted is None else frozenset(self.wanted)
        self.wanted = tuple(key for key in left_out if chosen is None or key in chosen)


def row_shape(relation: SourceRelation, table: TableSpec) -> RowShape:
    """The columns that capture sends, and the declared key among them."""
    captured = [c for c in relation.columns if c.name not in table.dropped_columns]
    declared = {name: spec.type for name, spec in table.columns.items()}
    positions = {column.name: index for index, column in enumerate(captured)}
    return RowShape(
        columns=tuple(compared_column(c, declared.get(c.name)) for c in captured),
        key=tuple(positions[name] for name in table.key),
    )


def schema_differences(shape: RowShape, lake: LakeSnapshot) -> tuple[str, ...]:
    """Columns of the lake whose type is not the one that holds the source's values exactly."""
    return tuple(
        f"{c.name} is {lake.columns[c.name]} in the lake, where {c.type} holds the source's values"
        for c in shape.columns
        if c.name in lake.columns and lake.columns[c.name] != c.type
    )
