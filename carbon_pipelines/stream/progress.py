"""How far Kafka holds a database, as capture says so in the progress topic.

What belongs here: the progress record and reading the newest one. What does not: when one is
written (``capture.py``) and whether it may be gone on from (``resume.py``).

A record is written in the same Kafka transaction as the events up to its position, so that one is
never there without the other. It also carries what makes positions comparable: which database they
are from and with which options the slot was read, and where changes are missing: a slot that lost
changes is followed by another one, whose events are of the next generation.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import ProgressFormatError, TopicMissingError
from carbon_pipelines.source.connection import load_identity, session
from carbon_pipelines.source.position import Position, format_lsn, parse_lsn
from carbon_pipelines.source.slot import observe_slot
from carbon_pipelines.stream.consumer import read_batches
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import TopicState, ddl_topic, progress_topic

FORMAT_VERSION = 1
NOTHING = Position(0, 0)
"""Before every position."""

GAPS_KEPT = 20
"""Newest gaps that a record names; the number of the newest one never starts again."""

_LOOK_BACK_OFFSETS = 128


@dataclass(frozen=True, slots=True)
class Gap:
    """A place in the topics of a database where changes are missing for good.

    Attributes:
        generation: Number of the events behind it, whose ``source.generation`` it is.
        after: Position of the last event before it.
        captured_lsn: Everything whose commit record lies before this LSN is in the topics.
        resumes_lsn: So is everything whose commit record lies at it or behind it.
        reason: What became of the slot.
        healed_at: When capture went on behind it, in epoch seconds.
    """

    generation: int
    after: Position
    captured_lsn: int
    resumes_lsn: int
    reason: str
    healed_at: float

    def encode(self) -> dict[str, Any]:
        """Its part of a progress record."""
        return {
            "generation": self.generation,
            "after": str(self.after),
            "captured": format_lsn(self.captured_lsn),
            "resumes": format_lsn(self.resumes_lsn),
            "reason": self.reason,
            "healed_at": self.healed_at,
        }

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``encode`` wrote."""
        return cls(
            generation=document["generation"],
            after=Position.parse(document["after"]),
            captured_lsn=parse_lsn(document["captured"]),
            resumes_lsn=parse_lsn(document["resumes"]),
            reason=document["reason"],
            healed_at=document["healed_at"],
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """What Kafka holds of a database, and of which.

    Attributes:
        position: The newest event; ``NOTHING`` before the first.
        end_lsn: Everything whose commit record lies before it is in Kafka.
        system_identifier: Of the cluster the positions are from.
        timeline: Of that cluster when this was written.
        database_oid: Of the database in it.
        options: Options of START_REPLICATION, ``publication_names`` among them.
        ddl_topic_id: Of the topic that holds the schema versions events refer to.
        gaps: The newest places where changes are missing, oldest first.
    """

    position: Position
    end_lsn: int
    system_identifier: str
    timeline: int
    database_oid: int
    options: Mapping[str, str]
    ddl_topic_id: str
    gaps: tuple[Gap, ...] = ()

    @property
    def generation(self) -> int:
        """Number of the newest gap; 0 while nothing is missing.

        Only a table of the same generation may merge the events that this progress covers.
        """
        return self.gaps[-1].generation if self.gaps else 0

    @property
    def commit_lsn(self) -> int:
        """Kafka holds every transaction whose commit record lies before this LSN.

        Those since the newest gap, if there is one.
        """
        return max(self.position.commit_lsn, self.end_lsn)

    def encode(self) -> bytes:
        """The record's value."""
        document = {
            "format_version": FORMAT_VERSION,
            "position": str(self.position),
            "end_lsn": format_lsn(self.end_lsn),
            "system_identifier": self.system_identifier,
            "timeline": self.timeline,
            "database_oid": self.database_oid,
            "options": dict(self.options),
            "ddl_topic_id": self.ddl_topic_id,
            "gaps": [gap.encode() for gap in self.gaps],
        }
        return json.dumps(document).encode()

    @classmethod
    def decode(cls, topic: str, value: bytes) -> Self:
        """Read what ``encode`` wrote.

        Raises:
            ProgressFormatError: The record is of another format version, or no record of ours.
        """
        try:
            document: dict[str, Any] = json.loads(value)
            if document["format_version"] != FORMAT_VERSION:
                raise ProgressFormatError(topic, f"format version {document['format_version']}")
            return cls(
                position=Position.parse(document["position"]),
                end_lsn=parse_lsn(document["end_lsn"]),
                system_identifier=document["system_identifier"],
                timeline=document["timeline"],
                database_oid=document["database_oid"],
                options=document["options"],
                ddl_topic_id=document["ddl_topic_id"],
                gaps=tuple(Gap.decode(gap) for gap in document.get("gaps", ())),
            )
        except (KeyError, TypeError, ValueError) as broken:
            shown = value[:100].decode("utf-8", "replace")
            raise ProgressFormatError(topic, f"no progress record ({shown})") from broken


def load_progress(endpoints: Endpoints, database: DatabaseSpec) -> Progress | None:
    """The newest committed progress; None if nothing was captured yet.

    A Debezium connector leaves none in Kafka: it is made from what the connector acknowledged, and
    its position is before every event, because offsets and positions of events say the rest.

    Raises:
        ProgressFormatError: It was written by another format version.
        StreamUnavailableError: Kafka does not answer (retryable).
    """
    if database.connector is not None:
        return _acknowledged(endpoints, database)
    return load_newest_progress(endpoints.stream_bootstrap, database.name)


def load_newest_progress(bootstrap: str, database: str) -> Progress | None:
    """As ``load_progress``, given Kafka's address and the logical name of the database."""
    topic = progress_topic(database)
    try:
        state = load_topic_state(bootstrap, topic)
    except TopicMissingError:
        return None
    newest = _newest_value(bootstrap, state)
    return None if newest is None else Progress.decode(topic, newest)


def _acknowledged(endpoints: Endpoints, database: DatabaseSpec) -> Progress | None:
    """What a connector has told PostgreSQL to be in Kafka, acknowledged by Kafka."""
    try:
        ddl_topic_id = load_topic_state(
            endpoints.stream_bootstrap, ddl_topic(database.name)
        ).topic_id
    except TopicMissingError:
        return None
    with session(endpoints.source_dsn(database.name)) as connection:
        slot = observe_slot(connection, database.slot_name)
        identity = load_identity(connection)
    if slot is None:
        return None
    return Progress(
        position=NOTHING,
        end_lsn=slot.confirmed_flush_lsn,
        system_identifier=identity.system_identifier,
        timeline=identity.timeline,
        database_oid=identity.database_oid,
        options={},
        ddl_topic_id=ddl_topic_id,
    )


def _newest_value(bootstrap: str, state: TopicState) -> bytes | None:
    """The last record of a topic, looking back further and further: the rest is of no interest."""
    look_back = _LOOK_BACK_OFFSETS
    while True:
        start = max(state.low, state.high - look_back)
        newest: bytes | None = None
        for batch in read_batches(bootstrap, state.topic, start, state.high):
            newest = batch.values[-1] if batch.values else newest
        if newest is not None or start == state.low:
            return newest
        look_back *= 16
