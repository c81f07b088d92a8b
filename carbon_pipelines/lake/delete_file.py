"""Position delete files: reading which rows are gone and writing which go now.

What belongs here: Iceberg v2 position deletes. What does not: which rows go (``lookup.py``) and
commits. Rows of a delete file are sorted by ``file_path``, then ``pos``: readers rely on it without
checking. Source: Iceberg spec, "Position Delete Files".
"""

import uuid
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionKey
from pyiceberg.table.locations import LocationProvider
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import Record

from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.table_files import DELETE_FILE_PATH_ID, TableFiles, load_table_files
from carbon_pipelines.lake.whole_files import WHOLE_BYTES, open_whole

POSITION_ID = 2147483545
"""Reserved field id of ``pos`` in position delete files."""
_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False, metadata={"PARQUET:field_id": str(field_id)})
        for name, kind, field_id in (
            ("file_path", pa.string(), DELETE_FILE_PATH_ID),
            ("pos", pa.int64(), POSITION_ID),
        )
    ]
)


def _read(io: FileIO, delete_file: DataFile, *columns: str) -> pa.Table:
    """Columns of a delete file; paths are a dictionary."""
    path = delete_file.file_path
    if delete_file.file_size_in_bytes <= WHOLE_BYTES:
        parquet = open_whole(io, path, dictionaries=["file_path"])
        return parquet.read(columns=[*columns], use_threads=False)
    with io.new_input(path).open() as stream:
        return pq.read_table(stream, columns=[*columns], read_dictionary=["file_path"])


def read_positions(io: FileIO, delete_files: Sequence[DataFile], path: str) -> np.ndarray:
    """Positions of ``path`` that ``delete_files`` name, sorted and distinct (int64)."""
    found: list[np.ndarray] = []
    for delete_file in delete_files:
        table = _read(io, delete_file, "file_path", "pos")
        mine = table.filter(pc.equal(table.column("file_path"), path))
        found.append(mine.column("pos").to_numpy())
    return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)


def read_named(io: FileIO, delete_file: DataFile) -> dict[str, np.ndarray]:
    """Everything that one delete file names: data file path -> positions (int64)."""
    table = _read(io, delete_file, "file_path", "pos")
    if not table.num_rows:
        return {}
    paths = table.column("file_path").unify_dictionaries().combine_chunks()
    codes, numbers = paths.indices.to_numpy(), table.column("pos").to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    parts = np.split(numbers[order], starts[1:])
    names = paths.dictionary.to_pylist()
    return {names[codes[order[at]]]: part for at, part in zip(starts, parts, strict=True)}


def count_rows(snapshot: Snapshot | None, io: FileIO) -> int:
    """Live rows of a snapshot.

    From its summary where there are no delete files, else from its files: a delete file may outlive
    a data file that it names, so records minus positions would be too few.
    """
    if snapshot is None:
        return 0
    totals = snapshot.summary.additional_properties if snapshot.summary else {}
    if totals.get("total-delete-files") == "0" and "total-records" in totals:
        return int(totals["total-records"])
    return _count_live_rows(load_table_files(snapshot, io), io)


def _count_live_rows(files: TableFiles, io: FileIO) -> int:
    live = {data.file.file_path: data for data in files.data}
    rows = sum(data.file.record_count for data in files.data)
    for path, deletes in files.deletes_by_path.items():
        if path in live:
            rows -= sum(d.file.record_count for d in deletes if d.applies_to(live[path]))
    for shared in (d for group in files.deletes_by_partition.values() for d in group):
        paths = _read(io, shared.file, "file_path").column("file_path")
        for path, named in zip(*paths.value_counts().flatten(), strict=True):
            data = live.get(path.as_py())
            if data is not None and shared.applies_to(data):
                rows -= named.as_py()
    return rows


def write_delete_file(
    io: FileIO,
    locations: LocationProvider,
    positions: Mapping[str, np.ndarray],
    spec_id: int,
    partition: Record,
    partition_key: PartitionKey | None = None,
) -> DataFile:
    """Write one delete file for data files of one spec and partition.

    Args:
        io: Writes the file.
        locations: Says where.
        positions: Data file path -> sorted positions (int64); at least one of each.
        spec_id: Partition spec of the data files.
        partition: Their partition, in Iceberg's representation.
        partition_key: The same for the object's path, or ``None`` for the table's data root.
    """
    path = locations.new_data_location(f"{uuid.uuid4()}-deletes.parquet", partition_key)
    names = sorted(positions)
    table = _delete_table(names, positions)
    output = io.new_output(path)
    with output.create(overwrite=True) as stream:  # its name is new: nothing to look for
        pq.write_table(table, stream, compression="zstd", compression_level=1)
        size_bytes = stream.tell()
    low, high = names[0].encode(), names[-1].encode()
    delete_file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=partition,
        record_count=table.num_rows,
        file_size_in_bytes=size_bytes,
        column_sizes={},
        value_counts={DELETE_FILE_PATH_ID: table.num_rows, POSITION_ID: table.num_rows},
        null_value_counts={DELETE_FILE_PATH_ID: 0, POSITION_ID: 0},
        nan_value_counts={},
        lower_bounds={DELETE_FILE_PATH_ID: low},
        upper_bounds={DELETE_FILE_PATH_ID: high},
        key_metadata=None,
        split_offsets=None,
        equality_ids=None,
        sort_order_id=None,
    )
    delete_file.spec_id = spec_id
    return delete_file


def _delete_table(names: Sequence[str], positions: Mapping[str, np.ndarray]) -> pa.Table:
    paths = [
        pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(len(positions[name]), dtype=np.int32)), pa.array([name])
        ).cast(pa.string())
        for name in names
    ]
    numbers = [pa.array(positions[name], type=pa.int64()) for name in names]
    return pa.table([pa.chunked_array(paths), pa.chunked_array(numbers)], schema=_SCHEMA)
