"""Planning and writing the position deletes of one commit.

What belongs here: which data files lose rows, which go as a whole, which delete files are stacked
and which replaced. What does not: finding the rows (``lookup.py``).

Delete files name one data file each where few are touched, so that a reader opens only its own;
past ``STACKED_DELETES`` of them the next commit writes their union and takes them away. Where many
data files are touched, one delete file serves all of a partition. No position is named twice, so
that the counters of a snapshot's summary mean rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.table.locations import LocationProvider

from carbon_pipelines.lake.delete_file import write_delete_file
from carbon_pipelines.lake.lookup import FoundRows
from carbon_pipelines.lake.table_files import LiveFile

STACKED_DELETES = 4
"""Delete files that one data file may have before they are replaced by their union."""
FILES_WITH_OWN_DELETES = 64
"""Above this number of touched data files, delete files are shared by partition."""


@dataclass(frozen=True, slots=True)
class DeletePlan:
    """What a commit does to existing rows.

    Attributes:
        own: (data file, positions) for which a delete file of their own is written.
        shared: Groups of the same by (spec id, partition), for one delete file each.
        removed_data: Data files without a row left.
        removed_deletes: Delete files that are replaced or have nothing left to delete from.
        deleted_rows: Rows that were live and are not any more.
    """

    own: Sequence[tuple[LiveFile, np.ndarray]]
    shared: Sequence[Sequence[tuple[LiveFile, np.ndarray]]]
    removed_data: Sequence[LiveFile]
    removed_deletes: Sequence[LiveFile]
    deleted_rows: int


def plan_deletes(found: Sequence[FoundRows]) -> DeletePlan:
    """Decide, for the rows found, which delete files to write and which files to take away."""
    touched: list[tuple[LiveFile, np.ndarray]] = []
    removed_data: list[LiveFile] = []
    removed_deletes: list[LiveFile] = []
    for rows in found:
        named = np.setdiff1d(np.union1d(rows.own_gone, rows.positions), rows.shared_gone)
        if len(named) + len(rows.shared_gone) >= rows.data.file.record_count:
            removed_data.append(rows.data)
            removed_deletes.extend(rows.own_deletes)
        elif len(rows.own_deletes) >= STACKED_DELETES:
            removed_deletes.extend(rows.own_deletes)
            touched.append((rows.data, named))
        else:
            touched.append((rows.data, np.sort(rows.positions)))
    deleted = sum(len(rows.positions) for rows in found)
    if len(touched) <= FILES_WITH_OWN_DELETES:
        return DeletePlan(touched, (), removed_data, removed_deletes, deleted)
    groups: dict[tuple[int, object], list[tuple[LiveFile, np.ndarray]]] = {}
    for data, positions in touched:
        groups.setdefault((data.file.spec_id, data.file.partition), []).append((data, positions))
    return DeletePlan((), list(groups.values()), removed_data, removed_deletes, deleted)


def write_deletes(plan: DeletePlan, io: FileIO, locations: LocationProvider) -> list[DataFile]:
    """Write the delete files of ``plan``."""
    groups = [[one] for one in plan.own] + [list(group) for group in plan.shared]
    return [
        write_delete_file(
            io,
            locations,
            {data.file.file_path: positions for data, positions in group},
            group[0][0].file.spec_id,
            group[0][0].file.partition,
        )
        for group in groups
    ]
