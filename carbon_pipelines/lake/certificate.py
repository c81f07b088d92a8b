"""What is written beside the branch ``certified``: which snapshot readers see, and why.

What belongs here: the properties ``carbon.certified`` and ``carbon.certified-history``, read and
written as values, and what follows from them alone. What does not: moving the branch
(``certified.py``).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from carbon_pipelines.errors import StateFormatError

CERTIFIED = "certified"
"""The branch that audited readers see."""
PROPERTY = "carbon.certified"
"""Table property: what is known of the snapshot that the branch is at, as JSON."""
HISTORY = "carbon.certified-history"
"""Table property: where the branch was before, newest last, as a JSON list."""
KEPT_MOVES = 20
"""Moves that the history keeps."""
FORMAT_VERSION = "1"
"""Version of both properties."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Why readers see a table snapshot.

    Attributes:
        position: Where in the source the snapshot stands.
        rows: Of it.
        score: 0 to 100.
        verified_position: The newest position of the source that it was compared at and equal.
        verified_at: When the source was as it was compared, UTC.
        full_at: When all rows were compared, UTC; later than that, the changed ones were.
        certified_at: When the branch came to the snapshot, UTC.
        by: Who moved it.
        reason: Of somebody who set it back.
        held: It was set back, and stays until somebody lets it go on.
    """

    snapshot_id: int
    position: str
    rows: int
    score: float
    verified_position: str
    verified_at: datetime
    full_at: datetime
    certified_at: datetime
    by: str
    reason: str | None = None
    held: bool = False

    def to_fields(self) -> dict[str, Any]:
        """As plain values."""
        moments = {
            name: value.astimezone(UTC).isoformat()
            for name, value in asdict(self).items()
            if isinstance(value, datetime)
        }
        return {"format_version": FORMAT_VERSION, **asdict(self), **moments}

    def sentence(self) -> str:
        """What readers see, as one line."""
        told = (
            f"table snapshot {self.snapshot_id}, {self.rows:,} rows, score {self.score:.1f}, proven"
            f" equal at {self.verified_position} ({shown_time(self.verified_at)})"
        )
        if self.reason is None:
            return told
        held = "held" if self.held else "set"
        return f"{told}; {held} by {self.by} since {shown_time(self.certified_at)}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where ``certified`` is.

    ``certificate`` is None if nobody of ours put it there: the branch was made or moved by hand.
    """

    snapshot_id: int
    certificate: Certificate | None

    @property
    def held(self) -> bool:
        """Whether somebody set it back and it has to stay."""
        return self.certificate is not None and self.certificate.held


def shown_standing(standing: Standing | None) -> str:
    """What readers of a table see, as part of a sentence."""
    if standing is None:
        return "readers of certified see nothing"
    if standing.certificate is None:
        return f"readers see table snapshot {standing.snapshot_id}, of which nothing is written"
    return f"readers see {standing.certificate.sentence()}"


def shown_time(moment: datetime) -> str:
    """A time as people read it."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def find_certified(metadata: TableMetadata, label: str) -> Standing | None:
    """Where the branch is; None for a table that was never certified.

    Raises:
        StateFormatError: Written by a program of another format version.
    """
    ref = metadata.refs.get(CERTIFIED)
    if ref is None:
        return None
    text = metadata.properties.get(PROPERTY)
    certificate = _parse(json.loads(text), label) if text is not None else None
    if certificate is not None and certificate.snapshot_id != ref.snapshot_id:
        certificate = None
    return Standing(ref.snapshot_id, certificate)


def past_certificates(metadata: TableMetadata, label: str) -> tuple[Certificate, ...]:
    """Where the branch was before and could be set back to, newest first."""
    text = metadata.properties.get(HISTORY, "[]")
    told = [_parse(fields, label) for fields in reversed(json.loads(text))]
    found = [one for one in told if metadata.snapshot_by_id(one.snapshot_id) is not None]
    latest = {one.snapshot_id: one for one in reversed(found)}
    return tuple(one for one in found if latest[one.snapshot_id] is one)


def is_ahead(metadata: TableMetadata, snapshot_id: int, standing: Standing | None) -> bool:
    """Whether the snapshot came later than the one that readers see."""
    if standing is None:
        return True
    there, here = (metadata.snapshot_by_id(i) for i in (snapshot_id, standing.snapshot_id))
    return _number(there) > _number(here)


def with_history(metadata: TableMetadata, label: str, certificate: Certificate) -> dict[str, str]:
    """The properties after ``certificate`` was given: the one before it joins the history.

    One that was only renewed does not.
    """
    standing = find_certified(metadata, label)
    before = standing.certificate if standing is not None else None
    properties = {PROPERTY: json.dumps(certificate.to_fields())}
    if before is not None and (
        before.snapshot_id != certificate.snapshot_id or before.held != certificate.held
    ):
        history = json.loads(metadata.properties.get(HISTORY, "[]"))
        properties[HISTORY] = json.dumps([*history, before.to_fields()][-KEPT_MOVES:])
    return properties


def at_other_snapshot(metadata: TableMetadata, snapshot_id: int) -> dict[str, str]:
    """The properties after upkeep alone moved the branch: what is known holds there too."""
    text = metadata.properties.get(PROPERTY)
    if text is None:
        return {}
    return {PROPERTY: json.dumps({**json.loads(text), "snapshot_id": snapshot_id})}


def without_reasons(properties: Mapping[str, str], blank: str) -> dict[str, str]:
    """The properties with ``blank`` in place of what people wrote, which may quote a row."""
    found: dict[str, str] = {}
    for name in (PROPERTY, HISTORY):
        if name in properties:
            told = json.loads(properties[name])
            for one in told if isinstance(told, list) else [told]:
                if one.get("reason") is not None:
                    one["reason"] = blank
            found[name] = json.dumps(told)
    return found


def resumed(certificate: Certificate, *, by: str, reason: str) -> Certificate:
    """The same, free to go on."""
    return replace(certificate, held=False, by=by, reason=reason)


def _number(snapshot: Snapshot | None) -> int:
    return (snapshot.sequence_number or 0) if snapshot is not None else 0


def _parse(fields: Mapping[str, Any], label: str) -> Certificate:
    found = str(fields.get("format_version", "none"))
    if found != FORMAT_VERSION:
        raise StateFormatError(label, found, FORMAT_VERSION)
    told = {name: value for name, value in fields.items() if name != "format_version"}
    for name in ("verified_at", "full_at", "certified_at"):
        told[name] = datetime.fromisoformat(told[name])
    return Certificate(**told)
