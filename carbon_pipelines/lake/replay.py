"""Putting dead letters back into their table, once their cause is gone.

What belongs here: doing what a plan says, exactly once, and giving up what belongs to no row. What
does not: the plan (``replay_plan.py``) and how events became dead letters (``set_aside.py``).

A keyed table is given what the events of the dead letters' rows add up to: every event of such a
row from the first dead letter to where the table stands is folded again, and applied as one delta
with the position and offset unchanged. What a row ends with does not depend on what it was, so a
row that is right already stays so, and an event that came later wins. An appended table is given
the rows of its dead letters, which have no row of before.

Exactly once, whenever the process dies: the commit that applies dead letters takes them off the
list of what the table lacks, in the same snapshot, and lands only on the progress it was planned
for. Their own table follows afterwards; what a death leaves there is corrected by the next replay.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import ancestors_of

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    CommitConflictError,
    LakeColumnsChangedError,
    NoSuchDeadLetterError,
    TableNotCopiedError,
)
from carbon_pipelines.lake.connection import load_table, open_catalog
from carbon_pipelines.lake.dead_letters import DeadLetterTable, Resolution
from carbon_pipelines.lake.merge import Merge, MergeHooks
from carbon_pipelines.lake.replay_plan import Planning, Replay
from carbon_pipelines.lake.state import TableProgress, load_progress

REPLAYED = "carbon.replayed_offsets"
"""Summary property of the snapshot that a replay committed: the offsets it applied, as JSON."""
ATTEMPTS = 4
"""Replays planned anew because the table moved on meanwhile."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did; ``snapshot_id`` is None if there was nothing to apply."""

    table: TableSpec
    replayed: int
    pending: int
    upserted_rows: int
    deleted_rows: int
    snapshot_id: int | None

    def sentence(self) -> str:
        """One line for people."""
        return (
            f"{self.table.label}: {self.replayed} dead letters replayed "
            f"({self.upserted_rows} rows written, {self.deleted_rows} deleted), "
            f"{self.pending} pending"
        )


class Replaying:
    """Replays the dead letters of one table.

    Args:
        bootstrap: Kafka's bootstrap servers.
        hooks: Called at the moments of a merge; for tests.
    """

    def __init__(
        self,
        catalog: Catalog,
        table: TableSpec,
        bootstrap: str,
        *,
        hooks: MergeHooks | None = None,
    ) -> None:
        self._catalog, self._spec, self._bootstrap = catalog, table, bootstrap
        self._letters = DeadLetterTable(catalog, table.database)
        self._hooks = hooks

    def plan(self) -> Replay:
        """Decode and judge every dead letter again; writes nothing.

        Raises:
            TableNotCopiedError: The table has no published copy.
            TopicReplacedError: The topic is another one; the table needs a re-copy.
        """
        table, base = self._load()
        letters = self._letters.lacked(self._spec, base)
        if not letters:
            return Replay(self._spec, (), {}, base, None)
        return Planning(table, self._spec, base, self._bootstrap).plan(letters)

    def apply(self, plan: Replay, how: Resolution) -> Replayed:
        """Apply what ``plan`` says, made anew if the table has moved on since.

        Raises:
            CommitConflictError: The table moved on again and again (retryable).
            LakeColumnsChangedError: Its columns are not those that were followed.
        """
        for attempt in range(ATTEMPTS):
            try:
                return self._apply(plan, how)
            except CommitConflictError:
                plan = self.plan()
            except LakeColumnsChangedError:
                if attempt:
                    raise
                plan = self.plan()
        raise CommitConflictError(self._spec.label, ATTEMPTS)

    def settle(self) -> int:
        """Correct statuses that were left behind; how many."""
        table, base = self._load()
        return self._letters.settle(self._spec.name, base, _replayed_before(table))

    def drop(self, offsets: Collection[int], how: Resolution) -> int:
        """Give up dead letters that belong to no row; how many.

        Raises:
            NoSuchDeadLetterError: One is not pending, or its row is known: giving it up would leave
                a row that is wrong, and nothing that says so.
        """
        table, base = self._load()
        planning = Planning(table, self._spec, base, self._bootstrap)
        letters = {one.offset: one for one in self._letters.lacked(self._spec, base)}
        for offset in offsets:
            if offset not in letters:
                raise NoSuchDeadLetterError(self._spec.label, offset, "it is not pending")
            letter = letters[offset]
            if letter.error != "MalformedEnvelopeError":
                reason = "it is a change of a row"
                raise NoSuchDeadLetterError(self._spec.label, offset, reason)
            if planning.key_of(letter) is not None:
                reason = "its key names a row"
                raise NoSuchDeadLetterError(self._spec.label, offset, reason)
        left = tuple(o for o in base.dead_letters if o not in set(offsets))
        Merge(self._catalog, self._spec).record(base, replace(base, dead_letters=left))
        return self._letters.resolve([letters[offset] for offset in offsets], how)

    def _apply(self, plan: Replay, how: Resolution) -> Replayed:
        done = plan.succeeding
        if plan.batch is None or not done:
            return Replayed(self._spec, 0, len(plan.letters), 0, 0, None)
        offsets = [letter.offset for letter in done]
        left = tuple(o for o in plan.base.dead_letters if o not in set(offsets))
        after = replace(plan.base, dead_letters=left)
        merge = Merge(self._catalog, plan.table, hooks=self._hooks, present=plan.present)
        merged = merge.apply(plan.batch, plan.base, after, {REPLAYED: json.dumps(offsets)})
        self._letters.resolve(done, how)
        return Replayed(
            self._spec,
            len(done),
            len(left),
            merged.upserted_rows,
            merged.deleted_rows,
            merged.snapshot_id,
        )

    def _load(self) -> tuple[Table, TableProgress]:
        table = load_table(self._catalog, self._spec.identifier)
        progress = load_progress(table.metadata, self._spec.label) if table is not None else None
        if table is None or progress is None:
            raise TableNotCopiedError(self._spec.label)
        return table, progress


def _replayed_before(table: Table) -> frozenset[int]:
    """The offsets that replays of the table's present snapshots have applied."""
    head = table.metadata.snapshot_by_name(MAIN_BRANCH)
    found: set[int] = set()
    for snapshot in ancestors_of(head, table.metadata):
        if snapshot.summary is not None:
            found.update(json.loads(snapshot.summary.additional_properties.get(REPLAYED, "[]")))
    return frozenset(found)


def plan_replay(tables: Sequence[TableSpec], endpoints: Endpoints) -> tuple[Replay, ...]:
    """What replaying each of ``tables`` would do now; writes nothing.

    Raises:
        CarbonPipelinesError: As ``Replaying.plan``.
    """
    with open_catalog(endpoints.lake) as catalog:
        return tuple(Replaying(catalog, t, endpoints.stream_bootstrap).plan() for t in tables)


def apply_replay(plan: Replay, endpoints: Endpoints, *, reason: str, by: str) -> Replayed:
    """Do what ``plan`` says; dead letters that still fail stay pending.

    Raises:
        CarbonPipelinesError: As ``Replaying.apply``; running it again is safe.
    """
    with open_catalog(endpoints.lake) as catalog:
        replaying = Replaying(catalog, plan.table, endpoints.stream_bootstrap)
        replaying.settle()
        return replaying.apply(plan, Resolution("replayed", by, reason))


def drop_dead_letters(
    table: TableSpec, endpoints: Endpoints, offsets: Collection[int], *, reason: str, by: str
) -> int:
    """Give up dead letters of ``table`` that belong to no row; how many.

    Raises:
        NoSuchDeadLetterError: One is not pending, or belongs to a row.
    """
    with open_catalog(endpoints.lake) as catalog:
        replaying = Replaying(catalog, table, endpoints.stream_bootstrap)
        return replaying.drop(offsets, Resolution("dropped", by, reason))
