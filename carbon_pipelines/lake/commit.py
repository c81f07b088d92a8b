"""Committing one planned snapshot: once, or known why not.

What belongs here: the single attempt, the answer to a conflict and to a lost answer. What does not:
making the plan. A conflict means that the plan was made for a table that is no more: nothing is
retried here, the caller plans anew from fresh metadata.

A commit whose answer is lost is looked for by its snapshot id. If the catalog does not show it, it may
still land; that does no harm, since it and the next run's commit exclude each other (the catalog swaps
the metadata only from the version that a commit was made on).
"""

from dataclasses import dataclass

from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ServerError
from pyiceberg.table import Table, Transaction
from pyiceberg.table.refs import MAIN_BRANCH
from sqlalchemy.exc import DBAPIError

from carbon_pipelines.errors import CommitUnknownError
from carbon_pipelines.lake.row_delta import FileChanges, RowDelta


@dataclass(frozen=True, slots=True)
class Committed:
    """A snapshot that is in the table."""

    snapshot_id: int
    table: Table


def commit_files(
    table: Table,
    changes: FileChanges,
    properties: dict[str, str],
    *,
    branch: str = MAIN_BRANCH,
) -> Committed | None:
    """Commit ``changes``, planned on ``table`` as loaded, as one snapshot.

    Returns:
        What was committed, or ``None`` if another commit came first; then nothing of this is in the
        table and its new files are unreferenced.

    Raises:
        CommitUnknownError: The answer was lost and the catalog does not show the snapshot (retryable).
    """
    transaction = Transaction(table)
    delta = RowDelta(transaction, changes, properties, branch)
    snapshot_id = delta.snapshot_id
    try:
        delta.commit()
        committed = transaction.commit_transaction()
    except CommitFailedException:
        return _committed_after_all(table, snapshot_id)
    except ValueError:
        # PyIceberg refuses a sequence number that another branch's commit has taken meanwhile
        fresh = table.catalog.load_table(table.name())
        if fresh.metadata_location == table.metadata_location:
            raise
        return None
    except (CommitStateUnknownException, ServerError, DBAPIError, OSError) as error:
        found = _committed_after_all(table, snapshot_id)
        if found is None:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise CommitUnknownError(".".join(table.name()), snapshot_id, reason) from error
        return found
    return Committed(snapshot_id, committed)


def _committed_after_all(table: Table, snapshot_id: int) -> Committed | None:
    """Look for our snapshot id in the catalog's newest metadata."""
    try:
        fresh = table.catalog.load_table(table.name())
    except (ServerError, DBAPIError, OSError) as error:
        reason = f"and the catalog cannot be asked: {type(error).__name__}"
        raise CommitUnknownError(".".join(table.name()), snapshot_id, reason) from error
    return Committed(snapshot_id, fresh) if fresh.snapshot_by_id(snapshot_id) else None
