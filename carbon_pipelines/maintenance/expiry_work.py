"""What an expiry has still to delete, written down in the commit that takes the snapshots away.

What belongs here: the table property that says it, and reading it. What does not: deleting
(``expiry_files.py``).

The order that leaks nothing, whenever the process dies:
1. one commit takes the snapshots away and sets a property that lists their manifest lists and
   statistics, compressed: some 40 bytes for each snapshot, for as long as the next step takes;
2. files are deleted, the manifest lists last;
3. a second commit takes the property away.
Dead before 1, nothing has happened. Dead before 3, the next expiry finds the property and does 2
again; what is gone already costs a look. Each expiry has a property of its own, so two of them at
the same time do not take each other's work away.
"""

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from carbon_pipelines.errors import StateFormatError
from carbon_pipelines.maintenance.reachable import Kind, Reached, statistics_files

PENDING = "carbon.expiry."
"""Prefix of the table properties that say what is to be deleted."""
FORMAT_VERSION = "1"


@dataclass(frozen=True, slots=True)
class ExpiryWork:
    """Snapshots that were taken from a table's metadata, and where their files are named.

    Attributes:
        name: Of the table property.
        lists: Snapshot id and manifest list of each.
        statistics: Of these snapshots.
    """

    name: str
    lists: tuple[tuple[int, str], ...]
    statistics: tuple[Reached, ...]

    def to_value(self) -> str:
        """The table property's value."""
        fields = {
            "manifest_lists": self.lists,
            "statistics": [[one.path, one.size_bytes, one.snapshot_id] for one in self.statistics],
        }
        packed = base64.b64encode(zlib.compress(json.dumps(fields).encode(), 9))
        return f"{FORMAT_VERSION}:{packed.decode()}"


def plan_work(table: Table, snapshot_ids: tuple[int, ...], name: str) -> ExpiryWork:
    """The work of taking ``snapshot_ids`` away; writes nothing. ``name`` is unique."""
    metadata, going = table.metadata, set(snapshot_ids)
    return ExpiryWork(
        PENDING + name,
        tuple(
            (one.snapshot_id, one.manifest_list)
            for one in metadata.snapshots
            if one.snapshot_id in going
        ),
        tuple(one for one in statistics_files(metadata) if one.snapshot_id in going),
    )


def pending_work(metadata: TableMetadata, table: str) -> Iterator[ExpiryWork]:
    """What earlier expiries have left to do.

    Raises:
        StateFormatError: Written by a program of another format version.
    """
    for name, value in metadata.properties.items():
        if name.startswith(PENDING):
            yield _parse(name, value, table)


def _parse(name: str, value: str, table: str) -> ExpiryWork:
    found, _, packed = value.partition(":")
    if found != FORMAT_VERSION:
        raise StateFormatError(table, found[:20], FORMAT_VERSION)
    fields = json.loads(zlib.decompress(base64.b64decode(packed)))
    return ExpiryWork(
        name,
        tuple((int(number), str(path)) for number, path in fields["manifest_lists"]),
        tuple(
            Reached(str(path), Kind.STATISTICS, int(size), int(number))
            for path, size, number in fields["statistics"]
        ),
    )
