"""Folding a batch of a table without a key to how many more or fewer of each row there are.

What belongs here: pure decisions over one batch of a table whose rows are known by all of their
values: which rows come, which go, and how many of each; and the form in which two values are the
same. What does not: finding rows in files (``bag_lookup.py``) and tables with a key (``fold.py``).

An insert is one more of its row, a delete one fewer, an update both. What a batch adds up to does
not depend on its order, so a row that comes and goes within it is not looked for. Columns that an
event has and the table has not (a DDL took them away) have no say: how often each shorter row is
there follows from how often the longer ones are.

Two values are the same if PostgreSQL writes them the same way: 0.0 and -0.0 are two values, all NaN
are one, and NULL is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.change_batch import CREATE, DELETE, READ, TRUNCATE, UPDATE, ChangeBatch
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.keys import number_keys

_BITS = {pa.float32(): pa.int32(), pa.float64(): pa.int64()}


@dataclass(frozen=True, slots=True)
class CountedRows:
    """Distinct rows, typed, and how many of each.

    ``events[i]`` is the index of the last event of the batch that names row ``i``.
    """

    rows: pa.Table
    counts: np.ndarray
    events: np.ndarray

    def __len__(self) -> int:
        """Number of distinct rows."""
        return len(self.counts)


@dataclass(frozen=True, slots=True)
class BagFold:
    """What a batch does.

    Attributes:
        added: Rows to add, equal ones as often as they are to be added, in the order of events.
        events: For each of them the index of the event in the batch that it is taken from.
        removed: Rows to remove, each so many times.
        truncated_at: Index of the last TRUNCATE, or -1; events up to it have no effect.
    """

    added: pa.Table
    events: np.ndarray
    removed: CountedRows
    truncated_at: int = -1


def fold_bag(batch: ChangeBatch, schema: pa.Schema) -> BagFold:
    """Fold ``batch`` for a table of ``schema``.

    Raises:
        UnrepresentableValueError: A value has no place in its column.
    """
    truncates = np.flatnonzero(batch.operation == TRUNCATE)
    truncated_at = int(truncates[-1]) if len(truncates) else -1
    gone, come = old_events(batch), new_events(batch)
    gone, come = gone[gone > truncated_at], come[come > truncated_at]
    old, new = _typed(batch.before, gone, schema), _typed(batch.after, come, schema)
    if not old.num_columns or not len(gone) + len(come):
        nothing = CountedRows(old.slice(0, 0), np.empty(0, np.int64), np.empty(0, np.int64))
        return BagFold(_whole(new, schema), come, nothing, truncated_at)
    both = [
        pa.concat_arrays([comparable(_chunk(old, name)), comparable(_chunk(new, name))])
        for name in old.column_names
    ]
    keys, numbers = number_keys(both)
    fewer, more = numbers[: len(gone)], numbers[len(gone) :]
    net = np.bincount(more, minlength=len(keys)) - np.bincount(fewer, minlength=len(keys))
    kept = _last_of_each(more, np.maximum(net, 0))
    last = np.full(len(keys), -1, dtype=np.int64)
    last[fewer] = np.arange(len(fewer))
    named = last[net < 0]
    removed = CountedRows(old.take(pa.array(named)), -net[net < 0], gone[named])
    return BagFold(_whole(new.filter(pa.array(kept)), schema), come[kept], removed, truncated_at)


def old_events(batch: ChangeBatch) -> np.ndarray:
    """Indexes of the events that bring an old row."""
    return np.flatnonzero(np.isin(batch.operation, (UPDATE, DELETE)))


def new_events(batch: ChangeBatch) -> np.ndarray:
    """Indexes of the events that bring a new row."""
    return np.flatnonzero(np.isin(batch.operation, (CREATE, UPDATE, READ)))


def first_of_each(numbers: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which of ``numbers`` are among the first ``wanted[number]`` of that number."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    rank = np.arange(len(numbers)) - np.searchsorted(ordered, ordered)
    chosen = np.zeros(len(numbers), dtype=bool)
    chosen[order] = rank < wanted[ordered]
    return chosen


def _last_of_each(numbers: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return first_of_each(numbers[::-1], wanted)[::-1]


def _typed(image: pa.Table, events: np.ndarray, schema: pa.Schema) -> pa.Table:
    """The rows of ``events``, of the columns that both events and table have."""
    fields = [field for field in schema if field.name in image.column_names]
    taken = image.select([field.name for field in fields]).take(pa.array(events, pa.int64()))
    arrays = [decode_column(_chunk(taken, f.name), f.type, column=f.name) for f in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _whole(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """``rows`` in the table's columns, those that events have not as NULLs."""
    arrays = [
        _chunk(rows, field.name)
        if field.name in rows.column_names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _chunk(rows: pa.Table, name: str) -> pa.Array:
    return rows.column(name).combine_chunks()


def comparable(values: pa.Array) -> pa.Array:
    """``values`` in a form in which two are equal, bit by bit, if and only if they are the same.

    Floats become their bits, lists one binary value each, anything else stays as it is stored.
    """
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    if kind in _BITS:
        canonical = pc.if_else(pc.is_nan(values), pa.scalar(float("nan"), kind), values)
        return canonical.view(_BITS[kind])
    if pa.types.is_boolean(kind):
        return values.cast(pa.int8())
    return _joined(values) if pa.types.is_list(kind) else values


def _joined(lists: pa.ListArray) -> pa.Array:
    """Each list as its elements in a row, their lengths before them; ``-`` is NULL."""
    elements = _as_bytes(comparable(lists.flatten()))
    lengths = pc.binary_length(elements).cast(pa.string()).cast(pa.binary())
    coded = pc.fill_null(pc.binary_join_element_wise(lengths, elements, b":"), b"-")
    offsets = np.zeros(len(lists) + 1, dtype=np.int32)
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    np.cumsum(counts, out=offsets[1:])
    mask = lists.is_null() if lists.null_count else None
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), coded, mask=mask), b"")


def _as_bytes(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_binary(kind):
        return values
    if pa.types.is_string(kind) or pa.types.is_fixed_size_binary(kind):
        return values.cast(pa.binary())
    if pa.types.is_temporal(kind):
        values = values.view(pa.int32() if pa.types.is_date32(kind) else pa.int64())
    return values.cast(pa.string()).cast(pa.binary())


def arrays_of(rows: pa.Table) -> Sequence[pa.Array]:
    """The columns of ``rows`` in the form of ``comparable``."""
    return [comparable(_chunk(rows, name)) for name in rows.column_names]
