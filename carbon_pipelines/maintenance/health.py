"""How well a table lies: a score with its parts, and what upkeep would gain and cost.

What belongs here: judging facts, pure; nothing here reads data. What does not: the facts
(``table_facts.py``) and the plan (``compaction.py``).

A score is 100 minus what the parts take off, each at most its weight. A part grows with what it
counts: more small files, deletes, manifests, snapshots or metadata never make a better score. What
is counted is therefore compared with the files that are not small, which none of it makes more.

A scan is costed as Spark's planner does it: the bytes that are read, and ``OPEN_BYTES`` for each
file that is opened, delete files included, once for each data file that they are opened for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from carbon_pipelines.maintenance.compaction import SMALL, CompactionPolicy, plan_compaction
from carbon_pipelines.maintenance.compaction_plan import CompactionPlan
from carbon_pipelines.maintenance.table_facts import FileFacts, TableFacts

OPEN_BYTES = 4 * 1024 * 1024
"""Bytes that could be read in the time it takes to open a file (Spark's openCostInBytes)."""
REWRITE_BYTES_PER_CPU_SECOND = 80_000_000
"""Bytes of Parquet that are compacted in one CPU-second (benchmarks/compaction.py)."""
HEALTHY_MANIFESTS = 64
HEALTHY_SNAPSHOTS = 500
HEALTHY_METADATA_BYTES = 4 * 1024 * 1024
SPARE_FILES = 4
"""So many small files too many, or open delete files, are little in a table of any size."""
SPARE_ROWS = 100_000
"""So many deleted rows likewise."""
WEIGHTS = {"small files": 40, "deletes": 35, "planning": 15, "metadata": 10}
WORTHWHILE_SAVING = 0.1
"""A rewrite that takes less than this part off a scan's cost can wait."""


@dataclass(frozen=True, slots=True)
class ScorePart:
    """What one thing takes off the score: ``lost`` of at most ``weight`` points, and why."""

    name: str
    weight: float
    lost: float
    reason: str


@dataclass(frozen=True, slots=True)
class PartitionHealth:
    """The files of one partition and spec; sizes in bytes."""

    partition: str
    spec_id: int
    files: int
    small_files: int
    size_bytes: int
    smallest_bytes: int
    median_bytes: int
    largest_bytes: int
    rows: int
    deleted_rows: int

    @property
    def delete_ratio(self) -> float:
        """Share of the rows that are gone."""
        return self.deleted_rows / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Gain:
    """What a compaction would bring.

    Attributes:
        files: Data files fewer.
        delete_files: Delete files fewer, those that only the files rewritten have.
        freed_bytes: Bytes that a scan does not read any more.
        scan_saving: Part of a full scan's cost that goes, 0 to 1.
        rewritten_bytes: What it costs to read.
        cpu_seconds: About what it costs in all.
    """

    files: int
    delete_files: int
    freed_bytes: int
    scan_saving: float
    rewritten_bytes: int
    cpu_seconds: float

    @property
    def is_worthwhile(self) -> bool:
        """Whether upkeep should run now."""
        return self.scan_saving >= WORTHWHILE_SAVING


@dataclass(frozen=True, slots=True)
class Health:
    """A table's health at one snapshot.

    Attributes:
        score: 0 to 100.
        parts: What the score is made of.
        planning_bytes: What every query reads before it reads data: manifest list and manifests.
        planning_requests: In so many requests.
        plan: The compaction that ``gain`` is of.
    """

    label: str
    snapshot_id: int | None
    score: float
    parts: Sequence[ScorePart]
    partitions: Sequence[PartitionHealth]
    files: int
    small_files: int
    size_bytes: int
    rows: int
    deleted_rows: int
    delete_files: int
    dangling_delete_files: int
    manifests: int
    snapshots: int
    metadata_bytes: int
    planning_bytes: int
    planning_requests: int
    plan: CompactionPlan
    gain: Gain

    @property
    def delete_ratio(self) -> float:
        """Share of the rows that are gone."""
        return self.deleted_rows / self.rows if self.rows else 0.0

    def sentence(self) -> str:
        """One line for people."""
        lost = [f"{p.name} -{p.lost:.0f} ({p.reason})" for p in self.parts if p.lost >= 0.5]
        return (
            f"{self.label}: {self.score:.0f} of 100"
            + (f"; {', '.join(lost)}" if lost else "")
            + f"; compaction would take {self.gain.scan_saving:.0%} off a scan for about "
            f"{self.gain.cpu_seconds:.0f} CPU-s"
        )


def judge_health(facts: TableFacts, policy: CompactionPolicy | None = None) -> Health:
    """The health of a table, and what the compaction that ``policy`` plans would change."""
    chosen = policy or CompactionPolicy()
    target = chosen.target_of(facts)
    partitions = [_partition_health(files, target) for files in facts.by_group().values()]
    partitions.sort(key=lambda part: (part.partition, part.spec_id))
    parts = _parts(facts, partitions, chosen)
    plan = plan_compaction(facts, chosen)
    return Health(
        label=facts.label,
        snapshot_id=facts.snapshot_id,
        score=max(0.0, 100.0 - sum(part.lost for part in parts)),
        parts=parts,
        partitions=partitions,
        files=len(facts.files),
        small_files=sum(part.small_files for part in partitions),
        size_bytes=sum(file.size_bytes for file in facts.files),
        rows=sum(file.rows for file in facts.files),
        deleted_rows=sum(file.deleted_rows for file in facts.files),
        delete_files=facts.delete_files,
        dangling_delete_files=len(facts.dangling),
        manifests=facts.manifests,
        snapshots=facts.snapshots,
        metadata_bytes=facts.metadata_bytes,
        planning_bytes=facts.manifest_bytes,
        planning_requests=1 + facts.manifests,
        plan=plan,
        gain=_gain(facts, plan),
    )


def _partition_health(files: Sequence[FileFacts], target_bytes: int) -> PartitionHealth:
    sizes = sorted(file.size_bytes for file in files)
    return PartitionHealth(
        partition=files[0].partition,
        spec_id=files[0].spec_id,
        files=len(files),
        small_files=sum(size < SMALL * target_bytes for size in sizes),
        size_bytes=sum(sizes),
        smallest_bytes=sizes[0],
        median_bytes=sizes[len(sizes) // 2],
        largest_bytes=sizes[-1],
        rows=sum(file.rows for file in files),
        deleted_rows=sum(file.deleted_rows for file in files),
    )


def _parts(
    facts: TableFacts, partitions: Sequence[PartitionHealth], policy: CompactionPolicy
) -> list[ScorePart]:
    # one small file a partition is what any table has: its newest rows
    spare = sum(max(0, part.small_files - 1) for part in partitions)
    good = sum(part.files - part.small_files for part in partitions)
    target = policy.target_of(facts)
    lasting = sum(
        file.rows - file.deleted_rows for file in facts.files if file.size_bytes >= SMALL * target
    )
    gone = sum(part.deleted_rows for part in partitions)
    opened = sum(file.delete_files for file in facts.files)
    manifests = max(0, facts.manifests - HEALTHY_MANIFESTS)
    snapshots = max(0, facts.snapshots - HEALTHY_SNAPSHOTS)
    metadata = max(0, facts.metadata_bytes - HEALTHY_METADATA_BYTES)
    deleted = max(
        _share(gone / (gone + lasting + SPARE_ROWS), 0.3),
        _share(opened / (good + SPARE_FILES), 10),
        _share(len(facts.dangling), 100),
    )
    aged = max(_share(snapshots, 1000), _share(metadata, HEALTHY_METADATA_BYTES))
    return [
        _part(
            "small files", spare / (spare + good + SPARE_FILES), f"{spare:,} small files too many"
        ),
        _part(
            "deletes",
            deleted,
            f"{gone:,} rows, {facts.delete_files:,} delete files, {len(facts.dangling):,} dangling",
        ),
        _part("planning", _share(manifests, 100), f"{facts.manifests:,} manifests"),
        _part(
            "metadata",
            aged,
            f"{facts.snapshots:,} snapshots, {facts.metadata_bytes / 1_000_000:.1f} MB",
        ),
    ]


def _part(name: str, lost: float, reason: str) -> ScorePart:
    weight = WEIGHTS[name]
    return ScorePart(name, weight, weight * lost, reason)


def _share(value: float, half: float) -> float:
    """0 to 1, growing with ``value``; one half at ``half``."""
    return value / (value + half)


def _gain(facts: TableFacts, plan: CompactionPlan) -> Gain:
    before = sum(_scan_bytes(file) for file in facts.files)
    planned = [one.file for group in plan.groups for one in group.files]
    live = sum(file.live_bytes for file in planned)
    after = before - sum(map(_scan_bytes, planned)) + live + (OPEN_BYTES * plan.output_files)
    merged = sum(one.file.delete_files - 1 for one in plan.merges)
    after -= OPEN_BYTES * merged
    rewritten = sum(file.size_bytes for file in planned)
    return Gain(
        files=len(planned) - plan.output_files,
        delete_files=sum(file.delete_files for file in planned) + merged + len(plan.dangling),
        freed_bytes=rewritten - live,
        scan_saving=min(1.0, max(0.0, 1 - after / before)) if before else 0.0,
        rewritten_bytes=rewritten,
        cpu_seconds=rewritten / REWRITE_BYTES_PER_CPU_SECOND,
    )


def _scan_bytes(file: FileFacts) -> int:
    return file.size_bytes + OPEN_BYTES * (1 + file.delete_files)
