"""Sorting more rows than memory holds.

What belongs here: a declared sort order as keys that Arrow sorts by, and sorting by them with runs
on local disk. What does not: where rows come from and go to (``rewrite.py``).

Rows are sorted a run at a time; the runs lie on disk in batches, of which the keys of the last rows
are kept. In the order of these keys the batches that can hold the next rows are known without a
look into the others: they are read, sorted together, and given out up to a key that no batch still
unread can lie under. Nothing but the rows of about two such portions is in memory. Equal rows come
in any order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortOrder
from pyiceberg.transforms import IdentityTransform

from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.extension import storage

RUN_BYTES = 32 * 1024 * 1024
"""Rows that are sorted at once."""
BATCH_BYTES = 256 * 1024
"""About what is read of a run at once."""
PORTION_BATCHES = 64
"""Batches that are sorted together, at least; and at least one of each run."""


@dataclass(frozen=True, slots=True)
class SortKey:
    """One column to sort by."""

    column: str
    descending: bool
    nulls_first: bool


def sort_keys(order: SortOrder, schema: Schema) -> tuple[SortKey, ...]:
    """The columns of ``order``; none if it is not one of plain columns of ``schema``."""
    keys: list[SortKey] = []
    for field in order.fields:
        name = schema.find_column_name(field.source_id)
        if name is None or not isinstance(field.transform, IdentityTransform):
            return ()
        descending = field.direction == SortDirection.DESC
        keys.append(SortKey(name, descending, field.null_order == NullOrder.NULLS_FIRST))
    return tuple(keys)


class BoundedSort:
    """Takes rows and gives them back in order.

    Args:
        keys: At least one.
        directory: For the runs; emptied by whoever made it.
        run_bytes: Rows that are sorted at once; memory is a small multiple.
    """

    def __init__(
        self, keys: Sequence[SortKey], directory: Path, run_bytes: int = RUN_BYTES
    ) -> None:
        self._keys, self._directory, self._run_bytes = keys, directory, run_bytes
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        self._runs: list[_Run] = []

    def add(self, rows: pa.Table) -> None:
        """Take rows; all have the same columns."""
        self._pending.append(rows)
        self._pending_bytes += rows.nbytes
        if self._pending_bytes >= self._run_bytes:
            self._spill()

    def sorted(self) -> Iterator[pa.Table]:
        """All rows in order, a portion at a time; nothing can be added any more."""
        if not self._runs:
            if self._pending:
                yield self._sorted_pending()
            return
        if self._pending:
            self._spill()
        try:
            yield from self._merged()
        finally:
            for run in self._runs:
                run.close()

    def _sorted_pending(self) -> pa.Table:
        rows = pa.concat_tables(self._pending).combine_chunks()
        self._pending, self._pending_bytes = [], 0
        return rows.take(pa.array(_sort_indices(_key_columns(rows, self._keys))))

    def _spill(self) -> None:
        rows = self._sorted_pending()
        path = self._directory / f"run-{len(self._runs)}.arrow"
        self._runs.append(_Run(path, rows, self._keys))

    def _merged(self) -> Iterator[pa.Table]:
        last_rows = pa.concat_tables([run.last_rows for run in self._runs])
        order = _sort_indices(last_rows)
        of_run = np.repeat(np.arange(len(self._runs)), [run.batches for run in self._runs])[order]
        step = max(PORTION_BATCHES, len(self._runs))
        done = np.zeros(len(self._runs), dtype=np.int64)
        for start in range(0, len(order), step):
            ranked = of_run[start : start + step]
            done = done + np.bincount(ranked, minlength=len(self._runs))
            yield from self._portion(done, int(ranked[-1]), last=start + step >= len(order))

    def _portion(self, done: np.ndarray, limit_run: int, *, last: bool) -> Iterator[pa.Table]:
        """Rows up to the last row of batch ``done - 1`` of the run ``limit_run``; or all."""
        views = [run.view(int(upto)) for run, upto in zip(self._runs, done, strict=True)]
        starts = np.cumsum([0, *(view.num_rows for view in views)])
        columns = [_key_columns(view, self._keys) for view in views]
        order = _sort_indices(pa.concat_tables(columns).combine_chunks())
        if not last:
            row = self._runs[limit_run].row_before(int(done[limit_run]))
            if row < 0:  # an equal row of another portion drew it along
                return
            (at,) = np.flatnonzero(order == starts[limit_run] + row)
            order = order[: at + 1]
        run_of = np.searchsorted(starts, order, side="right") - 1
        counts = np.bincount(run_of, minlength=len(self._runs))
        taken = [
            run.take(view, int(count))
            for run, view, count in zip(self._runs, views, counts, strict=True)
        ]
        moved = order - starts[run_of] + np.cumsum([0, *counts[:-1]])[run_of]
        if len(moved):
            yield pa.concat_tables(taken).combine_chunks().take(pa.array(moved))


class _Run:
    """Sorted rows on disk, read from the front."""

    def __init__(self, path: Path, rows: pa.Table, keys: Sequence[SortKey]) -> None:
        size = max(16, BATCH_BYTES // max(1, rows.nbytes // rows.num_rows))
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=size)
        self._size, self._rows = size, rows.num_rows
        self.batches = -(-rows.num_rows // size)
        ends = np.minimum(np.arange(1, self.batches + 1) * size, rows.num_rows) - 1
        self.last_rows = _key_columns(rows.take(pa.array(ends)), keys)
        self._source = pa.OSFile(str(path), "rb")
        self._reader = pa.ipc.open_file(self._source)
        self._loaded = pa.Table.from_batches([], rows.schema)
        self._read_batches = self._given = 0

    def view(self, batch: int) -> pa.Table:
        """The rows that were not given yet, through the batch of that number."""
        parts = [self._loaded]
        while self._read_batches <= min(batch, self.batches - 1):
            read = self._reader.get_batch(self._read_batches)
            parts.append(pa.Table.from_batches([read]))
            self._read_batches += 1
        self._loaded = pa.concat_tables(parts)
        return self._loaded

    def row_before(self, batch: int) -> int:
        """Where in the view the last row before that batch is; negative if it was given."""
        return min(batch * self._size, self._rows) - 1 - self._given

    def take(self, view: pa.Table, count: int) -> pa.Table:
        """Give the first ``count`` rows of the view."""
        self._given += count
        self._loaded = view.slice(count)
        return view.slice(0, count)

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()


def _key_columns(rows: pa.Table, keys: Sequence[SortKey]) -> pa.Table:
    """Columns whose plain ascending or descending order is the declared one.

    Arrow puts NULL, and NaN before it, last whatever the direction. Where the order wants either
    first, a column that says so comes before. Iceberg's NaN is larger than every number.
    """
    arrays: list[pa.Array | pa.ChunkedArray] = []
    names: list[str] = []
    for number, key in enumerate(keys):
        column = rows.column(key.column)
        if isinstance(column.type, pa.BaseExtensionType):
            column = pa.chunked_array([storage(c) for c in column.chunks], column.type.storage_type)
        if key.nulls_first:
            arrays.append(column.is_valid())
            names.append(f"{number} a null")
        if key.descending and pa.types.is_floating(column.type):
            arrays.append(pc.fill_null(pc.invert(pc.is_nan(column)), True))  # noqa: FBT003
            names.append(f"{number} a nan")
        arrays.append(column)
        names.append(f"{number} {'d' if key.descending else 'a'}")
    return pa.table(arrays, names=names)


def _sort_indices(columns: pa.Table) -> np.ndarray:
    """Which row comes first, which second, and so on; equal ones stay in their order."""
    orders = [
        (name, "descending" if name.split()[1] == "d" else "ascending")
        for name in columns.column_names
    ]
    return pc.sort_indices(columns, sort_keys=orders).to_numpy().astype(np.int64)
