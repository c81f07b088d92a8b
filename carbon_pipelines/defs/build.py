"""One catalog in, all of Dagster's definitions out.

What belongs here: the list of stages. What does not: what a stage's assets look like (its package).
"""

from collections.abc import Mapping

import dagster as dg

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.defs.automation.databases import automation
from carbon_pipelines.defs.jobs.people import jobs
from carbon_pipelines.defs.lake.tables import lake_tables
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.defs.source.tables import source_tables
from carbon_pipelines.defs.stream.databases import stream_databases
from carbon_pipelines.embedded.endpoints import catalog_directory


def build_definitions(environ: Mapping[str, str]) -> dg.Definitions:
    """Everything for the catalog that ``environ`` points at.

    Raises:
        DeclarationError: A declaration is wrong; files and lines are named.
        SettingsError: ``CARBON_AUTOMATION`` has a value it cannot have.
    """
    catalog = load_catalog(catalog_directory(environ))
    return dg.Definitions.merge(
        source_tables(catalog),
        stream_databases(catalog),
        lake_tables(catalog),
        automation(catalog, environ),
        jobs(catalog),
        dg.Definitions(resources={"endpoints": EndpointsResource.from_environment(environ)}),
    )
