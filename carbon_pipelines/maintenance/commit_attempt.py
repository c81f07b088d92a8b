"""The files that come and go in one commit of a compaction.

What belongs here: putting rewritten groups, and the deletes that moved to their new files, together
to the changes of one snapshot. What does not: committing, and doing so again (``compact.py``).
"""

from collections.abc import Collection

import numpy as np
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from carbon_pipelines.lake.delete_file import write_delete_file
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.table_files import LiveFile, TableFiles
from carbon_pipelines.maintenance.merged_deletes import plan_merge, write_merge
from carbon_pipelines.maintenance.moved_deletes import DroppableDeletes, MovedDeletes
from carbon_pipelines.maintenance.rewrite import Rewritten


class CommitAttempt:
    """What one commit, on one loaded state of the table, changes.

    Args:
        table: As loaded.
        files: Those of its ``main``.
        merged: Data files whose delete files are written together.
    """

    def __init__(self, table: Table, files: TableFiles, merged: Collection[str] = ()) -> None:
        self._table, self._files, self._merged = table, files, merged
        self._done: list[Rewritten] = []
        self._moved_rows = 0
        self._added: list[DataFile] = []
        self._deletes: list[tuple[DataFile, np.ndarray]] = []
        self.emptied: list[DataFile] = []

    def add(self, done: Rewritten, moved: MovedDeletes) -> None:
        """Take a group that can be committed on this state of the table."""
        self._done.append(done)
        self._moved_rows += moved.rows
        emptied = [output.file for output in moved.emptied]
        self.emptied += emptied
        self._added += [one.file for one in done.outputs if one.file not in emptied]
        self._deletes += [(output.file, positions) for output, positions in moved.deletes]

    def changes(self, droppable: DroppableDeletes) -> FileChanges:
        """The files that come and go; delete files are written here.

        Raises:
            FileNotFoundError: A delete file of the table is not there.
            CompactionInvariantError: A merged one does not name the same rows.
        """
        sources = {source.path for done in self._done for source in done.sources}
        removed: list[LiveFile] = [
            live for live in self._files.data if live.file.file_path in sources
        ]
        gone = {live.file.file_path for live in removed}
        io, locations = self._table.io, self._table.location_provider()
        written = [
            write_delete_file(
                io, locations, {file.file_path: positions}, file.spec_id, file.partition
            )
            for file, positions in self._deletes
        ]
        dropped = {one.file.file_path: one for one in droppable.find(self._files, gone)}
        if self._merged:
            merge = plan_merge(self._files, self._merged, io)
            written += write_merge(merge, io, locations, "/".join(self._table.name()))
            dropped |= {one.file.file_path: one for one in merge.removed}
        going = list(dropped.values())
        return FileChanges(self._added, written, removed, going, self._files.manifests)

    def counts(self, changes: FileChanges) -> dict[str, int]:
        """What goes into the result."""
        return {
            "groups": len(self._done),
            "removed_files": len(changes.removed_data),
            "added_files": len(changes.added_data),
            "removed_delete_files": len(changes.removed_deletes),
            "added_delete_files": len(changes.added_deletes),
            "applied_deletes": sum(done.deleted_rows for done in self._done),
            "moved_deletes": self._moved_rows,
            "read_bytes": sum(live.file.file_size_in_bytes for live in changes.removed_data),
            "written_bytes": sum(file.file_size_in_bytes for file in changes.added_data),
        }
