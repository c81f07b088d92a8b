"""The snapshots that have a person's rows, on their way out.

What belongs here: which of them go before the date and which at it, branches and tags among them,
and expiring until none is left that may go. What does not: which snapshots have such rows
(``person_snapshots.py``) and how an expiry commits and cleans up (``expiry_commit.py``).

Before the date what any expiry keeps stays. At the date nothing of it counts: leases end, tags and
branches at such a snapshot go. ``certified`` moves along ``main`` to the first clean snapshot if
nothing but upkeep lies between, so that it has the same rows but the person's; else it falls, and
readers of it have none until the table is certified again. The mark of a parked table moves too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Operation, Snapshot, ancestors_of
from pyiceberg.table.update import SetPropertiesUpdate, SetSnapshotRefUpdate, TableUpdate

from carbon_pipelines.errors import CommitConflictError, ErasureUnfinishedError
from carbon_pipelines.lake.certificate import CERTIFIED, at_other_snapshot
from carbon_pipelines.lake.connection import load_lake_table
from carbon_pipelines.lake.parking import PARKED, find_parked
from carbon_pipelines.maintenance.cleansing import ERASED
from carbon_pipelines.maintenance.erasure_request import Cleansed
from carbon_pipelines.maintenance.expiry import (
    MOST_SNAPSHOTS,
    ExpiryPlan,
    Judged,
    judged,
    plan_expiry,
)
from carbon_pipelines.maintenance.expiry_commit import ATTEMPTS, ExpiryHooks, apply_expiry
from carbon_pipelines.maintenance.expiry_files import FileCounts
from carbon_pipelines.maintenance.expiry_run import finish_expiry
from carbon_pipelines.maintenance.leases import find_lease
from carbon_pipelines.maintenance.person_snapshots import PersonSnapshots
from carbon_pipelines.maintenance.retention import Retention


@dataclass(frozen=True, slots=True)
class ErasureExpired:
    """What went of one table: snapshots, branches and tags, files, and what was said of them."""

    snapshots: int = 0
    refs: tuple[str, ...] = ()
    files: FileCounts = field(default_factory=FileCounts)


def plan_early(table: Table, found: Mapping[int, str], now: datetime) -> ExpiryPlan:
    """What goes of the snapshots in ``found`` before the date: what any expiry would take.

    Raises:
        RetentionZeroError: The table's own properties keep nothing.
        RemovalForbiddenError: Its files may be other tables'.
    """
    metadata = table.metadata
    retention = Retention().declared_in(metadata.properties)
    usual = plan_expiry(metadata, "/".join(table.name()), retention, now)
    return replace(
        usual,
        snapshots=tuple(one for one in usual.snapshots if one.snapshot_id in found),
        refs=tuple(one for one in usual.refs if one.snapshot_id in found),
        kept=tuple(one for one in usual.kept if one.snapshot_id in found),
        more=0,
    )


def plan_due(
    table: Table, found: Mapping[int, str], cleansed: Cleansed | None, now: datetime
) -> ExpiryPlan:
    """What goes of them at the date: all, whoever holds them.

    Raises:
        RemovalForbiddenError: The table's files may be other tables'.
        ErasureUnfinishedError: ``main`` itself has such rows (retryable).
    """
    metadata, label = table.metadata, "/".join(table.name())
    plan_early(table, found, now)  # refuses what any expiry refuses
    head = metadata.current_snapshot()
    if head is not None and head.snapshot_id in found:
        raise ErasureUnfinishedError(label, "main has such rows again")
    refs = {name: ref for name, ref in metadata.refs.items() if ref.snapshot_id in found}
    target = certified_target(metadata, cleansed) if CERTIFIED in refs else None
    updates: list[TableUpdate] = []
    if target is not None:
        moved = refs.pop(CERTIFIED)
        fields = {**moved.model_dump(by_alias=True, exclude_none=True), "ref-name": CERTIFIED}
        updates.append(
            SetSnapshotRefUpdate.model_validate({**fields, "snapshot-id": target.snapshot_id})
        )
        known = at_other_snapshot(metadata, target.snapshot_id)
        updates += [SetPropertiesUpdate(updates=known)] if known else []
    parked = find_parked(metadata, label)
    if parked is not None and head is not None and parked.snapshot_id in found:
        mark = replace(parked, snapshot_id=head.snapshot_id)
        updates.append(SetPropertiesUpdate(updates={PARKED: json.dumps(mark.to_fields())}))
    oldest_first = sorted(metadata.snapshots, key=lambda one: one.timestamp_ms)
    going = [one for one in oldest_first if one.snapshot_id in found]
    return ExpiryPlan(
        label,
        tuple(judged(one, found[one.snapshot_id]) for one in going[:MOST_SNAPSHOTS]),
        tuple(_ref_goes(metadata, name, found) for name in sorted(refs)),
        (),
        {name: ref.snapshot_id for name, ref in metadata.refs.items()},
        max(0, len(going) - MOST_SNAPSHOTS),
        tuple(updates),
    )


def certified_target(metadata: TableMetadata, cleansed: Cleansed | None) -> Snapshot | None:
    """Where ``certified`` goes: the first clean snapshot, if only upkeep lies between."""
    ref = metadata.refs.get(CERTIFIED)
    if ref is None or cleansed is None:
        return None
    target: Snapshot | None = None
    for snapshot in ancestors_of(metadata.current_snapshot(), metadata):
        if snapshot.snapshot_id == ref.snapshot_id:
            return target
        number = snapshot.sequence_number or 0
        if number >= cleansed.sequence_number:
            target = snapshot
        if number <= cleansed.sequence_number and not _is_upkeep(snapshot):
            return None
    return None


def expire_person(
    catalog: Catalog,
    identifier: tuple[str, str],
    person: PersonSnapshots,
    cleansed: Cleansed,
    now: datetime,
    *,
    due: bool,
    returned: bool = False,
    hooks: ExpiryHooks | None = None,
) -> ErasureExpired:
    """Expire what may go; what an earlier expiry has left undone is done first.

    Raises:
        CommitConflictError: Others committed first again and again (retryable).
        StoreInterruptedError: The store stopped answering; run it again (retryable).
    """
    label = "/".join(identifier)
    done, conflicts = ErasureExpired(), 0
    while conflicts < ATTEMPTS:
        files, _ = finish_expiry(load_lake_table(catalog, identifier), label, hooks=hooks)
        table = load_lake_table(catalog, identifier)
        found = person.find(table, cleansed, returned=returned)
        plan = plan_due(table, found, cleansed, now) if due else plan_early(table, found, now)
        if not plan:
            return replace(done, files=done.files + files)
        try:
            expired = apply_expiry(table, plan, hooks=hooks)
        except CommitConflictError:
            conflicts += 1
            continue
        done = ErasureExpired(
            done.snapshots + expired.snapshots,
            (*done.refs, *expired.refs),
            done.files + files + expired.files,
        )
    raise CommitConflictError(label, ATTEMPTS)


def _is_upkeep(snapshot: Snapshot) -> bool:
    summary = snapshot.summary
    return summary is not None and (
        summary.operation == Operation.REPLACE or ERASED in summary.additional_properties
    )


def _ref_goes(metadata: TableMetadata, name: str, found: Mapping[int, str]) -> Judged:
    number = metadata.refs[name].snapshot_id
    snapshot = metadata.snapshot_by_id(number)
    assert snapshot is not None
    assert name != MAIN_BRANCH
    lease = find_lease(metadata, name)
    reason = found[number]
    if lease is not None and lease.until is not None:
        reason = f"leased by {lease.owner} until {lease.until:%Y-%m-%d %H:%M:%S}; {reason}"
    return replace(judged(snapshot, reason), name=name)
