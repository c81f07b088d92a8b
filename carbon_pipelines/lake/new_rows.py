"""The rows that a batch leaves behind, typed and complete.

What belongs here: taking each new row's values from the batch, and values that an update left
unchanged (TOAST) from the lake's old row. A missing old row is an error, never a NULL. What does
not: deciding which event a row comes from (``fold.py``) and where old rows are (``lookup.py``).
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import MissingPriorValueError
from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.change_batch import ChangeBatch
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.fold import Fold, LakeFill
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
        arrays = [self._column(field) for field in self._schema]
        return sort_rows(pa.Table.from_arrays(arrays, schema=self._schema), self._spec)

    def _column(self, column: pa.Field) -> pa.Array:
        if column.name not in self._batch.after.column_names:
            return pa.nulls(len(self._fold.upserts), column.type)
        take = self._fold.upserts.copy()
        if column.name in self._fold.copied:
            rows, events = self._fold.copied[column.name]
            take[rows] = events
        values = self._batch.after.column(column.name).take(pa.array(take)).combine_chunks()
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
        both = pa.concat_arrays([_storage(decoded), _storage(old)])
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
                parts.append(_storage(self._lookup.read_values(rows, column.name, wanted)))
                where.update(
                    zip(rows.keys[wanted].tolist(), range(start, start + len(wanted)), strict=True)
                )
                start += len(wanted)
        missing = [key for key in fill.keys.tolist() if key not in where]
        if missing:
            self._refuse(column.name, missing)
        values = pa.concat_arrays([p.cast(_storage_type(column.type)) for p in parts])
        return values.take(pa.array([where[key] for key in fill.keys.tolist()], pa.int64()))

    def _refuse(self, column: str, missing: list[int]) -> None:
        keys = self._fold.keys
        assert keys is not None
        some = pa.array(missing[:3])
        shown = KeySet(tuple(c.take(some) for c in keys.columns)).rows(self._spec.key, 3)
        raise MissingPriorValueError(self._spec.label, column, shown)


def sort_rows(rows: pa.Table, spec: TableSpec) -> pa.Table:
    """``rows`` in the declared order, if one is declared."""
    if not spec.sort_order:
        return rows
    order = {"asc": "ascending", "desc": "descending"}
    # Arrow sorts no uuids, but the bytes that they are
    arrays = [_storage(rows.column(f.column).combine_chunks()) for f in spec.sort_order]
    names = [field.column for field in spec.sort_order]
    keys = [(field.column, order[field.direction]) for field in spec.sort_order]
    return rows.take(pc.sort_indices(pa.table(arrays, names=names), sort_keys=keys))


def _storage(values: pa.Array) -> pa.Array:
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def _storage_type(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
