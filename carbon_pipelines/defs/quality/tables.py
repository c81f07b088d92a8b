"""``quality/<database>/<table>``: how good a lake table is, and the gate before whoever reads it.

What belongs here: one asset for each table, its checks, and the numbers that are plotted. What does
not: what is looked at and what follows (``quality/certification.py``), and the score's page
(``quality/scorecard.py``).

The checks block what stands downstream of the score, not of the lake table: upkeep goes on while
data is bad. Each table is a step of its own, so that a failed check blocks no other table.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.keys import table_key
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.errors import CarbonPipelinesError

if TYPE_CHECKING:
    from carbon_pipelines.quality.certification import Certification
    from carbon_pipelines.quality.score import Loss
    from carbon_pipelines.quality.scoring import ScoredTable

PASSES = "passes"
RECONCILED = "reconciled"


class CertifyConfig(dg.Config):
    """How a table is looked at."""

    full: bool = Field(
        default=False, description="Compare and score all rows, whatever is known of them."
    )
    runner: Literal["pass", "great_expectations", "trino"] = Field(
        default="pass",
        description="Who counts rows that fail: one pass of ours, Great Expectations, or Trino.",
    )


def table_quality(table: TableSpec, database: DatabaseSpec) -> dg.AssetsDefinition:
    """The asset that compares and scores a table's newest snapshot; a good one is certified."""
    key = table_key("quality", table)

    @dg.asset(
        key=key,
        deps=[table_key("lake", table)],
        group_name="quality",
        kinds={"duckdb", "iceberg"},
        owners=[table.owner],
        description=(
            f"How good lake table {table.label} is, against its source and its expectations: 0 to "
            "100. If it is good, readers of the branch certified see it from then on."
        ),
        pool="quality",
        retry_policy=RETRIES,
        check_specs=quality_checks(table),
    )
    def certified(
        context: dg.AssetExecutionContext, config: CertifyConfig, endpoints: EndpointsResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        from carbon_pipelines.maintenance.thinning import thin_table
        from carbon_pipelines.quality.certification import certify_table
        from carbon_pipelines.quality.history import KEPT_SNAPSHOTS, TABLES
        from carbon_pipelines.quality.lake_scores import open_scores

        resolved = endpoints.resolve()
        with (
            as_failure(),
            open_scores(
                resolved.lake, resolved.trino if config.runner == "trino" else None
            ) as scores,
        ):
            try:
                done = certify_table(
                    table,
                    database,
                    resolved,
                    scores,
                    by=f"Dagster run {context.run.run_id}",
                    full=config.full,
                    runner=config.runner,
                )
            except CarbonPipelinesError as error:
                if not error.retryable:
                    yield from unscored(table, error)
                raise
            context.log.info("%s\n%s", done.proof(), done.sentence())
            yield dg.MaterializeResult(
                metadata=certified_metadata(done),
                check_results=[reconciled(done), gate(done.scored, table)],
            )
            for identifier in TABLES:
                thin_table(scores.catalog, identifier, KEPT_SNAPSHOTS, datetime.now(UTC))

    return certified


def quality_checks(table: TableSpec) -> list[dg.AssetCheckSpec]:
    """Both have to pass before anything downstream of the table goes on."""
    key = table_key("quality", table)
    return [
        dg.AssetCheckSpec(
            RECONCILED,
            asset=key,
            blocking=True,
            description="The snapshot equals its source, compared at one consistent point.",
        ),
        dg.AssetCheckSpec(
            PASSES,
            asset=key,
            blocking=True,
            description="The score reaches the threshold and nothing critical failed.",
        ),
    ]


def certified_metadata(done: "Certification") -> dict[str, Any]:
    """The score, what readers see since, and through which change of the source it is proven."""
    found: dict[str, Any] = {"carbon/result": done.sentence(), **score_metadata(done.scored)}
    certificate = done.standing.certificate if done.standing is not None else None
    if certificate is not None:
        found["carbon/certified_snapshot_id"] = str(certificate.snapshot_id)
        found["carbon/verified_through"] = certificate.verified_position
        found["carbon/verified_at"] = dg.MetadataValue.timestamp(certificate.verified_at)
        found["carbon/all_rows_verified_at"] = dg.MetadataValue.timestamp(certificate.full_at)
    if done.verification is not None:
        found["carbon/verify_cpu_seconds"] = round(done.verification.cpu_seconds, 2)
        compared = done.verification.changed_keys
        found["carbon/compared"] = (
            "all rows" if compared is None else f"{compared:,} keys that changed"
        )
    return found


def reconciled(done: "Certification") -> dg.AssetCheckResult:
    """Whether the snapshot equals its source; one that could not be compared is not known to."""
    proof = done.verification
    found: dict[str, Any] = {}
    if proof is not None:
        found = {
            "carbon/position": str(proof.position),
            "carbon/snapshot_id": str(proof.snapshot_id),
            "carbon/differing_keys": proof.differing_count,
            "carbon/unsettled_keys": proof.unsettled_keys,
            "carbon/rounds": proof.rounds,
        }
    elif done.unproven is not None:
        found = {"carbon/error": type(done.unproven).__name__}
    return dg.AssetCheckResult(
        asset_key=table_key("quality", done.table),
        check_name=RECONCILED,
        passed=done.is_proven,
        severity=dg.AssetCheckSeverity.ERROR,
        description=done.proof(),
        metadata=found,
    )


def score_metadata(found: "ScoredTable") -> dict[str, Any]:
    """The numbers that are plotted, and the page that explains them; unknown is no number."""
    from carbon_pipelines.quality.scorecard import scorecard

    score = found.score
    numbers: dict[str, float | None] = {
        "carbon/score": score.value,
        **{f"carbon/{one.dimension}": one.score for one in score.dimensions},
    }
    return {
        "carbon/because": score.verdict(),
        "carbon/scorecard": dg.MetadataValue.md(scorecard(found)),
        **{name: round(value, 1) for name, value in numbers.items() if value is not None},
        "carbon/threshold": score.threshold,
        "carbon/unknown_expectations": len(score.unknown),
        "carbon/losses": lost_points(score.losses),
        "carbon/failed_expectations": sum(one.status == "failed" for one in score.outcomes),
        "carbon/expectations_version": found.version,
        "carbon/snapshot_id": str(found.snapshot_id),  # no number to plot
        "carbon/position": found.position,
        "carbon/cpu_seconds": round(found.cpu_seconds, 2),
        "dagster/row_count": found.rows,
    }


def lost_points(losses: Iterable["Loss"]) -> dict[str, float]:
    """What each expectation costs, with what a cap takes for it."""
    points: dict[str, float] = {}
    for loss in losses:
        points[loss.label] = points.get(loss.label, 0.0) + loss.points
    return {label: round(lost, 1) for label, lost in points.items()}


def gate(found: "ScoredTable", table: TableSpec) -> dg.AssetCheckResult:
    """Whether what stands downstream may go on with this snapshot."""
    return dg.AssetCheckResult(
        asset_key=table_key("quality", table),
        check_name=PASSES,
        passed=found.score.passes,
        severity=dg.AssetCheckSeverity.ERROR,
        description=found.score.verdict(),
        metadata={"carbon/snapshot_id": str(found.snapshot_id)},
    )


def unscored(table: TableSpec, error: CarbonPipelinesError) -> Iterator[dg.AssetCheckResult]:
    """The table could not be looked at before somebody does something: not passed."""
    for name in (RECONCILED, PASSES):
        yield dg.AssetCheckResult(
            asset_key=table_key("quality", table),
            check_name=name,
            passed=False,
            severity=dg.AssetCheckSeverity.ERROR,
            description=str(error),
            metadata={"carbon/error": type(error).__name__},
        )


def scored_tables(database: DatabaseSpec) -> list[TableSpec]:
    """Those of which something is expected; of the others nothing can be known."""
    return [table for table in database.tables if table.expectations]


def quality_tables(catalog: Catalog) -> dg.Definitions:
    """One asset per table of which something is expected."""
    return dg.Definitions(
        assets=[
            table_quality(table, database)
            for database in catalog.databases
            for table in scored_tables(database)
        ]
    )
