"""Giving the rows that exist the constant that an ``ADD COLUMN ... DEFAULT`` gave them.

What belongs here: writing the data files of a snapshot again under another schema, one after
another, deletes applied. What does not: planning the schema (``schema_change.py``) and the commit
(``schema_follow.py``).

PostgreSQL shows the constant in rows that it never touches and sends no event for them, and format
version 2 has no default for columns that a file lacks. So every file is written again, in the one
commit that adds the column. Memory is bounded by a row group of each partition that a file's rows
go to; the rows of a file stay in their order.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.delete_file import read_positions
from carbon_pipelines.lake.file_rows import as_columns
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.table_files import LiveFile, TableFiles, load_table_files
from carbon_pipelines.lake.types import arrow_type


def fill_files(table: Table, schema: Schema, constants: Mapping[str, str]) -> FileChanges:
    """Write every live row of ``table`` again, with the columns of ``schema``.

    Args:
        table: Its current snapshot is read.
        schema: The schema that the table is to have.
        constants: PostgreSQL's text of the value of each new column; others are NULL.

    Returns:
        The files that come and those that go; nothing refers to them yet.
    """
    files = load_table_files(table.current_snapshot(), table.io)
    rewriter = _Rewriter(table, files, schema, constants)
    added: list[DataFile] = []
    for data in files.data:
        added += rewriter.rewrite(data)
    return FileChanges(added, (), files.data, files.deletes, files.manifests)


class _Rewriter:
    def __init__(
        self, table: Table, files: TableFiles, schema: Schema, constants: Mapping[str, str]
    ) -> None:
        self._table, self._files, self._schema = table, files, schema
        self._target = file_target(table, schema)
        self._constants = {
            name: decode_column(pa.array([text]), arrow_type(schema.find_type(name)), column=name)
            for name, text in constants.items()
        }

    def rewrite(self, data: LiveFile) -> list[DataFile]:
        writer = PartitionedWriter(self._target)
        try:
            for rows in self._live_rows(data):
                writer.write(rows)
        except BaseException:
            writer.abandon()
            raise
        return writer.close()

    def _live_rows(self, data: LiveFile) -> Iterator[pa.Table]:
        own, shared = self._files.deletes_for(data)
        path = data.file.file_path
        gone = read_positions(self._table.io, [live.file for live in (*own, *shared)], path)
        with self._table.io.new_input(path).open() as stream:
            parquet = pq.ParquetFile(stream, pre_buffer=True)
            first = 0
            for group in range(parquet.num_row_groups):
                read = parquet.read_row_group(group, use_threads=False)
                inside = gone[(gone >= first) & (gone < first + read.num_rows)] - first
                keep = np.ones(read.num_rows, dtype=bool)
                keep[inside] = False
                first += read.num_rows
                rows = as_columns(read, self._schema, self._constants)
                yield rows if keep.all() else rows.filter(pa.array(keep))
