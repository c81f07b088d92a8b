"""Taking snapshots from a table and their files from the store.

What belongs here: one commit by a plan, and the clean-up after it. What does not: the rules
(``expiry.py``), which files go (``expiry_files.py``), what keeps a crash from leaking
(``expiry_work.py``), and planning anew when another commit came first (``expiry_run.py``).

The commit requires that every branch and tag is where the plan saw it, and that none of the
snapshots that go was leased meanwhile. It changes no branch, so a merge of the same moment is not
disturbed.
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pyiceberg.exceptions import BadRequestError, CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    RemovePartitionStatisticsUpdate,
    RemovePropertiesUpdate,
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    RemoveStatisticsUpdate,
    SetPropertiesUpdate,
    TableUpdate,
    UpdatesAndRequirements,
)

from carbon_pipelines.errors import (
    CommitConflictError,
    MetadataFileMissingError,
)
from carbon_pipelines.lake.commit import UNANSWERED, commit_updates, unknown_commit
from carbon_pipelines.lake.connection import lake_errors
from carbon_pipelines.lake.staging import beside_others
from carbon_pipelines.maintenance.expiry import ExpiryPlan
from carbon_pipelines.maintenance.expiry_files import (
    FileCounts,
    delete_files,
    unreached_files,
)
from carbon_pipelines.maintenance.expiry_work import (
    ExpiryWork,
    plan_work,
)
from carbon_pipelines.maintenance.leases import marker_of
from carbon_pipelines.maintenance.reachable import Kind, Reached
from carbon_pipelines.maintenance.storage import Storage, open_storage

ATTEMPTS = 10
"""Plans that are made while other commits come first."""


@dataclass(frozen=True, slots=True)
class Expired:
    """What one expiry did.

    Attributes:
        snapshots: Taken from the table.
        refs: Branches and tags taken from the table.
        files: Deleted, those that an earlier expiry had left included; what that one had deleted
            before it died may count again.
        finished: Earlier expiries whose files this one deleted.
        more: Snapshots that go with the next expiry.
    """

    table: str
    snapshots: int
    refs: tuple[str, ...]
    files: FileCounts
    finished: int = 0
    more: int = 0

    def sentence(self) -> str:
        """What it did, as one line."""
        if not (self.snapshots or self.refs or self.files.files):
            return f"{self.table}: nothing has expired"
        earlier = f"; finished {self.finished} earlier expiries" if self.finished else ""
        refs = f", {len(self.refs)} branches and tags" if self.refs else ""
        more = f"; {self.more} more snapshots go with the next" if self.more else ""
        return (
            f"{self.table}: {self.snapshots} snapshots{refs} expired, "
            f"{self.files.sentence()} deleted{earlier}{more}"
        )


def _nothing(*_: object) -> None:
    """A moment nobody waits for."""


@dataclass(frozen=True, slots=True)
class ExpiryHooks:
    """Moments of an expiry, for tests that end or disturb it there."""

    before_commit: Callable[[], None] = _nothing
    after_commit: Callable[[], None] = _nothing
    before_kind: Callable[[Kind], None] = _nothing
    before_end: Callable[[], None] = _nothing


def apply_expiry(table: Table, plan: ExpiryPlan, *, hooks: ExpiryHooks | None = None) -> Expired:
    """Do what ``plan``, made on ``table`` as loaded, says, in one attempt.

    Raises:
        CommitConflictError: Another commit came first; nothing was done (retryable).
        CommitUnknownError: The answer was lost, the catalog shows no change (retryable).
        MetadataFileMissingError: A snapshot that stays cannot be read; nothing was deleted.
        StoreInterruptedError: The next expiry goes on from there (retryable).
    """
    moments = hooks or ExpiryHooks()
    refs = tuple(one.name for one in plan.refs)
    if not plan:
        return Expired(plan.table, 0, refs, FileCounts())
    work = plan_work(table, plan.snapshot_ids, secrets.token_hex(8))
    moments.before_commit()
    with lake_errors(f"Iceberg table {plan.table}"):
        after = _commit(table, plan, work)
    moments.after_commit()
    files = FileCounts(metadata=_metadata_trimmed(table, after))
    if plan.snapshots:
        files += clean_up(after, work, plan.table, moments)
    return Expired(plan.table, len(plan.snapshots), refs, files, more=plan.more)


def _commit(table: Table, plan: ExpiryPlan, work: ExpiryWork) -> Table:
    """The table without the plan's snapshots, with a property that says what is to be deleted."""
    base = table.metadata_location
    try:
        return commit_updates(table, _updates(table, plan, work))
    except CommitFailedException as conflict:
        raise CommitConflictError(plan.table, 1) from conflict
    except (*UNANSWERED, ValueError, BadRequestError) as error:
        fresh = table.catalog.load_table(table.name())
        if _landed(fresh, plan, work):
            return fresh
        if not isinstance(error, UNANSWERED) and fresh.metadata_location != base:
            raise CommitConflictError(plan.table, 1) from error  # a snapshot had gone
        newest = max(plan.snapshot_ids, default=0)
        raise unknown_commit(table, newest, error) from error


def _updates(table: Table, plan: ExpiryPlan, work: ExpiryWork) -> UpdatesAndRequirements:
    metadata, going = table.metadata, set(plan.snapshot_ids)
    updates: list[TableUpdate] = [
        *plan.updates,
        *(RemoveSnapshotRefUpdate.model_validate({"ref-name": ref.name}) for ref in plan.refs),
    ]
    for kind, files in (
        (RemoveStatisticsUpdate, metadata.statistics),
        (RemovePartitionStatisticsUpdate, metadata.partition_statistics),
    ):
        numbers = sorted({one.snapshot_id for one in files} & going)
        updates += [kind.model_validate({"snapshot-id": number}) for number in numbers]
    if going:
        ids = list(plan.snapshot_ids)
        updates.append(RemoveSnapshotsUpdate.model_validate({"snapshot-ids": ids}))
        updates.append(SetPropertiesUpdate(updates={work.name: work.to_value()}))
    expected: dict[str, int | None] = {marker_of(number): None for number in plan.snapshot_ids}
    expected.update(plan.heads)
    return tuple(updates), tuple(
        AssertRefSnapshotId.model_validate({"ref": name, "snapshot-id": number})
        for name, number in expected.items()
    )


def _landed(fresh: Table, plan: ExpiryPlan, work: ExpiryWork) -> bool:
    if plan.snapshots:
        return work.name in fresh.properties
    return not any(ref.name in fresh.metadata.refs for ref in plan.refs)


def clean_up(table: Table, work: ExpiryWork, label: str, hooks: ExpiryHooks) -> FileCounts:
    """Delete the files of ``work`` that ``table`` does not reach, then forget the work.

    Raises:
        MetadataFileMissingError: A snapshot of the table cannot be read; nothing was deleted.
        StoreInterruptedError: The next attempt goes on from there (retryable).
    """
    storage: Storage = open_storage(table.location(), table.io.properties)
    with lake_errors(f"Iceberg table {label}"):
        deleted = delete_files(storage, _unreached(table, work, label), hooks.before_kind)
        hooks.before_end()
        forgotten = RemovePropertiesUpdate(removals=[work.name])

        def attempt(table: Table) -> Table:
            return commit_updates(table, ((forgotten,), ()))

        beside_others(table.catalog, table, attempt)
    return deleted


def _unreached(table: Table, work: ExpiryWork, label: str) -> Iterator[Reached]:
    """The files to delete; read from the table as it is now if another expiry came in between."""
    for _ in range(ATTEMPTS):
        files = unreached_files(table.io, work, table.metadata, table.metadata_location, label)
        try:
            first = next(files, None)
        except MetadataFileMissingError as missing:
            table = table.catalog.load_table(table.name())
            if table.metadata.snapshot_by_id(missing.snapshot_id) is not None:
                raise
            continue
        if first is not None:
            yield first
        yield from files
        return
    raise CommitConflictError(label, ATTEMPTS)


def _metadata_trimmed(before: Table, after: Table) -> int:
    """Metadata files that the commit took from the log and the catalog's client deleted."""
    if after.properties.get("write.metadata.delete-after-commit.enabled", "false") != "true":
        return 0
    return len(
        {entry.metadata_file for entry in before.metadata.metadata_log}
        - {entry.metadata_file for entry in after.metadata.metadata_log}
    )
