"""Deletes that arrived while files were written again, at the places where their rows are now.

What belongs here: telling what of a rewritten group was deleted since it was read, and where that
is in its new files; and which delete files nothing needs after a commit. What does not: the commit
(``compact.py``).

A row that was read and is gone by now must not come back. It is gone if a delete file names it, or
if its file is not in the table any more: then it was deleted, or lives on in a file that another
rewrite made. Either way its copy here has to go.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pyiceberg.io import FileIO

from carbon_pipelines.lake.delete_file import read_named
from carbon_pipelines.lake.table_files import LiveFile, TableFiles, may_name
from carbon_pipelines.maintenance.live_rows import delete_paths, deleted_positions
from carbon_pipelines.maintenance.rewrite import Rewritten
from carbon_pipelines.maintenance.rolling_files import WrittenOutput
from carbon_pipelines.maintenance.table_facts import why_unreadable

WORTHLESS = 0.5
"""A group that has lost this part of its rows since it was read is left for another plan."""


@dataclass(frozen=True, slots=True)
class MovedDeletes:
    """What a rewritten group has to lose before it is committed.

    Attributes:
        deletes: (new file, positions), where a file loses some of its rows.
        emptied: New files that lose all.
        rows: How many rows that is.
        left_because: Why the group cannot be committed as it is; empty if it can.
    """

    deletes: Sequence[tuple[WrittenOutput, np.ndarray]] = ()
    emptied: Sequence[WrittenOutput] = ()
    rows: int = 0
    left_because: str = ""


def plan_moved_deletes(done: Rewritten, files: TableFiles, io: FileIO) -> MovedDeletes:
    """Where in the new files of ``done`` the rows are that ``files`` say are gone by now."""
    live = {data.file.file_path: data for data in files.data}
    there = [live[source.path] for source in done.sources if source.path in live]
    if not there:
        return MovedDeletes(left_because="all of its files are gone from the table")
    named = delete_paths(files, there)
    changed = [
        live[source.path]
        for source in done.sources
        if source.path in live and named[source.path] != source.deletes
    ]
    foreign = [one for data in changed for several in files.deletes_for(data) for one in several]
    if unreadable := why_unreadable(foreign):
        return MovedDeletes(left_because=unreadable)
    gone, _ = deleted_positions(io, files, changed)
    numbers = [np.empty(0, dtype=np.int64)]
    for source in done.sources:
        if source.path not in live:
            numbers.append(source.every_number())
        elif source.path in gone:
            if len(np.setdiff1d(source.gone, gone[source.path])):
                return MovedDeletes(left_because="rows that were deleted are back in the table")
            numbers.append(source.numbers(np.setdiff1d(gone[source.path], source.gone)))
    moved = np.sort(np.concatenate(numbers))
    if len(moved) > WORTHLESS * done.rows:
        return MovedDeletes(
            left_because=f"{len(moved):,} of its {done.rows:,} rows were deleted meanwhile"
        )
    return _placed(done.outputs, moved)


def _placed(outputs: Sequence[WrittenOutput], moved: np.ndarray) -> MovedDeletes:
    if not len(moved):
        return MovedDeletes()
    placed = [(output, output.positions(moved)) for output in outputs]
    rows = sum(len(positions) for _, positions in placed)
    if rows != len(moved):
        return MovedDeletes(left_because=f"{rows} of {len(moved)} deleted rows are in its files")
    emptied = [output for output, gone in placed if len(gone) == output.file.record_count]
    deletes = [(output, gone) for output, gone in placed if len(gone) and output not in emptied]
    return MovedDeletes(deletes, emptied, rows)


@dataclass(slots=True)
class DroppableDeletes:
    """Tells which delete files name no live data file any more; reads each at most once."""

    io: FileIO
    _named: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])

    def find(self, files: TableFiles, removed: Collection[str]) -> list[LiveFile]:
        """Delete files of ``files`` to drop once the data files at ``removed`` are.

        Those that serve several data files are looked into only where one of these goes.
        """
        left = {one.file.file_path: one for one in files.data if one.file.file_path not in removed}
        touched = {
            (one.file.spec_id, one.file.partition)
            for one in files.data
            if one.file.file_path in removed
        }
        paths: dict[tuple[int, object], list[str]] = {}
        for path, one in left.items():
            paths.setdefault((one.file.spec_id, one.file.partition), []).append(path)
        dropped = [
            one
            for path, several in files.deletes_by_path.items()
            for one in several
            if not _applies(one, path, left)
        ]
        for group, several in files.deletes_by_partition.items():
            for one in several:
                named = self._paths(one) if group in touched else paths.get(group, ())
                if not any(_applies(one, path, left) for path in named):
                    dropped.append(one)
        return dropped

    def _paths(self, delete: LiveFile) -> frozenset[str]:
        path = delete.file.file_path
        if path not in self._named:
            self._named[path] = frozenset(read_named(self.io, delete.file))
        return self._named[path]


def _applies(delete: LiveFile, path: str, left: Mapping[str, LiveFile]) -> bool:
    data = left.get(path)
    return data is not None and delete.applies_to(data) and may_name(delete.file, path)
