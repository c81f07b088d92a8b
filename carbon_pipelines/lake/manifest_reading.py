"""Reading manifests and their lists.

What belongs here: Avro files whose reader is made once for each schema that they are written by.
What does not: which manifests are read, and keeping what was read (``manifest_entries.py``).

PyIceberg makes the reader anew for each file, from its schema as text, which takes longer than
reading a manifest of a few entries. The manifests of a table have one schema for each of its
partition specs. Readers hold no state, so threads may share them.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from pyiceberg.avro.decoder import new_decoder
from pyiceberg.avro.file import (
    _SCHEMA_KEY,  # pyright: ignore[reportPrivateUsage]
    META_SCHEMA,
    AvroFile,
    AvroFileHeader,
)
from pyiceberg.avro.reader import Reader
from pyiceberg.avro.resolver import construct_reader, resolve_reader
from pyiceberg.io import FileIO, InputFile
from pyiceberg.manifest import (
    DEFAULT_READ_VERSION,
    MANIFEST_ENTRY_SCHEMAS,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    PartitionFieldSummary,
    _inherit_from_manifest,  # pyright: ignore[reportPrivateUsage]
)
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import StructProtocol
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

PREPARED = 256
"""Readers of each kind that are kept; those that were not used longest go first."""
D = TypeVar("D", bound=StructProtocol)
Prepare = Callable[[str], Reader]


class PreparedFile(AvroFile[D]):
    """An Avro file; ``prepare`` gives the reader for a schema as text, and keeps it."""

    def __init__(self, input_file: InputFile, prepare: Prepare) -> None:
        super().__init__(input_file)
        self._prepare = prepare

    def __enter__(self) -> "PreparedFile[D]":
        with self.input_file.open() as stream:
            self.decoder = new_decoder(stream.read())
        self.header = _header_reader().read(self.decoder)
        self.reader = self._prepare(self.header.meta[_SCHEMA_KEY])
        return self


def written_schema(text: str) -> Schema:
    """The schema that a file names in its header."""
    return AvroSchemaConversion().avro_to_iceberg(json.loads(text))


def read_manifest_list(io: FileIO, path: str) -> tuple[ManifestFile, ...]:
    """The manifests that a manifest list names.

    Raises:
        FileNotFoundError: The list is not there.
    """
    with PreparedFile[ManifestFile](io.new_input(path), _list_reader) as manifests:
        return tuple(manifests)


def manifests_of(snapshot: Snapshot | None, io: FileIO) -> tuple[ManifestFile, ...]:
    """The manifests of a snapshot; none of none.

    Raises:
        FileNotFoundError: Their list is not there.
    """
    return read_manifest_list(io, snapshot.manifest_list) if snapshot is not None else ()


def read_entries(
    manifest: ManifestFile, io: FileIO, *, discard_deleted: bool = True
) -> list[ManifestEntry]:
    """What a manifest lists, with what it inherits from the list.

    Raises:
        FileNotFoundError: It is not there.
    """
    path = manifest.manifest_path
    with PreparedFile[ManifestEntry](io.new_input(path), _entry_reader) as entries:
        return [
            _inherit_from_manifest(entry, manifest)
            for entry in entries
            if not discard_deleted or entry.status != ManifestEntryStatus.DELETED
        ]


@lru_cache(maxsize=1)
def _header_reader() -> Reader:
    return construct_reader(META_SCHEMA, {-1: AvroFileHeader})


@lru_cache(maxsize=PREPARED)
def _list_reader(text: str) -> Reader:
    return resolve_reader(
        written_schema(text),
        MANIFEST_LIST_FILE_SCHEMAS[DEFAULT_READ_VERSION],
        {-1: ManifestFile, 508: PartitionFieldSummary},
        {517: ManifestContent},
    )


@lru_cache(maxsize=PREPARED)
def _entry_reader(text: str) -> Reader:
    return resolve_reader(
        written_schema(text),
        MANIFEST_ENTRY_SCHEMAS[DEFAULT_READ_VERSION],
        {-1: ManifestEntry, 2: DataFile},
        {0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
    )
