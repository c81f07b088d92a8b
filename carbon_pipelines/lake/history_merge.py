"""Ending and opening versions in a table with ``mode: history``.

What belongs here: finding the open versions that a batch ends, writing them as ended ones and the
new versions beside them, for one plan of a merge. What does not: which versions there are
(``history.py``), the commit and planning anew (``merge.py``).

A version that ends is a position delete of the open row and an ended row, in the same snapshot, so
no reader sees both or none. Ended and open rows go to files of their own: a file without an open
row is told by its counts of NULLs and is never read again, however long the history gets.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.lake.change_batch import ChangeBatch
from carbon_pipelines.lake.deltas import DeletePlan, plan_deletes
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.file_rows import read_rows
from carbon_pipelines.lake.history import HistoryFold
from carbon_pipelines.lake.history_columns import (
    FROM_LSN,
    FROM_ORDINAL,
    TO_LSN,
    begun_at,
    ended_at,
)
from carbon_pipelines.lake.lookup import FoundRows, RowLookup
from carbon_pipelines.lake.new_rows import NewRows, sort_rows
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.table_files import TableFiles


@dataclass(frozen=True, slots=True)
class HistoryWritten:
    """Files of a plan, and the open rows that go; ``rows`` counts those written."""

    data: list[DataFile]
    deletes: DeletePlan
    rows: int


def open_versions(files: TableFiles, table: Table, spec: TableSpec) -> RowLookup:
    """Finds open versions alone."""
    return RowLookup(files, table.schema(), spec.key, table.io, null_in=TO_LSN)


def write_history(
    table: Table, spec: TableSpec, files: TableFiles, batch: ChangeBatch, fold: HistoryFold
) -> HistoryWritten:
    """Write what ``fold`` makes of ``batch`` on ``table`` as loaded; nothing refers to it yet.

    Raises:
        UnrepresentableValueError: A version's value has no place in its column.
        MissingPriorValueError: An unchanged value has no open version to be taken from.
    """
    lookup = open_versions(files, table, spec)
    found: Sequence[FoundRows] = ()
    if fold.truncated_at >= 0:
        found = lookup.find_every(fold.keys)
    elif len(fold.keys):
        found = lookup.find(fold.keys)
    ending = [_Ending(rows, lookup, batch, fold) for rows in found]
    new = NewRows(batch, fold.values, arrow_schema(table.schema()), spec, lookup, found).unsorted()
    begun = begun_at(new, batch, fold.begun, _ordinals(batch, fold, ending))
    rows = ended_at(begun, batch, fold.until)
    writers = PartitionedWriter(file_target(table)), PartitionedWriter(file_target(table))
    still_open, ended = writers
    try:
        for chosen, writer in ((fold.until < 0, still_open), (fold.until >= 0, ended)):
            if chosen.any():
                writer.write(sort_rows(rows.filter(pa.array(chosen)), spec))
        for one in ending:
            for part, of in read_rows(one.found, table.schema(), table.io):
                lasting = one.lasting[of]
                if lasting.any():
                    kept = part.filter(pa.array(lasting))
                    ended.write(ended_at(kept, batch, one.events[of][lasting]))
        data = [file for writer in writers for file in writer.close()]
    except BaseException:
        for writer in writers:
            with suppress(OSError):
                writer.abandon()
        raise
    return HistoryWritten(data, plan_deletes(found), sum(writer.rows for writer in writers))


class _Ending:
    """The open versions of one file that end, each by the event in ``events``.

    One that the transaction of that event opened itself is not ``lasting``.
    """

    def __init__(
        self, found: FoundRows, lookup: RowLookup, batch: ChangeBatch, fold: HistoryFold
    ) -> None:
        self.found = found
        touched = found.keys >= 0
        self.events = np.full(len(found.keys), fold.truncated_at, dtype=np.int64)
        self.events[touched] = fold.ended[found.keys[touched]]
        every = np.arange(len(found.keys))
        since = lookup.read_values(found, FROM_LSN, every).to_numpy(zero_copy_only=False)
        self.lasting = since != batch.commit_lsn[self.events]
        going = np.flatnonzero(touched & ~self.lasting)
        ordinals = lookup.read_values(found, FROM_ORDINAL, going) if len(going) else ()
        self.ordinals = dict(
            zip(found.keys[going].tolist(), (o.as_py() for o in ordinals), strict=True)
        )


def _ordinals(batch: ChangeBatch, fold: HistoryFold, ending: Sequence[_Ending]) -> np.ndarray:
    """Where in its transaction each new version begins, which may be before this batch."""
    ordinals = batch.ordinal[fold.begun].copy()
    earlier = {key: ordinal for one in ending for key, ordinal in one.ordinals.items()}
    for version in np.flatnonzero(np.isin(fold.continues, list(earlier))).tolist():
        ordinals[version] = earlier[int(fold.continues[version])]
    return ordinals
