"""Writing the live rows of a group of files again: sorted, in files of the target's size.

What belongs here: the way of the rows from the old files to the new ones, in bounded memory, and
the proof that they are the same rows. What does not: which files (``compaction.py``) and the commit
(``compact.py``).

Rows get the table's present columns (known by field id, so a renamed one keeps its values and one
that came later is NULL), its present partition spec and, if it declares one, its sort order. Memory
is bounded by a run of the sort and a row group, whatever the group's size; the rest is spilled to a
local directory.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table

from carbon_pipelines.errors import CompactionInvariantError
from carbon_pipelines.lake.commit import discard_files
from carbon_pipelines.lake.partition_values import RowPartition
from carbon_pipelines.lake.partitions import file_target
from carbon_pipelines.lake.table_files import LiveFile, TableFiles
from carbon_pipelines.maintenance.bounded_sort import RUN_BYTES, BoundedSort, sort_keys
from carbon_pipelines.maintenance.compaction import LARGE
from carbon_pipelines.maintenance.compaction_plan import CompactionGroup
from carbon_pipelines.maintenance.fingerprint import Fingerprint, Fingerprinter, key_columns
from carbon_pipelines.maintenance.live_rows import (
    LiveRows,
    SourceFile,
    open_sources,
    read_columns,
)
from carbon_pipelines.maintenance.rolling_files import RollingFiles, RoutedFiles, WrittenOutput

FILL = 0.9
"""A file that has grown to this part of what counts as large is ended, whatever was planned."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A group whose rows are in new files, which nothing refers to yet.

    Attributes:
        group: As planned.
        sources: The files that were read, with what was deleted from them then.
        outputs: The new files; none if no row was live.
    """

    group: CompactionGroup
    sources: Sequence[SourceFile]
    outputs: Sequence[WrittenOutput]

    @property
    def rows(self) -> int:
        """Live rows."""
        return sum(source.rows for source in self.sources)

    @property
    def deleted_rows(self) -> int:
        """Rows that were deleted before and are in no file after."""
        return sum(len(source.gone) for source in self.sources)

    @property
    def written_bytes(self) -> int:
        """Size of the new files."""
        return sum(output.file.file_size_in_bytes for output in self.outputs)


def rewrite_group(
    table: Table,
    files: TableFiles,
    group: CompactionGroup,
    directory: Path,
    *,
    run_bytes: int = RUN_BYTES,
) -> Rewritten:
    """Write the live rows of ``group`` to new files and prove that they are the same.

    Args:
        table: As loaded; gives columns, spec and order.
        files: Those of its ``main``; every file of the group is among them.
        group: What to write again.
        directory: On local disk, for what memory does not hold; the caller removes it, but only
            after the commit, for it tells where each row went.
        run_bytes: Rows that are sorted at once.

    Raises:
        CompactionInvariantError: The new files do not hold the same rows; they are removed.
        SourceFileDamagedError: A file has not the rows that its manifest says.
    """
    by_path = {live.file.file_path: live for live in files.data}
    chosen = [by_path[path] for path in group.paths]
    sources = open_sources(table.io, files, chosen)
    before = Fingerprinter(table.schema(), key_columns(table.schema()))
    writer, keys = _writer(table, chosen[0], group, sources, directory)
    try:
        rows = _numbered(LiveRows(table, sources), before, writer.origin)
        if keys:
            sort = BoundedSort(keys, directory, run_bytes)
            for batch in rows:
                sort.add(batch)
            rows = sort.sorted()
        for batch in rows:
            writer.files.write(batch)
        outputs = writer.files.close()
    except BaseException:
        with suppress(OSError):
            discard_files(table.io, writer.files.abandon())
        raise
    done = Rewritten(group, sources, outputs)
    try:
        _check(table, done, before.result())
    except BaseException:
        discard_files(table.io, [output.file for output in outputs])
        raise
    return done


@dataclass(frozen=True, slots=True)
class _Writer:
    files: RollingFiles | RoutedFiles
    origin: str | None


def _writer(
    table: Table,
    first: LiveFile,
    group: CompactionGroup,
    sources: Sequence[SourceFile],
    directory: Path,
) -> tuple[_Writer, Sequence]:
    schema, spec = table.schema(), table.spec()
    keys = sort_keys(table.sort_order(), schema)
    target = file_target(table)
    if keys:
        target = replace(target, sort_order_id=table.metadata.default_sort_order_id)
    origin = _unused_name(schema.column_names)
    most_bytes = round(group.target_bytes * LARGE * FILL)
    if first.file.spec_id != spec.spec_id:
        # a file is ended once it has the target's size: how much of it each partition gets is not
        # known before
        routed = RoutedFiles(
            target, most_bytes=group.target_bytes, origin=origin, directory=directory
        )
        return _Writer(routed, origin), keys
    partition = None
    if not spec.is_unpartitioned():
        partition = RowPartition(spec, schema, first.file.partition)
    live = sum(source.rows for source in sources)
    kept = origin if keys else None
    rolling = RollingFiles(
        target,
        partition,
        rows_per_file=-(-live // max(1, group.output_files)),
        most_bytes=most_bytes,
        origin=kept,
        directory=directory,
    )
    return _Writer(rolling, kept), keys


def _unused_name(names: Iterable[str]) -> str:
    taken, name = set(names), "row_number"
    while name in taken:
        name += "_"
    return name


def _numbered(
    rows: Iterable[pa.Table], before: Fingerprinter, origin: str | None
) -> Iterator[pa.Table]:
    """The rows, summed up, with their numbers as the last column if they need them."""
    first = 0
    for batch in rows:
        before.add(batch)
        if origin is None:
            yield batch
        else:
            numbers = np.arange(first, first + batch.num_rows)
            yield batch.append_column(origin, pa.array(numbers))
        first += batch.num_rows


def _check(table: Table, done: Rewritten, before: Fingerprint) -> None:
    """Rows, deletes, NULLs by column and keys are what they were.

    Raises:
        CompactionInvariantError: Names the first that is not.
    """
    schema = table.schema()
    key = key_columns(schema)
    after = Fingerprinter(schema, key)
    for output in done.outputs:
        for batch in read_columns(table.io, output.file.file_path, schema, key):
            after.add(batch, keys_only=True)
    found = after.result()
    written = [output.file for output in done.outputs]
    recorded = sum(source.live.file.record_count for source in done.sources)
    nulls = {
        name: sum((file.null_value_counts or {}).get(field_id, 0) for file in written)
        for name in before.nulls
        for field_id in [schema.find_field(name).field_id]
    }
    compared = (
        ("live rows", done.rows, before.rows),
        ("rows", before.rows, sum(file.record_count for file in written)),
        ("rows read back", before.rows, found.rows),
        ("deleted rows", done.deleted_rows, recorded - found.rows),
        *((f"NULLs in column {name}", count, nulls[name]) for name, count in before.nulls.items()),
        ("sum of the keys' hashes", before.key_sum, found.key_sum),
        ("exclusive or of the keys' hashes", before.key_xor, found.key_xor),
    )
    for what, expected, got in compared:
        if expected != got:
            label = "/".join(table.name())
            raise CompactionInvariantError(
                label, what, expected=expected, found=got, files=done.group.paths
            )
