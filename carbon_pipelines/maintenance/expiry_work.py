"""What an expiry has still to delete, written down before it takes the snapshots away.

What belongs here: the work file, the table property that names it, writing and finding them. What
does not: deleting (``expiry_files.py``).

The order that leaks nothing, whenever the process dies:
1. the work file is written: snapshots that go, their manifest lists, their statistics;
2. one commit takes the snapshots away and sets a property that names the work file;
3. files are deleted, the manifest lists last;
4. the work file is deleted; the next expiry's commit takes the property away.
Dead before 2, nobody refers to the work file: an orphan. Dead before 4, the next expiry finds the
property and does 3 again; what is gone already costs a look. Each expiry has a property of its own,
so two of them at the same time do not take each other's work away.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.io import FileIO
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from carbon_pipelines.errors import StateFormatError
from carbon_pipelines.maintenance.reachable import Kind, Reached, statistics_files

PENDING = "carbon.expiry."
"""Prefix of the table properties that name work files."""
FORMAT_VERSION = "1"


@dataclass(frozen=True, slots=True)
class ExpiryWork:
    """Snapshots that were taken from a table's metadata, and where their files are named.

    Attributes:
        path: Of the work file.
        lists: Snapshot id and manifest list of each.
        statistics: Of these snapshots.
    """

    path: str
    lists: tuple[tuple[int, str], ...]
    statistics: tuple[Reached, ...]

    @property
    def property_name(self) -> str:
        """The table property that names the work file."""
        return PENDING + self.path.rpartition("/")[2].removesuffix(".json")

    def to_json(self) -> bytes:
        """The work file's content."""
        fields = {
            "format_version": FORMAT_VERSION,
            "manifest_lists": self.lists,
            "statistics": [[one.path, one.size_bytes, one.snapshot_id] for one in self.statistics],
        }
        return json.dumps(fields).encode()


def plan_work(table: Table, snapshot_ids: tuple[int, ...], name: str) -> ExpiryWork:
    """The work of taking ``snapshot_ids`` away; writes nothing. ``name`` is unique."""
    metadata, going = table.metadata, set(snapshot_ids)
    directory = metadata.properties.get("write.metadata.path", f"{table.location()}/metadata")
    return ExpiryWork(
        f"{directory.rstrip('/')}/carbon-expiry-{name}.json",
        tuple(
            (one.snapshot_id, one.manifest_list)
            for one in metadata.snapshots
            if one.snapshot_id in going
        ),
        tuple(one for one in statistics_files(metadata) if one.snapshot_id in going),
    )


def write_work(io: FileIO, work: ExpiryWork) -> None:
    """Write the work file."""
    with io.new_output(work.path).create(overwrite=True) as stream:
        stream.write(work.to_json())


def pending_work(
    io: FileIO, metadata: TableMetadata, table: str
) -> Iterator[tuple[str, ExpiryWork | None]]:
    """Property names and what is left to do; ``None``: all is done, or the work file is lost.

    Raises:
        StateFormatError: Written by a program of another format version.
    """
    for name, path in metadata.properties.items():
        if name.startswith(PENDING):
            try:
                with io.new_input(path).open() as stream:
                    content = stream.read()
            except FileNotFoundError:
                yield name, None
                continue
            yield name, _parse(path, content, table)


def _parse(path: str, content: bytes, table: str) -> ExpiryWork:
    fields = json.loads(content)
    found = str(fields.get("format_version"))
    if found != FORMAT_VERSION:
        raise StateFormatError(table, found, FORMAT_VERSION)
    return ExpiryWork(
        path,
        tuple((int(number), str(name)) for number, name in fields["manifest_lists"]),
        tuple(
            Reached(str(name), Kind.STATISTICS, int(size), int(number))
            for name, size, number in fields["statistics"]
        ),
    )
