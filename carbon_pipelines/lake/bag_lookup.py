"""Finding so many of each of some whole rows in a table's data files.

What belongs here: which files and row groups can hold one of the rows, and reading them. What does
not: which rows are wanted (``bag.py``), and finding rows by a key (``lookup.py``).

It costs a scan of what the bounds of no column exclude: of integers, dates and timestamps. Of a row
group that is left the columns of fixed width are read first; the others, in small parts, only if
these leave a row that may be wanted. Newest files come first, and no more are read than it takes to
find as many rows as are wanted: which of several equal rows goes makes no difference.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema

from carbon_pipelines.lake.bag import CountedRows, arrays_of, comparable, first_of_each
from carbon_pipelines.lake.extension import storage, storage_type
from carbon_pipelines.lake.keys import KeyMatcher, KeySet
from carbon_pipelines.lake.lookup import (
    PARALLEL_FILES,
    FoundRows,
    column_names,
    live_rows,
)
from carbon_pipelines.lake.pruning import BoundsPruner
from carbon_pipelines.lake.table_files import LiveFile, TableFiles

READ_ROWS = 8_192
"""Rows whose long values are in memory at once."""


class BagLookup:
    """Looks rows up in the files of one snapshot.

    Args:
        wanted: At least one row.
    """

    def __init__(self, files: TableFiles, schema: Schema, io: FileIO, wanted: CountedRows) -> None:
        self._files, self._schema, self._io, self._wanted = files, schema, io, wanted
        fields = [schema.find_field(name) for name in wanted.rows.column_names]
        self._ids = [field.field_id for field in fields]
        self._types = [storage_type(kind) for kind in wanted.rows.schema.types]
        columns = arrays_of(wanted.rows)
        self._matcher = KeyMatcher(KeySet(tuple(columns)))
        self._narrow = [i for i, kind in enumerate(self._types) if _has_fixed_width(kind)]
        self._narrow_matcher = (
            KeyMatcher(KeySet(tuple(columns[i] for i in self._narrow))) if self._narrow else None
        )
        self._pruners = [
            BoundsPruner(storage(wanted.rows.column(i).combine_chunks()), self._ids[i], schema)
            for i in self._narrow
        ]

    def find(self) -> tuple[list[FoundRows], np.ndarray]:
        """Live rows to remove, by data file, and how many of each row are missing."""
        left = self._wanted.counts.copy()
        found: list[FoundRows] = []
        candidates = [
            data for data in self._files.data if all(p.may_hold(data) for p in self._pruners)
        ]
        candidates.sort(key=lambda data: data.sequence_number, reverse=True)
        with ThreadPoolExecutor(PARALLEL_FILES) as pool:
            for start in range(0, len(candidates), PARALLEL_FILES):
                if not left.any():
                    break
                several = candidates[start : start + PARALLEL_FILES]
                for rows in pool.map(self._find_in, several):
                    if rows is None:
                        continue
                    chosen = first_of_each(rows.keys, left)
                    left -= np.bincount(rows.keys[chosen], minlength=len(left))
                    if chosen.any():
                        found.append(rows.only(chosen))
        return found, left

    def _find_in(self, data: LiveFile) -> FoundRows | None:
        """Every live row of ``data`` that equals a wanted one; None if not even a dead one does."""
        positions, numbers = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        with self._io.new_input(data.file.file_path).open() as stream:
            parquet = pq.ParquetFile(stream, pre_buffer=True)
            names = column_names(parquet.schema_arrow, self._schema, self._ids)
            for group, first_row in self._row_groups(parquet, names):
                rows, found = self._match(parquet, group, names)
                positions.append(rows + first_row)
                numbers.append(found)
        hits = (np.concatenate(positions), np.concatenate(numbers))
        return live_rows(self._files, self._io, data, *hits) if len(hits[0]) else None

    def _row_groups(
        self, parquet: pq.ParquetFile, names: Sequence[str | None]
    ) -> list[tuple[int, int]]:
        """(row group, its first row) of those that no column's bounds exclude."""
        everything = (parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups))
        groups, first = list[tuple[int, int]](), 0
        for group, rows in enumerate(everything):
            groups.append((group, first))
            first += rows
        for pruner, index in zip(self._pruners, self._narrow, strict=True):
            name = names[index]
            if name is not None:
                may_hold = set(pruner.row_groups(parquet.metadata, name))
                groups = [one for one in groups if one in may_hold]
        return groups

    def _match(
        self, parquet: pq.ParquetFile, group: int, names: Sequence[str | None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a row group that equal a wanted one, and the number of that one."""
        count = parquet.metadata.row_group(group).num_rows
        rows = np.arange(count)
        read = self._read_narrow(parquet, group, names, count)
        if self._narrow_matcher is not None:
            rows = np.flatnonzero(self._narrow_matcher.match(read) >= 0)
        if not len(rows):
            return rows, rows
        narrow = [column.take(pa.array(rows)) for column in read]
        columns = dict(zip(self._narrow, narrow, strict=True))
        columns |= self._read_wide(parquet, group, names, rows)
        numbers = self._matcher.match([columns[i] for i in range(len(self._ids))])
        return rows[numbers >= 0], numbers[numbers >= 0]

    def _read_narrow(
        self, parquet: pq.ParquetFile, group: int, names: Sequence[str | None], count: int
    ) -> list[pa.Array]:
        there = [name for i in self._narrow if (name := names[i]) is not None]
        if not there:
            return [self._nulls(count, i) for i in self._narrow]
        table = parquet.read_row_group(group, columns=there, use_threads=False)
        return [
            self._comparable(table.column(name).combine_chunks(), i)
            if (name := names[i]) is not None
            else self._nulls(count, i)
            for i in self._narrow
        ]

    def _read_wide(
        self,
        parquet: pq.ParquetFile,
        group: int,
        names: Sequence[str | None],
        rows: np.ndarray,
    ) -> dict[int, pa.Array]:
        """Columns of any width at ``rows``, which are sorted."""
        wide = [i for i in range(len(names)) if i not in self._narrow]
        there = {i: name for i in wide if (name := names[i]) is not None}
        parts: dict[int, list[pa.Array]] = {i: [] for i in there}
        first = 0
        if there:
            for batch in parquet.iter_batches(
                READ_ROWS, row_groups=[group], columns=[*there.values()], use_threads=False
            ):
                inside = rows[(rows >= first) & (rows < first + len(batch))] - first
                for i, name in there.items() if len(inside) else ():
                    taken = batch.column(name).take(pa.array(inside))
                    parts[i].append(self._comparable(taken, i))
                first += len(batch)
        return {
            i: pa.concat_arrays(parts[i]) if i in there else self._nulls(len(rows), i) for i in wide
        }

    def _comparable(self, values: pa.Array, index: int) -> pa.Array:
        return comparable(storage(values).cast(self._types[index]))

    def _nulls(self, count: int, index: int) -> pa.Array:
        """Of a column that came after the file."""
        return comparable(pa.nulls(count, self._types[index]))


def _has_fixed_width(kind: pa.DataType) -> bool:
    return not (pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_list(kind))
