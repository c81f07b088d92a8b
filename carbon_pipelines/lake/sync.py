"""Bringing one table up to date: the first copy if it has none, then the merge of what Kafka holds.

What belongs here: the one call that Dagster, the CLI and verification share, and what it reports.
What does not: draining the source into Kafka (``stream/drain.py``; the caller has done so).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import CarbonPipelinesError, SourceTableAwayError, StreamGapError
from carbon_pipelines.lake.answer import Answer, resume
from carbon_pipelines.lake.catch_up import CatchUp, CaughtUp
from carbon_pipelines.lake.connection import KEPT_FILES, lake_errors, load_table, open_catalog
from carbon_pipelines.lake.delete_file import count_rows
from carbon_pipelines.lake.evolution import COMMENT
from carbon_pipelines.lake.first_copy import FirstCopy
from carbon_pipelines.lake.freshness import Freshness
from carbon_pipelines.lake.gap import check_generation
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.mode import check_mode
from carbon_pipelines.lake.parking import Parked, find_parked, parks
from carbon_pipelines.lake.reread import Rereading
from carbon_pipelines.lake.state import TableProgress, load_progress
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import topic_of

COPIES_BEHIND_GAPS = 3
"""Copies made anew in one sync because the stream lost changes again meanwhile."""


@dataclass(frozen=True, slots=True)
class TableSynced:
    """What one sync did and where the table stands.

    Attributes:
        committed: Whether any snapshot was made.
        first_offset: Kafka offset that reading began at.
        last_offset: Offset before the one to read next.
        lag_offsets: Offsets of the topic not yet read, at the end.
        key: Its key columns as they are called now, which the declaration may call otherwise.
        comment: The source's description of the table; ``column_comments`` those of columns.
        recopied: Why the table was copied anew by itself, once for each time.
        snapshots: How many the table's metadata names.
        schema_steps: Changes of columns that were followed.
        progress: What snapshot ``snapshot_id`` carries.
        seconds_by_step: Wall seconds of "first_copy" and "merge".
        freshness: Of the events that were merged, how old they were when that was visible.
    """

    identifier: tuple[str, str]
    snapshot_id: int | None
    committed: bool
    copied_rows: int
    upserted_rows: int
    deleted_rows: int
    events: int
    first_offset: int
    last_offset: int
    lag_offsets: int
    position: Position
    row_count: int
    column_schema: tuple[tuple[str, str], ...]
    progress: TableProgress
    key: tuple[str, ...] = ()
    comment: str | None = None
    column_comments: Mapping[str, str] = field(default_factory=dict[str, str])
    recopied: tuple[str, ...] = ()
    snapshots: int = 0
    schema_steps: tuple[str, ...] = ()
    seconds_by_step: Mapping[str, float] = field(default_factory=dict[str, float])
    freshness: Freshness = field(default_factory=Freshness)

    @property
    def through_lsn(self) -> int:
        """No change above this LSN shows; a copy shows some up to its edge, past ``position``."""
        edge = self.progress.edge
        return max(self.position.commit_lsn, edge.through_lsn if edge is not None else 0)


@dataclass(frozen=True, slots=True)
class TableState:
    """Where a table stands, without touching it; ``lag_offsets`` may count transaction markers.

    ``generation`` is the number of gaps in the stream that the table has been copied behind.
    """

    position: Position
    next_offset: int
    snapshot_id: int
    lag_offsets: int
    parked: Parked | None = None
    generation: int = 0


def sync_table(
    table: TableSpec,
    database: DatabaseSpec,
    endpoints: Endpoints,
    *,
    until_lsn: int | None = None,
    report: Callable[[str], None] = lambda _: None,
    hooks: MergeHooks | None = None,
) -> TableSynced:
    """Copy the table if it has no copy, then merge what its topic holds now.

    A change of the source that has no effect in place is answered by a copy anew, as the
    declaration says; a table that cannot go on is parked at the place it came to. A mirror that
    stands before a gap in its topic is copied anew first, unless its database says
    ``heal_slots: false``. Until a copy is whole, readers keep the rows from before it.

    Args:
        table: Its declaration.
        database: The declaration of its database.
        endpoints: Where the services are.
        until_lsn: Merge only events with a commit LSN up to this one.
        report: Takes a line of progress.
        hooks: Called at the moments of a merge; for tests.

    Raises:
        TableParkedError: An earlier call parked it; Kafka is not read. One that was parked for what
            the source said of it goes on as soon as the source says so no more.
        HistoryKeptError: Only a copy anew would go on with a history; it is parked now.
        ModeChangedError: The declaration has another mode than the rows were written with.
        CarbonPipelinesError: One of the errors of copying and merging; the table stands at its last
            snapshot and the same call goes on from there.
    """
    with open_catalog(endpoints.lake, files=KEPT_FILES) as catalog:
        iceberg, progress = _open(catalog, table)
        if iceberg is not None:
            check_mode(iceberg, table)
            iceberg = resume(catalog, iceberg, table, database, endpoints)
        copied_rows, steps = 0, dict[str, float]()
        rereading = Rereading(database, endpoints)
        bootstrap = endpoints.stream_bootstrap
        freshness = Freshness()
        catch_up = CatchUp(
            catalog,
            table,
            bootstrap,
            hooks=hooks,
            rereading=rereading,
            visible=lambda committed_ms: freshness.add(committed_ms, time.time() * 1000),
        )
        answer = Answer(catalog, table, database, endpoints, report)
        copies_left, recopied = COPIES_BEHIND_GAPS, list[str]()
        while True:
            try:
                if iceberg is None or progress is None:
                    started = time.monotonic()
                    copied = FirstCopy(catalog, table, database, endpoints, report=report).run()
                    iceberg, progress, copied_rows = copied.table, copied.progress, copied.rows
                    steps["first_copy"] = time.monotonic() - started
                started = time.monotonic()
                check_generation(table, endpoints.stream_bootstrap, progress)
                try:
                    done = catch_up.run(iceberg, progress, until_lsn=until_lsn)
                except CarbonPipelinesError as error:
                    if not (parks(error, table) or isinstance(error, SourceTableAwayError)):
                        raise
                    copied = answer.to(error, iceberg)
                    recopied.append(str(error))
                    iceberg, progress = copied.table, copied.progress
                    copied_rows += copied.rows
                    continue
                steps["merge"] = time.monotonic() - started
                synced = _synced(table, progress, done, copied_rows, steps, tuple(recopied))
                return replace(synced, freshness=freshness)
            except StreamGapError as gap:
                if table.is_history and iceberg is not None:
                    answer.to(gap, iceberg)
                if table.mode != "mirror" or not database.heal_slots or not copies_left:
                    raise
                report(str(gap))
                copies_left -= 1
                started = time.monotonic()
                copied = answer.copy_anew(iceberg)
                iceberg, progress, copied_rows = copied.table, copied.progress, copied.rows
                steps["first_copy"] = time.monotonic() - started


def observe_table(table: TableSpec, endpoints: Endpoints) -> TableState | None:
    """Where the table stands, or ``None`` if it has no published copy."""
    with open_catalog(endpoints.lake) as catalog:
        iceberg, progress = _open(catalog, table)
    snapshot = iceberg.current_snapshot() if iceberg is not None else None
    if progress is None or snapshot is None:
        return None
    topic = load_topic_state(endpoints.stream_bootstrap, topic_of(table))
    lag = max(0, topic.high - progress.next_offset)
    parked = find_parked(iceberg.metadata, table.label) if iceberg is not None else None
    return TableState(
        position=progress.position,
        next_offset=progress.next_offset,
        snapshot_id=snapshot.snapshot_id,
        lag_offsets=lag,
        parked=parked,
        generation=progress.generation,
    )


def _open(catalog: Catalog, table: TableSpec) -> tuple[Table | None, TableProgress | None]:
    iceberg = load_table(catalog, table.identifier)
    progress = load_progress(iceberg.metadata, table.label) if iceberg is not None else None
    return iceberg, progress


def _synced(
    table: TableSpec,
    before: TableProgress,
    done: CaughtUp,
    copied_rows: int,
    steps: Mapping[str, float],
    recopied: tuple[str, ...],
) -> TableSynced:
    snapshot, key = done.table.current_snapshot(), done.table.schema().identifier_field_ids
    with lake_errors(f"Iceberg table {table.label}"):
        row_count = count_rows(snapshot, done.table.io)
    return TableSynced(
        identifier=table.identifier,
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        committed=done.commits > 0 or "first_copy" in steps or bool(recopied),
        copied_rows=copied_rows,
        upserted_rows=done.upserted_rows,
        deleted_rows=done.deleted_rows,
        events=done.events,
        first_offset=before.next_offset,
        last_offset=done.progress.next_offset - 1,
        lag_offsets=max(0, done.topic.high - done.progress.next_offset),
        position=done.progress.position,
        row_count=row_count,
        column_schema=tuple((f.name, str(f.field_type)) for f in done.table.schema().fields),
        progress=done.progress,
        key=tuple(f.name for f in done.table.schema().fields if f.field_id in key),
        comment=done.table.properties.get(COMMENT),
        column_comments={f.name: f.doc for f in done.table.schema().fields if f.doc},
        recopied=recopied,
        snapshots=len(done.table.metadata.snapshots),
        schema_steps=done.schema_steps,
        seconds_by_step=dict(steps),
    )
