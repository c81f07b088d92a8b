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
7. ``main`` is set to the branch's head.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    CommitConflictError,
    MissingPriorValueError,
    ProgressMissingError,
    RelationRewrittenError,
    StateMissingError,
)
from carbon_pipelines.lake.catch_up import CatchUp
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.copy_range import RangeReader, check_identity
from carbon_pipelines.lake.evolution import (
    SOURCE_COLUMNS,
    plan_renewed_schema,
    source_columns_property,
)
from carbon_pipelines.lake.partitions import file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.staging import (
    BRANCH,
    StagedCopy,
    discard_branch,
    load_staged,
    publish,
    stage_schema,
)
from carbon_pipelines.lake.state import CopyEdge, TableProgress
from carbon_pipelines.lake.table_creation import create_table
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines.source.connection import session
from carbon_pipelines.source.copy import (
    CtidRange,
    ExportedSnapshot,
    load_relation_as_of,
    plan_table_ranges,
)
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.source.visibility import emit_marker, wait_until_older_transactions_ended
from carbon_pipelines.stream.consumer import TopicState, load_topic_state
from carbon_pipelines.stream.drain import wait_captured
from carbon_pipelines.stream.progress import Progress, load_progress
from carbon_pipelines.stream.topics import topic_of

READERS = 2
"""Ranges read at the same time."""
RANGE_BYTES = 96 * 1024 * 1024
"""Heap bytes of one range, which becomes one data file in an unpartitioned table."""
ATTEMPTS_WHEN_REWRITTEN = 3
"""Copies begun again because the source table was truncated or rewritten meanwhile."""
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
        self._schema = Schema()
        self._current_schema_id = -1
        self._properties: dict[str, str] = {}

    def run(self) -> FirstCopied:
        """Copy and publish; begins again where the source was rewritten meanwhile.

        Raises:
            RelationRewrittenError: The source was rewritten again and again (retryable).
            CommitConflictError: Another process copies or writes the same table (retryable).
        """
        for _ in range(ATTEMPTS_WHEN_REWRITTEN - 1):
            try:
                return self._copy()
            except (RelationRewrittenError, MissingPriorValueError) as reason:
                # a resumed copy may lack a row that the stream, from before it went, still changes
                self._report(f"{self._spec.label}: starting again, because {reason}")
                self._discard()
        return self._copy()

    def _copy(self) -> FirstCopied:
        self._rows = 0
        with session(self._dsn) as connection:
            stream = load_progress(self._endpoints, self._database) or self._captured(
                emit_marker(connection, b"before first copy")
            )
            topic = load_topic_state(self._endpoints.stream_bootstrap, topic_of(self._spec))
            wait_until_older_transactions_ended(connection)
            with ExportedSnapshot(self._dsn) as snapshot:
                marker_lsn = emit_marker(connection, b"first copy")
                relation = load_relation_as_of(
                    self._dsn,
                    snapshot.snapshot_id,
                    self._spec.source_schema,
                    self._spec.source_table,
                )
                check_identity(relation, self._spec)
                table = self._prepare_table(relation)
                edge = CopyEdge(snapshot.visibility, snapshot.insert_lsn)
                staged = self._start(table, relation, edge, stream, topic)
                table, staged = self._copy_ranges(table, staged, relation, snapshot.snapshot_id)
        self._captured(marker_lsn)
        return self._publish(table, staged)

    def _captured(self, lsn: int) -> Progress:
        """Wait until Kafka holds everything before ``lsn``; the capture's progress then."""
        wait_captured(self._database, self._endpoints, lsn, timeout=CAPTURE_TIMEOUT)
        progress = load_progress(self._endpoints, self._database)
        if progress is None:
            raise ProgressMissingError(self._database.name)
        return progress

    def _prepare_table(self, relation: SourceRelation) -> Table:
        """The Iceberg table with the schema that the copy's files will have, not yet current."""
        table = create_table(self._catalog, self._spec, relation)
        with lake_errors(f"Iceberg table {self._spec.label}"):
            renewed = plan_renewed_schema(table, relation, self._spec)
            table, self._schema = stage_schema(table, renewed)
            self._current_schema_id = table.metadata.current_schema_id
        self._properties = {SOURCE_COLUMNS: source_columns_property(relation, self._schema)}
        return table

    def _start(
        self,
        table: Table,
        relation: SourceRelation,
        edge: CopyEdge,
        stream: Progress,
        topic: TopicState,
    ) -> StagedCopy:
        """The copy to go on with under the snapshot of ``edge``, or a new one."""
        found = load_staged(table, self._spec.label)
        if found is not None and self._can_resume(found, relation, stream, topic):
            self._report(f"{self._spec.label}: resuming after {len(found.done)} ranges")
            return replace(found, last_through_lsn=edge.through_lsn, snapshots=found.snapshots + 1)
        self._discard()
        progress = TableProgress(
            position=stream.position,
            next_offset=topic.high,
            schema_version=relation.version,
            cluster_id=topic.cluster_id,
            topic_id=topic.topic_id,
            system_identifier=stream.system_identifier,
            timeline=stream.timeline,
            relation_oid=relation.oid,
            edge=edge,
        )
        with session(self._dsn) as connection:
            ranges = plan_table_ranges(connection, relation, target_bytes=RANGE_BYTES)
        bounds = [(r.first_page, r.end_page) for r in ranges]
        return StagedCopy(progress, bounds, frozenset(), edge.through_lsn, 1)

    def _can_resume(
        self, found: StagedCopy, relation: SourceRelation, stream: Progress, topic: TopicState
    ) -> bool:
        return (
            # events are merged under the current schema, which the copy's is to replace only later
            self._schema.schema_id == self._current_schema_id
            and self._spec.mode == "mirror"
            and bool(self._spec.key)
            and found.progress.relation_oid == relation.oid
            and found.progress.schema_version == relation.version
            and found.progress.system_identifier == stream.system_identifier
            and found.progress.timeline == stream.timeline
            and found.progress.topic_id == topic.topic_id
            and found.progress.next_offset >= topic.low
        )

    def _discard(self) -> None:
        table = load_table(self._catalog, self._spec.identifier)
        if table is not None:
            with lake_errors(f"Iceberg table {self._spec.label}"):
                discard_branch(self._catalog, table)

    def _copy_ranges(
        self, table: Table, staged: StagedCopy, relation: SourceRelation, snapshot_id: str
    ) -> tuple[Table, StagedCopy]:
        todo = [i for i in range(len(staged.ranges)) if i not in staged.done]
        if staged.done and todo == []:
            return table, staged
        table = self._reload()
        reader = RangeReader(self._dsn, snapshot_id, relation, self._spec)
        target = file_target(table, self._schema)
        with ThreadPoolExecutor(READERS) as pool:
            futures = {
                pool.submit(reader.copy, CtidRange(*staged.ranges[index]), target): index
                for index in todo
            }
            try:
                for future in as_completed(futures):
                    files, rows = future.result()
                    self._rows += rows
                    staged = replace(staged, done=staged.done | {futures[future]})
                    table = self._stage(table, staged, files)
                    self._report_progress(staged)
                    self._after_range(futures[future])
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return table, staged

    def _stage(self, table: Table, staged: StagedCopy, files: Sequence[DataFile]) -> Table:
        """Put one range on the branch."""
        with lake_errors(f"Iceberg table {self._spec.label}"):
            head = table.metadata.snapshot_by_name(BRANCH)
            manifests = load_table_files(head, table.io).manifests if head is not None else ()
            changes = FileChanges(added_data=files, manifests=manifests)
            properties = staged.to_properties()
            committed = commit_files(table, changes, properties, branch=BRANCH, schema=self._schema)
        if committed is None:
            raise CommitConflictError(self._spec.label, 1)
        return committed.table

    def _publish(self, table: Table, staged: StagedCopy) -> FirstCopied:
        progress = staged.progress
        if staged.snapshots > 1:
            bootstrap = self._endpoints.stream_bootstrap
            catch_up = CatchUp(self._catalog, self._spec, bootstrap, branch=BRANCH)
            done = catch_up.run(table, progress, until_lsn=staged.last_through_lsn)
            table, progress = done.table, done.progress
        published = publish(table, self._spec.label, self._schema, self._properties)
        return FirstCopied(published, progress, self._rows)

    def _reload(self) -> Table:
        table = load_table(self._catalog, self._spec.identifier)
        if table is None:
            raise StateMissingError(self._spec.label)
        return table

    def _report_progress(self, staged: StagedCopy) -> None:
        self._report(
            f"{self._spec.label}: {len(staged.done)} of {len(staged.ranges)} ranges, "
            f"{self._rows:,} rows copied"
        )
