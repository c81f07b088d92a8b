"""The rows whose events a table lacks, and what later events of them mean.

What belongs here: knowing the row of a dead letter, and going through a batch for events that rest
on one or that make one irrelevant. What does not: values that cannot be held (``judge.py``).

An event that carries its whole row decides it, whatever was before: a dead letter of that row has
no say any more. So does a delete, and a TRUNCATE for every row. But an update that leaves a value
unchanged (TOAST) takes it from what was before, and the lake's row is older than the dead letter:
such an update rests on the dead letter and becomes one. So does the delete right before an update
that changes the key and rests on one: the two move a row whose values the lake has yet to get.

As long as an update that changes the key and takes values from the row it left is a dead letter,
that row is the only place that has these values. It stands as it is: whatever comes for its old
key becomes a dead letter too.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from carbon_pipelines.errors import (
    PriorDeadLetterError,
    RowNeededError,
    UnrepresentableValueError,
)
from carbon_pipelines.lake.change_batch import (
    DELETE,
    TRUNCATE,
    UNCHANGED_SEPARATOR,
    ChangeBatch,
)
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.keys import KeyMatcher, KeySet, number_keys

Key = Sequence[pa.Array]
"""One key: an array of one typed value for each key column."""


@dataclass(frozen=True, slots=True)
class TypedKeys:
    """Key columns of a batch, typed as the lake's; empty for a table without a key."""

    before: Sequence[pa.Array]
    after: Sequence[pa.Array]

    def filter(self, keep: np.ndarray) -> "TypedKeys":
        """Those of the events where ``keep`` is true."""
        mask = pa.array(keep)
        return TypedKeys(
            [a.filter(mask) for a in self.before], [a.filter(mask) for a in self.after]
        )

    def of(self, index: int, *, deleted: bool) -> Key:
        """The key of the row that one event is about."""
        return [a.slice(index, 1) for a in (self.before if deleted else self.after)]


@dataclass(frozen=True, slots=True)
class Lacking:
    """Dead letters of a table: their offsets and, where it is known, the key of the row of each.

    ``needed_by`` has, for a delete whose row another dead letter takes values from, the offset of
    that one.
    """

    rows: Mapping[int, Key | None] = field(default_factory=dict[int, "Key | None"])
    needed_by: Mapping[int, int] = field(default_factory=dict[int, int])

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.rows)

    def plus(
        self, more: Mapping[int, Key | None], needed_by: Mapping[int, int] | None = None
    ) -> "Lacking":
        """With ``more`` dead letters."""
        return Lacking({**self.rows, **more}, {**self.needed_by, **(needed_by or {})})

    def without(self, offsets: Iterable[int]) -> "Lacking":
        """Without those at ``offsets``."""
        gone = set(offsets)
        return Lacking({o: key for o, key in self.rows.items() if o not in gone}, self.needed_by)


@dataclass(frozen=True, slots=True)
class Followed:
    """What a batch means for dead letters: index -> why it is one, and offsets of those outdone."""

    resting: Mapping[int, PriorDeadLetterError]
    superseded: frozenset[int]


def key_of_message(
    key: bytes | None, value: bytes | None, columns: Mapping[str, pa.DataType]
) -> Key | None:
    """The key of the row that a message is about, or None if neither part of it says.

    Args:
        key: The message's key: a JSON object of the key columns, if capture wrote it.
        value: The message's value, if it can be read at all.
        columns: The key columns with the lake's types; empty for a table without a key.
    """
    if not columns:
        return None
    envelope, named = json_object(value), json_object(key)
    if len(named) == len(columns) and not named.keys() & columns.keys():
        named = dict(zip(columns, named.values(), strict=True))  # as it was before a rename
    for image in (named, envelope.get("after"), envelope.get("before")):
        if isinstance(image, dict) and all(image.get(name) is not None for name in columns):
            try:
                return [
                    decode_column(pa.array([image[name]]), kind, column=name)
                    for name, kind in columns.items()
                ]
            except (UnrepresentableValueError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
                return None  # such a key is in no row of the lake
    return None


def needed_by(values: Mapping[int, bytes | None]) -> dict[int, int]:
    """Offset of a delete -> that of the change after it that takes values from the deleted row.

    Args:
        values: The values of dead letters by offset. One that does not say what it is, as a row
            that a connector moved, is taken for one that needs the row.
    """
    found: dict[int, int] = {}
    deleted: tuple[int, Any] | None = None
    for offset, value in sorted(values.items()):
        envelope = json_object(value)
        envelope = envelope.get("payload", envelope)
        if envelope.get("op") == "d":
            deleted = offset, envelope.get("before")
            continue
        if deleted is not None and envelope.get("op") in ("c", "u"):
            before, source = envelope.get("before"), envelope.get("source") or {}
            if before is None or (before == deleted[1] and "unchanged" in source):
                found[deleted[0]] = offset
        deleted = None
    return found


def json_object(text: bytes | None) -> dict[str, Any]:
    """The JSON object that ``text`` is, empty if it is anything else."""
    try:
        found = json.loads(text or b"null")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def follow(batch: ChangeBatch, keys: TypedKeys, lacking: Lacking, label: str) -> Followed:
    """Go through ``batch``, whose events come after the dead letters or between them."""
    truncates = np.flatnonzero(batch.operation == TRUNCATE)
    start = int(truncates[-1]) + 1 if len(truncates) else 0
    emptied_at = int(batch.offset[start - 1]) if start else -1
    superseded = {offset for offset in lacking.rows if offset < emptied_at}
    known = {o: k for o, k in lacking.rows.items() if k is not None and o > emptied_at}
    if not known or not keys.after or start == len(batch):
        return Followed({}, frozenset(superseded))
    resting: dict[int, PriorDeadLetterError] = {}
    needed_by = {o: by for o, by in lacking.needed_by.items() if by in known}
    offsets = list(known)
    distinct, numbers = number_keys(
        [pa.concat_arrays([known[o][c] for o in offsets]) for c in range(len(keys.after))]
    )
    waiting: dict[int, set[int]] = {}
    for offset, number in zip(offsets, numbers.tolist(), strict=True):
        waiting.setdefault(number, set()).add(offset)
    for index, number in _hits(batch, keys, distinct, start):
        offset = int(batch.offset[index])
        earlier = {o for o in waiting[number] if o < offset}
        if not earlier or index in resting:
            continue
        deleted = batch.operation[index] == DELETE
        rests_at = index
        if deleted and moved_by(batch, keys, index + 1):
            rests_at = index + 1
        unchanged = batch.unchanged[rests_at].as_py() if rests_at > index or not deleted else None
        needing = {needed_by[o] for o in earlier if o in needed_by} - superseded
        if needing:
            error = RowNeededError(label, max(needing))
            resting.update(dict.fromkeys({index, rests_at}, error))
            waiting[number].add(offset)
        elif unchanged:
            columns = unchanged.replace(UNCHANGED_SEPARATOR, ", ")
            error = PriorDeadLetterError(label, columns, max(earlier))
            resting.update(dict.fromkeys({index, rests_at}, error))
            waiting[number].add(offset)
        else:
            superseded |= earlier
            waiting[number] -= earlier
    return Followed(resting, frozenset(superseded))


def _hits(
    batch: ChangeBatch, keys: TypedKeys, wanted: KeySet, start: int
) -> Iterable[tuple[int, int]]:
    """(index, number of its key in ``wanted``) of every event of one of those rows, in order."""
    matcher = KeyMatcher(wanted)
    deletes = batch.operation == DELETE
    numbers = np.where(deletes, matcher.match(keys.before), matcher.match(keys.after))
    numbers[batch.operation == TRUNCATE] = -1
    indexes = np.flatnonzero(numbers >= 0)
    return [(int(i), int(numbers[i])) for i in indexes if i >= start]


def moved_by(batch: ChangeBatch, keys: TypedKeys, index: int) -> bool:
    """Whether event ``index`` gives the row that the event before it deletes another key."""
    if not 0 < index < len(batch) or not keys.before:
        return False
    if batch.operation[index] == DELETE or batch.operation[index - 1] != DELETE:
        return False
    return all(
        column[index].is_valid and column[index].as_py() == column[index - 1].as_py()
        for column in keys.before
    )
