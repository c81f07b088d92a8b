"""Writing rows to data files of a wanted size.

What belongs here: cutting a stream of rows into files and row groups, and keeping beside each file
which rows went into it. What does not: one file (``lake/data_file.py``), which encodings fit it
(``lake/encodings.py``) and the order of the rows (``bounded_sort.py``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionKey

from carbon_pipelines.lake.data_file import ROW_GROUP_ROWS, DataFileWriter, FileTarget
from carbon_pipelines.lake.encodings import fitted
from carbon_pipelines.lake.partition_values import split_by_partition

ROW_GROUP_BYTES = 32 * 1024 * 1024
"""Rows in memory that become a row group however few they are."""
ROUTED_BYTES = 32 * 1024 * 1024
"""Rows that wait for more of their partition, all partitions together."""
_CHUNK_ROWS = 1_048_576


@dataclass(frozen=True, slots=True)
class WrittenOutput:
    """A new data file, and which rows of the group it holds.

    Attributes:
        file: The file; nothing refers to it yet.
        first: Number of its first row, if its rows are those that follow it.
        origins: Where the numbers of its rows are, if they come in any order.
    """

    file: DataFile
    first: int
    origins: Path | None = None

    def positions(self, numbers: np.ndarray) -> np.ndarray:
        """Where in the file the rows of these numbers are, sorted; those of others are not."""
        if self.origins is None:
            inside = numbers - self.first
            return np.sort(inside[(inside >= 0) & (inside < self.file.record_count)])
        found = [np.empty(0, dtype=np.int64)]
        for start, part in _chunks(self.origins, self.file.record_count):
            found.append(start + np.flatnonzero(np.isin(part, numbers)))
        return np.concatenate(found)


def _chunks(path: Path, rows: int) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, rows, _CHUNK_ROWS):
        yield start, np.fromfile(path, dtype=np.int64, count=_CHUNK_ROWS, offset=8 * start)


class RollingFiles:
    """Writes the rows of one partition to files of about ``rows_per_file`` rows.

    Args:
        target: Where files go; its dictionary columns are chosen here.
        partition: Of all rows.
        rows_per_file: Of each file but the last, up to row groups.
        most_bytes: A file that has grown to this is ended too.
        origin: Name of the last column of the rows, which holds their numbers and is not written;
            None if rows come in the order of their numbers.
        directory: For the numbers of rows.
    """

    def __init__(
        self,
        target: FileTarget,
        partition: PartitionKey | None,
        *,
        rows_per_file: int,
        most_bytes: int,
        origin: str | None,
        directory: Path,
    ) -> None:
        self._target, self._partition = target, partition
        self._rows_per_file, self._most_bytes = max(1, rows_per_file), most_bytes
        self._origin, self._directory = origin, directory
        self._pending: list[pa.Table] = []
        self._pending_rows = self.pending_bytes = 0
        self._writer: DataFileWriter | None = None
        self._file_rows = self._first = 0
        self._written: list[WrittenOutput] = []

    def write(self, rows: pa.Table) -> None:
        """Take rows; they are held until they fill a row group."""
        while rows.num_rows:
            room = self._rows_per_file - self._file_rows - self._pending_rows
            part = rows.slice(0, min(room, ROW_GROUP_ROWS - self._pending_rows))
            rows = rows.slice(part.num_rows)
            self._pending.append(part)
            self._pending_rows += part.num_rows
            self.pending_bytes += part.nbytes
            full = self._pending_rows >= ROW_GROUP_ROWS or self.pending_bytes >= ROW_GROUP_BYTES
            if full or part.num_rows == room:
                self.flush()

    def flush(self) -> None:
        """Write what is held as a row group, and end the file if that fills it."""
        if not self._pending_rows:
            return
        rows = pa.concat_tables(self._pending)
        self._pending, self._pending_rows, self.pending_bytes = [], 0, 0
        if self._origin is not None:
            numbers = rows.column(self._origin).to_numpy()
            with self._origins().open("ab") as out:
                numbers.astype(np.int64).tofile(out)
            rows = rows.drop_columns([self._origin])
        if self._writer is None:
            self._writer = DataFileWriter(fitted(self._target, rows), self._partition)
        self._writer.write(rows)
        self._file_rows += rows.num_rows
        if self._file_rows >= self._rows_per_file or self._writer.written_bytes >= self._most_bytes:
            self._end_file()

    def close(self) -> list[WrittenOutput]:
        """Finish the last file; none if no row was written."""
        self.flush()
        if self._writer is not None:
            self._end_file()
        return self._written

    def abandon(self) -> list[DataFile]:
        """Give the open file up; the finished ones, which are to be removed."""
        if self._writer is not None:
            self._writer.abandon()
        return [output.file for output in self._written]

    def _end_file(self) -> None:
        assert self._writer is not None
        origins = self._origins() if self._origin is not None else None
        self._written.append(WrittenOutput(self._writer.close(), self._first, origins))
        self._first += self._file_rows
        self._writer, self._file_rows = None, 0

    def _origins(self) -> Path:
        return self._directory / f"{id(self):x}-{len(self._written)}.origins"


class RoutedFiles:
    """Writes rows to the files of the partitions that they belong to."""

    def __init__(
        self, target: FileTarget, *, most_bytes: int, origin: str, directory: Path
    ) -> None:
        self._target, self._most_bytes = target, most_bytes
        self._origin, self._directory = origin, directory
        self._files: dict[object, RollingFiles] = {}

    def write(self, rows: pa.Table) -> None:
        """Take rows of any partition."""
        schema, spec = self._target.schema, self._target.spec
        if spec.is_unpartitioned():
            self._of(None).write(rows)
        else:
            for partition, part in split_by_partition(rows, spec, schema):
                self._of(partition).write(part)
        while sum(files.pending_bytes for files in self._files.values()) > ROUTED_BYTES:
            max(self._files.values(), key=lambda files: files.pending_bytes).flush()

    def close(self) -> list[WrittenOutput]:
        """Finish all files."""
        return [output for files in self._files.values() for output in files.close()]

    def abandon(self) -> list[DataFile]:
        """Give the open files up; the finished ones, which are to be removed."""
        return [file for files in self._files.values() for file in files.abandon()]

    def _of(self, partition: PartitionKey | None) -> RollingFiles:
        key = partition.partition if partition else None
        if key not in self._files:
            self._files[key] = RollingFiles(
                self._target,
                partition,
                rows_per_file=2**62,
                most_bytes=self._most_bytes,
                origin=self._origin,
                directory=self._directory,
            )
        return self._files[key]
