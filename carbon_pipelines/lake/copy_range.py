"""Copying one range of a source table into data files.

What belongs here: COPY's text to typed columns to Parquet, in bounded memory, and whether a table
can be mirrored at all. What does not: which ranges, and what becomes of the files
(``first_copy.py``).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import FullIdentityMissingError, KeyMissingError
from carbon_pipelines.lake.codec import decode_text_batch
from carbon_pipelines.lake.column_roles import check_roles
from carbon_pipelines.lake.data_file import FileTarget
from carbon_pipelines.lake.evolution import arrow_schema, captured_columns
from carbon_pipelines.lake.partitions import PartitionedWriter
from carbon_pipelines.lake.types import copy_type
from carbon_pipelines.source.copy import CtidRange, read_range
from carbon_pipelines.source.leaves import Heap, Piece
from carbon_pipelines.source.preflight import IDENTITIES
from carbon_pipelines.source.relation import SourceRelation


class RangeReader:
    """Copies ranges of one table as one source snapshot saw it; may be used by several threads.

    Args:
        constants: Arrays of the one value that each row has in a column of the lake's own.
    """

    def __init__(
        self,
        dsn: str,
        snapshot_id: str,
        relation: SourceRelation,
        heaps: Sequence[Heap],
        table: TableSpec,
        *,
        constants: Mapping[str, pa.Array] | None = None,
    ) -> None:
        self._constants = constants or {}
        self._dsn, self._snapshot_id = dsn, snapshot_id
        self._heaps = {heap.oid: heap.relation for heap in heaps}
        columns = captured_columns(relation, table)
        self._names = [column.name for column in columns]
        self._direct = {c.name: kind for c in columns if (kind := copy_type(c.type)) is not None}

    def copy(self, pieces: Sequence[Piece], target: FileTarget) -> tuple[list[DataFile], int]:
        """Copy one range; nothing refers to the files yet.

        Returns:
            The data files, one for each partition touched, and the number of rows.

        Raises:
            RelationRewrittenError: The table is not what the snapshot saw; start again.
            UnrepresentableValueError: A value has no place in its column.
        """
        schema = arrow_schema(target.schema)
        targets = {name: schema.field(name).type for name in self._names}
        writer = PartitionedWriter(target)
        for piece in pieces:
            heap, pages = self._heaps[piece.heap_oid], CtidRange(piece.first_page, piece.end_page)
            for batch in read_range(
                self._dsn, self._snapshot_id, heap, self._names, pages, self._direct
            ):
                rows = _complete(decode_text_batch(batch, targets), schema, self._constants)
                writer.write(rows)
        return writer.close(), writer.rows


def check_identity(relation: SourceRelation, table: TableSpec) -> None:
    """A mirror needs a replica identity: without one, updates and deletes are never sent.

    Raises:
        KeyMissingError: The owner dropped it.
        FullIdentityMissingError: Whole old rows are needed, and not sent.
        ColumnRoleError: The declared key, partitioning or order asks too much of a type.
    """
    identity = relation.replica_identity
    if table.is_bag and identity != "f":
        raise FullIdentityMissingError(relation.label, replica_identity=IDENTITIES[identity])
    if table.mode != "append" and not relation.identity_columns and identity != "f":
        raise KeyMissingError(relation.label, replica_identity=IDENTITIES[identity])
    check_roles(relation, table)


def _complete(
    batch: pa.RecordBatch, schema: pa.Schema, constants: Mapping[str, pa.Array]
) -> pa.Table:
    """The batch in the table's column order, columns that the source has not as their constants.

    Those without one are NULL.
    """
    every = pa.array(np.zeros(batch.num_rows, dtype=np.int64))
    arrays = [
        batch.column(field.name)
        if field.name in batch.schema.names
        else constants.get(field.name, pa.nulls(1, field.type)).take(every)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, names=schema.names)
