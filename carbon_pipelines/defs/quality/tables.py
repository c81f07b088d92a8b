"""``quality/<database>/<table>``: how good a lake table is, and the gate before whoever reads it.

What belongs here: one asset for each table, its check, and the numbers that are plotted. What does
not: the score (``quality/score.py``) and its page (``quality/scorecard.py``).

The check blocks what stands downstream of the score, not of the lake table: upkeep goes on while
data is bad. Each table is a step of its own, so that a failed check blocks no other table.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.keys import table_key
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.errors import CarbonPipelinesError

if TYPE_CHECKING:
    from carbon_pipelines.quality.scoring import ScoredTable

PASSES = "passes"


def table_quality(table: TableSpec, database: DatabaseSpec) -> dg.AssetsDefinition:
    """The asset that scores one table's newest snapshot, and keeps the score."""
    key = table_key("quality", table)

    @dg.asset(
        key=key,
        deps=[table_key("lake", table)],
        group_name="quality",
        kinds={"duckdb", "iceberg"},
        owners=[table.owner],
        description=f"How good lake table {table.label} is, against its expectations: 0 to 100.",
        pool="quality",
        retry_policy=RETRIES,
        check_specs=[
            dg.AssetCheckSpec(
                PASSES,
                asset=key,
                blocking=True,
                description="The score reaches the threshold and nothing critical failed.",
            )
        ],
    )
    def scored(
        context: dg.AssetExecutionContext, endpoints: EndpointsResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        from carbon_pipelines.maintenance.thinning import thin_table
        from carbon_pipelines.quality.history import KEPT_SNAPSHOTS, TABLES
        from carbon_pipelines.quality.lake_scores import open_scores

        now = datetime.now(UTC)
        with as_failure(), open_scores(endpoints.resolve().lake) as scores:
            try:
                found = scores.score(database, table, now=now, keep=True)
            except CarbonPipelinesError as error:
                if not error.retryable:
                    yield unscored(table, error)
                raise
            context.log.info("%s: %s", table.label, found.score.verdict())
            checks = [gate(found, table)]
            yield dg.MaterializeResult(metadata=score_metadata(found), check_results=checks)
            for identifier in TABLES:
                thin_table(scores.catalog, identifier, KEPT_SNAPSHOTS, now)

    return scored


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
        "carbon/failed_expectations": sum(one.status == "failed" for one in score.outcomes),
        "carbon/expectations_version": found.version,
        "carbon/snapshot_id": str(found.snapshot_id),  # no number to plot
        "carbon/position": found.position,
        "carbon/cpu_seconds": round(found.cpu_seconds, 2),
        "dagster/row_count": found.rows,
    }


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


def unscored(table: TableSpec, error: CarbonPipelinesError) -> dg.AssetCheckResult:
    """The table could not be scored before somebody does something: not passed."""
    return dg.AssetCheckResult(
        asset_key=table_key("quality", table),
        check_name=PASSES,
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=str(error),
        metadata={"carbon/error": type(error).__name__},
    )


def quality_tables(catalog: Catalog) -> dg.Definitions:
    """One asset per table of which something is expected; of the others nothing can be known."""
    return dg.Definitions(
        assets=[
            table_quality(table, database)
            for database in catalog.databases
            for table in database.tables
            if table.expectations
        ]
    )
