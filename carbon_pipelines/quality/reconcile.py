"""Whether a table of the lake equals its source: both compared at one consistent point.

What belongs here: the rounds of a comparison and their order. What does not: the comparison of two
ends that stand still (``comparison.py``), reading them (``source_scan.py``, ``lake_scan.py``), and
repair.

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

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    NoConsistentPointError,
    RelationRewrittenError,
    TableMissingError,
)
from carbon_pipelines.lake.sync import TableSynced, sync_table
from carbon_pipelines.quality.canonical import compared_column
from carbon_pipelines.quality.comparison import Compared, Comparison, Ends
from carbon_pipelines.quality.lake_scan import LakeSnapshot, open_engine, pin_snapshot
from carbon_pipelines.quality.rowhash import RowShape
from carbon_pipelines.quality.source_scan import SourceStream, source_batches
from carbon_pipelines.quality.topic_tail import read_topic_since
from carbon_pipelines.quality.touched_keys import MARGIN, touched_keys
from carbon_pipelines.quality.verification import DifferingRows, Verification, VerifyLimits
from carbon_pipelines.source.connection import SourceConnection, load_identity, session
from carbon_pipelines.source.copy import ExportedSnapshot
from carbon_pipelines.source.relation import SourceRelation, load_relation
from carbon_pipelines.source.visibility import emit_marker
from carbon_pipelines.stream.drain import drain, wait_captured
from carbon_pipelines.stream.progress import load_progress
from carbon_pipelines.stream.resume import check_same_source


@dataclass(frozen=True, slots=True)
class _Voided:
    """A round that says nothing, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Round:
    """What one complete round found."""

    compared: Compared
    synced: TableSynced
    pending: int
    schema_differences: tuple[str, ...] = ()
    rows: DifferingRows | None = None


def verify_table(
    table: TableSpec,
    database: DatabaseSpec,
    endpoints: Endpoints,
    *,
    limits: VerifyLimits | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Verification:
    """Compare ``table`` with its source, row by row, at one consistent point.

    The lake is brought up to that point first; nothing else is written. Memory does not grow with
    the table.

    Raises:
        NoConsistentPointError: No round was complete (retryable).
        LakeUnreadableError: The independent reader cannot read the table.
        SourceError, StreamError, LakeError: A service failed or refused.
    """
    bounds = limits or VerifyLimits()
    started, cpu_started = time.monotonic(), time.process_time()
    found: list[_Round] = []
    voided: list[_Voided] = []
    with open_engine(
        endpoints.lake, memory_bytes=bounds.memory_bytes, threads=bounds.threads
    ) as engine:
        rounds = _Rounds(
            table, database, endpoints, bounds, now, engine, Comparison(engine, table.label, bounds)
        )
        while len(found) + len(voided) < bounds.rounds:
            outcome = rounds.make_one()
            if isinstance(outcome, _Voided):
                voided.append(outcome)
                continue
            found.append(outcome)
            if not outcome.pending:
                break
    if not found:
        raise NoConsistentPointError(table.label, [round_.reason for round_ in voided])
    return _summed(
        table,
        found,
        rounds=len(found) + len(voided),
        seconds=time.monotonic() - started,
        cpu_seconds=time.process_time() - cpu_started,
    )


def _summed(
    table: TableSpec, found: Sequence[_Round], *, rounds: int, seconds: float, cpu_seconds: float
) -> Verification:
    first, pending = found[0], found[-1].pending
    differing = sum(round_.compared.differing_keys for round_ in found)
    return Verification(
        table=table,
        verified=not (differing or pending or first.schema_differences),
        source_rows=sum(round_.compared.source_rows for round_ in found),
        lake_rows=sum(round_.compared.lake_rows for round_ in found),
        differing_keys=tuple(d for round_ in found for d in round_.compared.differences),
        differing_count=differing,
        schema_differences=first.schema_differences,
        unsettled_keys=pending,
        rounds=rounds,
        position=first.synced.position,
        snapshot_id=first.synced.snapshot_id,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        at_least=any(round_.compared.at_least for round_ in found),
        rows=tuple(round_.rows for round_ in found if round_.rows is not None),
    )


@dataclass(frozen=True, slots=True)
class _Rounds:
    """Makes the rounds of one table's comparison."""

    table: TableSpec
    database: DatabaseSpec
    endpoints: Endpoints
    limits: VerifyLimits
    now: Callable[[], datetime]
    engine: duckdb.DuckDBPyConnection
    comparison: Comparison

    def make_one(self) -> _Round | _Voided:
        """One round; the first compares every key, the others those still pending."""
        try:
            with session(self._dsn) as connection:
                if not self._check_same_history(connection):
                    return _Voided("capture has not followed the source's failover yet")
                relation = self._load_relation(connection)
                taken_at = self.now()
                with ExportedSnapshot(self._dsn) as snapshot:
                    lsn = snapshot.insert_lsn
                    synced = self._bring_to(lsn, emit_marker(connection, b"verify"))
                    if "first_copy" in synced.seconds_by_step or synced.through_lsn > lsn:
                        return _Voided("another run brought the lake beyond the source snapshot")
                    outcome = self._compare(relation, snapshot, taken_at, synced)
                if self._load_relation(connection).columns != relation.columns:
                    return _Voided("the source table was altered meanwhile")
        except (RelationRewrittenError, TableMissingError) as change:
            return _Voided(str(change))
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
    ) -> _Round | _Voided:
        shape = row_shape(relation, self.table)
        key = [shape.columns[i] for i in shape.key_positions]
        bootstrap = self.endpoints.stream_bootstrap
        tail = read_topic_since(bootstrap, self.table, taken_at - MARGIN)
        touched = touched_keys(tail, key, snapshot.visibility, snapshot.insert_lsn)
        if touched.truncated:
            return _Voided("a transaction that the source snapshot cannot see truncated the table")
        lake = pin_snapshot(self.engine, self.endpoints.lake, self.table, synced.snapshot_id)
        differences = schema_differences(shape, lake)
        if differences:
            return _Round(Compared(0, 0), synced, 0, differences)
        self.comparison.leave_out(touched.keys, shape)
        source = SourceStream(
            lambda: source_batches(self._dsn, snapshot, relation, shape.columns), shape.columns
        )
        compared = self.comparison.compare(Ends(shape, source, lake))
        rows = None
        if compared.source is not None and compared.lake_keys is not None:
            rows = DifferingRows(synced.progress, relation, compared.source, compared.lake_keys)
        return _Round(compared, synced, self.comparison.settle(), rows=rows)


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
