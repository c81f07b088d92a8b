"""The rows that a batch leaves behind, typed and complete.

What belongs here: taking each new row's values from the batch, and values that an update left
unchanged (TOAST) from the lake's old row. A missing old row is an error, never a NULL. What does
not: deciding which event a row comes from (``fold.py``) and where old rows are (``lookup.py``).
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import CarbonPipelinesError, MissingPriorValueError
from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.change_batch import ChangeBatch
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.extension import storage, storage_type
from carbon_pipelines.lake.fold import Fold, LakeFill
from carbon_pipelines.lake.halving import undecodable
from carbon_pipelines.lake.keys import KeySet
from carbon_pipelines.lake.lookup import FoundRows, RowLookup


class NewRows:
    """The rows a batch leaves behind, typed and complete."""

    def __init__(
        self,
        batch: ChangeBatch,
        fold: Fold,
        schema: pa.Schema,
        spec: TableSpec,
        lookup: RowLookup,
        found: Sequence[FoundRows],
    ) -> None:
        self._batch, self._fold, self._schema, self._spec = batch, fold, schema, spec
        self._lookup, self._found = lookup, found

    def build(self) -> pa.Table:
        """All new rows in the order of their last events, sorted as declared."""
        return sort_rows(self.unsorted(), self._spec)

    def unsorted(self) -> pa.Table:
        """All new rows in the order of their last events."""
        arrays = [self._column(field) for field in self._schema]
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def refused(self, most: int) -> dict[int, CarbonPipelinesError]:
        """Number of a row -> why ``build`` refuses it; the first ``most`` of each column."""
        found: dict[int, CarbonPipelinesError] = {}
        for field in self._schema:
            if field.name in self._batch.after.column_names:
                for row, error in self._refused(field, most).items():
                    found.setdefault(row, error)
        return found

    def _refused(self, column: pa.Field, most: int) -> dict[int, CarbonPipelinesError]:
        values = self._values(column.name)
        fill = self._fold.filled.get(column.name)
        if fill is None:
            return {**undecodable(values, column.type, column.name, most)}
        rows = np.setdiff1d(np.arange(len(values)), fill.rows)
        bad = undecodable(values.take(pa.array(rows)), column.type, column.name, most)
        there = set(np.concatenate([f.keys for f in self._found]).tolist()) if self._found else ()
        gone = [i for i, key in enumerate(fill.keys.tolist()) if key not in there]
        return {
            **{int(rows[index]): error for index, error in bad.items()},
            **{
                int(fill.rows[i]): self._missing(column.name, [int(fill.keys[i])])
                for i in gone[:most]
            },
        }

    def _values(self, name: str) -> pa.Array:
        """The batch's values of one column, by row; of no use where the lake's are taken."""
        take = self._fold.upserts.copy()
        if name in self._fold.copied:
            rows, events = self._fold.copied[name]
            take[rows] = events
        return self._batch.after.column(name).take(pa.array(take)).combine_chunks()

    def _column(self, column: pa.Field) -> pa.Array:
        if column.name not in self._batch.after.column_names:
            return pa.nulls(len(self._fold.upserts), column.type)
        values = self._values(column.name)
        fill = self._fold.filled.get(column.name)
        if fill is None:
            return decode_column(values, column.type, column=column.name)
        known = np.ones(len(values), dtype=bool)
        known[fill.rows] = False
        decoded = decode_column(values.filter(pa.array(known)), column.type, column=column.name)
        return self._filled(column, decoded, known, fill)

    def _filled(
        self, column: pa.Field, decoded: pa.Array, known: np.ndarray, fill: LakeFill
    ) -> pa.Array:
        """``decoded`` where ``known``, the lake's old values elsewhere, in row order."""
        old = self._old_values(column, fill)
        both = pa.concat_arrays([storage(decoded), storage(old)])
        index = np.empty(len(known), dtype=np.int64)
        index[known] = np.arange(len(decoded))
        index[fill.rows] = len(decoded) + np.arange(len(fill.rows))
        taken = both.take(pa.array(index))
        if isinstance(column.type, pa.ExtensionType):
            return pa.ExtensionArray.from_storage(column.type, taken)
        return taken

    def _old_values(self, column: pa.Field, fill: LakeFill) -> pa.Array:
        """The lake's values of ``fill.keys``, in that order."""
        where: dict[int, int] = {}
        parts: list[pa.Array] = []
        start = 0
        wanted_keys = np.unique(fill.keys)
        for rows in self._found:
            wanted = np.flatnonzero(np.isin(rows.keys, wanted_keys))
            if len(wanted):
                parts.append(storage(self._lookup.read_values(rows, column.name, wanted)))
                where.update(
                    zip(rows.keys[wanted].tolist(), range(start, start + len(wanted)), strict=True)
                )
                start += len(wanted)
        missing = [key for key in fill.keys.tolist() if key not in where]
        if missing:
            raise self._missing(column.name, missing)
        values = pa.concat_arrays([p.cast(storage_type(column.type)) for p in parts])
        return values.take(pa.array([where[key] for key in fill.keys.tolist()], pa.int64()))

    def _missing(self, column: str, missing: list[int]) -> MissingPriorValueError:
        keys = self._fold.keys
        assert keys is not None
        some = pa.array(missing[:3])
        shown = KeySet(tuple(c.take(some) for c in keys.columns)).rows(self._spec.key, 3)
        return MissingPriorValueError(self._spec.label, column, shown)


def sort_rows(rows: pa.Table, spec: TableSpec) -> pa.Table:
    """``rows`` in the declared order, if one is declared."""
    if not spec.sort_order:
        return rows
    order = {"asc": "ascending", "desc": "descending"}
    # Arrow sorts no uuids, but the bytes that they are
    arrays = [storage(rows.column(f.column).combine_chunks()) for f in spec.sort_order]
    names = [field.column for field in spec.sort_order]
    keys = [(field.column, order[field.direction]) for field in spec.sort_order]
    return rows.take(pc.sort_indices(pa.table(arrays, names=names), sort_keys=keys))
