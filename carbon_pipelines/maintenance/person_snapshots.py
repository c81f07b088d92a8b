"""Which snapshots of a table have the person's rows, or words of them.

What belongs here: judging snapshots by their files and manifests. What does not: reading files
(``person_files.py``) and what becomes of the snapshots (``erasure_expiry.py``).

A snapshot has them if a data file that it reaches holds such a row, deleted or not; or if one of
its manifests says of such a file that it is gone, for the entry tells the bounds of the columns. Of
a file that is not in the store any more nobody can tell: it counts if its bounds allow it and it
was in the table before the table's present rows were clean.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFileContent, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot, ancestors_of

from carbon_pipelines.errors import ErasureUnreadableError, MetadataFileMissingError
from carbon_pipelines.lake.manifest_reading import read_entries, read_manifest_list
from carbon_pipelines.lake.table_files import LiveFile
from carbon_pipelines.maintenance.erasure_request import Cleansed
from carbon_pipelines.maintenance.person_files import PersonFiles


@dataclass(frozen=True, slots=True)
class _Listed:
    """Data files of one manifest: live ones, and those of which it says that they are gone."""

    live: tuple[str, ...]
    gone: tuple[str, ...]
    may_have_held: frozenset[str]
    deletes_too: bool


@dataclass(slots=True)
class PersonSnapshots:
    """Judges snapshots of one table; each manifest is read once.

    Attributes:
        files: Finds rows in data files.
    """

    files: PersonFiles
    _manifests: dict[str, _Listed] = field(default_factory=dict[str, _Listed])
    _lists: dict[str, tuple[ManifestFile, ...]] = field(
        default_factory=dict[str, tuple[ManifestFile, ...]]
    )

    def find(
        self, table: Table, cleansed: Cleansed | None, *, returned: bool = False
    ) -> dict[int, str]:
        """Snapshot id -> why it counts, for those of ``table`` as loaded that do.

        Args:
            table: As loaded.
            cleansed: Since when the present rows are clean, if they are.
            returned: The key is in the source again: rows that came since then do not count.

        Raises:
            MetadataFileMissingError: A manifest of a snapshot is gone.
        """
        since = _since(table, cleansed)
        known = cleansed.snapshots if cleansed is not None else frozenset[int]()
        found: dict[int, str] = {}
        for snapshot in table.metadata.snapshots:
            number = snapshot.snapshot_id
            if number in known:
                found[number] = "it was found to have such rows"
            elif number in since:
                if not returned and self._holding(table, snapshot):
                    found[number] = "its files hold such rows"
            elif why := self._why(table, snapshot, unknown_counts=cleansed is None):
                found[number] = why
        return found

    def present(self, table: Table) -> dict[str, int]:
        """Path -> how many such rows, of the data files that ``main`` reaches.

        Raises:
            ErasureUnreadableError: One of them cannot be read.
        """
        snapshot = table.current_snapshot()
        if snapshot is None:
            return {}
        live = [path for one in self._listed(table, snapshot) for path in one.live]
        for path, rows in self.files.find(live).items():
            if rows is None:
                raise ErasureUnreadableError("/".join(table.name()), path)
        return self._holding(table, snapshot)

    def telling_of_gone(self, table: Table) -> int:
        """How many manifests of ``main`` say of a file that it is gone."""
        snapshot = table.current_snapshot()
        listed = self._listed(table, snapshot) if snapshot is not None else []
        return sum(1 for one in listed if one.gone or one.deletes_too)

    def _holding(self, table: Table, snapshot: Snapshot) -> dict[str, int]:
        live = [path for one in self._listed(table, snapshot) for path in one.live]
        positions = self.files.find(live)
        return {
            path: len(rows) for path, rows in positions.items() if rows is not None and len(rows)
        }

    def _why(self, table: Table, snapshot: Snapshot, *, unknown_counts: bool) -> str:
        holding = self._holding(table, snapshot)
        if holding:
            return f"{len(holding):,} of its data files hold such rows"
        listed = self._listed(table, snapshot)
        live = self.files.find(path for one in listed for path in one.live)
        if any(rows is None for rows in live.values()):
            return "some of its data files cannot be read"
        gone = [path for one in listed for path in one.gone]
        may_have = {path for one in listed for path in one.may_have_held}
        for path, rows in self.files.find(gone).items():
            if rows is not None and len(rows):
                return "its manifests tell of files that held such rows"
            if rows is None and unknown_counts and path in may_have:
                return "its manifests tell of files that are gone and may have held such rows"
        return ""

    def _listed(self, table: Table, snapshot: Snapshot) -> list[_Listed]:
        path = snapshot.manifest_list
        try:
            if path not in self._lists:
                self._lists[path] = read_manifest_list(table.io, path)
            listed: list[_Listed] = []
            for manifest in self._lists[path]:
                path = manifest.manifest_path
                if path not in self._manifests:
                    self._manifests[path] = self._read(table.io, manifest)
                listed.append(self._manifests[path])
        except FileNotFoundError as error:
            label = "/".join(table.name())
            raise MetadataFileMissingError(label, path, snapshot.snapshot_id) from error
        return listed

    def _read(self, io: FileIO, manifest: ManifestFile) -> _Listed:
        live: list[str] = []
        gone: list[str] = []
        may_have: set[str] = set()
        deletes_too = False
        for entry in read_entries(manifest, io, discard_deleted=False):
            file = entry.data_file
            is_gone = entry.status == ManifestEntryStatus.DELETED
            if file.content != DataFileContent.DATA:
                deletes_too |= is_gone
                continue
            (gone if is_gone else live).append(file.file_path)
            if is_gone and self.files.may_hold(LiveFile(file, 0, "")):
                may_have.add(file.file_path)
        return _Listed(tuple(live), tuple(gone), frozenset(may_have), deletes_too)


def _since(table: Table, cleansed: Cleansed | None) -> Collection[int]:
    """Snapshots of ``main`` from the first clean one on: what goes from them was clean."""
    if cleansed is None:
        return frozenset()
    return frozenset(_after(table, cleansed.sequence_number))


def _after(table: Table, sequence_number: int) -> Iterator[int]:
    lineage: Sequence[Snapshot] = list(ancestors_of(table.current_snapshot(), table.metadata))
    for snapshot in lineage:
        if (snapshot.sequence_number or 0) < sequence_number:
            return
        yield snapshot.snapshot_id
