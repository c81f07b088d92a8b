"""Committing one planned snapshot: once, or known why not.

What belongs here: the single attempt, the answer to a conflict and to a lost answer, commits of the
metadata alone, and removing files that did not land. What does not: making the plan. A conflict
means that the plan was made for a table that is no more: nothing is retried here, the caller plans
anew from fresh metadata.

A commit whose answer is lost is looked for by its snapshot id. If the catalog does not show it, it
may still land; that does no harm, since it and the next run's commit exclude each other (the
catalog swaps the metadata only from the version that a commit was made on).
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError
from pyiceberg.exceptions import (
    BadRequestError,
    CommitFailedException,
    CommitStateUnknownException,
    ServerError,
    ServiceUnavailableError,
)
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import (
    AssertCurrentSchemaId,
    AssertLastAssignedFieldId,
    TableRequirement,
    TableUpdate,
    UpdatesAndRequirements,
)
from sqlalchemy.exc import DBAPIError

from carbon_pipelines.errors import CommitUnknownError, SequenceNumberError
from carbon_pipelines.lake.row_delta import FileChanges, RowDelta

UNANSWERED = (
    CommitStateUnknownException,
    ServerError,
    ServiceUnavailableError,
    DBAPIError,
    OSError,
    ValidationError,
)
"""What leaves the outcome open; a ValidationError is an answer that cannot be read."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A snapshot that is in the table."""

    snapshot_id: int
    table: Table


class _Staged(Transaction):
    """PyIceberg's, which works the metadata out once for each state of its updates.

    Its own does so, and copies every snapshot of the table, whenever anything looks at it: thirty
    times a commit.
    """

    _known: tuple[tuple[TableUpdate, ...], TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        """The table's with the updates so far; not to be changed."""
        if not self._updates:
            return self._table.metadata
        if self._known is None or self._known[0] is not self._updates:
            self._known = (self._updates, super().table_metadata)
        return self._known[1]

    def commit_transaction(self) -> Table:
        """Send it; all that is asked of the metadata then is the table's UUID, which stays."""
        self._known = (self._updates, self._table.metadata)
        return super().commit_transaction()


def commit_files(
    table: Table,
    changes: FileChanges,
    properties: dict[str, str],
    *,
    branch: str = MAIN_BRANCH,
    schema: Schema | None = None,
    first: UpdatesAndRequirements = ((), ()),
    same_rows: bool = False,
    forget: bool = False,
) -> Committed | None:
    """Commit ``changes``, planned on ``table`` as loaded, as one snapshot.

    ``schema`` is that of the files, if it is not the table's current one; ``first`` comes before
    the snapshot in the same commit; ``same_rows`` makes it one that replaces files alone, and
    ``forget`` leaves no word in its manifests of files that are gone; it removes none itself.

    Returns:
        What was committed, or ``None`` if another commit came first; then nothing of this is in the
        table and its new files are unreferenced.

    Raises:
        SequenceNumberError: The new snapshot would be older than its parent.
        OSError: A manifest could not be written; nothing was sent to the catalog.
        CommitUnknownError: The answer was lost, the catalog does not show the snapshot (retryable).
    """
    _check_sequence_number(table, branch)
    transaction = _Staged(table)
    transaction._stage(*first)  # pyright: ignore[reportPrivateUsage]
    delta = RowDelta(
        transaction, changes, properties, branch, schema, same_rows=same_rows, forget=forget
    )
    snapshot_id, base = delta.snapshot_id, table.metadata_location
    delta.commit()
    try:
        committed = transaction.commit_transaction()
    except CommitFailedException:
        return _found(_load(table, snapshot_id), snapshot_id)
    except UNANSWERED as error:
        found = _found(_load(table, snapshot_id), snapshot_id)
        if found is None:
            raise unknown_commit(table, snapshot_id, error) from error
        return found
    except (ValueError, BadRequestError):
        # The catalog refuses a sequence number that another branch's commit has taken meanwhile.
        fresh = _load(table, snapshot_id)
        found = _found(fresh, snapshot_id)
        if found is None and fresh.metadata_location == base:
            raise
        return found
    return Committed(snapshot_id, committed)


def commit_updates(table: Table, updates: UpdatesAndRequirements) -> Table:
    """Commit changes of the metadata alone, once.

    Raises:
        CommitFailedException: What they require does not hold any more.
    """
    transaction = _Staged(table)
    transaction._stage(*updates)  # pyright: ignore[reportPrivateUsage]
    return transaction.commit_transaction()


def same_columns(table: Table) -> tuple[TableRequirement, ...]:
    """Require that the columns, and the ids given to any so far, are those of ``table``."""
    metadata = table.metadata
    return (
        AssertCurrentSchemaId.model_validate({"current-schema-id": metadata.current_schema_id}),
        AssertLastAssignedFieldId.model_validate(
            {"last-assigned-field-id": metadata.last_column_id}
        ),
    )


def discard_files(io: FileIO, files: Iterable[DataFile]) -> None:
    """Remove the files of a commit that is known not to have landed; what stays is an orphan."""
    for file in files:
        with suppress(OSError):
            io.delete(file.file_path)


def unknown_commit(table: Table, snapshot_id: int, error: Exception) -> CommitUnknownError:
    """What to raise after ``error``, one of ``UNANSWERED``, if the catalog shows no commit."""
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return CommitUnknownError(".".join(table.name()), snapshot_id, reason)


def _check_sequence_number(table: Table, branch: str) -> None:
    """Deletes apply to files of lower sequence numbers alone, so these never go back."""
    parent, number = table.snapshot_by_name(branch), table.metadata.next_sequence_number()
    if parent is not None and (parent.sequence_number or 0) >= number:
        raise SequenceNumberError("/".join(table.name()), number, parent.sequence_number or 0)


def _load(table: Table, snapshot_id: int) -> Table:
    """The table as the catalog has it now."""
    try:
        return table.catalog.load_table(table.name())
    except UNANSWERED as error:
        reason = f"and the catalog cannot be asked: {type(error).__name__}"
        raise CommitUnknownError(".".join(table.name()), snapshot_id, reason) from error


def _found(fresh: Table, snapshot_id: int) -> Committed | None:
    return Committed(snapshot_id, fresh) if fresh.snapshot_by_id(snapshot_id) else None
