"""Finding the old rows of changed keys in a table's data files.

What belongs here: pruning files and row groups by bounds, reading key columns only, and reading
single values at positions found. What does not: what is then done with the positions
(``row_delta.py``).

Files that cannot hold a key are not opened; of the others only key columns are
read, and only of row groups whose statistics allow a match.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema

from carbon_pipelines.lake.delete_file import read_positions
from carbon_pipelines.lake.extension import storage, storage_type
from carbon_pipelines.lake.keys import KeyMatcher, KeySet
from carbon_pipelines.lake.pruning import BoundsPruner
from carbon_pipelines.lake.table_files import LiveFile, TableFiles
from carbon_pipelines.lake.types import arrow_type

MATCH_ROWS = 1_048_576
"""Key rows that are matched at once; bounds memory and amortises the hash table of the keys."""
PARALLEL_FILES = 4
"""Files that are read at the same time."""
_FIELD_ID = b"PARQUET:field_id"


@dataclass(frozen=True, slots=True)
class FoundRows:
    """Live rows of one data file that carry a changed key.

    ``positions`` is sorted; ``keys[i]`` is the number of the key at ``positions[i]``, -1 for none.
    ``own_gone`` are positions that the delete files of this data file alone (``own_deletes``) name
    already, ``shared_gone`` those that delete files of several data files name.
    """

    data: LiveFile
    positions: np.ndarray
    keys: np.ndarray
    own_gone: np.ndarray
    shared_gone: np.ndarray
    own_deletes: Sequence[LiveFile]

    def only(self, chosen: np.ndarray) -> "FoundRows":
        """The rows where ``chosen`` is true."""
        return replace(self, positions=self.positions[chosen], keys=self.keys[chosen])


@dataclass(frozen=True, slots=True)
class _KeyRows:
    data: LiveFile
    first_row: int
    columns: Sequence[pa.Array]
    counts: np.ndarray | None
    """Which rows do, if not all."""

    def __len__(self) -> int:
        return len(self.columns[0])


class RowLookup:
    """Looks keys up in the files of one snapshot.

    Args:
        null_in: A column; only rows that have NULL there count, and what has none is not read.
    """

    def __init__(
        self,
        files: TableFiles,
        schema: Schema,
        key: Sequence[str],
        io: FileIO,
        *,
        null_in: str | None = None,
    ) -> None:
        self._files, self._schema, self._key, self._io = files, schema, tuple(key), io
        fields = [schema.find_field(name) for name in key]
        self._key_ids = [field.field_id for field in fields]
        self._key_types = [storage_type(arrow_type(field.field_type)) for field in fields]
        self._null_ids = [schema.find_field(null_in).field_id] if null_in is not None else []
        self._null_pruners = [
            BoundsPruner(pa.nulls(1, pa.int64()), field_id, schema) for field_id in self._null_ids
        ]

    def find(self, keys: KeySet) -> list[FoundRows]:
        """Every live row that carries one of ``keys``, by data file."""
        return self._find(keys, [BoundsPruner(keys.columns[0], self._key_ids[0], self._schema)])

    def find_every(self, keys: KeySet) -> list[FoundRows]:
        """Every live row, by data file; those that carry one of ``keys`` have its number."""
        return self._find(keys, [], least=-1)

    def _find(
        self, keys: KeySet, pruners: Sequence[BoundsPruner], *, least: int = 0
    ) -> list[FoundRows]:
        """Live rows whose key has a number of at least ``least``."""
        matcher = KeyMatcher(keys)
        every = [*pruners, *self._null_pruners]
        candidates = [data for data in self._files.data if all(p.may_hold(data) for p in every)]
        hits: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for group in _grouped(self._read_keys(candidates, pruners)):
            columns = [
                pa.concat_arrays([rows.columns[i] for rows in group]) for i in range(len(self._key))
            ]
            _collect(group, matcher.match(columns), hits, least)
        by_path = {data.file.file_path: data for data in candidates}
        found = [
            live_rows(
                self._files,
                self._io,
                by_path[path],
                np.concatenate([positions for positions, _ in parts]),
                np.concatenate([numbers for _, numbers in parts]),
            )
            for path, parts in hits.items()
        ]
        return [rows for rows in found if len(rows.positions)]

    def read_values(self, found: FoundRows, column: str, wanted: np.ndarray) -> pa.Array:
        """Values of ``column`` at ``found.positions[wanted]``, in that order.

        A file written before the column existed gives NULLs, as the schema's readers see it.
        """
        positions = found.positions[wanted]
        with self._io.new_input(found.data.file.file_path).open() as stream:
            parquet = pq.ParquetFile(stream)
            field_id = self._schema.find_field(column).field_id
            (name,) = column_names(parquet.schema_arrow, self._schema, [field_id])
            if name is None:
                return pa.nulls(len(positions))
            parts: list[pa.Array] = []
            first = 0
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                inside = positions[(positions >= first) & (positions < first + rows)] - first
                if len(inside):
                    read = parquet.read_row_group(group, columns=[name])
                    parts.append(read.column(name).combine_chunks().take(pa.array(inside)))
                first += rows
        return pa.concat_arrays(parts)

    def _read_keys(
        self, candidates: Sequence[LiveFile], pruners: Sequence[BoundsPruner]
    ) -> Iterator[_KeyRows]:
        with ThreadPoolExecutor(PARALLEL_FILES) as pool:
            for start in range(0, len(candidates), PARALLEL_FILES):
                several = candidates[start : start + PARALLEL_FILES]
                for rows in pool.map(partial(self._read_file, pruners=pruners), several):
                    yield from rows

    def _read_file(self, data: LiveFile, pruners: Sequence[BoundsPruner]) -> list[_KeyRows]:
        with self._io.new_input(data.file.file_path).open() as stream:
            parquet = pq.ParquetFile(stream, pre_buffer=True)
            names = column_names(parquet.schema_arrow, self._schema, self._key_ids)
            nulls = column_names(parquet.schema_arrow, self._schema, self._null_ids)
            nulls = [name for name in nulls if name is not None]
            if None in names:
                return []
            looked_at = [(pruner, str(names[0])) for pruner in pruners]
            looked_at += zip(self._null_pruners, nulls, strict=False)
            result: list[_KeyRows] = []
            for run in _runs(_groups(parquet.metadata, looked_at)):
                table = parquet.read_row_groups(
                    [g for g, _ in run], columns=[*names, *nulls], use_threads=False
                )
                arrays = [
                    storage(table.column(name).combine_chunks()).cast(kind)
                    for name, kind in zip(names, self._key_types, strict=True)
                ]
                counts = None
                for name in nulls:
                    counts = table.column(name).is_null().to_numpy()
                result.append(_KeyRows(data, run[0][1], arrays, counts))
            return result


def column_names(file: pa.Schema, schema: Schema, field_ids: Sequence[int]) -> list[str | None]:
    """What a file calls the columns of these ids; one without ids has them by name."""
    known = {
        int(field.metadata[_FIELD_ID]): field.name
        for field in file
        if field.metadata and _FIELD_ID in field.metadata
    }
    if known:
        return [known.get(i) for i in field_ids]
    names = [schema.find_field(i).name for i in field_ids]
    return [name if name in file.names else None for name in names]


def live_rows(
    files: TableFiles, io: FileIO, data: LiveFile, positions: np.ndarray, keys: np.ndarray
) -> FoundRows:
    """Those of the rows at ``positions`` that no delete file names."""
    own, shared = files.deletes_for(data)
    path = data.file.file_path
    own_gone = read_positions(io, [d.file for d in own], path)
    shared_gone = read_positions(io, [d.file for d in shared], path)
    live = ~np.isin(positions, np.concatenate([own_gone, shared_gone]))
    return FoundRows(data, positions[live], keys[live], own_gone, shared_gone, own)


def _grouped(rows: Iterator[_KeyRows]) -> Iterator[list[_KeyRows]]:
    group: list[_KeyRows] = []
    total = 0
    for part in rows:
        group.append(part)
        total += len(part)
        if total >= MATCH_ROWS:
            yield group
            group, total = [], 0
    if group:
        yield group


def _collect(
    group: Sequence[_KeyRows],
    numbers: np.ndarray,
    hits: dict[str, list[tuple[np.ndarray, np.ndarray]]],
    least: int,
) -> None:
    start = 0
    for part in group:
        mine = numbers[start : start + len(part)]
        wanted = mine >= least
        rows = np.flatnonzero(wanted if part.counts is None else wanted & part.counts)
        if len(rows):
            path = part.data.file.file_path
            hits.setdefault(path, []).append((rows + part.first_row, mine[rows]))
        start += len(part)


def _groups(
    footer: pq.FileMetaData, pruners: Sequence[tuple[BoundsPruner, str]]
) -> list[tuple[int, int]]:
    """(row group, its first row) of those that no pruner excludes by the column it looks at."""
    groups, first = list[tuple[int, int]](), 0
    for group in range(footer.num_row_groups):
        groups.append((group, first))
        first += footer.row_group(group).num_rows
    for pruner, name in pruners:
        kept = set(pruner.row_groups(footer, name))
        groups = [one for one in groups if one in kept]
    return groups


def _runs(groups: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Split (row group, first row) into runs of adjacent row groups."""
    run: list[tuple[int, int]] = []
    for group in groups:
        if run and group[0] != run[-1][0] + 1:
            yield run
            run = []
        run.append(group)
    if run:
        yield run
