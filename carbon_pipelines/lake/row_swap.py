"""Putting rows in the place of whatever stands at their keys, as one snapshot.

What belongs here: one attempt on a table as loaded, files and commit. What does not: which keys and
rows (``replace_rows.py``, ``dead_letters.py``), planning anew after a conflict, and merging events,
whose rows may need values of the ones that they replace (``merge.py``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.table import Table

from carbon_pipelines.lake.commit import commit_files, discard_files
from carbon_pipelines.lake.deltas import plan_deletes, write_deletes
from carbon_pipelines.lake.keys import KeySet
from carbon_pipelines.lake.lookup import RowLookup
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.table_files import load_table_files


@dataclass(frozen=True, slots=True)
class Swapped:
    """A swap that is in the table; ``removed_rows`` were live before."""

    snapshot_id: int
    removed_rows: int


def swap_rows(
    table: Table,
    key: Sequence[str],
    keys: KeySet,
    rows: pa.Table,
    properties: Mapping[str, str],
    *,
    after_write: Callable[[], None] = lambda: None,
) -> Swapped | None:
    """Remove every row at ``keys`` and add ``rows``.

    Args:
        table: As loaded; ``main`` is swapped.
        key: Names of the columns of ``keys``.
        keys: Typed as the table's.
        rows: In the table's schema and in the order to write them.
        properties: Of the snapshot's summary.
        after_write: Called before the commit; for tests.

    Returns:
        None if another commit came first; then nothing of this is in the table.

    Raises:
        CommitUnknownError: The answer to the commit was lost (retryable).
    """
    files = load_table_files(table.current_snapshot(), table.io)
    deletes = plan_deletes(RowLookup(files, table.schema(), key, table.io).find(keys))
    writer = PartitionedWriter(file_target(table))
    writer.write(rows)
    data = writer.close()
    delete_files = write_deletes(deletes, table.io, table.location_provider())
    after_write()
    changes = FileChanges(
        data, delete_files, deletes.removed_data, deletes.removed_deletes, files.manifests
    )
    committed = commit_files(table, changes, dict(properties))
    if committed is None:
        discard_files(table.io, (*data, *delete_files))
        return None
    return Swapped(committed.snapshot_id, deletes.deleted_rows)
