"""A table's progress, as its snapshots carry it.

What belongs here: reading and writing the ``carbon.*`` summary properties. The truth about progress
is the snapshot summary, never a consumer group; every commit of ours carries all of it. A snapshot
of another engine does not, so ancestors are searched. What does not: deciding what to do next.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Snapshot, ancestors_of

from carbon_pipelines.errors import StateFormatError, StateMissingError
from carbon_pipelines.source.position import Position, format_lsn, parse_lsn
from carbon_pipelines.source.visibility import Visibility

FORMAT_VERSION = "1"
"""Version of the ``carbon.*`` properties that this program writes and reads."""
CREATED = "carbon.created"
"""Marks the empty snapshot that a new table begins with: nothing was copied yet."""

DEAD_LETTERS = "carbon.dead_letters"
"""How many events the snapshot lacks."""
DEAD_LETTER_OFFSETS = "carbon.dead_letter_offsets"
"""Which, as a JSON list of offsets; both are there only if there are any."""


@dataclass(frozen=True, slots=True)
class CopyEdge:
    """The edge between first copy and stream.

    An event is in the copy already, and skipped, if its commit LSN is at most ``through_lsn`` and
    its transaction is visible to ``visibility``.
    """

    visibility: Visibility
    through_lsn: int


@dataclass(frozen=True, slots=True)
class TableProgress:
    """How far a table has come.

    Attributes:
        position: Commit LSN and ordinal of the last event applied or skipped.
        next_offset: Kafka offset to read from next (partition 0), a read_committed position.
        schema_version: Newest source schema version that the table's schema follows.
        relation_oid: The source table's oid.
        ddl_offset: Offset of the DDL topic up to which the history was considered.
        edge: Until the stream has passed the first copy; then ``None``.
        generation: Of the events that may be merged: those of the next one lie behind a gap.
        dead_letters: Offsets of the topic before ``next_offset`` whose events the table lacks and
            that still matter, ascending (``dead_letters.py``).
    """

    position: Position
    next_offset: int
    schema_version: int
    cluster_id: str
    topic_id: str
    system_identifier: str
    timeline: int
    relation_oid: int
    ddl_offset: int = 0
    edge: CopyEdge | None = None
    generation: int = 0
    dead_letters: tuple[int, ...] = ()

    def moved_to(
        self, position: Position, next_offset: int, schema_version: int, ddl_offset: int
    ) -> "TableProgress":
        """The progress after a batch; the edge is dropped once the position is past it."""
        edge = self.edge
        if edge is not None and position.commit_lsn > edge.through_lsn:
            edge = None
        return replace(
            self,
            position=position,
            next_offset=next_offset,
            schema_version=schema_version,
            ddl_offset=ddl_offset,
            edge=edge,
        )

    def to_properties(self) -> dict[str, str]:
        """The summary properties of a snapshot that stands at this progress."""
        properties = {
            "carbon.format_version": FORMAT_VERSION,
            "carbon.position": str(self.position),
            "carbon.offsets": json.dumps({"0": self.next_offset}),
            "carbon.schema_version": str(self.schema_version),
            "carbon.cluster_id": self.cluster_id,
            "carbon.topic_id": self.topic_id,
            "carbon.system_identifier": self.system_identifier,
            "carbon.timeline": str(self.timeline),
            "carbon.relation_oid": str(self.relation_oid),
            "carbon.ddl_offset": str(self.ddl_offset),
            "carbon.generation": str(self.generation),
        }
        if self.edge is not None:
            properties["carbon.copy_visibility"] = str(self.edge.visibility)
            properties["carbon.copy_through"] = format_lsn(self.edge.through_lsn)
        if self.dead_letters:
            properties[DEAD_LETTERS] = str(len(self.dead_letters))
            properties[DEAD_LETTER_OFFSETS] = json.dumps(self.dead_letters)
        return properties


def read_progress(properties: Mapping[str, str], table: str) -> TableProgress:
    """The progress that a snapshot's summary carries.

    Raises:
        StateFormatError: Written by another format version.
    """
    found = properties["carbon.format_version"]
    if found != FORMAT_VERSION:
        raise StateFormatError(table, found, FORMAT_VERSION)
    edge = None
    if "carbon.copy_visibility" in properties:
        edge = CopyEdge(
            Visibility.parse(properties["carbon.copy_visibility"]),
            parse_lsn(properties["carbon.copy_through"]),
        )
    return TableProgress(
        position=Position.parse(properties["carbon.position"]),
        next_offset=int(json.loads(properties["carbon.offsets"])["0"]),
        schema_version=int(properties["carbon.schema_version"]),
        cluster_id=properties["carbon.cluster_id"],
        topic_id=properties["carbon.topic_id"],
        system_identifier=properties["carbon.system_identifier"],
        timeline=int(properties["carbon.timeline"]),
        relation_oid=int(properties["carbon.relation_oid"]),
        ddl_offset=int(properties["carbon.ddl_offset"]),
        edge=edge,
        generation=int(properties.get("carbon.generation", "0")),
        dead_letters=tuple(json.loads(properties.get(DEAD_LETTER_OFFSETS, "[]"))),
    )


def load_progress(
    metadata: TableMetadata, table: str, branch: str = MAIN_BRANCH
) -> TableProgress | None:
    """The newest progress on ``branch``, or ``None`` if nothing was copied to it yet.

    Raises:
        StateMissingError: There are snapshots, but none carries our progress.
    """
    head = metadata.snapshot_by_name(branch)
    if head is None:
        return None
    carrier = find_carrier(metadata, head)
    if carrier is None or carrier.summary is None:
        raise StateMissingError(table)
    properties = carrier.summary.additional_properties
    return None if CREATED in properties else read_progress(properties, table)


def find_carrier(metadata: TableMetadata, head: Snapshot) -> Snapshot | None:
    """The newest of ``head`` and its ancestors that carries our progress."""
    for snapshot in ancestors_of(head, metadata):
        if snapshot.summary and "carbon.position" in snapshot.summary.additional_properties:
            return snapshot
    return None


def created_properties() -> dict[str, str]:
    """The summary properties of a new table's first, empty snapshot."""
    return {
        "carbon.format_version": FORMAT_VERSION,
        "carbon.position": str(Position(0, 0)),
        CREATED: "true",
    }
