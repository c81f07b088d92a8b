"""The job ``release``: parked tables go on from where they stand.

Their next sync tries what stopped them again; the lag sensor asks for it at its next tick.
"""

import dagster as dg

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.failures import as_failure
from carbon_pipelines.defs.jobs.config import TablesConfig
from carbon_pipelines.defs.jobs.planned import show_and_apply
from carbon_pipelines.defs.resources.endpoints import EndpointsResource


def release_job(catalog: Catalog) -> dg.JobDefinition:
    """The job over every declared table."""

    @dg.op(name="release_tables", description="Shows what a release will try; does it if told to.")
    def release_tables(
        context: dg.OpExecutionContext, config: TablesConfig, endpoints: EndpointsResource
    ) -> None:
        from carbon_pipelines.lake.release import apply_release, plan_release

        by = f"Dagster run {context.run_id}"
        with as_failure():
            resolved = endpoints.resolve()
            show_and_apply(
                context,
                config,
                plan_release(catalog.select(config.tables), resolved),
                lambda plan: apply_release(plan, resolved, reason=config.reason, by=by),
                done="carbon/released",
            )

    @dg.job(
        name="release",
        description="Let parked tables go on. A dry run shows the plan and changes nothing.",
        tags={"carbon/job": "release"},
    )
    def release() -> None:
        release_tables()

    return release
