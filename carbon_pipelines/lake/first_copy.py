"""The first copy of a source table, straight from COPY to Iceberg.

What belongs here: reading ranges of the table under one exported snapshot, staging them on a hidden
branch, resuming after a crash, and publishing ``main`` once. What does not: the COPY itself
(``source/copy.py``), what the branch remembers (``staging.py``), the stream after it
(``catch_up.py``).

Nothing of a copy is visible until it is whole. The order of steps that keeps it exact:
1. read the capture's position P, then the topic's end E: events from E on lie above P;
2. wait until every transaction that was running has ended, then export snapshot S: events before E
   are visible to S;
3. read L, the WAL insert position after S. An event from E on is in the copy if its commit LSN is
   at most L and S sees its transaction; else it is not;
4. write a marker synchronously before anything is read: it flushes every asynchronous commit that S
   sees, so no crash can take back a row that is copied, now or by a resumed copy;
5. copy; each finished range is a snapshot on the branch, so a crash costs the ranges under way;
   then wait until Kafka holds everything up to the marker;
6. a resumed copy has ranges of several snapshots: it skips by the first, and the branch is brought
   past the last one's L before anyone sees it. Only keyed mirrors resume; others start again;
7. ``main`` is set to the branch's head once that holds all that was merged into ``main`` meanwhile,
   so that readers are not taken back in time. Where the columns have changed since or events were
   set aside, and after ``CATCH_UPS`` attempts, they are until the next merge.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    CommitConflictError,
    MissingPriorValueError,
    ProgressMissingError,
    RelationRewrittenError,
)
from carbon_pipelines.lake.automatic import ANSWERED
from carbon_pipelines.lake.catch_up import CatchUp
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.copy_range import RangeReader, check_identity
from carbon_pipelines.lake.copy_start import CopyStart, begin, can_resume
from carbon_pipelines.lake.history_columns import copied_at
from carbon_pipelines.lake.layout import Layout, stage_layout
from carbon_pipelines.lake.mode import check_replaceable
from carbon_pipelines.lake.partitions import file_target
from carbon_pipelines.lake.staging import (
    BRANCH,
    ReadersAheadError,
    StagedCopy,
    beside_others,
    discard_branch,
    load_staged,
    publish,
    stage_files,
)
from carbon_pipelines.lake.state import CopyEdge, TableProgress
from carbon_pipelines.lake.state import load_progress as load_branch_progress
from carbon_pipelines.lake.table_creation import create_table
from carbon_pipelines.source.assessment import check_declared
from carbon_pipelines.source.connection import load_identity, session
from carbon_pipelines.source.copy import ExportedSnapshot, load_relation_as_of
from carbon_pipelines.source.leaves import load_heaps_as_of, plan_heap_ranges
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.source.visibility import (
    emit_marker,
    load_moment,
    wait_until_older_transactions_ended,
)
from carbon_pipelines.stream.drain import drain, wait_captured
from carbon_pipelines.stream.progress import Progress, load_progress
from carbon_pipelines.stream.resume import check_same_source
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import topic_of

READERS = 2
"""Ranges read at the same time."""
RANGE_BYTES = 96 * 1024 * 1024
"""Heap bytes of one range, which becomes one data file in an unpartitioned table."""
ATTEMPTS_WHEN_REWRITTEN = 3
"""Copies begun again because the source table was truncated or rewritten meanwhile."""
CATCH_UPS = 5
"""Attempts to publish a copy beside merges that each time were ahead of it."""
CAPTURE_TIMEOUT = timedelta(minutes=30)
"""How long capture may take to pass the copy's L."""


@dataclass(frozen=True, slots=True)
class FirstCopied:
    """A published first copy."""

    table: Table
    progress: TableProgress
    rows: int


class FirstCopy:
    """Copies one table.

    Args:
        report: Takes a line of progress.
        after_range: Called after each range is on the branch, for tests that stop the process.
    """

    def __init__(
        self,
        catalog: Catalog,
        table: TableSpec,
        database: DatabaseSpec,
        endpoints: Endpoints,
        *,
        report: Callable[[str], None],
        after_range: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._catalog, self._spec, self._database, self._endpoints = (
            catalog,
            table,
            database,
            endpoints,
        )
        self._report, self._after_range = report, after_range
        self._dsn = endpoints.source_dsn(database.name)
        self._rows = 0

    def run(self) -> FirstCopied:
        """Copy and publish; begins again where the source was rewritten meanwhile.

        Raises:
            HistoryKeptError: The rows that the copy would replace are a history.
            SourceError: The table cannot be captured as declared, or is not published yet.
            RelationRewrittenError: The source was rewritten again and again (retryable).
            CommitConflictError: Another process copies or writes the same table (retryable).
        """
        kept = load_table(self._catalog, self._spec.identifier)
        check_replaceable(kept, self._spec, "it was to be copied anew")
        for _ in range(ATTEMPTS_WHEN_REWRITTEN - 1):
            try:
                return self._copy()
            except (RelationRewrittenError, MissingPriorValueError, *ANSWERED) as reason:
                # A resumed copy may lack a row that the stream, from before it went, still changes,
                # and its stream may hold what only another copy answers.
                self._report(f"{self._spec.label}: starting again, because {reason}")
                self._discard()
        return self._copy()

    def _copy(self) -> FirstCopied:
        self._rows = 0
        with session(self._dsn) as connection:
            stream = load_progress(self._endpoints, self._database) or self._begin_capture()
            check_declared(connection, self._database, self._spec)
            identity = load_identity(connection)
            check_same_source(self._database.name, stream, identity)
            topic = load_topic_state(self._endpoints.stream_bootstrap, topic_of(self._spec))
            began = load_moment(connection)
            wait_until_older_transactions_ended(connection)
            with ExportedSnapshot(self._dsn) as snapshot:
                marker_lsn = emit_marker(connection, b"first copy")
                as_of = (self._dsn, snapshot.snapshot_id)
                name = (self._spec.source_schema, self._spec.source_table)
                relation = load_relation_as_of(*as_of, *name)
                check_identity(relation, self._spec)
                heaps = load_heaps_as_of(*as_of, relation)
                edge = CopyEdge(snapshot.visibility, snapshot.insert_lsn)
                start = CopyStart(stream, topic, identity, relation, heaps, edge)
                table, layout = self._prepare_table(relation)
                table, staged = self._start(table, layout.schema.schema_id, start)
                constants = copied_at(began) if self._spec.is_history else {}
                reader = RangeReader(*as_of, relation, heaps, self._spec, constants=constants)
                table, staged = self._copy_ranges(table, staged, reader, layout)
        wait_captured(self._database, self._endpoints, marker_lsn, timeout=CAPTURE_TIMEOUT)
        return self._publish(table, staged, layout)

    def _begin_capture(self) -> Progress:
        """Set up what nobody has set up yet: no copy may be older than the slot."""
        drain(self._database, self._endpoints, timeout=CAPTURE_TIMEOUT)
        progress = load_progress(self._endpoints, self._database)
        if progress is None:
            raise ProgressMissingError(self._database.name)
        return progress

    def _prepare_table(self, relation: SourceRelation) -> tuple[Table, Layout]:
        """The Iceberg table with the layout that the copy's files will have, not yet current."""

        def attempt(table: Table) -> tuple[Table, Layout]:
            return stage_layout(table, relation, self._spec)

        table = create_table(self._catalog, self._spec, relation)
        with lake_errors(f"Iceberg table {self._spec.label}"):
            return beside_others(self._catalog, table, attempt)

    def _start(self, table: Table, schema_id: int, start: CopyStart) -> tuple[Table, StagedCopy]:
        """The copy to go on with under the snapshot of ``start``, or a new one.

        Every commit to the branch is made from the table returned here on, so that another process
        that has taken the branch is noticed.
        """
        found, current = load_staged(table, self._spec.label), table.metadata.current_schema_id
        if found is not None and can_resume(found, start, self._spec, schema_id, current):
            self._report(f"{self._spec.label}: resuming after {len(found.done)} ranges")
            newest = start.edge.through_lsn
            return table, replace(found, last_through_lsn=newest, snapshots=found.snapshots + 1)
        with lake_errors(f"Iceberg table {self._spec.label}"):
            table = discard_branch(self._catalog, table)
        with session(self._dsn) as connection:
            ranges = plan_heap_ranges(connection, start.heaps, target_bytes=RANGE_BYTES)
        return table, begin(start, ranges, schema_id)

    def _discard(self) -> None:
        table = load_table(self._catalog, self._spec.identifier)
        if table is not None:
            with lake_errors(f"Iceberg table {self._spec.label}"):
                discard_branch(self._catalog, table)

    def _copy_ranges(
        self, table: Table, staged: StagedCopy, reader: RangeReader, layout: Layout
    ) -> tuple[Table, StagedCopy]:
        todo = [i for i in range(len(staged.ranges)) if i not in staged.done]
        target = file_target(table, layout.schema, layout.spec)
        with ThreadPoolExecutor(READERS) as pool:
            futures = {
                pool.submit(reader.copy, staged.ranges[index], target): index for index in todo
            }
            try:
                for future in as_completed(futures):
                    with lake_errors(f"Iceberg table {self._spec.label}"):
                        files, rows = future.result()
                    self._rows += rows
                    staged = replace(staged, done=staged.done | {futures[future]})
                    with lake_errors(f"Iceberg table {self._spec.label}"):
                        table = stage_files(self._catalog, table, staged, files, layout.schema)
                    self._report_progress(staged)
                    self._after_range(futures[future])
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return table, staged

    def _publish(self, table: Table, staged: StagedCopy, layout: Layout) -> FirstCopied:
        progress = staged.progress
        if staged.snapshots > 1:
            table, progress = self._catch_up(table, progress, staged.last_through_lsn)
        for _ in range(CATCH_UPS):
            try:
                return FirstCopied(self._swap(table, layout, progress), progress, self._rows)
            except ReadersAheadError as ahead:
                if not _may_catch_up(ahead.readers, progress, table, layout):
                    break
                until_lsn = ahead.readers.position.commit_lsn
                table, progress = self._catch_up(table, progress, until_lsn)
        self._report(
            f"{self._spec.label}: readers go back to what the copy holds until the next merge"
        )
        return FirstCopied(self._swap(table, layout, None), progress, self._rows)

    def _swap(self, table: Table, layout: Layout, copied: TableProgress | None) -> Table:
        with lake_errors(f"Iceberg table {self._spec.label}"):
            return publish(self._catalog, table, layout, copied=copied)

    def _catch_up(
        self, table: Table, progress: TableProgress, until_lsn: int
    ) -> tuple[Table, TableProgress]:
        """Merge into the branch what the stream holds up to ``until_lsn``."""
        label, bootstrap = self._spec.label, self._endpoints.stream_bootstrap
        catch_up = CatchUp(self._catalog, self._spec, bootstrap, branch=BRANCH)
        done = catch_up.run(table, progress, until_lsn=until_lsn)
        if done.progress.schema_version != progress.schema_version:
            # rows of newer columns are on the branch, and publishing would take the columns
            raise RelationRewrittenError(label, how="changed its columns")
        if load_branch_progress(done.table.metadata, label, BRANCH) != done.progress:
            raise CommitConflictError(label, 1)
        return done.table, done.progress

    def _report_progress(self, staged: StagedCopy) -> None:
        self._report(
            f"{self._spec.label}: {len(staged.done)} of {len(staged.ranges)} ranges, "
            f"{self._rows:,} rows copied"
        )


def _may_catch_up(
    readers: TableProgress, copied: TableProgress, table: Table, layout: Layout
) -> bool:
    """Whether what was merged beside a copy can be merged into it under the columns that it has.

    Merges of ``main`` follow changes of columns and set events aside; those of a copy do neither.
    """
    same_columns = layout.schema.schema_id == table.metadata.current_schema_id
    same_version = readers.schema_version == copied.schema_version
    return same_columns and same_version and not readers.dead_letters
