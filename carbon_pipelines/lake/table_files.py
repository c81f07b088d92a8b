"""The files of one table snapshot, as its manifests list them.

What belongs here: reading manifests once into plain facts that lookup, merge and maintenance plan
with. What does not: reading data (``lookup.py``) and writing (``row_delta.py``).
Source: Iceberg spec, "Manifests" and "Scan planning".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, ManifestContent, ManifestFile
from pyiceberg.table.snapshots import Snapshot

from carbon_pipelines.lake.manifest_entries import live_entries
from carbon_pipelines.lake.manifest_reading import read_manifest_list

DELETE_FILE_PATH_ID = 2147483546
"""Reserved field id of ``file_path`` in position delete files."""


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A live data or delete file, its sequence number, and the manifest that lists it."""

    file: DataFile
    sequence_number: int
    manifest_path: str

    def applies_to(self, data: "LiveFile") -> bool:
        """Whether this delete file is not older than ``data``, if it names it."""
        return self.sequence_number >= data.sequence_number


@dataclass(frozen=True, slots=True)
class TableFiles:
    """Everything live in one snapshot.

    Attributes:
        manifests: Of the snapshot, in its order.
        data: Live data files.
        deletes_by_path: Position delete files that name a single data file, by its path.
        deletes_by_partition: Other position delete files, by (spec id, partition).
        equality_deletes: Delete files of another engine, which we never write.
    """

    manifests: Sequence[ManifestFile] = ()
    data: Sequence[LiveFile] = ()
    deletes_by_path: Mapping[str, Sequence[LiveFile]] = field(default_factory=dict)
    deletes_by_partition: Mapping[tuple[int, object], Sequence[LiveFile]] = field(
        default_factory=dict
    )
    equality_deletes: Sequence[LiveFile] = ()

    @property
    def deletes(self) -> list[LiveFile]:
        """Every live position delete file."""
        groups = [*self.deletes_by_path.values(), *self.deletes_by_partition.values()]
        return [live for group in groups for live in group]

    def deletes_for(self, data: LiveFile) -> tuple[list[LiveFile], list[LiveFile]]:
        """Delete files that may apply to ``data``: (those of this file alone, shared ones)."""
        path = data.file.file_path
        own = [d for d in self.deletes_by_path.get(path, ()) if d.applies_to(data)]
        group = self.deletes_by_partition.get((data.file.spec_id, data.file.partition), ())
        shared = [d for d in group if d.applies_to(data) and may_name(d.file, path)]
        return own, shared


def load_table_files(snapshot: Snapshot | None, io: FileIO) -> TableFiles:
    """Read the manifests of ``snapshot``."""
    if snapshot is None:
        return TableFiles()
    manifests = read_manifest_list(io, snapshot.manifest_list)
    data: list[LiveFile] = []
    by_path: dict[str, list[LiveFile]] = {}
    by_partition: dict[tuple[int, object], list[LiveFile]] = {}
    by_value: list[LiveFile] = []
    for manifest in manifests:
        for entry in live_entries(manifest, io):
            live = LiveFile(entry.data_file, entry.sequence_number or 0, manifest.manifest_path)
            if manifest.content == ManifestContent.DATA:
                data.append(live)
            elif entry.data_file.content == DataFileContent.POSITION_DELETES:
                target = single_target(entry.data_file)
                if target is not None:
                    by_path.setdefault(target, []).append(live)
                else:
                    group = (entry.data_file.spec_id, entry.data_file.partition)
                    by_partition.setdefault(group, []).append(live)
            else:
                by_value.append(live)
    return TableFiles(manifests, data, by_path, by_partition, by_value)


def single_target(delete_file: DataFile) -> str | None:
    """The path of the one data file that a position delete file names, by its equal bounds."""
    low = (delete_file.lower_bounds or {}).get(DELETE_FILE_PATH_ID)
    high = (delete_file.upper_bounds or {}).get(DELETE_FILE_PATH_ID)
    return low.decode() if low is not None and low == high else None


def may_name(delete_file: DataFile, path: str) -> bool:
    """Whether a position delete file may name a data file, by its bounds."""
    low = (delete_file.lower_bounds or {}).get(DELETE_FILE_PATH_ID)
    high = (delete_file.upper_bounds or {}).get(DELETE_FILE_PATH_ID)
    name = path.encode()
    return (low is None or low <= name) and (high is None or name <= high)
