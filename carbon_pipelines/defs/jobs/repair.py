"""The job ``repair``: keys that differ from the source are given the source's rows.

What belongs here: running it and showing what came of it. What does not: what it does
(``quality/repair.py``). Every table is compared and planned before any is changed; a table that is
equal is left alone, and one that is not verified after its repair fails the run.
"""

import dagster as dg

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.failures import as_failure
from carbon_pipelines.defs.jobs.config import TablesConfig
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.errors import StillDifferentError


def repair_job(catalog: Catalog) -> dg.JobDefinition:
    """The job over every declared table."""

    @dg.op(name="repair_tables", description="Compares with the source; mends it if told to.")
    def repair_tables(
        context: dg.OpExecutionContext, config: TablesConfig, endpoints: EndpointsResource
    ) -> None:
        from carbon_pipelines.quality.reconcile import verify_table
        from carbon_pipelines.quality.repair import REPAIR_LIMITS, plan_repair, repair_table

        report = context.log.info
        with as_failure():
            resolved, by = endpoints.resolve(), f"Dagster run {context.run_id}"
            found = [
                verify_table(
                    table, catalog.database(table.database), resolved, limits=REPAIR_LIMITS
                )
                for table in catalog.select(config.tables)
            ]
            plans = [plan_repair(facts, resolved) for facts in found if facts.differs]
            shown = [*(facts.sentence() for facts in found), *(plan.describe() for plan in plans)]
            report("\n".join(shown))
            for number, facts in enumerate(() if config.dry_run else tuple(found)):
                database = catalog.database(facts.table.database)
                found[number] = repair_table(
                    facts, database, resolved, reason=config.reason, by=by, report=report
                )
            wrong = [facts for facts in found if not (facts.verified or config.dry_run)]
            if wrong:
                raise StillDifferentError(wrong[0].table.label, wrong[0].sentence())
        context.add_output_metadata(
            {
                "carbon/tables": [facts.table.label for facts in found],
                "carbon/plan": dg.MetadataValue.md("\n\n".join(shown)),
                "carbon/added_keys": sum(plan.added_keys for plan in plans),
                "carbon/replaced_keys": sum(plan.replaced_keys for plan in plans),
                "carbon/removed_keys": sum(plan.removed_keys for plan in plans),
                "carbon/verified": [facts.table.label for facts in found if facts.verified],
            }
        )

    @dg.job(
        name="repair",
        description=(
            "Give keys that differ the source's rows. A dry run compares and changes nothing."
        ),
        tags={"carbon/job": "repair"},
    )
    def repair() -> None:
        repair_tables()

    return repair
