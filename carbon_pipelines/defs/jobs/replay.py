"""The job ``replay``: dead letters whose cause is gone are put back into their tables.

What belongs here: running it and showing what came of it. What does not: what it does
(``lake/replay.py``). Those that still cannot be merged stay pending, which is no failure.
"""

import dagster as dg

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.failures import as_failure
from carbon_pipelines.defs.jobs.config import TablesConfig
from carbon_pipelines.defs.resources.endpoints import EndpointsResource


def replay_job(catalog: Catalog) -> dg.JobDefinition:
    """The job over every declared table."""

    @dg.op(name="replay_tables", description="Tries every dead letter; applies them if told to.")
    def replay_tables(
        context: dg.OpExecutionContext, config: TablesConfig, endpoints: EndpointsResource
    ) -> None:
        from carbon_pipelines.lake.replay import apply_replay, plan_replay

        with as_failure():
            resolved, by = endpoints.resolve(), f"Dagster run {context.run_id}"
            plans = plan_replay(catalog.select(config.tables), resolved)
            for plan in plans:
                context.log.info(plan.describe())
            done = [
                apply_replay(plan, resolved, reason=config.reason, by=by)
                for plan in (() if config.dry_run else plans)
            ]
            for one in done:
                context.log.info(one.sentence())
        context.add_output_metadata(
            {
                "carbon/tables": [plan.table.label for plan in plans],
                "carbon/plan": dg.MetadataValue.md("\n\n".join(p.describe() for p in plans)),
                "carbon/can_be_replayed": sum(len(plan.succeeding) for plan in plans),
                "carbon/replayed": sum(one.replayed for one in done),
            }
        )

    @dg.job(
        name="replay",
        description="Put dead letters back. A dry run tries them and changes nothing.",
        tags={"carbon/job": "replay"},
    )
    def replay() -> None:
        replay_tables()

    return replay
