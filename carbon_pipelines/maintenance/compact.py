"""Carrying a compaction plan out, beside a stream of merges.

What belongs here: the order of steps write -> prove -> commit for a few groups at a time, and what
happens to them when somebody else commits meanwhile. What does not: the plan (``compaction.py``),
writing (``rewrite.py``) and which deletes move (``moved_deletes.py``).

What keeps the table exact, in this order:
1. groups are read from the table as loaded, with the deletes that it has then, and written to new
   files, which nothing refers to; they are proven to hold the same rows;
2. the table is loaded again. Of a group whose files were touched meanwhile, the rows that are gone
   by now are deleted from its new files too, in the same commit; a group that lost most of its rows
   is left for another plan. Nothing is written again because of a conflict;
3. one commit takes the old files away and brings the new ones. Its operation is REPLACE, so readers
   that follow changes pass over it, and it carries the table's progress on, so merges go on from
   it. It lands only on the table as loaded in 2; if somebody was first, it is begun again from 2.

A merge can lose its attempt to such a commit, and plans again. So that it does not lose two, the
next commit of ours waits until the merge had its turn (``turns.py``).
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.errors import SourceFileMissingError, StateMissingError
from carbon_pipelines.lake.commit import commit_files, discard_files
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines.maintenance.bounded_sort import RUN_BYTES
from carbon_pipelines.maintenance.carried import carried_state
from carbon_pipelines.maintenance.commit_attempt import CommitAttempt
from carbon_pipelines.maintenance.compaction_plan import CompactionGroup, CompactionPlan, megabytes
from carbon_pipelines.maintenance.moved_deletes import (
    DroppableDeletes,
    plan_moved_deletes,
)
from carbon_pipelines.maintenance.rewrite import Rewritten, rewrite_group
from carbon_pipelines.maintenance.table_facts import why_refused
from carbon_pipelines.maintenance.turns import POLL_SECONDS, turn_at

GROUPS_PER_COMMIT = 64
"""Groups that one snapshot replaces at most."""
BYTES_PER_COMMIT = 2 * 1024 * 1024 * 1024
"""Bytes that are read for one snapshot at most, where a group has not more."""
COMMIT_ATTEMPTS = 8
"""Times that a commit is tried on a table that others commit to; nothing is rewritten for it."""
COMPACTED = "carbon.compacted_files"
"""Summary property: how many data files the snapshot replaced."""


@dataclass(frozen=True, slots=True)
class CompactionHooks:
    """Called at the named moments, so that tests can stop the process or commit in between."""

    before_write: Callable[[], None] = field(default=lambda: None)
    after_write: Callable[[], None] = field(default=lambda: None)
    before_commit: Callable[[], None] = field(default=lambda: None)
    after_commit: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class CompactionSettings:
    """How a compaction runs: memory, time and where it spills to.

    Attributes:
        run_bytes: Rows that are sorted at once; memory is a small multiple.
        spill: A local directory; None for the system's.
        sleep: Waits so many seconds.
        now: The time.
    """

    run_bytes: int = RUN_BYTES
    spill: Path | None = None
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did.

    Attributes:
        snapshot_ids: One for each commit.
        groups: How many were committed.
        left: (first file, why) of groups that were not.
        removed_files: Data files that are gone.
        added_files: Data files that came.
        removed_delete_files: Delete files that are gone.
        added_delete_files: Those that stand for several, and for rows that were deleted meanwhile.
        applied_deletes: Rows that were deleted before and are in no file any more.
        moved_deletes: Rows that were deleted meanwhile.
        read_bytes: Size of the data files that are gone.
        written_bytes: Size of those that came.
        conflicts: Attempts that others were ahead of.
    """

    label: str
    snapshot_ids: tuple[int, ...] = ()
    groups: int = 0
    left: tuple[tuple[str, str], ...] = ()
    removed_files: int = 0
    added_files: int = 0
    removed_delete_files: int = 0
    added_delete_files: int = 0
    applied_deletes: int = 0
    moved_deletes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    conflicts: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def sentence(self) -> str:
        """What was done, as one line, and a line for each group that was left."""
        if not self.snapshot_ids:
            done = f"{self.label}: nothing was compacted"
        else:
            done = (
                f"{self.label}: {self.removed_files:,} files ({megabytes(self.read_bytes)}) became"
                f" {self.added_files:,} ({megabytes(self.written_bytes)}), "
                f"{self.applied_deletes:,} deleted rows and {self.removed_delete_files:,} delete "
                f"files are gone, {self.added_delete_files:,} came, "
                f"in {len(self.snapshot_ids)} snapshots"
            )
        done += f" ({self.seconds:.1f} s, {self.cpu_seconds:.1f} CPU-s)"
        return "\n".join([done, *(f"  left alone: {path}: {why}" for path, why in self.left)])


def apply_compaction(
    plan: CompactionPlan,
    catalog: Catalog,
    *,
    settings: CompactionSettings | None = None,
    hooks: CompactionHooks | None = None,
) -> Compacted:
    """Carry ``plan`` out; groups whose files are no more are left, the others committed.

    Raises:
        CompactionInvariantError: What was written is not what was read; its commit was abandoned.
            Commits before it stay.
        CommitUnknownError: The answer to a commit was lost (retryable with a new plan).
        SourceFileMissingError: A file of the table is not in the store.
        StateMissingError: The table is not there, or carries no progress of ours.
    """
    run = _Compaction(plan, catalog, settings or CompactionSettings(), hooks or CompactionHooks())
    return run.apply()


class _Compaction:
    def __init__(
        self,
        plan: CompactionPlan,
        catalog: Catalog,
        settings: CompactionSettings,
        hooks: CompactionHooks,
    ) -> None:
        self._plan, self._catalog = plan, catalog
        self._settings, self._hooks = settings, hooks
        self._snapshots: list[int] = []
        self._left: list[tuple[str, str]] = []
        self._counts = dict[str, int]()

    def apply(self) -> Compacted:
        began, began_cpu = time.perf_counter(), time.process_time()
        with lake_errors(f"Iceberg table {self._plan.label}"):
            for groups in _portions(self._plan.groups):
                self._apply_groups(groups)
            merged = frozenset(planned.file.path for planned in self._plan.merges)
            if merged or (self._plan.dangling and not self._snapshots):
                self._commit([], merged)
        return Compacted(
            self._plan.label,
            tuple(self._snapshots),
            left=tuple(self._left),
            seconds=time.perf_counter() - began,
            cpu_seconds=time.process_time() - began_cpu,
            **self._counts,
        )

    def _apply_groups(self, groups: Sequence[CompactionGroup]) -> None:
        with TemporaryDirectory(prefix="carbon-compaction-", dir=self._settings.spill) as spill:
            done = self._write(groups, Path(spill))
            self._hooks.after_write()
            if done:
                self._commit(done)

    def _write(self, groups: Sequence[CompactionGroup], spill: Path) -> list[Rewritten]:
        self._hooks.before_write()
        table = self._load()
        files = load_table_files(table.current_snapshot(), table.io)
        refused = why_refused(table, files)
        there = {live.file.file_path: live for live in files.data}
        done: list[Rewritten] = []
        try:
            for number, group in enumerate(groups):
                if refused or not there.keys() >= set(group.paths):
                    self._leave(group, refused or "files of it are gone since it was planned")
                    continue
                directory = spill / str(number)
                directory.mkdir()
                run_bytes = self._settings.run_bytes
                done.append(rewrite_group(table, files, group, directory, run_bytes=run_bytes))
        except FileNotFoundError as error:
            self._discard(table, done)
            raise self._missing(table, error) from error
        except BaseException:
            self._discard(table, done)
            raise
        return done

    def _commit(self, written: Sequence[Rewritten], merged: Collection[str] = ()) -> None:
        """Commit what still can be of ``written`` and ``merged``, in one snapshot."""
        droppable: DroppableDeletes | None = None
        waiting = list(written)
        for _ in range(COMMIT_ATTEMPTS):
            table = self._load_in_turn()
            droppable = droppable or DroppableDeletes(table.io)
            files = load_table_files(table.current_snapshot(), table.io)
            refused = why_refused(table, files)
            attempt = CommitAttempt(table, files, () if refused else merged)
            for done in list(waiting):
                moved = plan_moved_deletes(done, files, table.io)
                if left_because := refused or moved.left_because:
                    waiting.remove(done)
                    self._leave(done.group, left_because)
                    self._discard(table, [done])
                else:
                    attempt.add(done, moved)
            try:
                changes = attempt.changes(droppable)
            except FileNotFoundError as error:
                raise self._missing(table, error) from error
            if not changes:
                return
            self._hooks.before_commit()
            properties = carried_state(table, self._plan.label)
            properties[COMPACTED] = str(len(changes.removed_data))
            committed = commit_files(table, changes, properties, same_rows=True)
            if committed is not None:
                self._snapshots.append(committed.snapshot_id)
                self._count(**attempt.counts(changes))
                discard_files(table.io, attempt.emptied)
                self._hooks.after_commit()
                return
            self._count(conflicts=1)
            discard_files(table.io, changes.added_deletes)
        for done in waiting:
            self._leave(done.group, f"others committed first {COMMIT_ATTEMPTS} times in a row")
        self._discard(self._load(), waiting)

    def _load(self) -> Table:
        database, _, name = self._plan.label.partition("/")
        table = load_table(self._catalog, (database, name))
        if table is None:
            raise StateMissingError(self._plan.label)
        return table

    def _load_in_turn(self) -> Table:
        """The table, once a merge that our last commit may have been ahead of had its turn."""
        table = self._load()
        turn = turn_at(table.metadata)
        while turn is not None and self._settings.now() < turn:
            self._settings.sleep(POLL_SECONDS)
            table = self._load()
            turn = turn_at(table.metadata)
        return table

    def _missing(self, table: Table, error: FileNotFoundError) -> SourceFileMissingError:
        snapshot = table.current_snapshot()
        number = snapshot.snapshot_id if snapshot else 0
        return SourceFileMissingError(self._plan.label, number, str(error))

    def _leave(self, group: CompactionGroup, why: str) -> None:
        self._left.append((group.paths[0], why))

    def _discard(self, table: Table, written: Sequence[Rewritten]) -> None:
        discard_files(table.io, [one.file for done in written for one in done.outputs])

    def _count(self, **more: int) -> None:
        for name, count in more.items():
            self._counts[name] = self._counts.get(name, 0) + count


def _portions(groups: Sequence[CompactionGroup]) -> Iterator[list[CompactionGroup]]:
    """Groups that are committed together."""
    portion: list[CompactionGroup] = []
    for group in groups:
        size = sum(one.size_bytes for one in portion) + group.size_bytes
        if portion and (len(portion) == GROUPS_PER_COMMIT or size > BYTES_PER_COMMIT):
            yield portion
            portion = []
        portion.append(group)
    if portion:
        yield portion
