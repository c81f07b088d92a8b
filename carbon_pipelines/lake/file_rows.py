"""Whole rows of data files under the columns that a table has now.

What belongs here: giving what a file holds the names, types and order of a schema, and reading the
rows at known positions. What does not: finding positions (``lookup.py``) and what is done with the
rows.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema

from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.extension import storage
from carbon_pipelines.lake.lookup import FoundRows

READ_ROWS = 16_384
"""Rows that are decoded at once; bounds memory where rows are wide."""
_FIELD_ID = b"PARQUET:field_id"


def read_rows(found: FoundRows, schema: Schema, io: FileIO) -> Iterator[tuple[pa.Table, slice]]:
    """The rows at ``found.positions``, some at a time, each with which of the positions it is of.

    Row groups without one of the positions are not read.
    """
    positions = found.positions
    with io.new_input(found.data.file.file_path).open() as stream:
        parquet = pq.ParquetFile(stream)
        first = 0
        for group in range(parquet.num_row_groups):
            end = first + parquet.metadata.row_group(group).num_rows
            start, stop = np.searchsorted(positions, [first, end]).tolist()
            if start < stop:
                for batch in parquet.iter_batches(READ_ROWS, row_groups=[group], use_threads=False):
                    inside = np.searchsorted(positions, [first, first + len(batch)]).tolist()
                    if inside[0] < inside[1]:
                        of = slice(*inside)
                        taken = pa.Table.from_batches([batch]).take(pa.array(positions[of] - first))
                        yield as_columns(taken, schema), of
                    first += len(batch)
            first = end


def as_columns(
    read: pa.Table, schema: Schema, constants: Mapping[str, pa.Array] | None = None
) -> pa.Table:
    """The rows under ``schema``; columns are known by their ids, else by their names.

    Args:
        read: What a file holds.
        schema: Whose columns the rows get.
        constants: Arrays of the one value that a column has which the file has not; else NULL.
    """
    ids = {
        int(field.metadata[_FIELD_ID]): number
        for number, field in enumerate(read.schema)
        if field.metadata and _FIELD_ID in field.metadata
    }
    columns: list[pa.ChunkedArray] = []
    arrow = arrow_schema(schema)
    for field, kind in zip(schema.fields, arrow, strict=True):
        number = ids.get(field.field_id, -1) if ids else read.schema.get_field_index(field.name)
        constant = (constants or {}).get(field.name)
        if number >= 0:
            columns.append(_cast(read.column(number), kind.type))
        elif constant is None:
            columns.append(pa.chunked_array([pa.nulls(read.num_rows, kind.type)]))
        else:
            repeated = constant.take(pa.array(np.zeros(read.num_rows, dtype=np.int64)))
            columns.append(pa.chunked_array([repeated]))
    return pa.Table.from_arrays(columns, schema=arrow)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    if isinstance(kind, pa.BaseExtensionType):
        stored = [storage(chunk).cast(kind.storage_type) for chunk in column.chunks]
        chunks = [pa.ExtensionArray.from_storage(kind, one) for one in stored]
        return pa.chunked_array(chunks, type=kind)
    return column.cast(kind)
