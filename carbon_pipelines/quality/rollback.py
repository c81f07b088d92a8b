"""Setting readers of ``certified`` back to a snapshot that they saw before, and letting them go on.

What belongs here: the plan, and doing it. What does not: moving the branch forward
(``certification.py``) and the commit (``lake/certified.py``).
"""

from dataclasses import dataclass, replace
from datetime import datetime

from pyiceberg.catalog import Catalog

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import NotCertifiedError, RollbackRefusedError
from carbon_pipelines.lake.certificate import (
    Certificate,
    Standing,
    find_certified,
    past_certificates,
    resumed,
    shown_standing,
)
from carbon_pipelines.lake.certified import certify
from carbon_pipelines.lake.connection import load_lake_table


@dataclass(frozen=True, slots=True)
class Rollback:
    """A plan to show readers an earlier certified snapshot again."""

    table: TableSpec
    standing: Standing
    target: Certificate

    def describe(self) -> str:
        """The plan, for people."""
        return (
            f"{self.table.label}: {shown_standing(self.standing)}.\n"
            f"They will see {self.target.sentence()}, and stay there until somebody lets them go "
            f'on with "carbon resume {self.table.label}".'
        )


def plan_rollback(catalog: Catalog, table: TableSpec, to: int | None = None) -> Rollback:
    """Plan to set readers back to snapshot ``to``, or to the last one they saw before.

    Raises:
        NotCertifiedError: Readers see nothing.
        RollbackRefusedError: They never saw that snapshot, or it is gone.
    """
    metadata = load_lake_table(catalog, table.identifier).metadata
    standing = find_certified(metadata, table.label)
    if standing is None:
        raise NotCertifiedError(table.label)
    past = [
        one
        for one in past_certificates(metadata, table.label)
        if one.snapshot_id != standing.snapshot_id
    ]
    chosen = [one for one in past if to is None or one.snapshot_id == to]
    if not chosen:
        there = ", ".join(str(one.snapshot_id) for one in past) or "none"
        wanted = f"snapshot {to}" if to is not None else "an earlier snapshot"
        raise RollbackRefusedError(
            table.label,
            f"readers never saw {wanted}, or expiry has removed it; those that they saw and that "
            f"are there: {there}",
        )
    return Rollback(table, standing, chosen[0])


def apply_rollback(
    catalog: Catalog, plan: Rollback, *, by: str, reason: str, now: datetime
) -> Standing:
    """Set readers back, as planned; they stay there.

    Raises:
        CertifiedMovedError: Somebody moved the branch since the plan (retryable).
        CertifiedRefusedError: The snapshot is gone.
    """
    held = replace(plan.target, by=by, reason=reason, held=True, certified_at=now)
    return certify(catalog, plan.table.identifier, held, expected=plan.standing.snapshot_id)


@dataclass(frozen=True, slots=True)
class Resumption:
    """A plan to let readers who were set back go on."""

    table: TableSpec
    certificate: Certificate

    def describe(self) -> str:
        """The plan, for people."""
        return (
            f"{self.table.label}: readers see {self.certificate.sentence()}. They will see the "
            "next snapshot that is good."
        )


def plan_resume(catalog: Catalog, table: TableSpec) -> Resumption:
    """Plan to let readers who were set back go on with the next snapshot that is good.

    Raises:
        NotCertifiedError: Readers see nothing.
        RollbackRefusedError: They were not set back.
    """
    metadata = load_lake_table(catalog, table.identifier).metadata
    standing = find_certified(metadata, table.label)
    if standing is None:
        raise NotCertifiedError(table.label)
    if standing.certificate is None or not standing.held:
        raise RollbackRefusedError(table.label, "nobody set it back, so it goes on by itself")
    return Resumption(table, standing.certificate)


def apply_resume(catalog: Catalog, plan: Resumption, *, by: str, reason: str) -> Standing:
    """Let them go on.

    Raises:
        CertifiedMovedError: Somebody moved the branch since the plan (retryable).
    """
    free = resumed(plan.certificate, by=by, reason=reason)
    return certify(catalog, plan.table.identifier, free, expected=free.snapshot_id)
