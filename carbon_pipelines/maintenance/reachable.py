"""Every file that a table's metadata reaches.

What belongs here: walking metadata, manifest lists, manifests and statistics, as a stream. What
does not: what becomes of files that are not reached (``expiry_files.py``, ``orphans.py``).

A manifest is read once, however many snapshots have it. Of its entries those that are live count:
an entry with status DELETED says that a file is gone. Only names and sizes are decoded.
Source: Iceberg spec, "Table metadata", "Snapshots", "Manifests".
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from pyiceberg.avro.reader import Reader
from pyiceberg.avro.resolver import ReadSchemaResolver, SchemaPartnerAccessor
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DEFAULT_READ_VERSION,
    MANIFEST_ENTRY_SCHEMAS,
    DataFileContent,
    ManifestContent,
    ManifestEntryStatus,
    ManifestFile,
)
from pyiceberg.schema import Schema, visit_with_partner
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import Record
from pyiceberg.types import IcebergType, NestedField, StructType

from carbon_pipelines.errors import MetadataFileMissingError
from carbon_pipelines.lake.manifest_reading import (
    PREPARED,
    PreparedFile,
    read_manifest_list,
    written_schema,
)

_STATUS, _DATA_FILE, _CONTENT, _PATH, _SIZE = 0, 2, 134, 100, 104


class Kind(StrEnum):
    """What a file is to its table."""

    DATA = "data"
    DELETE = "delete"
    MANIFEST = "manifest"
    MANIFEST_LIST = "manifest list"
    STATISTICS = "statistics"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Reached:
    """A file, and the newest snapshot that was found to reach it; None: the table itself does."""

    path: str
    kind: Kind
    size_bytes: int | None
    snapshot_id: int | None


def reachable_files(
    io: FileIO, metadata: TableMetadata, metadata_location: str, label: str
) -> Iterator[Reached]:
    """Everything that ``metadata`` reaches: itself, its log, statistics and every snapshot.

    A file of several snapshots comes once for each manifest that lists it.

    Raises:
        MetadataFileMissingError: A manifest list or manifest is not there.
    """
    yield from own_files(metadata, metadata_location)
    newest_first = sorted(metadata.snapshots, key=lambda one: -one.timestamp_ms)
    yield from snapshot_files(io, newest_first, label)


def own_files(metadata: TableMetadata, metadata_location: str) -> Iterator[Reached]:
    """The metadata files, and statistics of tables and partitions; reads nothing."""
    yield Reached(metadata_location, Kind.METADATA, None, None)
    for entry in metadata.metadata_log:
        yield Reached(entry.metadata_file, Kind.METADATA, None, None)
    yield from statistics_files(metadata)


def statistics_files(metadata: TableMetadata) -> Iterator[Reached]:
    """Statistics (Puffin) of snapshots, and of their partitions."""
    for file in (*metadata.statistics, *metadata.partition_statistics):
        yield Reached(
            file.statistics_path, Kind.STATISTICS, file.file_size_in_bytes, file.snapshot_id
        )


def snapshot_files(io: FileIO, snapshots: Iterable[Snapshot], label: str) -> Iterator[Reached]:
    """Manifest lists, manifests and live files of ``snapshots``.

    Raises:
        MetadataFileMissingError: A manifest list or manifest is not there.
    """
    read: set[str] = set()
    for snapshot in snapshots:
        number = snapshot.snapshot_id
        path = snapshot.manifest_list
        try:
            manifests = [
                one for one in read_manifest_list(io, path) if one.manifest_path not in read
            ]
            yield Reached(path, Kind.MANIFEST_LIST, None, number)
            for manifest in manifests:
                path = manifest.manifest_path
                read.add(path)
                yield Reached(path, Kind.MANIFEST, manifest.manifest_length, number)
                for file in live_files(io, manifest):
                    yield Reached(file.path, file.kind, file.size_bytes, number)
        except FileNotFoundError as error:
            raise MetadataFileMissingError(label, path, number) from error


def live_files(io: FileIO, manifest: ManifestFile) -> Iterator[Reached]:
    """Live data or delete files of one manifest, one at a time.

    Raises:
        FileNotFoundError: The manifest is not there.
    """
    deletes = manifest.content == ManifestContent.DELETES
    path = manifest.manifest_path
    with PreparedFile[Record](io.new_input(path), _narrow_reader) as entries:
        for status, file in entries:
            if status == ManifestEntryStatus.DELETED:
                continue
            content, path, size = file
            is_delete = deletes or (content or DataFileContent.DATA) != DataFileContent.DATA
            yield Reached(path, Kind.DELETE if is_delete else Kind.DATA, size, None)


class _Narrow(SchemaPartnerAccessor):
    """Lets whole lists, maps and structs be skipped, where PyIceberg's lets single values alone."""

    def field_partner(
        self, partner: IcebergType | None, field_id: int, field_name: str
    ) -> IcebergType | None:
        return partner and super().field_partner(partner, field_id, field_name)

    def list_element_partner(self, partner_list: IcebergType | None) -> IcebergType | None:
        return partner_list and super().list_element_partner(partner_list)

    def map_key_partner(self, partner_map: IcebergType | None) -> IcebergType | None:
        return partner_map and super().map_key_partner(partner_map)

    def map_value_partner(self, partner_map: IcebergType | None) -> IcebergType | None:
        return partner_map and super().map_value_partner(partner_map)


@lru_cache(maxsize=PREPARED)
def _narrow_reader(text: str) -> Reader:
    """Reads a manifest's entries as (status, (content, path, size))."""
    resolver = ReadSchemaResolver({}, {})
    return visit_with_partner(written_schema(text), _ENTRY, resolver, _Narrow())  # pyright: ignore[reportArgumentType]


def _narrow_entry() -> Schema:
    """Of a manifest's entries, only what is needed of them."""
    fields = {one.field_id: one for one in MANIFEST_ENTRY_SCHEMAS[DEFAULT_READ_VERSION].fields}
    data_file = fields[_DATA_FILE].field_type
    assert isinstance(data_file, StructType)
    inner = {one.field_id: one for one in data_file.fields}
    narrow = StructType(*(inner[number] for number in (_CONTENT, _PATH, _SIZE)))
    return Schema(fields[_STATUS], NestedField(_DATA_FILE, "data_file", narrow, required=True))


_ENTRY = _narrow_entry()
