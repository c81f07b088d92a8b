"""The files that only expired snapshots reach.

What belongs here: finding them, in the order in which they are deleted, and deleting them. What
does not: which snapshots expire (``expiry.py``) and the commit that takes them away
(``expiry_commit.py``).

Data and delete files go first, then manifests, statistics, and the manifest lists last: whatever is
left names what is left. So a list or manifest that is gone says that all below it is gone too, and
doing the work again after a crash ends where it would have ended.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import groupby

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table.metadata import TableMetadata

from carbon_pipelines.lake.manifest_reading import read_manifest_list
from carbon_pipelines.maintenance.expiry_work import ExpiryWork
from carbon_pipelines.maintenance.path_set import PathSet
from carbon_pipelines.maintenance.reachable import (
    Kind,
    Reached,
    live_files,
    reachable_files,
)
from carbon_pipelines.maintenance.storage import Storage, in_pages


@dataclass(frozen=True, slots=True)
class FileCounts:
    """Files of each kind; ``size_bytes`` leaves out metadata files, whose size nobody knows."""

    data: int = 0
    delete: int = 0
    manifest: int = 0
    manifest_list: int = 0
    statistics: int = 0
    metadata: int = 0
    size_bytes: int = 0

    def __add__(self, other: "FileCounts") -> "FileCounts":
        """Both together."""
        return FileCounts(
            *(getattr(self, one.name) + getattr(other, one.name) for one in fields(self))
        )

    @property
    def files(self) -> int:
        """All of them."""
        return sum(getattr(self, one.name) for one in fields(self)) - self.size_bytes

    def sentence(self) -> str:
        """Counts of each kind that there is, and bytes."""
        kinds = [one.name for one in fields(self) if one.name != "size_bytes"]
        parts = [f"{getattr(self, k):,} {k.replace('_', ' ')}" for k in kinds if getattr(self, k)]
        return f"{self.files:,} files ({', '.join(parts) or 'none'}), {self.size_bytes:,} bytes"


def count_files(files: Iterable[Reached]) -> FileCounts:
    """How many of each kind, and their bytes."""
    counts: Counter[str] = Counter()
    size_bytes = 0
    for file in files:
        counts[file.kind.replace(" ", "_")] += 1
        size_bytes += file.size_bytes or 0
    return FileCounts(**counts, size_bytes=size_bytes)


def unreached_files(
    io: FileIO, work: ExpiryWork, metadata: TableMetadata, metadata_location: str, label: str
) -> Iterator[Reached]:
    """Files that the work's snapshots reach and ``metadata`` does not, as they are to be deleted.

    Holds nine bytes for each file that ``metadata`` reaches, and the manifests that go.

    Raises:
        MetadataFileMissingError: A snapshot that stays cannot be read, so nothing may go.
    """
    kept = PathSet(one.path for one in reachable_files(io, metadata, metadata_location, label))
    lists = [(number, path) for number, path in work.lists if path not in kept]
    manifests = _manifests(io, [path for _, path in lists], kept)
    listed = PathSet()
    for manifest in manifests:
        with suppress(FileNotFoundError):  # an earlier attempt came so far
            for file in live_files(io, manifest):
                if file.path not in kept and listed.add_new(file.path):
                    yield file
    for manifest in manifests:
        yield Reached(manifest.manifest_path, Kind.MANIFEST, manifest.manifest_length, None)
    for statistics in work.statistics:
        if statistics.path not in kept:
            yield statistics
    for number, path in lists:
        with suppress(FileNotFoundError):
            yield Reached(path, Kind.MANIFEST_LIST, len(io.new_input(path)), number)


def delete_files(
    storage: Storage, files: Iterable[Reached], before_kind: Callable[[Kind], None]
) -> FileCounts:
    """Delete ``files`` in their order, a kind after the other.

    Raises:
        StoreInterruptedError: Some are deleted; the work names the rest.
    """
    done = FileCounts()
    order = (Kind.DATA, Kind.DELETE)
    for rest, group in groupby(files, key=lambda one: "files" if one.kind in order else one.kind):
        before_kind(Kind.DATA if rest == "files" else Kind(rest))
        for page in in_pages(group):
            storage.delete(one.path for one in page)
            done += count_files(page)
    return done


def _manifests(io: FileIO, lists: Iterable[str], kept: PathSet) -> list[ManifestFile]:
    """Manifests that only these lists name, each once."""
    found: dict[str, ManifestFile] = {}
    for path in lists:
        with suppress(FileNotFoundError):  # an earlier attempt was done with it
            for manifest in read_manifest_list(io, path):
                if manifest.manifest_path not in kept:
                    found.setdefault(manifest.manifest_path, manifest)
    return list(found.values())
