"""Expiring a table's snapshots from plan to end.

What belongs here: loading, planning anew when another commit came first, finishing what an earlier
expiry left, and what a plan would delete. What does not: the commit (``expiry_commit.py``).
"""

from dataclasses import replace
from datetime import datetime

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.errors import CommitConflictError
from carbon_pipelines.lake.connection import lake_errors, load_lake_table
from carbon_pipelines.maintenance.expiry import ExpiryPlan, plan_expiry
from carbon_pipelines.maintenance.expiry_commit import (
    ATTEMPTS,
    Expired,
    ExpiryHooks,
    apply_expiry,
    clean_up,
)
from carbon_pipelines.maintenance.expiry_files import FileCounts, count_files, unreached_files
from carbon_pipelines.maintenance.expiry_work import pending_work, plan_work
from carbon_pipelines.maintenance.retention import Retention


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
    table = load_lake_table(catalog, identifier)
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
    for work in pending_work(table.metadata, label):
        files += clean_up(table, work, label, hooks or ExpiryHooks())
        count += 1
    return files, count
