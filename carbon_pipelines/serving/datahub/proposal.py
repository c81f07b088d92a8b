"""One thing that is told to DataHub: an aspect of an entity, and its form on the wire.

What belongs here: the value, how it is written, and how the values of two sides are compared. What
does not: what aspects say (``datasets.py`` and its neighbours).

The same value is always the same bytes. A field without a value is left out, as DataHub does.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Aspect = Mapping[str, Any]

Sharing = Literal["ours", "merged", "seeded", "event"]
"""Who else writes an aspect. ``ours``: nobody. ``merged``: people add to it in DataHub, and what
they added stays. ``seeded``: it is theirs as soon as it is there. ``event``: it is added to a
series, of which each has a time."""
TIME = "timestampMillis"
"""The field of an event's time, milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """An aspect as it should be.

    Attributes:
        series: Of an event: what it is told together with. DataHub knows all of a series up to a
            time if it knows the closing event of that time.
        closes: Whether it is that closing event, which is told last.
    """

    entity: str
    urn: str
    aspect: str
    value: Aspect
    sharing: Sharing = "ours"
    series: str = ""
    closes: bool = False

    @property
    def text(self) -> str:
        """The aspect as JSON, its fields in order."""
        return written(self.value)

    def to_wire(self) -> dict[str, Any]:
        """A ``MetadataChangeProposal`` as Rest.li takes it."""
        return {
            "entityType": self.entity,
            "entityUrn": self.urn,
            "changeType": "UPSERT",
            "aspectName": self.aspect,
            "aspect": {"value": self.text, "contentType": "application/json"},
        }


def written(value: object) -> str:
    """A value as JSON: always the same bytes, ASCII alone, without fields that are null."""
    return json.dumps(without_nulls(value), sort_keys=True, separators=(",", ":"))


def without_nulls(value: Any) -> Any:
    """The same without fields that are null."""
    if isinstance(value, Mapping):
        return {str(k): without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(one) for one in value]
    return value
