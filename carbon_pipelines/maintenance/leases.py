"""Leases: tags that keep a table snapshot for a reader until a moment.

What belongs here: what a lease is called and how long it holds, taking, listing and dropping it.
What does not: removing those that have expired (``expiry.py``).

Iceberg counts a tag's ``max-ref-age-ms`` from the moment of its snapshot, so any engine that
expires snapshots by the specification honours a lease.

A lease is taken in one commit with a marker, a second tag whose name follows from the snapshot
alone. An expiry requires of the catalog that no snapshot it removes has a marker, so of a lease and
an expiry at the same moment one fails: a lease that was granted holds. The marker goes with the
first expiry after the last lease of its snapshot, and the snapshot with a later one.
"""

import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import BadRequestError, CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import RemoveSnapshotRefUpdate, SetSnapshotRefUpdate

from carbon_pipelines.errors import LeaseMissingError, LeaseRefusedError
from carbon_pipelines.lake.commit import UNANSWERED, commit_updates, unknown_commit
from carbon_pipelines.lake.connection import lake_errors, load_lake_table
from carbon_pipelines.lake.staging import beside_others

LEASE = "carbon_lease_"
MARKER = "carbon_leased_"
_OWNER = re.compile("[a-z0-9]([a-z0-9_-]{0,38}[a-z0-9])?")
_NAME = re.compile(rf"{LEASE}(?P<owner>{_OWNER.pattern})_(?P<number>[0-9a-f]{{8}})")


@dataclass(frozen=True, slots=True)
class Lease:
    """A snapshot that is kept for ``owner``; ``until`` is UTC, ``None`` means until dropped."""

    name: str
    owner: str
    snapshot_id: int
    until: datetime | None

    def holds(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return self.until is None or now < self.until

    def sentence(self) -> str:
        """The lease as one line."""
        until = "it is dropped" if self.until is None else f"{self.until:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.name} keeps table snapshot {self.snapshot_id} for {self.owner} until {until}"


def list_leases(metadata: TableMetadata) -> tuple[Lease, ...]:
    """Every lease of a table, expired ones included, those that end first in front."""
    found = [lease for name in metadata.refs if (lease := find_lease(metadata, name)) is not None]
    never = datetime.max.replace(tzinfo=UTC)
    return tuple(sorted(found, key=lambda lease: (lease.until or never, lease.name)))


def find_lease(metadata: TableMetadata, name: str) -> Lease | None:
    """The lease that a ref is, or ``None`` if it is none."""
    named = _NAME.fullmatch(name)
    ref = metadata.refs.get(name)
    snapshot = metadata.snapshot_by_id(ref.snapshot_id) if ref is not None else None
    if named is None or ref is None or snapshot is None:
        return None
    until = None
    if ref.max_ref_age_ms is not None:
        with suppress(ValueError, OverflowError):  # beyond the year 9999 is for ever
            until = datetime.fromtimestamp((snapshot.timestamp_ms + ref.max_ref_age_ms) / 1000, UTC)
    return Lease(name, named["owner"], ref.snapshot_id, until)


def marker_of(snapshot_id: int) -> str:
    """Name of the tag that every lease of a snapshot comes with."""
    return f"{MARKER}{snapshot_id}"


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """What somebody wants to be kept: a snapshot by its id, or by the branch or tag it is at."""

    owner: str
    lasts: timedelta
    snapshot: int | str = MAIN_BRANCH


def take_lease(
    catalog: Catalog, identifier: tuple[str, str], request: LeaseRequest, now: datetime
) -> Lease:
    """Keep a snapshot until ``now`` and what the request says.

    Raises:
        LeaseRefusedError: The owner's name is of no use, or the snapshot is not there (any more).
        CommitConflictError: Others committed first again and again (retryable).
        CommitUnknownError: The answer was lost and the lease is not there (retryable).
    """
    label = "/".join(identifier)
    if _OWNER.fullmatch(request.owner) is None:
        reason = f'"{request.owner}" is no owner: lower-case letters, digits, _ and -, at most 40'
        raise LeaseRefusedError(label, reason)
    if request.lasts <= timedelta(0):
        raise LeaseRefusedError(label, f"it would last {request.lasts}")
    name = f"{LEASE}{request.owner}_{secrets.token_hex(4)}"

    def attempt(table: Table) -> Lease:
        snapshot = _leased_snapshot(table, label, request.snapshot)
        until_ms = int((now + request.lasts).timestamp() * 1000)
        age_ms = max(1, until_ms - snapshot.timestamp_ms)
        _commit_tags(table, name, snapshot.snapshot_id, age_ms)
        until = datetime.fromtimestamp(until_ms / 1000, UTC)
        return Lease(name, request.owner, snapshot.snapshot_id, until)

    with lake_errors(f"Iceberg table {label}"):
        return beside_others(catalog, load_lake_table(catalog, identifier), attempt)


def drop_lease(catalog: Catalog, identifier: tuple[str, str], name: str) -> Lease:
    """Give a lease back; the snapshot goes when nothing else keeps it.

    Raises:
        LeaseMissingError: The table has no lease of that name.
        CommitConflictError: Others committed first again and again (retryable).
    """

    def attempt(table: Table) -> Lease:
        lease = find_lease(table.metadata, name)
        if lease is None:
            names = [one.name for one in list_leases(table.metadata)]
            raise LeaseMissingError("/".join(identifier), name, names)
        commit_updates(table, ((RemoveSnapshotRefUpdate.model_validate({"ref-name": name}),), ()))
        return lease

    with lake_errors(f"Iceberg table {'.'.join(identifier)}"):
        return beside_others(catalog, load_lake_table(catalog, identifier), attempt)


def _leased_snapshot(table: Table, label: str, wanted: int | str) -> Snapshot:
    metadata = table.metadata
    by_id = isinstance(wanted, int)
    found = metadata.snapshot_by_id(wanted) if by_id else metadata.snapshot_by_name(wanted)
    if found is None:
        what = f"table snapshot {wanted}" if by_id else f'branch or tag "{wanted}"'
        raise LeaseRefusedError(label, f"the table has no {what}, or has it no longer")
    return found


def _commit_tags(table: Table, name: str, snapshot_id: int, age_ms: int) -> None:
    """Set the lease and its marker, or neither."""
    marker = marker_of(snapshot_id)
    marked = table.metadata.refs.get(marker)
    marker_ms = max(age_ms, (marked.max_ref_age_ms or 0) if marked is not None else 0)
    updates = tuple(
        SetSnapshotRefUpdate.model_validate(
            {"ref-name": tag, "snapshot-id": snapshot_id, "type": "tag", "max-ref-age-ms": age}
        )
        for tag, age in ((name, age_ms), (marker, marker_ms))
    )
    try:
        commit_updates(table, (updates, ()))
    except CommitFailedException:
        raise
    except (*UNANSWERED, ValueError, BadRequestError) as error:
        fresh = table.refresh()
        if name in fresh.metadata.refs:
            return
        if fresh.metadata.snapshot_by_id(snapshot_id) is None:  # an expiry came first
            raise CommitFailedException from error
        raise unknown_commit(table, snapshot_id, error) from error
