"""Many position delete files written together as few, while the data files stay as they are.

What belongs here: which delete files of a partition go, the one of each data file that stands for
them, and the proof that it names the same rows. What does not: where that is worth it
(``compaction.py``) and the commit (``compact.py``).

All shared delete files of a partition are taken, with the own ones of every data file that one of
them or the plan names, so that each of these data files has one delete file afterwards. Where many
data files are named, one serves them all, as a merge does it (``lake/deltas.py``). The new files
are younger than every data file that they name, so they apply to each; of an old one only what
applied is taken.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.table.locations import LocationProvider

from carbon_pipelines.errors import CompactionInvariantError
from carbon_pipelines.lake.commit import discard_files
from carbon_pipelines.lake.delete_file import read_named, write_delete_file
from carbon_pipelines.lake.deltas import FILES_WITH_OWN_DELETES
from carbon_pipelines.lake.table_files import LiveFile, TableFiles
from carbon_pipelines.maintenance.live_rows import deleted_positions
from carbon_pipelines.maintenance.table_facts import why_unreadable


@dataclass(frozen=True, slots=True)
class DeleteMerge:
    """Delete files that go, and the rows that they name.

    Attributes:
        removed: Delete files of all partitions that are merged.
        positions: For each file to write: data files of one partition, and what is gone of each.
    """

    removed: Sequence[LiveFile] = ()
    positions: Sequence[Sequence[tuple[LiveFile, np.ndarray]]] = ()


def plan_merge(files: TableFiles, chosen: Collection[str], io: FileIO) -> DeleteMerge:
    """Merge the delete files of the data files at ``chosen`` that are still in the table.

    A partition that has only one delete file by now, or one that cannot be read, is left as it is.
    """
    groups: dict[tuple[int, object], list[LiveFile]] = {}
    for data in files.data:
        groups.setdefault((data.file.spec_id, data.file.partition), []).append(data)
    removed: list[LiveFile] = []
    positions: list[Sequence[tuple[LiveFile, np.ndarray]]] = []
    for group, several in groups.items():
        planned = [data for data in several if data.file.file_path in chosen]
        if not planned:
            continue
        shared = files.deletes_by_partition.get(group, ())
        named = [data for data in several if files.deletes_for(data)[1]] if shared else []
        served = {data.file.file_path: data for data in (*planned, *named)}
        going = [*shared]
        for path, data in served.items():
            going += [d for d in files.deletes_by_path.get(path, ()) if d.applies_to(data)]
        if why_unreadable(going):
            continue
        gone, _ = deleted_positions(io, files, list(served.values()))
        merged = [(data, gone[path]) for path, data in served.items() if len(gone[path])]
        apart = len(merged) <= FILES_WITH_OWN_DELETES and len(merged) < len(going)
        written = [[one] for one in merged] if apart else [merged]
        if len(written) < len(going):
            removed += going
            positions += written
    return DeleteMerge(removed, positions)


def write_merge(
    merge: DeleteMerge, io: FileIO, locations: LocationProvider, label: str
) -> list[DataFile]:
    """Write the delete files of ``merge``, and prove that they name the same rows.

    Raises:
        CompactionInvariantError: One does not; what was written is removed.
    """
    written: list[DataFile] = []
    try:
        for several in merge.positions:
            first = several[0][0].file
            named = {data.file.file_path: gone for data, gone in several}
            written.append(write_delete_file(io, locations, named, first.spec_id, first.partition))
            _check(read_named(io, written[-1]), named, merge, label)
    except BaseException:
        discard_files(io, written)
        raise
    return written


def _check(
    found: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    merge: DeleteMerge,
    label: str,
) -> None:
    for path in expected.keys() | found.keys():
        before, after = expected.get(path, np.empty(0)), found.get(path, np.empty(0))
        if not np.array_equal(before, after):
            raise CompactionInvariantError(
                label,
                f"deleted rows of {path}",
                expected=len(before),
                found=len(after),
                files=[one.file.file_path for one in merge.removed],
            )
