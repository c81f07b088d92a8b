"""Whether the catalog names the newest metadata there is.

What belongs here: telling from metadata files that the catalog does not know whether it is behind,
was set back, or is one of two. What does not: files of any other kind.

A metadata file that is not in the log of the one that the catalog names is one of these:
* older than that log: a version that nobody deleted; no danger;
* made on another unknown one: a second line of commits, by another catalog or from before this one
  was set back. What they committed would look like orphans: refused;
* as new as the catalog's, and recent: a commit under way, or a catalog that is behind: refused;
* as new as the catalog's, and older: what a killed writer left, or the one commit of a second line.
  Nobody can tell, so what it reaches stays;
* older than the catalog's: what a writer left that came second; its files are orphans.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from carbon_pipelines.errors import (
    MetadataFileMissingError,
    SecondCatalogError,
    StalePointerError,
)
from carbon_pipelines.maintenance.locations import normalise
from carbon_pipelines.maintenance.reachable import Reached, own_files, snapshot_files
from carbon_pipelines.maintenance.storage import Storage, StoredObject

QUIET = timedelta(hours=1)
"""After so long a commit that was under way has landed or died."""
SKEW = timedelta(hours=1)
"""By so much the store's clock and the writers' may differ."""
MOST_READ = 200
"""Unknown metadata files that are read, the newest ones."""


def is_metadata_file(path: str) -> bool:
    """Whether a path is that of a version of a table's metadata."""
    return path.endswith((".metadata.json", ".metadata.json.gz"))


def check_pointer(
    table: Table, unknown: Sequence[StoredObject], storage: Storage, now: datetime
) -> list[tuple[str, TableMetadata]]:
    """Refuse a table whose catalog may not name its newest state.

    ``table`` is as the catalog names it after the listing, ``unknown`` are the metadata files that
    neither it nor its log names.

    Returns:
        Metadata that has to stay with its files, though the catalog does not know it, by path.

    Raises:
        StalePointerError: There may be a newer state (retryable).
        SecondCatalogError: There is another line of commits.
    """
    label, pointer = "/".join(table.name()), table.metadata_location
    named = storage.stat(pointer)
    named_at = named.modified_at if named is not None else now
    log = table.metadata.metadata_log
    begins_ms = log[0].timestamp_ms if log else table.metadata.last_updated_ms
    long_ago = datetime.fromtimestamp(begins_ms / 1000, UTC) - SKEW
    recent = [one for one in unknown if one.modified_at > long_ago]
    newest_first = sorted(recent, key=lambda one: one.modified_at, reverse=True)[:MOST_READ]
    names = {normalise(one.path) for one in unknown}
    stay: list[tuple[str, TableMetadata]] = []
    for one in newest_first:
        metadata = _read(table, one)
        if metadata is None or metadata.table_uuid != table.metadata.table_uuid:
            continue
        if metadata.last_updated_ms <= begins_ms:
            continue  # a version from before the log
        base = metadata.metadata_log[-1].metadata_file if metadata.metadata_log else ""
        if base and normalise(base) in names:
            raise SecondCatalogError(label, pointer, one.path, base)
        if one.modified_at >= named_at:
            stay.append((one.path, metadata))
    for one in newest_first:
        age = now - one.modified_at
        if one.modified_at >= named_at and age < QUIET:
            raise StalePointerError(label, pointer, one.path, int(age.total_seconds()))
    return stay


def reached_by(table: Table, path: str, metadata: TableMetadata) -> Iterator[Reached]:
    """What metadata that the catalog does not know reaches beyond what the table does.

    As far as it is there: its writer may have taken files back.
    """
    known = {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
    yield from own_files(metadata, path)
    for snapshot in metadata.snapshots:
        if snapshot.snapshot_id not in known:
            with suppress(MetadataFileMissingError):
                yield from snapshot_files(table.io, [snapshot], "/".join(table.name()))


def _read(table: Table, file: StoredObject) -> TableMetadata | None:
    """The metadata, or ``None`` where it is no whole document or has just gone."""
    try:
        return FromInputFile.table_metadata(table.io.new_input(file.path))
    except (ValidationError, ValueError, FileNotFoundError):
        return None
