"""A batch of change events as columns.

What belongs here: turning raw messages (Debezium JSON envelopes) into a ``ChangeBatch`` in one pass
of Arrow's JSON reader, and the slower pass for a chunk that the reader refuses (NaN in a number
column, a malformed message to be named). What does not: which events count (``merge.py``,
``fold.py``) and the conversion of values (``codec.py``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from carbon_pipelines.errors import MalformedEnvelopeError
from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.json_numbers import fitting_value, json_integer
from carbon_pipelines.stream.consumer import RawBatch

UNCHANGED_SEPARATOR = "\x1f"
"""Separates the column names of ``source.unchanged``."""
_NO_OLD_ROW = (
    "the whole row before the change is missing, because REPLICA IDENTITY was not FULL when it was "
    "written; set it to FULL again and copy the table anew"
)
_OPERATIONS = pa.array(["c", "u", "d", "t", "r", "m"])
CREATE, UPDATE, DELETE, TRUNCATE, READ, MESSAGE = range(6)
"""Operation codes of ``ChangeBatch.operation``; merging stops before a message."""


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Change events of one table in topic order; every array has one entry an event.

    ``after`` holds envelope values (text, numbers, lists), not yet decoded; so does ``before``, of
    the key columns alone, or of all where rows are known by all of their values. ``committed_ms``
    is when the transaction was committed, in milliseconds from 1970; null where nothing says so.
    """

    operation: np.ndarray
    commit_lsn: np.ndarray
    ordinal: np.ndarray
    xid: np.ndarray
    offset: np.ndarray
    schema_version: np.ndarray
    committed_ms: pa.Array
    unchanged: pa.Array
    before: pa.Table
    after: pa.Table

    def __len__(self) -> int:
        """Number of events."""
        return len(self.operation)

    def filter(self, keep: np.ndarray) -> "ChangeBatch":
        """The events where ``keep`` is true."""
        if keep.all():
            return self
        mask = pa.array(keep)
        return ChangeBatch(
            self.operation[keep],
            self.commit_lsn[keep],
            self.ordinal[keep],
            self.xid[keep],
            self.offset[keep],
            self.schema_version[keep],
            self.committed_ms.filter(mask),
            self.unchanged.filter(mask),
            _filtered(self.before, mask),
            _filtered(self.after, mask),
        )

    def slice(self, start: int, stop: int) -> "ChangeBatch":
        """Events ``start`` to ``stop`` (exclusive), without copying columns."""
        length = stop - start
        return ChangeBatch(
            self.operation[start:stop],
            self.commit_lsn[start:stop],
            self.ordinal[start:stop],
            self.xid[start:stop],
            self.offset[start:stop],
            self.schema_version[start:stop],
            self.committed_ms.slice(start, length),
            self.unchanged.slice(start, length),
            self.before.slice(start, length),
            self.after.slice(start, length),
        )


def concat_batches(batches: Sequence[ChangeBatch]) -> ChangeBatch:
    """All events of ``batches`` in order."""
    if len(batches) == 1:
        return batches[0]
    return ChangeBatch(
        np.concatenate([b.operation for b in batches]),
        np.concatenate([b.commit_lsn for b in batches]),
        np.concatenate([b.ordinal for b in batches]),
        np.concatenate([b.xid for b in batches]),
        np.concatenate([b.offset for b in batches]),
        np.concatenate([b.schema_version for b in batches]),
        pa.concat_arrays([b.committed_ms for b in batches]),
        pa.concat_arrays([b.unchanged for b in batches]),
        pa.concat_tables([b.before for b in batches], promote_options="default"),
        pa.concat_tables([b.after for b in batches], promote_options="default"),
    )


class EnvelopeReader:
    """Reads the envelopes of one topic, given the columns to expect.

    Args:
        columns: Every column that any schema version of the batch has, with its ``json_type``.
        key: The key columns.
        whole_rows: Rows are known by all of their values, so the whole old row is read.
    """

    def __init__(
        self,
        topic: str,
        columns: Mapping[str, pa.DataType],
        key: Sequence[str],
        *,
        whole_rows: bool = False,
    ) -> None:
        self._topic, self._whole_rows = topic, whole_rows
        self._after = pa.struct([pa.field(name, kind) for name, kind in columns.items()])
        old = list(columns) if whole_rows else key
        self._before = pa.struct([pa.field(name, columns[name]) for name in old])
        self._source = pa.struct(
            [
                pa.field("txId", pa.int64()),
                pa.field("commit_lsn", pa.int64()),
                pa.field("ordinal", pa.int64()),
                pa.field("schema_version", pa.int64()),
                pa.field("unchanged", pa.string()),
            ]
        )
        self._schema = pa.schema(
            [
                pa.field("before", self._before),
                pa.field("after", self._after),
                pa.field("source", self._source),
                pa.field("op", pa.string()),
                pa.field("ts_ms", pa.int64()),
            ]
        )

    def read(self, raw: RawBatch) -> ChangeBatch:
        """Decode one raw batch, which may be empty.

        Raises:
            MalformedEnvelopeError: Names the first message that is no change event of this table.
        """
        if not raw.values:
            return self._to_batch(self._schema.empty_table(), raw)
        try:
            table = self._read_at_once(raw.values)
        except pa.ArrowInvalid:
            table = self._read_one_at_a_time(raw)
        if table.num_rows != len(raw.values):
            table = self._read_one_at_a_time(raw)
        return self._to_batch(table.combine_chunks(), raw)

    def _read_at_once(self, values: Sequence[bytes]) -> pa.Table:
        data = b"\n".join(values)
        return pj.read_json(
            pa.BufferReader(data),
            read_options=pj.ReadOptions(use_threads=False, block_size=max(len(data) + 1, 1024)),
            parse_options=pj.ParseOptions(
                explicit_schema=self._schema, unexpected_field_behavior="ignore"
            ),
        )

    def _read_one_at_a_time(self, raw: RawBatch) -> pa.Table:
        rows: list[dict[str, Any]] = []
        for offset, value in zip(raw.offsets, raw.values, strict=True):
            try:
                row = json.loads(value, parse_int=json_integer)
                rows.append({name: row.get(name) for name in self._schema.names})
            except (ValueError, TypeError, AttributeError) as error:
                raise MalformedEnvelopeError(self._topic, 0, offset, str(error)) from error
        try:
            return pa.Table.from_pylist([self._with_numbers(row) for row in rows], self._schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, TypeError, AttributeError):
            self._name_the_first_refused(raw, rows)
            raise

    def _name_the_first_refused(self, raw: RawBatch, rows: Sequence[dict[str, Any]]) -> None:
        for offset, row in zip(raw.offsets, rows, strict=True):
            try:
                pa.Table.from_pylist([self._with_numbers(row)], self._schema)
            except (
                pa.ArrowInvalid,
                pa.ArrowTypeError,
                ValueError,
                TypeError,
                AttributeError,
            ) as error:
                raise MalformedEnvelopeError(self._topic, 0, offset, str(error)) from error

    def _with_numbers(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with NaN and infinities, which JSON can only spell as text, turned into numbers.

        Raises:
            UnrepresentableValueError: An array that came as text is none that a list can hold.
            ValueError: A list where the declaration asks for text.
        """
        images = {"before": self._before, "after": self._after}
        return row | {
            name: {field.name: fitting_value(values.get(field.name), field) for field in columns}
            for name, columns in images.items()
            if isinstance(values := row.get(name), dict)
        }

    def _to_batch(self, table: pa.Table, raw: RawBatch) -> ChangeBatch:
        offsets = np.asarray(raw.offsets, dtype=np.int64)
        operation = pc.index_in(table.column("op"), value_set=_OPERATIONS).combine_chunks()
        source = table.column("source").combine_chunks()
        required = [source.field(i) for i in range(4)]
        self._refuse_incomplete(raw, offsets, [operation, *required])
        before, after = (
            table.column("before").combine_chunks(),
            table.column("after").combine_chunks(),
        )
        batch = ChangeBatch(
            operation.to_numpy(zero_copy_only=False).astype(np.int8),
            required[1].to_numpy(zero_copy_only=False),
            required[2].to_numpy(zero_copy_only=False),
            required[0].to_numpy(zero_copy_only=False),
            offsets,
            required[3].to_numpy(zero_copy_only=False),
            table.column("ts_ms").combine_chunks(),
            source.field(4),
            pa.Table.from_arrays(before.flatten(), names=[f.name for f in self._before]),
            pa.Table.from_arrays(after.flatten(), names=[f.name for f in self._after]),
        )
        row_expected = np.isin(batch.operation, (CREATE, UPDATE, READ))
        self._refuse_missing(batch, after, row_expected, "the row after the change is missing")
        if self._whole_rows:
            old_expected = np.isin(batch.operation, (UPDATE, DELETE))
            self._refuse_missing(batch, before, old_expected, _NO_OLD_ROW)
            return batch
        for field in self._before:
            reason = f"the key column {field.name} is missing"
            self._refuse_missing(batch, batch.after.column(field.name), row_expected, reason)
            deleted = batch.operation == DELETE
            self._refuse_missing(batch, batch.before.column(field.name), deleted, reason)
        return batch

    def _refuse_missing(
        self,
        batch: ChangeBatch,
        values: pa.Array | pa.ChunkedArray,
        expected: np.ndarray,
        reason: str,
    ) -> None:
        if values.null_count:
            missing = values.is_null().to_numpy(zero_copy_only=False) & expected
            if missing.any():
                offset = int(batch.offset[np.flatnonzero(missing)[0]])
                raise MalformedEnvelopeError(self._topic, 0, offset, reason)

    def _refuse_incomplete(
        self, raw: RawBatch, offsets: np.ndarray, columns: Sequence[pa.Array]
    ) -> None:
        for column in columns:
            if column.null_count:
                index = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
                shown = raw.values[index][:200].decode("utf-8", "replace")
                reason = (
                    f"op, source.commit_lsn, ordinal, txId or schema_version is missing in {shown}"
                )
                raise MalformedEnvelopeError(self._topic, 0, int(offsets[index]), reason)


def _filtered(columns: pa.Table, mask: pa.Array) -> pa.Table:
    """Without a key there are no columns before, and Arrow refuses to filter none."""
    return columns.filter(mask) if columns.num_columns else columns
