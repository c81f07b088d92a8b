"""Folding a batch of change events to the versions of rows that it makes and ends.

What belongs here: pure decisions over one batch of a table with ``mode: history``: which versions
each key goes through, from which event to which, and where a value that an update left unchanged
(TOAST) comes from. What does not: finding open versions in files and writing (``history_merge.py``)
and tables of which only the last row counts (``fold.py``).

One event at a time it is this. An insert or update of a key ends the version that is open, if one
is, and opens the next at its own position; a delete ends it; a TRUNCATE ends all. **What a
transaction makes of a row is one version**: a version that the transaction itself opened is not
ended by it but is given the newer values, and a delete takes it back. So every version was seen by
somebody, and none lasts from a commit to the same commit. A transaction whose events are in two
batches comes to the same: the open version that is in the lake then tells which commit it is from.

A key change is a delete of the old key and a version of the new one. An update that changes nothing
is a version, as it is one in PostgreSQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.change_batch import DELETE, TRUNCATE, UNCHANGED_SEPARATOR, ChangeBatch
from carbon_pipelines.lake.extension import like, storage
from carbon_pipelines.lake.fold import Fold, LakeFill
from carbon_pipelines.lake.keys import KeySet, number_keys


@dataclass(frozen=True, slots=True)
class HistoryFold:
    """What a batch does; all events are indexes into it, versions are in the order of ``values``.

    Attributes:
        values: The new versions as ``NewRows`` builds them: of each the event that it ends with.
        keys: The keys that are touched before the first TRUNCATE: what they have open ends.
        ended: For each of ``keys`` the event that ends its open version, unless that is of the
            same transaction: then it goes without a trace.
        begun: For each version the event that opens it.
        until: For each version the event that ends it, or -1 for one that stays open.
        continues: For each version the number of the key whose open version it takes the place of
            if that is of the same transaction, or -1.
        truncated_at: The first TRUNCATE, which ends every open version, or -1.
    """

    values: Fold
    keys: KeySet
    ended: np.ndarray
    begun: np.ndarray
    until: np.ndarray
    continues: np.ndarray
    truncated_at: int


def fold_history(
    batch: ChangeBatch, before: Sequence[pa.Array], after: Sequence[pa.Array]
) -> HistoryFold:
    """Fold ``batch``.

    Args:
        batch: Events in topic order.
        before: Typed key columns of the ``before`` images (null where there is none).
        after: Typed key columns of the ``after`` images.
    """
    lives = _Lives(batch, before, after)
    first, last, until = lives.versions()
    order = np.argsort(lives.event[last])
    first, last, until = first[order], last[order], until[order]
    starts = lives.is_first[first] & (lives.number[first] < lives.known)
    copied, filled = lives.unchanged(last)
    values = Fold(lives.keys, lives.event[last], -1, copied, filled)
    return HistoryFold(
        values=values,
        keys=KeySet(tuple(column.slice(0, lives.known) for column in lives.keys.columns)),
        ended=lives.event[np.flatnonzero(lives.is_first)][: lives.known],
        begun=lives.event[first],
        until=until,
        continues=np.where(starts, lives.number[first], -1),
        truncated_at=int(lives.truncates[0]) if len(lives.truncates) else -1,
    )


class _Lives:
    """The events of each key one after another; arrays have an entry an event in that order.

    A key gets another number after a TRUNCATE: nothing that was before it matters then. ``known``
    of the numbers, the lowest, are of keys touched before the first one.
    """

    def __init__(
        self, batch: ChangeBatch, before: Sequence[pa.Array], after: Sequence[pa.Array]
    ) -> None:
        self._batch = batch
        self.truncates = np.flatnonzero(batch.operation == TRUNCATE)
        events = np.flatnonzero(batch.operation != TRUNCATE)
        epoch = np.searchsorted(self.truncates, events)
        deletes = batch.operation[events] == DELETE
        old = [storage(column).take(pa.array(events)) for column in before]
        new = [storage(column).take(pa.array(events)) for column in after]
        own = [pc.if_else(pa.array(deletes), o, n) for o, n in zip(old, new, strict=True)]
        moved = np.flatnonzero(~deletes & old[0].is_valid().to_numpy(zero_copy_only=False))
        self.keys, numbers, previous = _numbered(own, old, epoch, moved, after)
        self.known = int(numbers[epoch == 0].max(initial=-1)) + 1
        order = np.argsort(numbers, kind="stable")
        self.event, self.number, self._epoch = events[order], numbers[order], epoch[order]
        self._deletes, self._lsn = deletes[order], batch.commit_lsn[events][order]
        self.is_first = np.ones(len(order), dtype=bool)
        self.is_first[1:] = self.number[1:] != self.number[:-1]
        self._after_delete = np.zeros(len(order), dtype=bool)
        self._after_delete[1:] = self._deletes[:-1]
        self._after_delete &= ~self.is_first
        self._previous = previous[order]

    def versions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each version that outlasts its transaction: first event, last, and what ends it.

        The first two are places in the arrays, the third is an event of the batch.
        """
        other_commit = np.ones(len(self.event), dtype=bool)
        other_commit[1:] = self._lsn[1:] != self._lsn[:-1]
        begins = ~self._deletes & (self.is_first | self._after_delete | other_commit)
        goes_on = np.zeros(len(self.event), dtype=bool)
        goes_on[:-1] = ~self.is_first[1:] & ~self._deletes[1:] & ~begins[1:]
        first, last = np.flatnonzero(begins), np.flatnonzero(~self._deletes & ~goes_on)
        until = self._ended_by(last)
        commit_lsn = self._batch.commit_lsn
        lasting = (until < 0) | (commit_lsn[until] != self._lsn[last])
        return first[lasting], last[lasting], until[lasting]

    def _ended_by(self, last: np.ndarray) -> np.ndarray:
        """The event that ends what the events at ``last`` leave: the key's next, or a TRUNCATE."""
        following = np.append(self.event[1:], -1)
        has_next = np.append(~self.is_first[1:], np.zeros(min(1, len(self.event)), dtype=bool))
        ending = np.append(self.truncates, -1)
        return np.where(has_next[last], following[last], ending[self._epoch[last]])

    def unchanged(
        self, last: np.ndarray
    ) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, LakeFill]]:
        """Where versions that end with the events at ``last`` have their unchanged values from."""
        texts = self._batch.unchanged.take(pa.array(self.event)).dictionary_encode()
        codes = pc.fill_null(texts.indices, -1).to_numpy(zero_copy_only=False)
        named = [text.split(UNCHANGED_SEPARATOR) for text in texts.dictionary.to_pylist()]
        copied: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        filled: dict[str, LakeFill] = {}
        for name in sorted({name for names in named for name in names if name}):
            missing = np.isin(codes, [code for code, names in enumerate(named) if name in names])
            rows = np.flatnonzero(missing[last])
            source, number = self._sources(missing, last[rows])
            known = source >= 0
            if known.any():
                copied[name] = (rows[known], self.event[source[known]])
            if not known.all():
                filled[name] = LakeFill(rows[~known], number[~known])
        return copied, filled

    def _sources(self, missing: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each place that of the event with its value, or -1 and the key that has it.

        That is the newest event of the row before it, under an earlier key if it was changed; the
        key is that of the row's open version in the lake.
        """
        index = np.arange(len(missing))
        present = np.maximum.accumulate(np.where(missing | self._deletes, -1, index))
        start = np.maximum.accumulate(np.where(self.is_first | self._after_delete, index, 0))
        source = np.where(present[places] >= start[places], present[places], -1)
        number = self.number[places].copy()
        moved = (source < 0) & (self._previous[start[places]] >= 0)
        for row in np.flatnonzero(moved).tolist():
            source[row], number[row] = self._walk(int(start[places[row]]), present, start)
        return source, number

    def _walk(self, place: int, present: np.ndarray, start: np.ndarray) -> tuple[int, int]:
        """Go back over the key changes of a row whose life under this key begins at ``place``."""
        while True:
            number, event = int(self._previous[place]), self.event[place]
            low, high = np.searchsorted(self.number, [number, number + 1]).tolist()
            place = low + int(np.searchsorted(self.event[low:high], event)) - 1
            if place >= low and self._deletes[place]:
                place -= 1  # the old key's own delete stands right before the key change
            if place < low or self._deletes[place]:
                return -1, number
            if present[place] >= start[place]:
                return int(present[place]), number
            place = int(start[place])
            if self._previous[place] < 0:
                return -1, number


def _numbered(
    own: Sequence[pa.Array],
    old: Sequence[pa.Array],
    epoch: np.ndarray,
    moved: np.ndarray,
    after: Sequence[pa.Array],
) -> tuple[KeySet, np.ndarray, np.ndarray]:
    """The distinct keys, the number of each event's, and that of the key it had before, or -1."""
    at = pa.array(moved, pa.int64())
    both = [pa.concat_arrays([o, b.take(at)]) for o, b in zip(own, old, strict=True)]
    keys, numbers = number_keys([pa.array(np.append(epoch, epoch[moved])), *both])
    mine, theirs = numbers[: len(epoch)], numbers[len(epoch) :]
    previous = np.full(len(epoch), -1, dtype=np.int64)
    changed = (theirs != mine[moved]) & (theirs <= mine.max(initial=-1))
    previous[moved[changed]] = theirs[changed]
    columns = zip(keys.columns[1:], after, strict=True)
    return KeySet(tuple(like(column, model) for column, model in columns)), mine, previous
