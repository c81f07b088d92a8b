"""Where a Debezium event stands in the order of commits, and whether it was there before.

What belongs here: positions of Debezium's events and dropping those that a restarted connector sent
again. What does not: what an event says (``debezium.py``).

Debezium's ``source.sequence`` is the end LSN of the commit before the event's transaction, and the
LSN of the event's own record. Transactions come in the order of their commits and records in their
order within one, so the pair never falls along the stream, and a connector that reads the slot
again writes the same pairs again. Several events can share one: the rows of a COPY, the delete and
the create of a changed key, the rows of an incremental snapshot's chunk. Within a pair an event is
known by its operation and key: no record does the same to one row twice.

The position made of it is (that commit LSN, record LSN * 2,048 + number in the pair). Records lie
at least 24 bytes apart, so a pair has room for 49,152 events.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carbon_pipelines.source.position import Position

_IN_PAIR = 2_048
_ROOM = 24 * _IN_PAIR
_BEFORE_ALL = Position(0, 0)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """An event's pair; ``after_commit`` is -1 where the connector had seen no commit yet."""

    after_commit: int
    record: int

    def position(self, number: int) -> Position:
        """The position of the pair's event of this number.

        Raises:
            ValueError: The pair holds more events than there is room for.
        """
        if number >= _ROOM:
            reason = f"more than {_ROOM:,} events have the LSN {self.record}"
            raise ValueError(reason)
        return Position(max(self.after_commit, 0), self.record * _IN_PAIR + number)


def place_of(source: Mapping[str, Any]) -> Place:
    """The pair of an event's ``source``.

    Raises:
        KeyError, TypeError, ValueError: It has none: this is no event of a PostgreSQL connector.
    """
    after_commit, record = json.loads(source["sequence"])
    return Place(-1 if after_commit is None else int(after_commit), int(record))


class Ordering:
    """Gives events of one topic their positions, in the order of the topic.

    Attributes:
        changed_key: The key that the newest event deleted, while its pair lasts: a create of the
            same pair is that row under its new key.
    """

    def __init__(self, after: Position) -> None:
        """Begin behind ``after``: events at or before it are known."""
        self._high = after
        self._place = Place(-1, 0)
        self._known: dict[tuple[str, str], int] = {}
        self.changed_key: Mapping[str, Any] | None = None

    def behind(self, after: Position) -> "Ordering":
        """An ordering that goes on where this one stands, with everything to ``after`` known."""
        later = Ordering(after)
        later._place, later._known, later.changed_key = self._place, self._known, self.changed_key
        return later

    @property
    def begun(self) -> bool:
        """Whether any commit was seen: an event without one then cannot be placed."""
        return self._high > _BEFORE_ALL or self._place.after_commit >= 0

    @property
    def mark(self) -> Position:
        """The newest position given, to be handed to ``go_back``."""
        return self._high

    def go_back(self, mark: Position) -> None:
        """Forget what was taken since ``mark``: it will be taken again, and is known by then."""
        self._high = mark

    def take(self, place: Place, operation: str, key: Mapping[str, Any] | None) -> Position | None:
        """The event's position, or None if it was there before.

        Args:
            place: The event's pair.
            operation: Debezium's ``op``.
            key: Its key columns, as in the message.

        Raises:
            ValueError: The pair holds more events than there is room for.
        """
        if place < self._place:
            return None
        if place > self._place:
            self._place, self._known, self.changed_key = place, {}, None
        identity = (operation, json.dumps(key, sort_keys=True))
        position = place.position(self._known.setdefault(identity, len(self._known)))
        if operation == "d":
            self.changed_key = key
        if position <= self._high:
            return None
        self._high = position
        return position
