"""What the jobs that people start have in common, and the list of them.

What belongs here: their run config, and finding the tables that it names. What does not: what one
of them does (a module each). Another job is a module with a function from the catalog to a job
definition, and one entry in ``JOBS``.
"""

from collections.abc import Callable

import dagster as dg

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.jobs.erasure import erasure_job
from carbon_pipelines.defs.jobs.own_tables import own_tables_job
from carbon_pipelines.defs.jobs.readers import resume_job, rollback_job
from carbon_pipelines.defs.jobs.release import release_job
from carbon_pipelines.defs.jobs.repair import repair_job
from carbon_pipelines.defs.jobs.replay import replay_job

JOBS: tuple[Callable[[Catalog], dg.JobDefinition], ...] = (
    erasure_job,
    own_tables_job,
    release_job,
    repair_job,
    replay_job,
    resume_job,
    rollback_job,
)


def jobs(catalog: Catalog) -> dg.Definitions:
    """Every job that people start."""
    return dg.Definitions(jobs=[make(catalog) for make in JOBS])
