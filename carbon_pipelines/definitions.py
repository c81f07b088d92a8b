"""The one code location: what ``defs`` makes of the catalog, each run in a single process."""

import os

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """Read the declarations once and build everything from them.

    Runs execute their steps in process: starting a process costs more than a micro-batch does.
    """
    from carbon_pipelines.defs.build import build_definitions

    return dg.Definitions.merge(
        build_definitions(os.environ), dg.Definitions(executor=dg.in_process_executor)
    )
