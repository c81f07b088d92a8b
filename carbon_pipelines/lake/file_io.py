"""Access to the files of tables: connections that are shared, and small files that are kept.

What belongs here: which files are kept, how many bytes of them in memory, and what is asked of the
store. What does not: keeping files on disk (``disk_cache.py``), opening a catalog
(``connection.py``) and what is in the files.

A file of an Iceberg table never changes under its path, and ours have a random UUID in it: what was
written or read once need not be asked for again. Merging a few changes reads the same manifests and
delete files that the merge before wrote, so most of its time was waiting for them. Whoever has to
know whether a file is *there* (expiry, orphans, health) does not use what is kept.
"""

import re
import threading
from collections import OrderedDict
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, cast

import pyarrow as pa
from pyarrow.fs import FileSystem, S3FileSystem
from pyiceberg.io import InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.typedef import EMPTY_DICT, Properties

from carbon_pipelines.lake.disk_cache import DiskCache

KEPT_BYTES = 64 * 1024 * 1024
"""Of all kept files together; those that were not asked for longest go first."""
KEPT_FILE_BYTES = 4 * 1024 * 1024
"""A larger file is not kept."""
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_KEPT = re.compile(rf"{_UUID}[^/]*(\.avro|\.metadata\.json|-deletes\.parquet)$")
"""Manifests, their lists, table metadata, position deletes."""
_CONNECTION = ("s3.", "client.", "adls.", "gcs.", "hdfs.")
"""Properties that say how a store is reached begin with one of these."""
CACHE_DIRECTORY, CACHE_BYTES = "carbon.cache-directory", "carbon.cache-bytes"
"""Properties of a FileIO: where ``KeptFileIO`` keeps files on disk, and how much of them."""


class SharedFileIO(PyArrowFileIO):
    """PyIceberg's access, with one connection to a store for all tables of the process.

    A small file is written to S3 in one request instead of three: that a bucket is not there is
    told when the file is closed, not when it is opened.
    """

    _systems: ClassVar[OrderedDict[tuple[object, ...], FileSystem]] = OrderedDict()
    _lock = threading.Lock()
    _most_systems = 16

    def _initialize_fs(self, scheme: str, netloc: str | None = None) -> FileSystem:
        reached = sorted(
            (name, str(value))
            for name, value in self.properties.items()
            if name.startswith(_CONNECTION)
        )
        key = (scheme, netloc, *reached)
        with self._lock:
            if key not in self._systems:
                self._systems[key] = _one_request(super()._initialize_fs(scheme, netloc))
            self._systems.move_to_end(key)
            while len(self._systems) > self._most_systems:
                self._systems.popitem(last=False)
            return self._systems[key]


def _one_request(system: FileSystem) -> FileSystem:
    """The same S3 file system, which writes a file of one part in one request."""
    if not isinstance(system, S3FileSystem):
        return system
    make, (options,) = system.__reduce__()
    return make({**options, "allow_delayed_open": True})


class KeptFiles:
    """Whole files by their location, the last used ones; may be used by several threads."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """Of all of them."""
        return self._bytes

    def get(self, location: str) -> bytes | None:
        """The file, if it is kept."""
        with self._lock:
            if location in self._files:
                self._files.move_to_end(location)
            return self._files.get(location)

    def put(self, location: str, content: bytes) -> None:
        """Keep it, unless it is too large."""
        if len(content) > min(KEPT_FILE_BYTES, self._most_bytes):
            return
        with self._lock:
            self._drop(location)
            self._files[location] = content
            self._bytes += len(content)
            while self._bytes > self._most_bytes:
                self._drop(next(iter(self._files)))

    def drop(self, location: str) -> None:
        """Keep it no longer."""
        with self._lock:
            self._drop(location)

    def _drop(self, location: str) -> None:
        self._bytes -= len(self._files.pop(location, b""))


class KeptFileIO(SharedFileIO):
    """Access that keeps the files of a table's metadata that this process wrote or read.

    In memory, and on local disk for other processes where the properties name a directory.
    """

    kept = KeptFiles()

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        self._disk = _disk_cache(properties)

    def new_input(self, location: str) -> PyArrowFile:
        """A file to read; answered from memory if it is kept."""
        return self._file(super().new_input(location))

    def new_output(self, location: str) -> PyArrowFile:
        """A file to write; kept once it is closed."""
        return self._file(super().new_output(location))

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Remove a file, and keep it no longer."""
        path = location if isinstance(location, str) else location.location
        self.kept.drop(path)
        if self._disk is not None:
            self._disk.drop(path)
        super().delete(location)

    def _file(self, file: PyArrowFile) -> PyArrowFile:
        if _KEPT.search(file.location):
            file.__class__ = _KeptFile
            cast("_KeptFile", file).disk = self._disk
        return file


class _KeptFile(PyArrowFile):
    """A file that is read and written whole."""

    disk: DiskCache | None = None

    def __len__(self) -> int:
        content = self._known()
        return super().__len__() if content is None else len(content)

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002, FBT001, FBT002
        content = self._known()
        if content is None:
            with super().open(seekable=True) as stream:
                content = stream.read()
            self.keep(content)
        return pa.BufferReader(content)

    def _known(self) -> bytes | None:
        content = KeptFileIO.kept.get(self.location)
        if content is None and self.disk is not None:
            content = self.disk.get(self.location)
            if content is not None:
                KeptFileIO.kept.put(self.location, content)
        return content

    def keep(self, content: bytes) -> None:
        """Answer what is asked of it later with ``content``, which is in the store."""
        KeptFileIO.kept.put(self.location, content)
        if self.disk is not None and len(content) <= KEPT_FILE_BYTES:
            self.disk.put(self.location, content)

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: FBT001, FBT002
        return cast("OutputStream", _KeptOutput(self, super().create(overwrite=overwrite)))


@lru_cache(maxsize=16)
def _shared_disk_cache(directory: str, most_bytes: int) -> DiskCache:
    return DiskCache(Path(directory), most_bytes)


def _disk_cache(properties: Properties) -> DiskCache | None:
    """The cache that the properties name; one object for all tables of the process."""
    directory = properties.get(CACHE_DIRECTORY)
    if not directory:
        return None
    return _shared_disk_cache(str(directory), int(properties[CACHE_BYTES]))


class _KeptOutput(BytesIO):
    """What is written; it is in the store, and kept, once it is closed without an error."""

    def __init__(self, file: "_KeptFile", stream: Any) -> None:
        super().__init__()
        self._file, self._stream = file, stream

    def close(self) -> None:
        if self.closed:
            return
        content = self.getvalue()
        super().close()
        self._stream.write(content)
        self._stream.close()
        self._file.keep(content)
