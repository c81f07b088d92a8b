"""The jobs ``rollback`` and ``resume``: readers of ``certified`` are set back, or go on.

What belongs here: running them and showing what came of it. What does not: what they do
(``quality/rollback.py``). Every table is planned before any is changed.
"""

import dagster as dg
from pydantic import Field

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.failures import as_failure
from carbon_pipelines.defs.jobs.config import TablesConfig
from carbon_pipelines.defs.jobs.planned import show_and_apply
from carbon_pipelines.defs.resources.endpoints import EndpointsResource


class RollbackConfig(TablesConfig):
    """Which tables, where to, why, and whether to do it."""

    to: str | None = Field(
        default=None,
        pattern="^[1-9][0-9]{0,18}$",
        description="A snapshot id that readers saw before, of one table; by default the last one.",
    )


def rollback_job(catalog: Catalog) -> dg.JobDefinition:
    """The job that sets readers back."""

    @dg.op(name="roll_back", description="Shows where readers would be; sets them back if told to.")
    def roll_back(
        context: dg.OpExecutionContext, config: RollbackConfig, endpoints: EndpointsResource
    ) -> None:
        from datetime import UTC, datetime

        from carbon_pipelines.lake.connection import open_catalog
        from carbon_pipelines.quality.rollback import apply_rollback, plan_rollback

        to = int(config.to) if config.to else None
        by, now = f"Dagster run {context.run_id}", datetime.now(UTC)
        with as_failure(), open_catalog(endpoints.resolve().lake) as lake:
            show_and_apply(
                context,
                config,
                [plan_rollback(lake, table, to) for table in catalog.select(config.tables)],
                lambda plan: apply_rollback(lake, plan, by=by, reason=config.reason, now=now),
                done="carbon/rolled_back",
            )

    @dg.job(
        name="rollback",
        description=(
            "Show readers of certified an earlier snapshot again, and keep them there until they "
            "are resumed. A dry run shows the plan and changes nothing."
        ),
        tags={"carbon/job": "rollback"},
    )
    def rollback() -> None:
        roll_back()

    return rollback


def resume_job(catalog: Catalog) -> dg.JobDefinition:
    """The job that lets readers who were set back go on."""

    @dg.op(name="let_go_on", description="Shows who is held; lets them go on if told to.")
    def let_go_on(
        context: dg.OpExecutionContext, config: TablesConfig, endpoints: EndpointsResource
    ) -> None:
        from carbon_pipelines.lake.connection import open_catalog
        from carbon_pipelines.quality.rollback import apply_resume, plan_resume

        by = f"Dagster run {context.run_id}"
        with as_failure(), open_catalog(endpoints.resolve().lake) as lake:
            show_and_apply(
                context,
                config,
                [plan_resume(lake, table) for table in catalog.select(config.tables)],
                lambda plan: apply_resume(lake, plan, by=by, reason=config.reason),
                done="carbon/resumed",
            )

    @dg.job(
        name="resume",
        description=(
            "Let readers of certified who were set back go on. A dry run shows who is held and "
            "changes nothing."
        ),
        tags={"carbon/job": "resume"},
    )
    def resume() -> None:
        let_go_on()

    return resume
