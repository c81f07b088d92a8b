"""What a compaction of one table would do, to be printed, compared and carried out.

What belongs here: the plan's facts and how people read them. What does not: deciding
(``compaction.py``) and doing it (``compact.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from carbon_pipelines.maintenance.table_facts import FileFacts


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file to write again, and the reason."""

    file: FileFacts
    reason: str

    def sentence(self) -> str:
        """One line of the plan."""
        return (
            f"{self.file.path.rsplit('/', 1)[-1]:<46} {megabytes(self.file.size_bytes):>10} "
            f"{self.file.rows:>12,} rows  {self.reason}"
        )


@dataclass(frozen=True, slots=True)
class CompactionGroup:
    """Files of one partition and spec that are written again together.

    Attributes:
        partition: For people.
        files: In the order in which their rows are read, the coldest first.
        output_files: About how many files come of it.
        target_bytes: The size that each should have.
        hot: Whether the last few snapshots touched it.
        touched_number: Sequence number of the last snapshot that did.
    """

    partition: str
    files: Sequence[PlannedFile]
    output_files: int
    target_bytes: int
    hot: bool
    touched_number: int

    @property
    def paths(self) -> list[str]:
        """Of the files to read."""
        return [planned.file.path for planned in self.files]

    @property
    def size_bytes(self) -> int:
        """Bytes to read."""
        return sum(planned.file.size_bytes for planned in self.files)

    @property
    def live_bytes(self) -> int:
        """About what is going to be written."""
        return sum(planned.file.live_bytes for planned in self.files)

    @property
    def deleted_rows(self) -> int:
        """Rows that go for good; estimated where delete files are shared."""
        return sum(planned.file.deleted_rows for planned in self.files)


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """What a compaction of one table would do.

    Attributes:
        label: The table.
        snapshot_id: The snapshot whose facts it was made from.
        groups: Coldest first.
        merges: Data files whose delete files are written together as one; they stay themselves.
        dangling: Delete files to drop, since no live data file is left that they name.
        left: (path, why) of files that cannot be written again.
    """

    label: str
    snapshot_id: int | None
    groups: Sequence[CompactionGroup] = ()
    merges: Sequence[PlannedFile] = ()
    dangling: Sequence[str] = ()
    left: Sequence[tuple[str, str]] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.groups or self.merges or self.dangling)

    @property
    def input_files(self) -> int:
        """Files that go."""
        return sum(len(group.files) for group in self.groups)

    @property
    def output_files(self) -> int:
        """About how many files come."""
        return sum(group.output_files for group in self.groups)

    @property
    def size_bytes(self) -> int:
        """Bytes to read."""
        return sum(group.size_bytes for group in self.groups)

    def describe(self) -> str:
        """The plan as a table, a line for each file with its reason."""
        lines = [
            f"{self.label} at table snapshot {self.snapshot_id}: {self.input_files:,} files "
            f"({megabytes(self.size_bytes)}) into about {self.output_files:,}, "
            f"deletes of {len(self.merges):,} together, "
            f"{len(self.dangling):,} dangling delete files to drop"
        ]
        for number, group in enumerate(self.groups, start=1):
            where = f" of {group.partition}" if group.partition else ""
            lines.append(
                f"  group {number}{where}: {len(group.files):,} files, "
                f"{megabytes(group.size_bytes)}, into about {group.output_files:,}"
                f"{', touched by the last snapshots' if group.hot else ''}"
            )
            lines += [f"    {planned.sentence()}" for planned in group.files]
        if self.merges:
            lines.append("  delete files that are written together, data files stay:")
            lines += [f"    {planned.sentence()}" for planned in self.merges]
        lines += [f"  dangling: {path.rsplit('/', 1)[-1]}" for path in self.dangling]
        lines += [f"  left alone: {path.rsplit('/', 1)[-1]}: {why}" for path, why in self.left]
        return "\n".join(lines)


def megabytes(size_bytes: int) -> str:
    """Bytes as people read them."""
    return f"{size_bytes / 1_000_000:,.1f} MB"
