"""Folding a batch of change events to what it does to each key.

What belongs here: pure decisions over one batch: which keys it touches, which row each ends with,
and where a value that an update left unchanged (TOAST) comes from. What does not: finding rows in
files (``lookup.py``) and writing (``row_delta.py``).

The order of events is their order in the topic, which is commit order. For each key the last event
decides. Every touched key loses its old row in the lake, wherever that is, so an event that is
applied twice, or a first event that the lake has not seen, does no harm.

A value unchanged by an update is the value of the newest earlier event of the same row in the
batch; where the row's life in the batch begins with a key change, of the row it was before; else it
stands in the lake at the old key's position.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.change_batch import (
    CREATE,
    DELETE,
    TRUNCATE,
    UNCHANGED_SEPARATOR,
    ChangeBatch,
)
from carbon_pipelines.lake.extension import like, storage
from carbon_pipelines.lake.keys import KeySet, number_keys


@dataclass(frozen=True, slots=True)
class LakeFill:
    """Values that stand in the lake: upsert row -> number of the key whose old row holds them."""

    rows: np.ndarray
    keys: np.ndarray


@dataclass(frozen=True, slots=True)
class Fold:
    """What a batch does.

    Attributes:
        keys: Every key that loses its old row; ``None`` if the batch touches none.
        upserts: For each new row the index of its event in the batch, ascending.
        truncated_at: Index of the last TRUNCATE, or -1; events up to it have no effect.
        copied: Column -> (upsert rows, events to take the value from).
        filled: Column -> values to take from the lake.
    """

    keys: KeySet | None
    upserts: np.ndarray
    truncated_at: int = -1
    copied: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    filled: Mapping[str, LakeFill] = field(default_factory=dict)


def fold_batch(batch: ChangeBatch, before: Sequence[pa.Array], after: Sequence[pa.Array]) -> Fold:
    """Fold ``batch``.

    Args:
        batch: Events in topic order.
        before: Typed key columns of the ``before`` images (null where there is none).
        after: Typed key columns of the ``after`` images.
    """
    truncates = np.flatnonzero(batch.operation == TRUNCATE)
    truncated_at = int(truncates[-1]) if len(truncates) else -1
    start = truncated_at + 1
    if start == len(batch):
        return Fold(None, np.empty(0, dtype=np.int64), truncated_at)
    deletes = batch.operation[start:] == DELETE
    mask = pa.array(deletes)
    columns = [
        pc.if_else(mask, storage(b.slice(start)), storage(a.slice(start)))
        for b, a in zip(before, after, strict=True)
    ]
    columns = [like(column, a) for column, a in zip(columns, after, strict=True)]
    keys, numbers = number_keys(columns)
    last = np.full(len(keys), -1, dtype=np.int64)
    last[numbers] = np.arange(len(numbers))
    upserts = np.sort(last[~deletes[last]])
    toast = _Toast(batch.slice(start, len(batch)), numbers, deletes, before, start, keys)
    copied, filled = toast.resolve(upserts)
    return Fold(
        keys,
        upserts + start,
        truncated_at,
        {name: (rows, events + start) for name, (rows, events) in copied.items()},
        filled,
    )


def fold_inserts(batch: ChangeBatch) -> Fold:
    """A table without a key: every insert after the last TRUNCATE is a row."""
    truncates = np.flatnonzero(batch.operation == TRUNCATE)
    truncated_at = int(truncates[-1]) if len(truncates) else -1
    inserts = np.flatnonzero(batch.operation == CREATE)
    return Fold(None, inserts[inserts > truncated_at], truncated_at)


class _Toast:
    """Finds where unchanged values come from; all indexes are relative to the events given."""

    def __init__(
        self,
        batch: ChangeBatch,
        numbers: np.ndarray,
        deletes: np.ndarray,
        before: Sequence[pa.Array],
        start: int,
        keys: KeySet,
    ) -> None:
        self._batch, self._numbers, self._deletes = batch, numbers, deletes
        self._before, self._start, self._keys = before, start, keys

    def resolve(
        self, upserts: np.ndarray
    ) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, LakeFill]]:
        unchanged = self._batch.unchanged
        if unchanged.null_count == len(unchanged):
            return {}, {}
        names = {n for text in unchanged.unique().to_pylist() if text for n in _names(text)}
        copied: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        filled: dict[str, LakeFill] = {}
        for name in sorted(names):
            take, fill = self._resolve_column(name, upserts)
            if len(take[0]):
                copied[name] = take
            if len(fill.rows):
                filled[name] = fill
        return copied, filled

    def _resolve_column(
        self, name: str, upserts: np.ndarray
    ) -> tuple[tuple[np.ndarray, np.ndarray], LakeFill]:
        missing = self._missing(name)
        rows = np.flatnonzero(missing[upserts])
        events = upserts[rows]
        groups = self._numbers[events]
        newest = np.full(len(self._keys), -1, dtype=np.int64)
        present = np.flatnonzero(~missing & ~self._deletes)
        newest[self._numbers[present]] = present
        deleted = np.full(len(self._keys), -1, dtype=np.int64)
        gone = np.flatnonzero(self._deletes)
        deleted[self._numbers[gone]] = gone
        source = np.where(newest[groups] > deleted[groups], newest[groups], -1)
        origin = groups.copy()
        self._follow_key_changes(missing, events, source, origin)
        known = source >= 0
        return (rows[known], source[known]), LakeFill(rows[~known], origin[~known])

    def _missing(self, name: str) -> np.ndarray:
        missing = np.zeros(len(self._numbers), dtype=bool)
        for text in self._batch.unchanged.unique().to_pylist():
            if text and name in _names(text):
                equal = pc.fill_null(pc.equal(self._batch.unchanged, text), fill_value=False)
                missing |= equal.to_numpy(zero_copy_only=False)
        return missing

    def _follow_key_changes(
        self, missing: np.ndarray, events: np.ndarray, source: np.ndarray, origin: np.ndarray
    ) -> None:
        """Correct ``source`` and ``origin`` in place for rows that a key change began."""
        previous = self._previous_keys()
        if not previous:
            return
        chains: dict[int, list[int]] = {}
        for event, number in enumerate(self._numbers.tolist()):
            chains.setdefault(number, []).append(event)
        for index, event in enumerate(events.tolist()):
            if source[index] < 0:
                source[index], origin[index] = self._walk(event, missing, previous, chains)

    def _previous_keys(self) -> dict[int, int]:
        """Event of a key change -> number of the key that the row had before."""
        updates = ~self._deletes & (self._batch.operation != TRUNCATE)
        moved = updates & self._before[0].slice(self._start).is_valid().to_numpy(
            zero_copy_only=False
        )
        indexes = np.flatnonzero(moved)
        if not len(indexes):
            return {}
        old = [storage(c.slice(self._start)).take(pa.array(indexes)) for c in self._before]
        both = [
            pa.concat_arrays([storage(k), o]) for k, o in zip(self._keys.columns, old, strict=True)
        ]
        _, numbers = number_keys(both)
        found = numbers[len(self._keys) :]
        return {
            int(event): int(number)
            for event, number in zip(indexes, found, strict=True)
            if number < len(self._keys) and number != self._numbers[event]
        }

    def _walk(
        self,
        event: int,
        missing: np.ndarray,
        previous: Mapping[int, int],
        chains: Mapping[int, list[int]],
    ) -> tuple[int, int]:
        """Walk a row's life back to the event that holds the value, or to its key in the lake."""
        number = int(self._numbers[event])
        while True:
            if event in previous:
                number = previous[event]
                # the old key's own delete stands right before the key change: start above it
                earlier = [e for e in chains[number] if e < event]
                if earlier and self._deletes[earlier[-1]]:
                    earlier = earlier[:-1]
            else:
                earlier = [e for e in chains[number] if e < event]
            if not earlier or self._deletes[earlier[-1]]:
                return -1, number
            event = earlier[-1]
            if not missing[event]:
                return event, number


def _names(text: str) -> list[str]:
    return text.split(UNCHANGED_SEPARATOR)
