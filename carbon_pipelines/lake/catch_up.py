"""Bringing one branch of a table up to a point of its topic, batch by batch.

What belongs here: the order of following the schema, reading and merging, and the progress after
each batch. What does not: which events a batch has (``event_reading.py``), what it does
(``merge.py``) and the first copy (``first_copy.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import StateMissingError
from carbon_pipelines.lake.connection import load_table
from carbon_pipelines.lake.event_reading import EventReading, Part, unseen
from carbon_pipelines.lake.gap import check_generation
from carbon_pipelines.lake.judge import Refusals
from carbon_pipelines.lake.merge import MERGE_REFUSALS, Merge, Merged, MergeHooks
from carbon_pipelines.lake.reread import Completed, Rereading
from carbon_pipelines.lake.schema_follow import SchemaFollower
from carbon_pipelines.lake.set_aside import SettingAside
from carbon_pipelines.lake.state import TableProgress
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.topic_state import check_topic, load_topic_state
from carbon_pipelines.stream.topics import TopicState, topic_of

FURTHER = 2
"""Times that a batch is read again because an event after it decides a row of it."""


Visible = Callable[[pa.Array], None]
"""Told, once a commit shows them, when each event was committed in the source: milliseconds from
1970, or null."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What catching up did: counts over all its commits, and where the table stands.

    ``schema_steps`` says which changes of columns were followed.
    """

    progress: TableProgress
    table: Table
    topic: TopicState
    events: int = 0
    upserted_rows: int = 0
    deleted_rows: int = 0
    commits: int = 0
    schema_steps: tuple[str, ...] = ()


class CatchUp:
    """Merges a topic into one branch of a table.

    Args:
        bootstrap: Kafka's bootstrap servers.
        rereading: Where values come from that neither events nor the lake have; without it, such
            events are refused.
        visible: Told of events that a commit has made visible.
    """

    def __init__(
        self,
        catalog: Catalog,
        table: TableSpec,
        bootstrap: str,
        *,
        branch: str = MAIN_BRANCH,
        hooks: MergeHooks | None = None,
        rereading: Rereading | None = None,
        visible: Visible = lambda _: None,
    ) -> None:
        self._catalog, self._spec, self._bootstrap = catalog, table, bootstrap
        self._branch, self._hooks = branch, hooks or MergeHooks()
        self._rereading, self._visible = rereading, visible

    def run(
        self, table: Table, progress: TableProgress, *, until_lsn: int | None = None
    ) -> CaughtUp:
        """Merge events from ``progress`` to the topic's end, or those up to ``until_lsn``.

        Args:
            table: As loaded.
            progress: What it carries.
            until_lsn: Merge only events whose commit LSN is at most this.

        Raises:
            UnsupportedSchemaChangeError: A DDL cannot be followed; events before it are merged.
            UnrecordedShapeError, SourceTableReplacedError: Nor can this be; likewise.
            MalformedEnvelopeError, UnrepresentableValueError, MissingPriorValueError,
                PriorDeadLetterError: An event cannot be merged, and the table may lack no more;
                what comes before it is merged.
            OffsetGapError, TopicReplacedError: Kafka no longer holds the next offset.
            StreamGapError, WrongSourceError: As ``check_generation``; nothing is merged.
        """
        follower = self._following(progress, until_lsn)
        topic = load_topic_state(self._bootstrap, topic_of(self._spec))
        check_topic(progress.topic_id, progress.cluster_id, topic)
        check_generation(self._spec, self._bootstrap, progress)
        done = CaughtUp(progress, table, topic)
        # rows of a copy that is not published are not worth having without some of its events
        sift = self._branch == MAIN_BRANCH
        steps: list[str] = []
        for further in reversed(range(FURTHER + 1)):
            reading = EventReading(
                self._spec, self._bootstrap, follower, done.progress, until_lsn, sift=sift
            )
            try:
                for part in reading.parts(done.topic):
                    broken = reading.take_refused(part.next_offset)
                    may_go_further = bool(further) and until_lsn is None
                    done = self._apply(done, part, follower, broken, may_go_further=may_go_further)
                break
            except _DecidedLaterError:
                steps += follower.steps
                follower = self._following(done.progress, until_lsn)
                topic = load_topic_state(self._bootstrap, topic_of(self._spec))
                done = replace(done, topic=topic)
        if follower.version > done.progress.schema_version:
            done = self._apply(done, Part(None, done.progress.next_offset), follower, {})
        if follower.stop is not None and follower.stop.error is not None:
            raise follower.stop.error
        return replace(done, schema_steps=(*steps, *follower.steps))

    def _following(self, progress: TableProgress, until_lsn: int | None) -> SchemaFollower:
        follower = SchemaFollower(
            self._catalog,
            self._spec,
            self._bootstrap,
            progress,
            until_lsn=until_lsn,
            frozen=self._branch != MAIN_BRANCH,
        )
        follower.begin()
        return follower

    def _apply(
        self,
        done: CaughtUp,
        part: Part,
        follower: SchemaFollower,
        broken: Refusals,
        *,
        may_go_further: bool = False,
    ) -> CaughtUp:
        """Merge one batch; without one, commit progress alone, so that reading comes to rest."""
        base, spec = done.progress, follower.spec

        def moved(last: Position | None, next_offset: int) -> TableProgress:
            position = max(base.position, last or base.position)
            return base.moved_to(position, next_offset, follower.version, follower.ddl_offset)

        merge = Merge(
            self._catalog, spec, branch=self._branch, hooks=self._hooks, present=follower.present
        )
        if not (broken or base.dead_letters):
            after = moved(part.last, part.next_offset)
            if part.batch is None:
                return _added(done, merge.record(base, after), after, 0)
            try:
                fresh = unseen(part.batch, base)
                merged = merge.apply(fresh, base, after)
                self._visible(fresh.committed_ms)
                return _added(done, merged, after, len(part.batch))
            except MERGE_REFUSALS:
                if self._branch != MAIN_BRANCH:
                    raise
        if self._rereading is not None and part.batch is not None and self._branch == MAIN_BRANCH:
            completed = self._complete(self._rereading, part, base, follower)
            if completed.decided_later and may_go_further:
                raise _DecidedLaterError
            part = replace(part, batch=completed.batch)
        aside = SettingAside(self._catalog, spec, self._bootstrap, merge, self._hooks)
        outcome = aside.apply(base, part, broken, moved)
        if outcome.merged is not None:
            if part.batch is not None:
                self._visible(part.batch.slice(0, outcome.events).committed_ms)
            done = _added(done, outcome.merged, outcome.after, outcome.events)
        if outcome.stop is not None:
            raise outcome.stop
        return done

    def _complete(
        self, rereading: Rereading, part: Part, base: TableProgress, follower: SchemaFollower
    ) -> Completed:
        assert part.batch is not None
        fresh = unseen(part.batch, base)
        if fresh.unchanged.null_count == len(fresh):
            return Completed(fresh, decided_later=False)
        table = load_table(self._catalog, self._spec.identifier)
        if table is None:
            raise StateMissingError(self._spec.label)
        present = follower.normaliser.present
        return rereading.complete(fresh, part.next_offset, table, follower.spec, present)


class _DecidedLaterError(Exception):
    """A batch has to be read again, further: an event after it decides a row of it."""


def _added(done: CaughtUp, merged: Merged, after: TableProgress, events: int) -> CaughtUp:
    return CaughtUp(
        after,
        merged.table,
        done.topic,
        done.events + events,
        done.upserted_rows + merged.upserted_rows,
        done.deleted_rows + merged.deleted_rows,
        done.commits + 1,
    )
