"""What a table's readers have come to, written on the table itself.

What belongs here: the properties ``carbon.built`` of a mart and ``carbon.visible.<system>`` of a
mart or certified table, read and written as values, and where in their source snapshots stand. What
does not: who builds and who looks (``mart``, ``serving``), and what follows from it
(``serving/freshness.py``).

Why properties: the rows of two builds may be the same, so that there is no snapshot to tell when
the second one was; and what a service was seen to show belongs to the table that it shows. A record
is written when what is shown has changed, never because somebody looked again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import SetPropertiesUpdate

from carbon_pipelines.errors import StateFormatError, TableNotCopiedError
from carbon_pipelines.lake.commit import commit_updates
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.staging import beside_others
from carbon_pipelines.lake.state import CREATED, find_carrier, read_progress

BUILT = "carbon.built"
"""Table property of a mart: its newest build."""
VISIBLE = "carbon.visible."
"""Table property, with a system's name behind it: what that was seen to show."""
FORMAT_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its source a table snapshot stands; events before ``next_offset`` are in it."""

    snapshot_id: int
    position: str
    next_offset: int


@dataclass(frozen=True, slots=True)
class Reached:
    """What was shown or built of which table snapshots.

    Attributes:
        snapshot_id: Of the table that bears the record.
        at: When that was first so, UTC.
        sources: Of each table (``database/table``) the place that is in it.
        proof: What a system was seen by, in its own words.
    """

    snapshot_id: int
    at: datetime
    sources: Mapping[str, Place]
    proof: Mapping[str, str] = field(default_factory=dict[str, str])

    def same_as(self, other: "Reached | None") -> bool:
        """Whether the other one is of the same content and proof, whenever that was."""
        return other is not None and replace(other, at=self.at) == self

    def encode(self) -> str:
        """As the property's text."""
        sources = {
            name: [place.snapshot_id, place.position, place.next_offset]
            for name, place in sorted(self.sources.items())
        }
        at = self.at.astimezone(UTC).isoformat()
        told: dict[str, Any] = {"snapshot_id": self.snapshot_id, "at": at, "sources": sources}
        if self.proof:
            told["proof"] = dict(self.proof)
        return json.dumps({"format_version": FORMAT_VERSION, **told})


def read_reached(metadata: TableMetadata, name: str, label: str) -> Reached | None:
    """A record of a table; None if there is none.

    Raises:
        StateFormatError: Written by a program of another format version.
    """
    text = metadata.properties.get(name)
    if text is None:
        return None
    told: dict[str, Any] = json.loads(text)
    found = str(told.get("format_version", "none"))
    if found != FORMAT_VERSION:
        raise StateFormatError(label, found, FORMAT_VERSION)
    sources = {name: Place(*place) for name, place in told["sources"].items()}
    at, proof = datetime.fromisoformat(told["at"]), told.get("proof", {})
    return Reached(told["snapshot_id"], at, sources, proof)


def place_of(metadata: TableMetadata, snapshot_id: int, label: str) -> Place | None:
    """Where a snapshot of a table of ours stands; None if it is gone, or tells nothing.

    Raises:
        StateFormatError: Written by a program of another format version.
    """
    snapshot = metadata.snapshot_by_id(snapshot_id)
    carrier = find_carrier(metadata, snapshot) if snapshot is not None else None
    if carrier is None or carrier.summary is None:
        return None
    properties = carrier.summary.additional_properties
    if CREATED in properties:
        return None
    progress = read_progress(properties, label)
    return Place(snapshot_id, str(progress.position), progress.next_offset)


def record_reached(
    catalog: Catalog, identifier: tuple[str, str], name: str, reached: Reached
) -> Reached:
    """Write a record, unless the table bears one of the same content; the record that it bears.

    Raises:
        TableNotCopiedError: There is no such table.
        CommitConflictError: Others committed first again and again (retryable).
    """
    label = "/".join(identifier)

    def attempt(table: Table) -> Reached:
        known = read_reached(table.metadata, name, label)
        if known is not None and reached.same_as(known):
            return known
        updates = (SetPropertiesUpdate(updates={name: reached.encode()}),)
        commit_updates(table, (updates, ()))
        return reached

    with lake_errors(f"Iceberg table {label}"):
        table = load_table(catalog, identifier)
        if table is None:
            raise TableNotCopiedError(label)
        return beside_others(catalog, table, attempt)
