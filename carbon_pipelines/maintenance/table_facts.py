"""What upkeep knows of a table before it reads a row: facts from manifests and metadata.

What belongs here: the facts, and reading them from a table as loaded. What does not: judging them
(``health.py``) and planning with them (``compaction.py``).

Which rows a delete file that serves several data files names, only the file itself tells. Its rows
are shared out among the data files that its bounds allow, by their number of rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import PrimitiveType

from carbon_pipelines.errors import TargetSizeError
from carbon_pipelines.lake.history_columns import TO_LSN
from carbon_pipelines.lake.partition_values import RowPartition
from carbon_pipelines.lake.table_files import LiveFile, TableFiles, load_table_files, may_name

TARGET_BYTES = 128 * 1024 * 1024
"""Size of a data file where the table says none: a merge that finds a row in it reads little."""
TARGET_PROPERTY = "write.target-file-size-bytes"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One live data file.

    Attributes:
        path: Its address.
        size_bytes: Of the object.
        rows: In the file, dead ones included.
        group: (spec id, partition), as hashable as the manifest's record.
        partition: The same for people, like ``day=2024-03-01``; empty if not partitioned.
        sequence_number: Of the snapshot that added it.
        touched_number: Of the last snapshot that added it or deleted from it.
        deleted_rows: Rows that delete files name, estimated where they are shared.
        delete_files: Delete files that a reader of this file opens.
        sort_order_id: The order that its rows are known to be in; 0 for none.
        older_schema: Whether it was written before a column that the table has now.
        rows_kind: Rows of different kinds are kept in files of their own; in a history those that
            have ended, so that a merge, which looks for open ones, need not read them.
        refused: Why it cannot be rewritten, if so.
    """

    path: str
    size_bytes: int
    rows: int
    group: tuple[int, object]
    partition: str = ""
    sequence_number: int = 0
    touched_number: int = 0
    deleted_rows: int = 0
    delete_files: int = 0
    sort_order_id: int = 0
    older_schema: bool = False
    rows_kind: str = ""
    refused: str = ""

    @property
    def spec_id(self) -> int:
        """The partition spec that it was written with."""
        return self.group[0]

    @property
    def delete_ratio(self) -> float:
        """Share of the rows that are gone."""
        return min(1.0, self.deleted_rows / self.rows) if self.rows else 0.0

    @property
    def live_bytes(self) -> int:
        """About what the live rows take."""
        return round(self.size_bytes * (1 - self.delete_ratio))


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One table at one snapshot.

    Attributes:
        label: The table as commands spell it.
        snapshot_id: Which snapshot; None for a table without any.
        sequence_number: Of that snapshot.
        target_bytes: The size that data files should have.
        spec_id: The partition spec that new files get.
        sort_order_id: The order that new files should be in; 0 for none.
        files: Live data files.
        delete_files: Live delete files.
        delete_bytes: Their size.
        delete_rows: Positions that they name.
        dangling: Paths of delete files that can name no live data file.
        refused: Why no file of the table may be rewritten, if so.
        manifests: Manifests of the snapshot.
        manifest_bytes: Their size, with the manifest list's.
        snapshots: Snapshots that the metadata knows.
        metadata_bytes: Size of the metadata file.
    """

    label: str
    snapshot_id: int | None = None
    sequence_number: int = 0
    target_bytes: int = TARGET_BYTES
    spec_id: int = 0
    sort_order_id: int = 0
    files: Sequence[FileFacts] = ()
    delete_files: int = 0
    delete_bytes: int = 0
    delete_rows: int = 0
    dangling: Sequence[str] = field(default=())
    refused: str = ""
    manifests: int = 0
    manifest_bytes: int = 0
    snapshots: int = 0
    metadata_bytes: int = 0

    def by_group(self) -> dict[tuple[int, object], list[FileFacts]]:
        """Files of each (spec id, partition)."""
        groups: dict[tuple[int, object], list[FileFacts]] = {}
        for file in self.files:
            groups.setdefault(file.group, []).append(file)
        return groups


def load_facts(table: Table, files: TableFiles | None = None) -> TableFacts:
    """The facts of ``table``'s ``main`` as loaded; ``files`` are its files if they are at hand.

    Raises:
        TargetSizeError: The table's declared file size is no size.
    """
    snapshot = table.current_snapshot()
    if files is None:
        files = load_table_files(snapshot, table.io)
    deletes = files.deletes
    manifest_bytes = sum(manifest.manifest_length for manifest in files.manifests)
    return TableFacts(
        label="/".join(table.name()),
        snapshot_id=snapshot.snapshot_id if snapshot is not None else None,
        sequence_number=(snapshot.sequence_number or 0) if snapshot is not None else 0,
        target_bytes=_target_bytes(table),
        spec_id=table.metadata.default_spec_id,
        sort_order_id=table.metadata.default_sort_order_id,
        files=tuple(_file_facts(files, table.specs(), table.schema())),
        delete_files=len(deletes),
        delete_bytes=sum(live.file.file_size_in_bytes for live in deletes),
        delete_rows=sum(live.file.record_count for live in deletes),
        dangling=tuple(live.file.file_path for live in find_dangling(files)),
        refused=why_refused(table, files),
        manifests=len(files.manifests),
        manifest_bytes=manifest_bytes
        + (_size(table.io, snapshot.manifest_list) if snapshot is not None else 0),
        snapshots=len(table.metadata.snapshots),
        metadata_bytes=_size(table.io, table.metadata_location),
    )


def _target_bytes(table: Table) -> int:
    text = table.properties.get(TARGET_PROPERTY, str(TARGET_BYTES))
    if not (text.isascii() and text.isdigit() and int(text)):
        raise TargetSizeError("/".join(table.name()), TARGET_PROPERTY, text)
    return int(text)


def find_dangling(files: TableFiles) -> list[LiveFile]:
    """Delete files that, by path, age and bounds, can name no live data file."""
    by_path = {data.file.file_path: data for data in files.data}
    by_group: dict[tuple[int, object], list[LiveFile]] = {}
    for data in files.data:
        by_group.setdefault((data.file.spec_id, data.file.partition), []).append(data)
    dangling: list[LiveFile] = []
    for path, several in files.deletes_by_path.items():
        data = by_path.get(path)
        dangling += [one for one in several if data is None or not one.applies_to(data)]
    for group, several in files.deletes_by_partition.items():
        there = by_group.get(group, ())
        dangling += [one for one in several if not any(_reaches(one, data) for data in there)]
    return dangling


def _reaches(delete: LiveFile, data: LiveFile) -> bool:
    return delete.applies_to(data) and may_name(delete.file, data.file.file_path)


def _file_facts(
    files: TableFiles, specs: Mapping[int, PartitionSpec], schema: Schema
) -> Iterable[FileFacts]:
    expected = frozenset(
        field.field_id for field in schema.fields if isinstance(field.field_type, PrimitiveType)
    )
    # no file has a column of this id where the table keeps no history
    ended_id = schema.find_field(TO_LSN).field_id if TO_LSN in schema.column_names else -1
    shared = _shared_out(files)
    labels: dict[tuple[int, object], str] = {}
    for data in files.data:
        file, group = data.file, (data.file.spec_id, data.file.partition)
        if group not in labels:
            labels[group] = _partition_label(file, specs, schema)
        own, others = files.deletes_for(data)
        gone = sum(live.file.record_count for live in own) + shared.get(file.file_path, 0.0)
        counted = file.value_counts or {}
        yield FileFacts(
            path=file.file_path,
            size_bytes=file.file_size_in_bytes,
            rows=file.record_count,
            group=group,
            partition=labels[group],
            sequence_number=data.sequence_number,
            touched_number=max(live.sequence_number for live in (data, *own, *others)),
            deleted_rows=min(file.record_count, round(gone)),
            delete_files=len(own) + len(others),
            sort_order_id=file.sort_order_id or 0,
            older_schema=bool(counted) and not expected <= counted.keys(),
            rows_kind="ended" if (file.null_value_counts or {}).get(ended_id) == 0 else "",
            refused=why_unreadable((data, *own, *others)),
        )


def _shared_out(files: TableFiles) -> dict[str, float]:
    """Path -> about how many of its rows delete files name that serve several data files."""
    by_group: dict[tuple[int, object], list[LiveFile]] = {}
    for data in files.data:
        by_group.setdefault((data.file.spec_id, data.file.partition), []).append(data)
    found: dict[str, float] = {}
    for group, deletes in files.deletes_by_partition.items():
        for delete in deletes:
            reached = [data for data in by_group.get(group, ()) if _reaches(delete, data)]
            rows = sum(data.file.record_count for data in reached) or 1
            for data in reached:
                share = delete.file.record_count * data.file.record_count / rows
                path = data.file.file_path
                found[path] = found.get(path, 0.0) + share
    return found


def _partition_label(file: DataFile, specs: Mapping[int, PartitionSpec], schema: Schema) -> str:
    spec = specs[file.spec_id]
    if spec.is_unpartitioned():
        return ""
    if any(schema.find_column_name(field.source_id) is None for field in spec.fields):
        return str(file.partition)
    return RowPartition(spec, schema, file.partition).to_path()


def why_unreadable(files: Iterable[LiveFile]) -> str:
    """Why a data file cannot be rewritten, told from it and its delete files; empty if it can."""
    for live in files:
        kind = FileFormat(live.file.file_format)
        if kind != FileFormat.PARQUET:
            return f"{live.file.file_path} is {kind.value}, which we do not read"
    return ""


def why_refused(table: Table, files: TableFiles) -> str:
    """Why no file of a table may be rewritten; empty if they may.

    A new file is younger than the equality deletes of before it, so they would not apply to it.
    """
    if table.metadata.format_version > 2:
        return f"it has format version {table.metadata.format_version}; we write version 2"
    if files.equality_deletes:
        path = files.equality_deletes[0].file.file_path
        return f"another engine wrote equality deletes ({path}), which we do not apply"
    return ""


def _size(io: FileIO, path: str) -> int:
    return len(io.new_input(path))
