"""The live entries of a manifest, read once where files are kept.

What belongs here: keeping what was read of a manifest. What does not: reading it
(``manifest_reading.py``), keeping bytes (``file_io.py``) and what entries mean
(``table_files.py``).

Reading thirty small manifests was a quarter of a small merge's CPU, and all but one or two of them
are those of the merge before. Entries are shared: nobody changes one.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestEntry, ManifestFile

from carbon_pipelines.lake.file_io import KeptFileIO
from carbon_pipelines.lake.manifest_reading import read_entries

KEPT_ENTRIES = 20_000
"""Of all manifests together, about 3 kB each; those not asked for longest go first."""
KEPT_MANIFEST_ENTRIES = 2_000
"""A manifest with more is not kept."""


class _KeptEntries:
    def __init__(self) -> None:
        self._manifests: OrderedDict[str, Sequence[ManifestEntry]] = OrderedDict()
        self._entries = 0
        self._lock = threading.Lock()

    def get(self, path: str) -> Sequence[ManifestEntry] | None:
        with self._lock:
            if path in self._manifests:
                self._manifests.move_to_end(path)
            return self._manifests.get(path)

    def put(self, path: str, entries: Sequence[ManifestEntry]) -> None:
        if len(entries) > KEPT_MANIFEST_ENTRIES:
            return
        with self._lock:
            self._entries += len(entries) - len(self._manifests.pop(path, ()))
            self._manifests[path] = entries
            while self._entries > KEPT_ENTRIES:
                _, oldest = self._manifests.popitem(last=False)
                self._entries -= len(oldest)


_kept = _KeptEntries()


def live_entries(manifest: ManifestFile, io: FileIO) -> Sequence[ManifestEntry]:
    """What ``manifest`` lists and has not marked as removed; not to be changed.

    Raises:
        FileNotFoundError: It is not there; with ``KeptFileIO``, and was never read.
    """
    if not isinstance(io, KeptFileIO):
        return read_entries(manifest, io)
    entries = _kept.get(manifest.manifest_path)
    if entries is None:
        entries = read_entries(manifest, io)
        _kept.put(manifest.manifest_path, entries)
    return entries
