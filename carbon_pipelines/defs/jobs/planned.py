"""What an op does that plans every table, shows the plans, and carries them out if told to.

What belongs here: that order, and what is shown of it. What does not: the plans themselves, nor
jobs that show more than plans (``repair.py``, ``replay.py``).
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import dagster as dg

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.jobs.config import TablesConfig


class TablePlan(Protocol):
    """A plan for one table that people can read."""

    @property
    def table(self) -> TableSpec:
        """Whose plan it is."""
        ...

    def describe(self) -> str:
        """What would be done, and why."""
        ...


Plan = TypeVar("Plan", bound=TablePlan)


def show_and_apply(
    context: dg.OpExecutionContext,
    config: TablesConfig,
    plans: Sequence[Plan],
    apply: Callable[[Plan], object],
    *,
    done: str,
) -> None:
    """Log all plans, apply them unless it is a dry run; ``done`` is the metadata that tells which.

    Nothing is applied before every plan was made: a table that cannot be planned changes no other.
    """
    shown = [plan.describe() for plan in plans]
    context.log.info("\n".join(shown))
    for plan in () if config.dry_run else plans:
        apply(plan)
    context.add_output_metadata(
        {
            "carbon/tables": [plan.table.label for plan in plans],
            "carbon/plan": dg.MetadataValue.md("\n\n".join(shown)),
            done: not config.dry_run,
        }
    )
