"""The checks of a lake table that its own step evaluates.

What belongs here: what they are called and what a sync's outcome means for them. What does not:
comparing rows with the source. They cost no step of their own, and a step that fails still says
which check failed and why. A table that was parked before the run fails its check and not the run:
nothing new is wrong with it, and the run brings the others up to date. Neither check blocks: what
stands downstream reads a table that is late, or lacks rows that are named, but not a wrong one.
"""

import dagster as dg

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.keys import table_key
from carbon_pipelines.errors import TableParkedError

FLOWING = "flowing"
DEAD_LETTERS = "dead_letters"


def lake_checks(table: TableSpec) -> list[dg.AssetCheckSpec]:
    """The checks of one table."""
    key = table_key("lake", table)
    return [
        dg.AssetCheckSpec(
            FLOWING,
            asset=key,
            blocking=False,
            description="The table follows its source; if it is parked, this says why.",
        ),
        dg.AssetCheckSpec(
            DEAD_LETTERS,
            asset=key,
            blocking=False,
            description="No event of the table is set aside as a dead letter.",
        ),
    ]


def flows(table: TableSpec) -> dg.AssetCheckResult:
    """The table was brought up to what Kafka held."""
    return dg.AssetCheckResult(asset_key=table_key("lake", table), check_name=FLOWING, passed=True)


def lacks(table: TableSpec, pending: int) -> dg.AssetCheckResult:
    """So many events are set aside, and the table goes on without them."""
    return dg.AssetCheckResult(
        asset_key=table_key("lake", table),
        check_name=DEAD_LETTERS,
        passed=pending == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f'"carbon replay {table.label}" shows why.' if pending else None,
        metadata={"carbon/pending": pending},
    )


def is_parked(table: TableSpec, error: TableParkedError) -> tuple[dg.AssetCheckResult, ...]:
    """The table was parked before this run, which has left it as it is."""
    return (
        dg.AssetCheckResult(
            asset_key=table_key("lake", table),
            check_name=FLOWING,
            passed=False,
            severity=dg.AssetCheckSeverity.ERROR,
            description=str(error),
            metadata={
                "carbon/error": type(error).__name__,
                "carbon/parked_since": error.since,
                "carbon/parked_by": error.by,
                "carbon/parked_because": error.reason,
            },
        ),
        lacks(table, error.dead_letters),
    )


def stands(table: TableSpec, error: Exception) -> dg.AssetCheckResult:
    """The table cannot go on before somebody does something."""
    return dg.AssetCheckResult(
        asset_key=table_key("lake", table),
        check_name=FLOWING,
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=str(error),
        metadata={"carbon/error": type(error).__name__},
    )
