"""Certifying a table: its newest snapshot is compared with the source, scored, and then shown.

What belongs here: the order of it, and what it comes to. What does not: the comparison
(``reconcile.py``), the score (``scoring.py``), the commits (``lake/certified.py``), and setting
readers back (``rollback.py``).

Readers are shown exactly the snapshot that was compared and scored. All rows are compared once in
``FULL_EVERY``, and after anything but a merge; in between, those that changed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from pyiceberg.catalog import Catalog
from pyiceberg.table.metadata import TableMetadata

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import CarbonPipelinesError
from carbon_pipelines.lake.certificate import (
    Certificate,
    Standing,
    find_certified,
    is_ahead,
    shown_standing,
)
from carbon_pipelines.lake.certified import certify, keep_candidate, release_candidate
from carbon_pipelines.lake.connection import load_lake_table, load_table
from carbon_pipelines.quality.lake_scores import LakeScores
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines.quality.scoring import Runner, ScoredTable
from carbon_pipelines.quality.verification import Verification, VerifyLimits

FULL_EVERY = timedelta(days=1)
"""All rows are compared so often, however few change."""

What = Literal["moved", "renewed", "held", "behind", "unproven", "unequal", "unscored", "failed"]
"""Readers see the new snapshot; it is the one they saw; they were set back; they see a newer one;
it could not be compared; it is not equal; its score is unknown; its score is too low."""


@dataclass(frozen=True, slots=True)
class Certification:
    """What became of one attempt to certify a table.

    Attributes:
        what: What became of it.
        scored: Its score; of the newest snapshot if there was no comparison.
        verification: None if it could not be made; ``unproven`` says why.
        standing: What readers see now; None: nothing.
    """

    table: TableSpec
    what: What
    scored: ScoredTable
    verification: Verification | None
    unproven: CarbonPipelinesError | None
    standing: Standing | None

    @property
    def is_certified(self) -> bool:
        """Whether readers see the snapshot that was looked at."""
        return self.what in {"moved", "renewed"}

    @property
    def is_proven(self) -> bool:
        """Whether the snapshot equals its source."""
        return self.verification is not None and self.verification.verified

    def proof(self) -> str:
        """What the comparison found, as one sentence."""
        if self.verification is not None:
            return self.verification.sentence()
        return f"{self.table.label}: NOT compared with its source. {self.unproven}"

    def sentence(self) -> str:
        """What became of it, as one sentence, and what readers see."""
        told = {
            "moved": "certified",
            "renewed": "certified, and is what readers saw before",
            "held": "not certified: somebody set readers back, and nobody let them go on",
            "behind": "not certified: readers see a newer snapshot",
            "unproven": "not certified: it was not compared with its source",
            "unequal": "not certified: it differs from its source",
            "unscored": "not certified: its score is unknown",
            "failed": "not certified: its score does not pass",
        }
        return (
            f"{self.table.label}: table snapshot {self.scored.snapshot_id} is {told[self.what]}; "
            f"{self.seen()}"
        )

    def seen(self) -> str:
        """What readers see."""
        return shown_standing(self.standing)


def certify_table(
    table: TableSpec,
    database: DatabaseSpec,
    endpoints: Endpoints,
    scores: LakeScores,
    *,
    by: str,
    full: bool = False,
    runner: Runner = "pass",
    limits: VerifyLimits | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Certification:
    """Compare a table with its source, score it, and show it to readers if both are good.

    The score is kept in the lake whatever it is, also where the source cannot be asked.

    Args:
        table: With its source and expectations.
        database: That of ``table``.
        endpoints: Where the services are.
        scores: Of ``lake_scores.open_scores``.
        by: Who certifies.
        full: Compare and score all rows, whatever is known.
        runner: Who counts rows that fail expectations.
        limits: Of the comparison.
        now: The clock.

    Raises:
        TableNotCopiedError: There is nothing to certify.
        ExpectationsMisfitError: Expectations do not fit the table's columns.
        LakeUnreadableError: DuckDB cannot read the snapshot.
        CertifiedMovedError: Somebody else moved the branch meanwhile (retryable).
        CommitConflictError: Others committed first again and again (retryable).
        LakeError: The lake failed.
    """
    catalog, identifier = scores.catalog, table.identifier
    before = _standing(catalog, table)
    proven = _proven(before, full=full, now=now())
    pinned: list[int] = []

    def pin(snapshot_id: int) -> None:
        keep_candidate(catalog, identifier, snapshot_id)
        pinned.append(snapshot_id)

    try:
        verification, unproven = None, None
        try:
            verification = verify_table(
                table, database, endpoints, limits=limits, now=now, proven=proven, pin=pin
            )
        except CarbonPipelinesError as error:
            if load_table(catalog, identifier) is None:
                raise
            unproven = error
        scored = scores.score(
            database,
            table,
            now=now(),
            keep=True,
            full=full,
            runner=runner,
            snapshot_id=verification.snapshot_id if verification is not None else None,
        )
        metadata = load_lake_table(catalog, identifier).metadata
        what = judge(metadata, verification, scored, before)
        standing = before
        if verification is not None and what in {"moved", "renewed"}:
            certificate = _certificate(verification, scored, before, by=by, now=now())
            expected = before.snapshot_id if before is not None else None
            standing = certify(catalog, identifier, certificate, expected=expected)
    finally:
        for snapshot_id in dict.fromkeys(pinned):
            release_candidate(catalog, identifier, snapshot_id)
    return Certification(table, what, scored, verification, unproven, standing)


def judge(
    metadata: TableMetadata,
    verification: Verification | None,
    scored: ScoredTable,
    standing: Standing | None,
) -> What:
    """What becomes of a snapshot that was looked at."""
    if verification is None:
        return "unproven"
    if not verification.verified:
        return "unequal" if verification.differs else "unproven"
    if scored.score.value is None:
        return "unscored"
    if not scored.score.passes:
        return "failed"
    if standing is not None and standing.held:
        return "held"
    if standing is not None and standing.snapshot_id == scored.snapshot_id:
        return "renewed"
    return "moved" if is_ahead(metadata, scored.snapshot_id, standing) else "behind"


def _standing(catalog: Catalog, table: TableSpec) -> Standing | None:
    iceberg = load_table(catalog, table.identifier)
    return find_certified(iceberg.metadata, table.label) if iceberg is not None else None


def _proven(standing: Standing | None, *, full: bool, now: datetime) -> int | None:
    """The snapshot that all rows outside later changes were proven at, if that is recent."""
    certificate = standing.certificate if standing is not None else None
    if full or certificate is None or now - certificate.full_at > FULL_EVERY:
        return None
    return certificate.snapshot_id


def _certificate(
    verification: Verification,
    scored: ScoredTable,
    before: Standing | None,
    *,
    by: str,
    now: datetime,
) -> Certificate:
    known = before.certificate if before is not None else None
    same = known is not None and known.snapshot_id == scored.snapshot_id
    as_of = verification.as_of or now
    value = scored.score.value
    assert value is not None  # it passed
    return Certificate(
        snapshot_id=scored.snapshot_id,
        position=scored.position,
        rows=scored.rows,
        score=value,
        verified_position=str(verification.position),
        verified_at=as_of,
        full_at=known.full_at if verification.changed_keys is not None and known else as_of,
        certified_at=known.certified_at if same and known else now,
        by=known.by if same and known else by,
        reason=known.reason if same and known else None,
    )
