"""A compaction of files that were chosen by name.

What belongs here: groups of just these files, as a compaction takes them. What does not: choosing.
"""

from collections.abc import Collection

from carbon_pipelines.maintenance.compaction import CompactionPolicy, count_outputs, pack_files
from carbon_pipelines.maintenance.compaction_plan import (
    CompactionGroup,
    CompactionPlan,
    PlannedFile,
)
from carbon_pipelines.maintenance.table_facts import FileFacts, TableFacts


def plan_chosen(facts: TableFacts, paths: Collection[str], reason: str) -> CompactionPlan:
    """Write the data files at ``paths`` again; files of different partitions or kinds apart."""
    if facts.refused:
        return CompactionPlan(facts.label, facts.snapshot_id, left=((facts.label, facts.refused),))
    policy, target = CompactionPolicy(), facts.target_bytes
    chosen = [file for file in facts.files if file.path in paths]
    parted: dict[tuple[object, str], list[PlannedFile]] = {}
    for file in chosen:
        if not file.refused:
            parted.setdefault((file.group, file.rows_kind), []).append(PlannedFile(file, reason))
    groups = [
        _group(packed, target)
        for several in parted.values()
        for packed in pack_files(several, policy)
    ]
    left = tuple((file.path, file.refused) for file in chosen if file.refused)
    return CompactionPlan(facts.label, facts.snapshot_id, tuple(groups), left=left)


def _group(packed: tuple[PlannedFile, ...], target_bytes: int) -> CompactionGroup:
    files: list[FileFacts] = [planned.file for planned in packed]
    lives = any(file.rows > file.deleted_rows for file in files)
    outputs = count_outputs(sum(file.live_bytes for file in files), target_bytes) if lives else 0
    touched = max(file.touched_number for file in files)
    return CompactionGroup(
        files[0].partition, packed, outputs, target_bytes, hot=False, touched_number=touched
    )
