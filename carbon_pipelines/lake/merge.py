"""Merging one batch of change events into a table, as one snapshot.

What belongs here: the order of steps fold -> find old rows -> write -> commit, and planning anew
after a conflict. What does not: reading the topic and where the batch ends (``sync.py``).

What keeps the table exact, in this order:
1. the plan is made on the table as loaded; its progress must be the one the batch starts from, else
   somebody else has merged and the batch is given up;
2. new files are written; nothing refers to them;
3. one commit swaps the branch from the planned snapshot to the new one, progress included. If the
   branch has moved, the plan is thrown away with its files and made anew from step 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    CommitConflictError,
    MissingPriorValueError,
    RowsMissingError,
    StateMissingError,
    UnrepresentableValueError,
)
from carbon_pipelines.lake.bag import BagFold, fold_bag
from carbon_pipelines.lake.bag_lookup import BagLookup
from carbon_pipelines.lake.change_batch import ChangeBatch
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.commit import commit_files, discard_files
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.delete_file import count_rows
from carbon_pipelines.lake.deltas import DeletePlan, plan_deletes, write_deletes
from carbon_pipelines.lake.evolution import arrow_schema, check_columns
from carbon_pipelines.lake.fold import Fold, fold_batch, fold_inserts
from carbon_pipelines.lake.history import HistoryFold, fold_history
from carbon_pipelines.lake.history_merge import write_history
from carbon_pipelines.lake.lookup import FoundRows, RowLookup
from carbon_pipelines.lake.manifest_reading import manifests_of
from carbon_pipelines.lake.mode import check_mode
from carbon_pipelines.lake.new_rows import NewRows, sort_rows
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.state import TableProgress, load_progress
from carbon_pipelines.lake.table_files import TableFiles, load_table_files
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.stream.topics import topic_of

COMMIT_ATTEMPTS = 8
"""Plans made before a stream of other writers' commits is reported as a conflict."""

MERGE_REFUSALS = (UnrepresentableValueError, MissingPriorValueError)
"""What single events of a batch may be refused for."""


@dataclass(frozen=True, slots=True)
class MergeHooks:
    """Called at the named moments, so that tests can stop the process or commit in between."""

    before_write: Callable[[], None] = field(default=lambda: None)
    after_write: Callable[[], None] = field(default=lambda: None)
    after_commit: Callable[[], None] = field(default=lambda: None)
    after_dead_letters: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class Merged:
    """What one merge did; rows are counted in the lake."""

    table: Table
    snapshot_id: int
    upserted_rows: int
    deleted_rows: int


class Merge:
    """Merges batches into one table.

    Args:
        branch: ``main``, or the hidden branch of a first copy that is not published yet.
        present: The relation under whose columns batches were read.
    """

    def __init__(
        self,
        catalog: Catalog,
        table: TableSpec,
        *,
        branch: str = MAIN_BRANCH,
        hooks: MergeHooks | None = None,
        present: SourceRelation | None = None,
    ) -> None:
        self._catalog, self._spec, self._branch = catalog, table, branch
        self._hooks, self._present = hooks or MergeHooks(), present

    def apply(
        self,
        batch: ChangeBatch,
        base: TableProgress,
        after: TableProgress,
        notes: Mapping[str, str] | None = None,
    ) -> Merged:
        """Apply ``batch``, which starts at progress ``base`` and ends at ``after``.

        ``notes`` are left in the snapshot's summary beside the progress.

        Raises:
            CommitConflictError: Another process made progress, or won too many times (retryable).
            CommitUnknownError: The answer to the commit was lost (retryable).
            LakeColumnsChangedError: The table's columns are not those that the batch has.
            ModeChangedError: The rows were written with another mode than the declared one.
            MissingPriorValueError: An unchanged value has no row to be taken from.
            RowsMissingError: Rows of a table without a key are not there to be removed.
        """
        fold: Fold | BagFold | HistoryFold | None = None
        properties = {**after.to_properties(), **(notes or {})}
        for _ in range(COMMIT_ATTEMPTS):
            table = self._load(base)
            if self._present is not None:
                check_columns(table, self._present, self._spec)
            schema = arrow_schema(table.schema())
            if fold is None:
                fold = self._fold(batch, schema)
            with lake_errors(f"Iceberg table {self._spec.label}"):
                plan = _Plan(table, self._spec, self._branch, self._hooks)
                plan.write(batch, fold, schema)
                committed = commit_files(table, plan.changes(), properties, branch=self._branch)
                if committed is None:
                    plan.discard()
                    continue
            self._hooks.after_commit()
            return Merged(
                committed.table, committed.snapshot_id, plan.upserted_rows, plan.deleted_rows
            )
        raise CommitConflictError(self._spec.label, COMMIT_ATTEMPTS)

    @property
    def branch(self) -> str:
        """The branch that is merged into."""
        return self._branch

    def record(self, base: TableProgress, after: TableProgress) -> Merged:
        """Commit progress alone: a snapshot without files."""
        for _ in range(COMMIT_ATTEMPTS):
            table = self._load(base)
            with lake_errors(f"Iceberg table {self._spec.label}"):
                snapshot = table.snapshot_by_name(self._branch)
                manifests = manifests_of(snapshot, table.io)
                changes = FileChanges(manifests=manifests)
                committed = commit_files(table, changes, after.to_properties(), branch=self._branch)
            if committed is not None:
                return Merged(committed.table, committed.snapshot_id, 0, 0)
        raise CommitConflictError(self._spec.label, COMMIT_ATTEMPTS)

    def _load(self, base: TableProgress) -> Table:
        table = load_table(self._catalog, self._spec.identifier)
        if table is None:
            raise StateMissingError(self._spec.label)
        if self._branch == MAIN_BRANCH:
            check_mode(table, self._spec)
        found = load_progress(table.metadata, self._spec.label, self._branch)
        if found != base:
            raise CommitConflictError(self._spec.label, 1)
        return table

    def _fold(self, batch: ChangeBatch, schema: pa.Schema) -> Fold | BagFold | HistoryFold:
        if self._spec.is_bag:
            return fold_bag(batch, schema)
        if not self._spec.key:
            return fold_inserts(batch)
        before = [self._typed_key(batch.before, name, schema) for name in self._spec.key]
        after = [self._typed_key(batch.after, name, schema) for name in self._spec.key]
        return (fold_history if self._spec.is_history else fold_batch)(batch, before, after)

    def _typed_key(self, columns: pa.Table, name: str, schema: pa.Schema) -> pa.Array:
        values = columns.column(name).combine_chunks()
        return decode_column(values, schema.field(name).type, column=name)


class _Plan:
    """One attempt: planned and written on one loaded state of the table."""

    def __init__(self, table: Table, spec: TableSpec, branch: str, hooks: MergeHooks) -> None:
        self._table, self._spec, self._hooks = table, spec, hooks
        self._snapshot = table.snapshot_by_name(branch)
        self._files: TableFiles = load_table_files(self._snapshot, table.io)
        self._data: list[DataFile] = []
        self._delete_files: list[DataFile] = []
        self._deletes = DeletePlan((), (), (), (), 0)
        self._truncated = False
        self.upserted_rows = 0

    @property
    def deleted_rows(self) -> int:
        """Rows that were live before and are not after."""
        if not self._truncated:
            return self._deletes.deleted_rows
        return count_rows(self._snapshot, self._table.io)

    def write(
        self, batch: ChangeBatch, fold: Fold | BagFold | HistoryFold, schema: pa.Schema
    ) -> None:
        """Find the old rows, then write new rows and delete files; refers to nothing yet."""
        self._hooks.before_write()
        if isinstance(fold, HistoryFold):
            written = write_history(self._table, self._spec, self._files, batch, fold)
            self._data, self._deletes = written.data, written.deletes
            self.upserted_rows = written.rows
        else:
            self._truncated = fold.truncated_at >= 0
            if isinstance(fold, BagFold):
                self._write_rows(self._plan_bag(batch, fold))
            else:
                self._write_rows(self._plan_keys(batch, fold, schema))
        self._delete_files = write_deletes(
            self._deletes, self._table.io, self._table.location_provider()
        )
        self._hooks.after_write()

    def _write_rows(self, rows: pa.Table) -> None:
        if rows.num_rows:
            writer = PartitionedWriter(file_target(self._table))
            writer.write(rows)
            self._data = writer.close()
            self.upserted_rows = rows.num_rows

    def _plan_keys(self, batch: ChangeBatch, fold: Fold, schema: pa.Schema) -> pa.Table:
        """Plan the deletes of old rows; the new rows."""
        found: list[FoundRows] = []
        lookup = RowLookup(self._files, self._table.schema(), self._spec.key, self._table.io)
        if fold.keys is not None and not self._truncated:
            found = lookup.find(fold.keys)
        self._deletes = plan_deletes(found)
        if not len(fold.upserts):
            return schema.empty_table()
        return NewRows(batch, fold, schema, self._spec, lookup, found).build()

    def _plan_bag(self, batch: ChangeBatch, fold: BagFold) -> pa.Table:
        """Plan the deletes of rows that there are fewer of; those that there are more of."""
        wanted = fold.removed
        if len(wanted):
            files = TableFiles() if self._truncated else self._files
            found, missing = BagLookup(files, self._table.schema(), self._table.io, wanted).find()
            if missing.any():
                event = int(wanted.events[missing > 0].max())
                topic, offset = topic_of(self._spec), int(batch.offset[event])
                raise RowsMissingError(self._spec.label, int(missing.sum()), topic, offset)
            self._deletes = plan_deletes(found)
        return sort_rows(fold.added, self._spec)

    def changes(self) -> FileChanges:
        """The files that come and go."""
        removed_data, removed_deletes = self._deletes.removed_data, self._deletes.removed_deletes
        if self._truncated:
            removed_data, removed_deletes = self._files.data, self._files.deletes
        return FileChanges(
            self._data, self._delete_files, removed_data, removed_deletes, self._files.manifests
        )

    def discard(self) -> None:
        """Remove the files of an attempt that is known not to have landed."""
        discard_files(self._table.io, (*self._data, *self._delete_files))
