"""Taking snapshots from a table and their files from the store.

What belongs here: one commit by a plan, the clean-up after it, and planning anew when another
commit came first. What does not: the rules (``expiry.py``), which files go (``expiry_files.py``),
and what keeps a crash from leaking (``expiry_work.py``).

The commit requires that every branch and tag is where the plan saw it, and that none of the
snapshots that go was leased meanwhile. It changes no branch, so a merge of the same moment is not
disturbed.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from pyiceberg.catalog import Catalog
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
    TableNotCopiedError,
)
from carbon_pipelines.lake.commit import UNANSWERED, commit_updates, unknown_commit
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.maintenance.expiry import ExpiryPlan, plan_expiry
from carbon_pipelines.maintenance.expiry_files import (
    FileCounts,
    count_files,
    delete_files,
    unreached_files,
)
from carbon_pipelines.maintenance.expiry_work import (
    ExpiryWork,
    pending_work,
    plan_work,
    write_work,
)
from carbon_pipelines.maintenance.leases import marker_of
from carbon_pipelines.maintenance.reachable import Kind, Reached
from carbon_pipelines.maintenance.retention import Retention
from carbon_pipelines.maintenance.storage import Storage, open_storage

ATTEMPTS = 10
"""Plans that are made while other commits come first."""


@dataclass(frozen=True, slots=True)
class Expired:
    """What one expiry did.

    Attributes:
        snapshots: Taken from the table.
        refs: Branches and tags taken from the table.
        files: Deleted, those that an earlier expiry had left included.
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


def preview_files(table: Table, plan: ExpiryPlan) -> FileCounts:
    """What ``plan`` would delete; reads manifests, touches nothing.

    Raises:
        MetadataFileMissingError: A snapshot that stays cannot be read.
    """
    work = plan_work(table, plan.snapshot_ids, "preview")
    going = set(plan.snapshot_ids)
    left = table.metadata.model_copy(
        update={
            name: [one for one in getattr(table.metadata, name) if one.snapshot_id not in going]
            for name in ("snapshots", "statistics", "partition_statistics")
        }
    )
    label = "/".join(table.name())
    with lake_errors(f"Iceberg table {label}"):
        files = unreached_files(table.io, work, left, table.metadata_location, label)
        return count_files(files)


def load_expiry_plan(
    catalog: Catalog, identifier: tuple[str, str], retention: Retention, now: datetime
) -> tuple[Table, ExpiryPlan]:
    """The table as it is, and what expires of it.

    Raises:
        TableNotCopiedError: There is no such table.
        RetentionZeroError: The table's own properties keep nothing.
    """
    label = "/".join(identifier)
    table = load_table(catalog, identifier)
    if table is None:
        raise TableNotCopiedError(label)
    declared = retention.declared_in(table.metadata.properties)
    return table, plan_expiry(table.metadata, label, declared, now)


def expire_table(
    catalog: Catalog,
    identifier: tuple[str, str],
    retention: Retention,
    now: datetime,
    *,
    hooks: ExpiryHooks | None = None,
) -> Expired:
    """Expire by ``retention`` and the table's own properties, planning anew after each conflict.

    What an earlier expiry has left undone is done first.

    Raises:
        CommitConflictError: Others committed first again and again (retryable).
        MetadataFileMissingError: A snapshot that stays cannot be read; nothing was deleted.
        StoreInterruptedError: The store stopped answering; the next expiry goes on (retryable).
    """
    label = "/".join(identifier)
    finished = 0
    files = FileCounts()
    for _ in range(ATTEMPTS):
        table, plan = load_expiry_plan(catalog, identifier, retention, now)
        done, earlier = finish_expiry(table, label, hooks=hooks)
        files, finished = files + done, finished + earlier
        try:
            expired = apply_expiry(table, plan, hooks=hooks)
        except CommitConflictError:
            continue
        return replace(expired, files=expired.files + files, finished=finished)
    raise CommitConflictError(label, ATTEMPTS)


def finish_expiry(
    table: Table, label: str, *, hooks: ExpiryHooks | None = None
) -> tuple[FileCounts, int]:
    """Delete what earlier expiries of ``table``, as just loaded, took away and did not delete.

    Returns:
        What was deleted, and the number of such expiries.

    Raises:
        MetadataFileMissingError: A snapshot of the table cannot be read; nothing was deleted.
        StoreInterruptedError: The next attempt goes on from there (retryable).
    """
    files, count = FileCounts(), 0
    with lake_errors(f"Iceberg table {label}"):
        for _, work in pending_work(table.io, table.metadata, label):
            if work is not None:
                files += _clean_up(table, work, label, hooks or ExpiryHooks())
                count += 1
    return files, count


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
    with lake_errors(f"Iceberg table {plan.table}"):
        done = [
            name for name, left in pending_work(table.io, table.metadata, plan.table) if not left
        ]
        if plan.snapshots:
            write_work(table.io, work)
        moments.before_commit()
        after = _commit(table, plan, work, done)
    moments.after_commit()
    files = FileCounts(metadata=_metadata_trimmed(table, after))
    if plan.snapshots:
        with lake_errors(f"Iceberg table {plan.table}"):
            files += _clean_up(after, work, plan.table, moments)
    return Expired(plan.table, len(plan.snapshots), refs, files, more=plan.more)


def _commit(table: Table, plan: ExpiryPlan, work: ExpiryWork, done: list[str]) -> Table:
    """The table without the plan's snapshots, with a property that names the work."""
    base = table.metadata_location
    try:
        return commit_updates(table, _updates(table, plan, work, done))
    except CommitFailedException as conflict:
        _discard(table, work)
        raise CommitConflictError(plan.table, 1) from conflict
    except (*UNANSWERED, ValueError, BadRequestError) as error:
        fresh = table.catalog.load_table(table.name())
        if _landed(fresh, plan, work):
            return fresh
        if not isinstance(error, UNANSWERED) and fresh.metadata_location != base:
            _discard(table, work)  # it was refused: a snapshot had gone, or its number was taken
            raise CommitConflictError(plan.table, 1) from error
        newest = max(plan.snapshot_ids, default=0)
        raise unknown_commit(table, newest, error) from error


def _updates(
    table: Table, plan: ExpiryPlan, work: ExpiryWork, done: list[str]
) -> UpdatesAndRequirements:
    metadata, going = table.metadata, set(plan.snapshot_ids)
    updates: list[TableUpdate] = [
        RemoveSnapshotRefUpdate.model_validate({"ref-name": ref.name}) for ref in plan.refs
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
        updates.append(SetPropertiesUpdate(updates={work.property_name: work.path}))
    if done:
        updates.append(RemovePropertiesUpdate(removals=done))
    expected: dict[str, int | None] = {marker_of(number): None for number in plan.snapshot_ids}
    expected.update(plan.heads)
    return tuple(updates), tuple(
        AssertRefSnapshotId.model_validate({"ref": name, "snapshot-id": number})
        for name, number in expected.items()
    )


def _landed(fresh: Table, plan: ExpiryPlan, work: ExpiryWork) -> bool:
    if plan.snapshots:
        return work.property_name in fresh.properties
    return not any(ref.name in fresh.metadata.refs for ref in plan.refs)


def _discard(table: Table, work: ExpiryWork) -> None:
    """Take away the work file of a commit that is known not to have landed, if there is one."""
    with suppress(OSError):
        table.io.delete(work.path)


def _clean_up(table: Table, work: ExpiryWork, label: str, hooks: ExpiryHooks) -> FileCounts:
    storage: Storage = open_storage(table.location(), table.io.properties)
    deleted = delete_files(storage, _unreached(table, work, label), hooks.before_kind)
    hooks.before_end()
    storage.delete([work.path])
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
