"""Finding which events of a batch cannot be merged, after the batch as a whole could not.

What belongs here: the search, event by event, and only on the way of an error. What does not: what
becomes of these events (``set_aside.py``) and the merge of the others (``merge.py``).

Only what would be in the lake is judged: of each row, its last event in the batch, or the last of
each transaction where every version is kept. If that one is
refused, the one before it becomes the last, and is judged in turn. So the search ends with a batch
that merges, and never refuses an event that a later one of its row has made irrelevant.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import CarbonPipelinesError
from carbon_pipelines.lake.bag import fold_bag, new_events, old_events
from carbon_pipelines.lake.change_batch import DELETE, TRUNCATE, ChangeBatch
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.fold import fold_batch, fold_inserts
from carbon_pipelines.lake.halving import failures, undecodable
from carbon_pipelines.lake.history import fold_history
from carbon_pipelines.lake.history_merge import open_versions
from carbon_pipelines.lake.lacking import Key, Lacking, TypedKeys, follow, moved_by
from carbon_pipelines.lake.lookup import RowLookup
from carbon_pipelines.lake.new_rows import NewRows
from carbon_pipelines.lake.partition_values import split_by_partition
from carbon_pipelines.lake.table_files import load_table_files

Refusals = Mapping[int, CarbonPipelinesError]
"""Offset of an event -> why it cannot be merged."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a batch holds that cannot be merged, and which dead letters the rest makes irrelevant.

    ``rows`` has the key of the row of each refused event, if it is known.
    """

    refused: Refusals
    rows: Mapping[int, Key | None]
    superseded: frozenset[int]


class Judge:
    """Judges batches for one table as it was loaded.

    Args:
        branch: Where the rows are that unchanged values are taken from.
    """

    def __init__(self, table: Table, spec: TableSpec, branch: str) -> None:
        self._table, self._spec = table, spec
        self._schema = arrow_schema(table.schema())
        self._snapshot = table.snapshot_by_name(branch)

    @property
    def key_types(self) -> dict[str, pa.DataType]:
        """The key columns with their types."""
        return {name: self._schema.field(name).type for name in self._spec.key}

    def judge(
        self, batch: ChangeBatch, lacking: Lacking, *, most: int, values: bool = True
    ) -> Judgement:
        """Find the refused events of ``batch``; at least the first ``most`` of them are found.

        Args:
            batch: Events that the table has not seen.
            lacking: The table's dead letters, and those among the messages of the batch.
            most: More than so many need not be told apart.
            values: Whether to look at values too, not only at what rests on dead letters.
        """
        refused: dict[int, CarbonPipelinesError] = {}
        rows: dict[int, Key | None] = {}
        needed_by: dict[int, int] = {}
        batch, keys = self._typed(batch, refused, rows, most)
        while True:
            keep = ~np.isin(batch.offset, list(refused))
            kept, kept_keys = batch.filter(keep), keys.filter(keep)
            followed = follow(kept, kept_keys, lacking.plus(rows, needed_by), self._spec.label)
            found: dict[int, CarbonPipelinesError] = dict(followed.resting)
            if not found and values and len(kept):
                found = self._refused_values(kept, kept_keys, most)
            for index, error in found.items():
                moves = moved_by(kept, kept_keys, index)
                if moves and kept.unchanged[index].as_py():
                    needed_by[int(kept.offset[index - 1])] = int(kept.offset[index])
                for each in (index - 1, index) if moves else (index,):
                    offset = int(kept.offset[each])
                    refused[offset] = error
                    deleted = bool(kept.operation[each] == DELETE)
                    rows[offset] = kept_keys.of(each, deleted=deleted) if keys.after else None
            if not found or len(refused) > most:
                superseded = followed.superseded & lacking.rows.keys()
                return Judgement(refused, rows, frozenset(superseded))

    def _typed(
        self,
        batch: ChangeBatch,
        refused: dict[int, CarbonPipelinesError],
        rows: dict[int, Key | None],
        most: int,
    ) -> tuple[ChangeBatch, TypedKeys]:
        """The batch without events whose key has no place in the lake, and its keys."""
        keep = np.ones(len(batch), dtype=bool)
        for image in (batch.before, batch.after):
            for name, kind in self.key_types.items():
                values = image.column(name).combine_chunks()
                for index, error in undecodable(values, kind, name, most).items():
                    keep[index] = False
                    refused[int(batch.offset[index])] = error
                    rows[int(batch.offset[index])] = None
        batch = batch.filter(keep)
        before, after = (
            [
                decode_column(image.column(name).combine_chunks(), kind, column=name)
                for name, kind in self.key_types.items()
            ]
            for image in (batch.before, batch.after)
        )
        return batch, TypedKeys(before, after)

    def _refused_values(
        self, batch: ChangeBatch, keys: TypedKeys, most: int
    ) -> dict[int, CarbonPipelinesError]:
        """Index of an event -> why the row that it leaves cannot be held."""
        if self._spec.is_bag:
            return self._refused_rows(batch, most)
        files = load_table_files(self._snapshot, self._table.io)
        if self._spec.is_history:
            history = fold_history(batch, keys.before, keys.after)
            fold, old_keys = history.values, history.keys
            lookup = open_versions(files, self._table, self._spec)
        else:
            fold = fold_batch(batch, keys.before, keys.after) if keys.after else fold_inserts(batch)
            old_keys = fold.keys if fold.truncated_at < 0 else None
            lookup = RowLookup(files, self._table.schema(), self._spec.key, self._table.io)
        if not len(fold.upserts):
            return {}
        found = lookup.find(old_keys) if fold.filled and old_keys is not None else []
        rows = NewRows(batch, fold, self._schema, self._spec, lookup, found)
        refused = rows.refused(most) or self._outside_partitions(rows.unsorted(), most)
        return {int(fold.upserts[row]): error for row, error in refused.items()}

    def _refused_rows(self, batch: ChangeBatch, most: int) -> dict[int, CarbonPipelinesError]:
        """Index of an event -> why its old or new row cannot be held, in a table without a key."""
        truncates = np.flatnonzero(batch.operation == TRUNCATE)
        start = int(truncates[-1]) + 1 if len(truncates) else 0
        refused: dict[int, CarbonPipelinesError] = {}
        for image, events in ((batch.before, old_events(batch)), (batch.after, new_events(batch))):
            counted = events[events >= start]
            rows = image.take(pa.array(counted, pa.int64())) if image.num_columns else image
            for field in self._schema:
                if field.name in image.column_names:
                    values = rows.column(field.name).combine_chunks()
                    for row, error in undecodable(values, field.type, field.name, most).items():
                        refused.setdefault(int(counted[row]), error)
        if refused:
            return refused
        fold = fold_bag(batch, self._schema)
        outside = self._outside_partitions(fold.added, most)
        return {int(fold.events[row]): error for row, error in outside.items()}

    def _outside_partitions(self, complete: pa.Table, most: int) -> dict[int, CarbonPipelinesError]:
        spec = self._table.spec()
        if spec.is_unpartitioned():
            return {}

        def split(start: int, stop: int) -> None:
            part = complete.slice(start, stop - start)
            list(split_by_partition(part, spec, self._table.schema()))

        return {**failures(complete.num_rows, split, most)}
