"""Writing one Parquet data file with its Iceberg statistics.

What belongs here: Parquet in, ``DataFile`` out; bounds are taken from the file's own footer as raw
physical values, so infinite timestamps cost nothing and fail nowhere. What does not: the form of a
bound (``bounds.py``), which rows go into which file (``partitions.py``), delete files
(``delete_file.py``) and commits. Source: Iceberg spec, "Data file fields".
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionKey, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.locations import LocationProvider
from pyiceberg.typedef import Record
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    ListType,
    PrimitiveType,
)

from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.bounds import lower_bound, upper_bound
from carbon_pipelines.lake.evolution import arrow_schema

ROW_GROUP_ROWS = 131_072
"""Rows of a row group: small enough that a lookup of few keys reads little."""


@dataclass(frozen=True, slots=True)
class FileTarget:
    """Where files of a table go and what they look like.

    ``dictionary`` names the columns that are worth a dictionary; ``None`` tries it for each, which
    costs CPU and bytes where nearly every value is another. ``uncompressed`` names those that
    compression makes no smaller. ``batch_rows`` are encoded at once; a page holds as many at least.
    """

    io: FileIO
    locations: LocationProvider
    schema: Schema
    spec: PartitionSpec
    sort_order_id: int | None = None
    compression: str = "zstd"
    dictionary: tuple[str, ...] | None = None
    uncompressed: frozenset[str] = frozenset()
    batch_rows: int = 1024

    @property
    def compressions(self) -> dict[str, str]:
        """The compression of each Parquet column, by its path."""
        return {
            f"{field.name}.list.element"
            if isinstance(field.field_type, ListType)
            else field.name: "none" if field.name in self.uncompressed else self.compression
            for field in self.schema.fields
        }


class DataFileWriter:
    """Writes batches to one new Parquet file; ``close`` gives its ``DataFile``.

    Batches have the columns of ``arrow_schema(target.schema)`` in that order. A writer that is
    abandoned leaves an unreferenced object at most.
    """

    def __init__(self, target: FileTarget, partition: PartitionKey | None = None) -> None:
        self._target, self._partition = target, partition
        self._schema = arrow_schema(target.schema)
        name = f"{uuid.uuid4()}.parquet"
        self.path = target.locations.new_data_location(name, partition)
        self._output = target.io.new_output(self.path)
        # its name is new: nothing to look for
        self._stream = self._output.create(overwrite=True)
        self._footers: list[pq.FileMetaData] = []
        # a list is taken too, which pyarrow's stubs do not know
        dictionary: Any = True if target.dictionary is None else [*target.dictionary]
        self._writer = pq.ParquetWriter(
            self._stream,
            self._schema,
            **_compression(target),
            write_batch_size=target.batch_rows,
            store_decimal_as_integer=True,
            use_dictionary=dictionary,
            metadata_collector=self._footers,
        )
        self._nans: dict[int, int] = {
            field.field_id: 0
            for field in target.schema.fields
            if isinstance(field.field_type, FloatType | DoubleType)
        }

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Append ``rows``; they become row groups of at most ``ROW_GROUP_ROWS``."""
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        for field_id in self._nans:
            column = table.column(self._target.schema.find_column_name(field_id))
            self._nans[field_id] += pc.sum(pc.is_nan(column)).as_py() or 0
        self._writer.write_table(table.cast(self._schema), row_group_size=ROW_GROUP_ROWS)

    @property
    def written_bytes(self) -> int:
        """What the file has of whole row groups so far."""
        return self._stream.tell()

    def close(self) -> DataFile:
        """Finish the file and describe it."""
        self._writer.close()
        size_bytes = self._stream.tell()
        self._stream.close()
        (footer,) = self._footers
        written = WrittenFile(self.path, size_bytes, footer, self._nans)
        return describe_file(written, self._target, self._partition)

    def abandon(self) -> None:
        """Stop without a usable file; what was uploaded is removed where the store answers."""
        self._writer.close()
        self._stream.close()
        self._target.io.delete(self.path)


def _compression(target: FileTarget) -> dict[str, Any]:
    level = 1 if target.compression == "zstd" else None
    if not target.uncompressed:
        return {"compression": target.compression, "compression_level": level}
    codecs = target.compressions
    levels = {name: level for name, codec in codecs.items() if codec != "none" and level}
    return {"compression": codecs, "compression_level": levels}


def write_data_file(
    rows: Iterable[pa.Table], target: FileTarget, partition: PartitionKey | None = None
) -> DataFile:
    """Write all ``rows`` to one file."""
    writer = DataFileWriter(target, partition)
    for table in rows:
        writer.write(table)
    return writer.close()


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A finished Parquet file: where, how large, its footer, NaN values by field id."""

    path: str
    size_bytes: int
    footer: pq.FileMetaData
    nans: dict[int, int]


def describe_file(
    written: WrittenFile, target: FileTarget, partition: PartitionKey | None
) -> DataFile:
    """The ``DataFile`` of a finished Parquet file, from its footer."""
    footer, nans = written.footer, written.nans
    columns = _column_facts(footer, target.schema)
    bounded = {i: c for i, c in columns.items() if c.minimum is not None and not nans.get(i)}
    lower = {i: lower_bound(c.type, c.minimum) for i, c in bounded.items()}
    upper = {i: upper_bound(c.type, c.maximum) for i, c in bounded.items()}
    data_file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=written.path,
        file_format=FileFormat.PARQUET,
        partition=partition.partition if partition else Record(),
        record_count=footer.num_rows,
        file_size_in_bytes=written.size_bytes,
        column_sizes={i: c.size_bytes for i, c in columns.items()},
        value_counts={i: c.values for i, c in columns.items()},
        null_value_counts={i: c.nulls for i, c in columns.items() if c.nulls is not None},
        nan_value_counts=nans,
        lower_bounds={i: value for i, value in lower.items() if value is not None},
        upper_bounds={i: value for i, value in upper.items() if value is not None},
        key_metadata=None,
        split_offsets=[_first_offset(footer.row_group(g)) for g in range(footer.num_row_groups)],
        equality_ids=None,
        sort_order_id=target.sort_order_id,
    )
    data_file.spec_id = target.spec.spec_id
    return data_file


@dataclass(slots=True)
class _ColumnFacts:
    type: PrimitiveType
    size_bytes: int = 0
    values: int = 0
    nulls: int | None = 0
    minimum: Any = None
    maximum: Any = None
    bounded: bool = True


def _column_facts(footer: pq.FileMetaData, schema: Schema) -> dict[int, _ColumnFacts]:
    """Sizes, counts and raw bounds of every top-level primitive column, over all row groups.

    Columns are told apart by their place: a list is one Parquet column too, and a path may be the
    name of another column that has dots in it.
    """
    assert footer.num_columns == len(schema.fields)
    facts: dict[int, _ColumnFacts] = {}
    for index, field in enumerate(schema.fields):
        if isinstance(field.field_type, PrimitiveType):
            fact = facts[field.field_id] = _ColumnFacts(field.field_type)
            for group in range(footer.num_row_groups):
                _add_chunk(fact, footer.row_group(group).column(index))
    return facts


def _add_chunk(fact: _ColumnFacts, chunk: pq.ColumnChunkMetaData) -> None:
    fact.size_bytes += chunk.total_compressed_size
    fact.values += chunk.num_values
    statistics = chunk.statistics
    nulls = statistics.null_count if statistics is not None and statistics.has_null_count else None
    fact.nulls = None if nulls is None or fact.nulls is None else fact.nulls + nulls
    if nulls == chunk.num_values:
        return
    if statistics is None or not statistics.has_min_max or not fact.bounded:
        fact.bounded, fact.minimum, fact.maximum = False, None, None
        return
    low, high = _ordered(fact.type, statistics.min_raw), _ordered(fact.type, statistics.max_raw)
    fact.minimum = low if fact.minimum is None else min(fact.minimum, low)
    fact.maximum = high if fact.maximum is None else max(fact.maximum, high)


def _first_offset(row_group: pq.RowGroupMetaData) -> int:
    chunk = row_group.column(0)
    return chunk.dictionary_page_offset or chunk.data_page_offset


def _ordered(kind: PrimitiveType, raw: Any) -> Any:
    """A raw value that Python compares as Iceberg does: a wide decimal's bytes are signed."""
    if isinstance(kind, DecimalType) and isinstance(raw, bytes):
        return int.from_bytes(raw, "big", signed=True)
    return raw
