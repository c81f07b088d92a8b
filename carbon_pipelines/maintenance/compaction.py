"""Planning which data files are written again together, and why.

What belongs here: the decision, pure. What does not: reading a table's facts (``table_facts.py``),
writing files (``rewrite.py``) and the commit (``compact.py``).

What keeps upkeep from working for nothing, or for ever:
* a group is planned only if it leaves fewer files or fewer deletes than it found, or (``thorough``)
  brings files to the table's present spec, columns or order;
* small files are taken by tiers: one that is more than ``TIER`` times as large as all smaller ones
  together waits until they have grown. A row is then written again a number of times that grows
  with the logarithm of the table, not with the number of commits;
* delete files alone are written together where a data file is good but for their number: that costs
  what they hold, and not what the data file does;
* output files are as many as the live bytes hold targets, rounded: each is at least three quarters
  of the target or the only one, so the outcome of a plan, planned again, plans nothing.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from carbon_pipelines.maintenance.compaction_plan import (
    CompactionGroup,
    CompactionPlan,
    PlannedFile,
    megabytes,
)
from carbon_pipelines.maintenance.table_facts import FileFacts, TableFacts

SMALL = 0.75
"""A file under this part of the target is small."""
LARGE = 1.8
"""A file over this many targets is large."""
MOST_POSITIONS = 8_000_000
"""Deleted rows of a partition up to which its delete files are written together: some 200 MB of
memory. Beyond that, its data files are written again without them."""
TIER = 4
"""How many times as large as all smaller ones together a file may be to be taken with them."""


@dataclass(frozen=True, slots=True)
class CompactionPolicy:
    """What makes a file worth writing again.

    Attributes:
        target_bytes: Size of the files to write; None for the table's own.
        min_files: So many small files of one partition are worth a rewrite.
        delete_ratio: Share of deleted rows from which on a file is written again without them.
        max_delete_files: Where the readers of a file open more delete files than this, these are
            written together.
        max_group_bytes: Live bytes that are written again as one group, which is what a conflict
            can make worthless.
        max_groups: Groups in one plan; the coldest are taken. None for all.
        hot_snapshots: Files that the last so many snapshots touched come last.
        thorough: Also for an older column set, another sort order or a large size alone.
    """

    target_bytes: int | None = None
    min_files: int = 5
    delete_ratio: float = 0.2
    max_delete_files: int = 10
    max_group_bytes: int = 1024 * 1024 * 1024
    max_groups: int | None = None
    hot_snapshots: int = 3
    thorough: bool = False

    def target_of(self, facts: TableFacts) -> int:
        """The target size for one table."""
        return self.target_bytes or facts.target_bytes


def plan_compaction(facts: TableFacts, policy: CompactionPolicy | None = None) -> CompactionPlan:
    """Which files of ``facts`` to write again together, coldest groups first.

    A table of which nothing may be rewritten gets a plan without groups that says why.
    """
    chosen = policy or CompactionPolicy()
    if facts.refused:
        return CompactionPlan(facts.label, facts.snapshot_id, left=((facts.label, facts.refused),))
    groups: list[CompactionGroup] = []
    for files in facts.by_group().values():
        kinds = sorted({file.rows_kind for file in files})
        for kind in kinds:
            same = [file for file in files if file.rows_kind == kind]
            groups += _plan_partition(facts, same, chosen, fit=_fit(files))
    groups.sort(key=lambda group: (group.hot, group.touched_number, group.paths[0]))
    return CompactionPlan(
        facts.label,
        facts.snapshot_id,
        tuple(groups[: chosen.max_groups]),
        tuple(_plan_merges(facts, chosen, {path for group in groups for path in group.paths})),
        tuple(facts.dangling),
        tuple((file.path, file.refused) for file in facts.files if file.refused),
    )


def count_outputs(live_bytes: int, target_bytes: int) -> int:
    """How many files so many live bytes become: as many as hold targets, rounded."""
    return max(1, int(live_bytes / target_bytes + 0.5))


def _plan_partition(
    facts: TableFacts, files: Iterable[FileFacts], policy: CompactionPolicy, *, fit: bool
) -> Iterator[CompactionGroup]:
    target = policy.target_of(facts)
    small: list[PlannedFile] = []
    whole: list[PlannedFile] = []
    needed: set[str] = set()
    for file in files:
        reason = "" if file.refused else _why(file, facts, policy, fit=fit)
        if reason:
            needed.add(file.path)
        if file.live_bytes < SMALL * target and not file.refused:
            why = reason or f"small: {megabytes(file.size_bytes)} of {megabytes(target)}"
            small.append(PlannedFile(file, why))
        elif reason:
            whole.append(PlannedFile(file, reason))
    small = _lowest_tiers(small, needed)
    if len(small) < policy.min_files and not any(one.file.path in needed for one in small):
        small = []
    hot_from = facts.sequence_number - policy.hot_snapshots
    for packed in (*pack_files(small, policy), *pack_files(whole, policy)):
        live = sum(planned.file.live_bytes for planned in packed)
        outputs = count_outputs(live, target) if any(_lives(one.file) for one in packed) else 0
        if outputs < len(packed) or any(one.file.path in needed for one in packed):
            touched = max(planned.file.touched_number for planned in packed)
            yield CompactionGroup(
                packed[0].file.partition, packed, outputs, target, touched > hot_from, touched
            )


def _plan_merges(
    facts: TableFacts, policy: CompactionPolicy, rewritten: Collection[str]
) -> Iterator[PlannedFile]:
    """Files that are good but for the number of their delete files."""
    for files in facts.by_group().values():
        if _fit(files):
            for file in files:
                if _is_stacked(file, policy) and file.path not in rewritten and not file.refused:
                    yield PlannedFile(file, _stacked(file))


def _fit(files: Iterable[FileFacts]) -> bool:
    """Whether the deletes of a partition may be written together."""
    return sum(file.deleted_rows for file in files) <= MOST_POSITIONS


def _is_stacked(file: FileFacts, policy: CompactionPolicy) -> bool:
    return file.delete_files > policy.max_delete_files


def _stacked(file: FileFacts) -> str:
    return f"its readers open {file.delete_files:,} delete files"


def _why(file: FileFacts, facts: TableFacts, policy: CompactionPolicy, *, fit: bool) -> str:
    """Why a file is written again whatever its size; empty if it need not be."""
    if file.delete_files and file.delete_ratio >= policy.delete_ratio:
        return f"{file.deleted_rows:,} of its rows are deleted ({file.delete_ratio:.0%})"
    if _is_stacked(file, policy) and not fit:
        return _stacked(file)
    if file.spec_id != facts.spec_id:
        return f"its partition spec is {file.spec_id}, now {facts.spec_id}"
    if not policy.thorough:
        return ""
    if file.older_schema:
        return "it has not all of the table's columns"
    if file.sort_order_id != facts.sort_order_id and facts.sort_order_id:
        return f"it is not in sort order {facts.sort_order_id}"
    if file.live_bytes > LARGE * policy.target_of(facts):
        return f"large: {megabytes(file.size_bytes)} of {megabytes(policy.target_of(facts))}"
    return ""


def _lowest_tiers(small: Sequence[PlannedFile], needed: set[str]) -> list[PlannedFile]:
    """``small`` without those that wait for the others to grow; ``needed`` ones always stay."""
    taken = sorted(small, key=lambda one: (one.file.path not in needed, one.file.live_bytes))
    total = sum(one.file.live_bytes for one in taken)
    while len(taken) > 1 and taken[-1].file.path not in needed:
        last = taken[-1].file.live_bytes
        if last <= TIER * (total - last):
            break
        total -= last
        taken.pop()
    return taken


def pack_files(
    files: Iterable[PlannedFile], policy: CompactionPolicy
) -> list[tuple[PlannedFile, ...]]:
    """The coldest files together, up to the most bytes of a group."""
    ordered = sorted(files, key=lambda one: (one.file.touched_number, one.file.path))
    packed: list[tuple[PlannedFile, ...]] = []
    room, number, numbered = policy.max_group_bytes, 0, list[tuple[int, PlannedFile]]()
    for planned in ordered:
        if planned.file.live_bytes > room:
            number, room = number + 1, policy.max_group_bytes
        room -= planned.file.live_bytes
        numbered.append((number, planned))
    for _, several in groupby(numbered, key=lambda one: one[0]):
        packed.append(tuple(planned for _, planned in several))
    return packed


def _lives(file: FileFacts) -> bool:
    return file.rows > file.deleted_rows
