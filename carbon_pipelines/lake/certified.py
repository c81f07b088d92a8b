"""Moving the branch ``certified``, which audited readers see, by compare-and-set.

What belongs here: the commits. What does not: what is written beside the branch
(``certificate.py``) and whether a snapshot is good enough (``quality/certification.py``).

The branch moves to exactly the snapshot that was compared and scored, in one commit with the
property ``carbon.certified`` that says what was found. By itself it goes forward alone: to a
snapshot that came later. A person may set it back, with a reason; it stays there until somebody
lets it go on.

While a snapshot is compared and scored, the tag ``carbon_candidate`` keeps it from expiry.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    RemoveSnapshotRefUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
)

from carbon_pipelines.errors import (
    CertifiedMovedError,
    CertifiedRefusedError,
    TableNotCopiedError,
)
from carbon_pipelines.lake.certificate import CERTIFIED, Certificate, Standing, with_history
from carbon_pipelines.lake.commit import commit_updates
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.staging import beside_others

CANDIDATE = "carbon_candidate"
"""The tag of the snapshot that is being looked at."""
CANDIDATE_AGE = timedelta(hours=12)
"""So long the tag of a process that died keeps its snapshot."""
T = TypeVar("T")


def keep_candidate(catalog: Catalog, identifier: tuple[str, str], snapshot_id: int) -> None:
    """Keep a snapshot from expiry while it is looked at.

    Raises:
        CertifiedRefusedError: It is gone already.
        CommitConflictError: Others committed first again and again (retryable).
    """
    age_ms = int(CANDIDATE_AGE.total_seconds() * 1000)

    def attempt(table: Table) -> None:
        metadata = table.metadata
        snapshot = _require(metadata, identifier, snapshot_id)
        ref = metadata.refs.get(CERTIFIED)
        if ref is None or ref.snapshot_id != snapshot_id:
            old_ms = int(datetime.now(UTC).timestamp() * 1000) - snapshot.timestamp_ms
            tag = _set_ref(CANDIDATE, snapshot_id, "tag", age_ms + max(0, old_ms))
            commit_updates(table, ((tag,), ()))

    _beside_others(catalog, identifier, attempt)


def certify(
    catalog: Catalog,
    identifier: tuple[str, str],
    certificate: Certificate,
    *,
    expected: int | None,
) -> Standing:
    """Move ``certified`` to the certificate's snapshot, or renew what is known of the one it is at.

    Args:
        catalog: The lake's.
        identifier: Namespace and name of the table.
        certificate: What was found.
        expected: Where the branch was when that was begun; it must be there still.

    Raises:
        CertifiedMovedError: Somebody else moved the branch meanwhile (retryable).
        CertifiedRefusedError: The snapshot is gone, or the ref is none of ours to move.
        CommitConflictError: Others committed first again and again (retryable).
    """

    def attempt(table: Table) -> Standing:
        metadata = table.metadata
        _require(metadata, identifier, certificate.snapshot_id)
        ref = metadata.refs.get(CERTIFIED)
        here = ref.snapshot_id if ref is not None else None
        if here != expected:
            raise CertifiedMovedError("/".join(identifier), expected, here)
        if ref is not None and ref.snapshot_ref_type != SnapshotRefType.BRANCH:
            reason = f'"{CERTIFIED}" is a tag, which does not move; drop it'
            raise CertifiedRefusedError("/".join(identifier), reason)
        same = AssertRefSnapshotId.model_validate({"ref": CERTIFIED, "snapshot-id": expected})
        commit_updates(table, (tuple(_updates(metadata, identifier, certificate)), (same,)))
        return Standing(certificate.snapshot_id, certificate)

    return _beside_others(catalog, identifier, attempt)


def release_candidate(catalog: Catalog, identifier: tuple[str, str], snapshot_id: int) -> None:
    """Let a snapshot go that did not become certified; nothing happens if the tag is elsewhere."""

    def attempt(table: Table) -> None:
        ref = table.metadata.refs.get(CANDIDATE)
        if ref is not None and ref.snapshot_id == snapshot_id:
            commit_updates(table, ((_remove_candidate(),), ()))

    _beside_others(catalog, identifier, attempt)


def _updates(
    metadata: TableMetadata, identifier: tuple[str, str], certificate: Certificate
) -> list[TableUpdate]:
    """What one move changes: the branch, what is known, the history, and the candidate's tag."""
    ref = metadata.refs.get(CERTIFIED)
    updates: list[TableUpdate] = []
    if ref is None or ref.snapshot_id != certificate.snapshot_id:
        updates.append(_set_ref(CERTIFIED, certificate.snapshot_id, "branch", None))
    candidate = metadata.refs.get(CANDIDATE)
    if candidate is not None and candidate.snapshot_id == certificate.snapshot_id:
        updates.append(_remove_candidate())
    known = with_history(metadata, "/".join(identifier), certificate)
    return [*updates, SetPropertiesUpdate(updates=known)]


def _set_ref(name: str, snapshot_id: int, kind: str, age_ms: int | None) -> SetSnapshotRefUpdate:
    fields = {"ref-name": name, "snapshot-id": snapshot_id, "type": kind, "max-ref-age-ms": age_ms}
    return SetSnapshotRefUpdate.model_validate(fields)


def _remove_candidate() -> RemoveSnapshotRefUpdate:
    return RemoveSnapshotRefUpdate.model_validate({"ref-name": CANDIDATE})


def _beside_others(
    catalog: Catalog, identifier: tuple[str, str], attempt: Callable[[Table], T]
) -> T:
    label = "/".join(identifier)
    with lake_errors(f"Iceberg table {label}"):
        table = load_table(catalog, identifier)
        if table is None:
            raise TableNotCopiedError(label)
        return beside_others(catalog, table, attempt)


def _require(metadata: TableMetadata, identifier: tuple[str, str], snapshot_id: int) -> Snapshot:
    snapshot = metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        reason = f"the table has no snapshot {snapshot_id} any more"
        raise CertifiedRefusedError("/".join(identifier), reason)
    return snapshot
