"""The columns that a table with ``mode: history`` has besides those of its source.

What belongs here: their names and types, and giving rows their values. What does not: which rows
are versions, and since when (``history.py``).

A version of a row is valid from one position of the source to another: a commit LSN and the ordinal
of the event in its transaction, and the time of the commit beside it. The second end is NULL while
the version is the row. What was the row after every transaction up to LSN x::

    carbon_valid_from_lsn <= x AND (carbon_valid_to_lsn IS NULL OR carbon_valid_to_lsn > x)
"""

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
from pyiceberg.types import IcebergType, LongType, NestedField, TimestamptzType

from carbon_pipelines.catalog.rules import HISTORY_COLUMNS
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import HistoryColumnError
from carbon_pipelines.lake.change_batch import ChangeBatch
from carbon_pipelines.lake.types import arrow_type
from carbon_pipelines.source.visibility import Moment

FROM, FROM_LSN, FROM_ORDINAL, TO, TO_LSN, TO_ORDINAL = HISTORY_COLUMNS
_TYPES: Mapping[str, IcebergType] = {
    name: TimestamptzType() if name in (FROM, TO) else LongType() for name in HISTORY_COLUMNS
}
_REQUIRED = frozenset({FROM_LSN, FROM_ORDINAL})
_DOCS = {
    FROM: "When the transaction was committed that made this version of the row.",
    FROM_LSN: "Commit LSN of that transaction.",
    FROM_ORDINAL: "Place of the change in that transaction.",
    TO: "When the transaction was committed that ended this version; NULL while it is the row.",
    TO_LSN: "Commit LSN of that transaction; NULL while this is the row.",
    TO_ORDINAL: "Place of the change in that transaction; NULL while this is the row.",
}
_INSTANT = arrow_type(TimestamptzType())


def copied_at(began: Moment) -> dict[str, pa.Array]:
    """The value that every row of a copy has, as an array of one, by column.

    ``began`` is from before the copy waited for older transactions: everything that the copy does
    not see, and that will be merged on top of it, is committed above that.
    """
    at = began.at.replace(microsecond=began.at.microsecond // 1000 * 1000)  # as events have it
    return {
        FROM: pa.array([at], _INSTANT),
        FROM_LSN: pa.array([began.lsn], pa.int64()),
        FROM_ORDINAL: pa.array([0], pa.int64()),
    }


def history_fields(next_id: int) -> list[NestedField]:
    """The added columns, with ids from ``next_id`` on."""
    return [
        NestedField(number, name, _TYPES[name], required=name in _REQUIRED, doc=_DOCS[name])
        for number, name in enumerate(HISTORY_COLUMNS, next_id)
    ]


def identifying(table: TableSpec) -> tuple[str, ...]:
    """The columns that no two rows of the lake's table have the same values in."""
    return (*table.key, FROM_LSN, FROM_ORDINAL) if table.is_history else table.key


def check_names(names: Collection[str], table: TableSpec) -> None:
    """Refuse a column of the source that has the name of an added one.

    Raises:
        HistoryColumnError: Names it.
    """
    for name in HISTORY_COLUMNS if table.is_history else ():
        if name in names:
            raise HistoryColumnError(table.label, name)


def begun_at(
    rows: pa.Table, batch: ChangeBatch, events: np.ndarray, ordinals: np.ndarray
) -> pa.Table:
    """``rows``, each valid from the commit of its event, at the ordinal given for it."""
    lsn = pa.array(batch.commit_lsn[events], pa.int64())
    values = (_instants(batch, events), lsn, pa.array(ordinals, pa.int64()))
    return _with(rows, dict(zip((FROM, FROM_LSN, FROM_ORDINAL), values, strict=True)))


def ended_at(rows: pa.Table, batch: ChangeBatch, events: np.ndarray) -> pa.Table:
    """``rows``, each valid up to its event; -1 for one that is still the row."""
    lsn, ordinal = (
        pa.array(values[np.maximum(events, 0)], pa.int64(), mask=events < 0)
        for values in (batch.commit_lsn, batch.ordinal)
    )
    values = (_instants(batch, events), lsn, ordinal)
    return _with(rows, dict(zip((TO, TO_LSN, TO_ORDINAL), values, strict=True)))


def _instants(batch: ChangeBatch, events: np.ndarray) -> pa.Array:
    """When the transactions of ``events`` were committed; NULL for -1."""
    index = pa.array(np.maximum(events, 0), pa.int64(), mask=events < 0)
    return batch.committed_ms.take(index).cast(pa.timestamp("ms", tz="UTC")).cast(_INSTANT)


def _with(rows: pa.Table, values: Mapping[str, pa.Array]) -> pa.Table:
    for name, column in values.items():
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(index, rows.schema.field(index), column)
    return rows
