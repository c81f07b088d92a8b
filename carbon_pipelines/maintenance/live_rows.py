"""The rows of a group of data files that no delete file names, in a steady order.

What belongs here: which positions are gone, and reading what is left under the table's present
columns, a batch at a time. What does not: what becomes of the rows (``rewrite.py``).

Every live row of a group has a number: rows of the first file come first, in the file's order. By
its number a row is found again in the files that were written from it (``moved_deletes.py``).
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform

from carbon_pipelines.errors import SourceFileDamagedError
from carbon_pipelines.lake.delete_file import read_named
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.extension import storage_type
from carbon_pipelines.lake.file_rows import as_columns
from carbon_pipelines.lake.table_files import LiveFile, TableFiles
from carbon_pipelines.lake.whole_files import WHOLE_BYTES, open_whole

AHEAD = 3
"""Small files that are read while rows of another are written."""
BATCH_BYTES = 8 * 1024 * 1024
"""About what a batch of rows of a large file takes."""
STREAM_BYTES = 1024 * 1024
"""What is fetched at once of each column of a large file."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A data file that is read.

    Attributes:
        live: The file as its manifest lists it.
        gone: Positions that are deleted, sorted and distinct (int64).
        deletes: Paths of the delete files that say so.
        first: Number of its first live row in the group.
    """

    live: LiveFile
    gone: np.ndarray
    deletes: frozenset[str]
    first: int

    @property
    def path(self) -> str:
        """Where it is."""
        return self.live.file.file_path

    @property
    def rows(self) -> int:
        """Live rows."""
        return self.live.file.record_count - len(self.gone)

    def numbers(self, positions: np.ndarray) -> np.ndarray:
        """The numbers in the group of live rows at ``positions``."""
        return self.first + positions - np.searchsorted(self.gone, positions)

    def every_number(self) -> np.ndarray:
        """The numbers of all its live rows."""
        return np.arange(self.first, self.first + self.rows)


def open_sources(io: FileIO, files: TableFiles, chosen: Sequence[LiveFile]) -> list[SourceFile]:
    """The data files ``chosen`` of ``files``, in their order, with what is deleted from each."""
    gone, deletes = deleted_positions(io, files, chosen)
    sources: list[SourceFile] = []
    first = 0
    for live in chosen:
        path = live.file.file_path
        source = SourceFile(live, gone[path], deletes[path], first)
        sources.append(source)
        first += source.rows
    return sources


def deleted_positions(
    io: FileIO, files: TableFiles, chosen: Sequence[LiveFile]
) -> tuple[dict[str, np.ndarray], dict[str, frozenset[str]]]:
    """Path -> positions that are deleted, and path -> the delete files that may say so.

    Each delete file is read once, however many data files it serves.
    """
    deletes = delete_paths(files, chosen)
    readers: dict[str, list[str]] = {}
    for path, several in deletes.items():
        for delete in several:
            readers.setdefault(delete, []).append(path)
    parts: dict[str, list[np.ndarray]] = {path: [] for path in deletes}
    for delete in files.deletes:
        wanted = readers.get(delete.file.file_path, ())
        if wanted:
            named = read_named(io, delete.file)
            for path in wanted:
                if path in named:
                    parts[path].append(named[path])
    rows = {live.file.file_path: live.file.record_count for live in chosen}
    gone = {
        path: _distinct(several, rows[path]) if several else np.empty(0, dtype=np.int64)
        for path, several in parts.items()
    }
    return gone, deletes


def delete_paths(files: TableFiles, chosen: Sequence[LiveFile]) -> dict[str, frozenset[str]]:
    """Path -> the delete files that may apply to it."""
    found: dict[str, frozenset[str]] = {}
    for live in chosen:
        own, shared = files.deletes_for(live)
        found[live.file.file_path] = frozenset(one.file.file_path for one in (*own, *shared))
    return found


def _distinct(parts: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """Positions behind a file's end name no row."""
    positions = np.unique(np.concatenate(parts))
    return positions[positions < rows]


class LiveRows:
    """Reads the live rows of ``sources`` under the present columns of ``table``."""

    def __init__(self, table: Table, sources: Sequence[SourceFile]) -> None:
        self._table, self._sources = table, sources
        self._io, self._schema = table.io, table.schema()

    def __iter__(self) -> Iterator[pa.Table]:
        """Rows in the order of their numbers."""
        with ThreadPoolExecutor(1) as pool:
            ahead: deque[Future[list[pa.Table]] | SourceFile] = deque()
            waiting = iter(self._sources)
            while True:
                while len(ahead) < AHEAD and (source := next(waiting, None)) is not None:
                    size = source.live.file.file_size_in_bytes
                    is_small = source.rows and size <= WHOLE_BYTES
                    ahead.append(pool.submit(self._read_whole, source) if is_small else source)
                if not ahead:
                    return
                following = ahead.popleft()
                if isinstance(following, SourceFile):
                    yield from self._read_parts(following)
                else:
                    yield from following.result()

    def _read_whole(self, source: SourceFile) -> list[pa.Table]:
        return list(self._live(source, open_whole(self._io, source.path)))

    def _read_parts(self, source: SourceFile) -> Iterator[pa.Table]:
        with self._opened(source) as parquet:
            yield from self._live(source, parquet)

    @contextmanager
    def _opened(self, source: SourceFile) -> Generator[pq.ParquetFile]:
        with self._io.new_input(source.path).open() as stream:
            yield pq.ParquetFile(stream, buffer_size=STREAM_BYTES)

    def _live(self, source: SourceFile, parquet: pq.ParquetFile) -> Iterator[pa.Table]:
        count = parquet.metadata.num_rows
        if count != source.live.file.record_count:
            recorded = source.live.file.record_count
            raise SourceFileDamagedError(source.path, recorded=recorded, found=count)
        if not source.rows:
            return
        constants = self._partition_constants(source.live)
        first = 0
        for batch in parquet.iter_batches(_batch_rows(parquet.metadata), use_threads=False):
            rows = pa.Table.from_batches([batch])
            start, stop = np.searchsorted(source.gone, [first, first + len(batch)]).tolist()
            if start < stop:
                keep = np.ones(len(batch), dtype=bool)
                keep[source.gone[start:stop] - first] = False
                rows = rows.filter(pa.array(keep))
            first += len(batch)
            if rows.num_rows:
                yield as_columns(rows, self._schema, constants)

    def _partition_constants(self, live: LiveFile) -> dict[str, pa.Array]:
        """What a file need not hold itself: the values that it is partitioned by as they are.

        Source: Iceberg spec, "Column projection".
        """
        spec = self._table.specs()[live.file.spec_id]
        found: dict[str, pa.Array] = {}
        for number, field in enumerate(spec.fields):
            name = self._schema.find_column_name(field.source_id)
            if name is not None and isinstance(field.transform, IdentityTransform):
                kind = arrow_schema(self._schema).field(name).type
                found[name] = _constant(live.file.partition[number], kind)
        return found


def _constant(value: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        stored = None if value is None else getattr(value, "bytes", value)
        return pa.ExtensionArray.from_storage(kind, pa.array([stored], storage_type(kind)))
    return pa.array([value], kind)


def _batch_rows(footer: pq.FileMetaData) -> int:
    """So many rows that a batch takes about ``BATCH_BYTES``."""
    total = sum(footer.row_group(g).total_byte_size for g in range(footer.num_row_groups))
    width = max(1, total // max(1, footer.num_rows))
    return max(16, min(65_536, BATCH_BYTES // width))


def read_columns(io: FileIO, path: str, schema: Schema, names: Sequence[str]) -> Iterator[pa.Table]:
    """Columns of a file that has those of ``schema`` under their names, a batch at a time."""
    with io.new_input(path).open() as stream:
        parquet = pq.ParquetFile(stream, buffer_size=STREAM_BYTES)
        rows = _batch_rows(parquet.metadata)
        fields = [schema.find_field(name) for name in names]
        wanted = Schema(*fields)
        for batch in parquet.iter_batches(rows, columns=[*names], use_threads=False):
            yield as_columns(pa.Table.from_batches([batch]), wanted)
