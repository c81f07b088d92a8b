"""One catalog in, all of Dagster's definitions out.

What belongs here: the list of stages. What does not: what a stage's assets look like (its package).
"""

from collections.abc import Mapping

import dagster as dg

from carbon_pipelines.catalog.load import Catalog, load_catalog
from carbon_pipelines.defs.automation.alerts import alerts
from carbon_pipelines.defs.automation.certify import certifying
from carbon_pipelines.defs.automation.databases import automation, automation_runs
from carbon_pipelines.defs.automation.in_time import in_time
from carbon_pipelines.defs.automation.upkeep import upkeep
from carbon_pipelines.defs.cluster.build import cluster_jobs
from carbon_pipelines.defs.cluster.doctor import doctor
from carbon_pipelines.defs.jobs.people import jobs
from carbon_pipelines.defs.lake.tables import lake_tables
from carbon_pipelines.defs.maintenance.actions import action_assets
from carbon_pipelines.defs.maintenance.health import health_assets
from carbon_pipelines.defs.mart.marts import declared_marts, marts
from carbon_pipelines.defs.quality.tables import quality_tables
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.defs.serving.datahub import datahub
from carbon_pipelines.defs.serving.doris import doris_marts
from carbon_pipelines.defs.serving.superset import superset_dashboards
from carbon_pipelines.defs.serving.trino import trino_relations
from carbon_pipelines.defs.source.tables import source_tables
from carbon_pipelines.defs.stream.databases import stream_databases
from carbon_pipelines.embedded.endpoints import catalog_directory


def maintenance(catalog: Catalog) -> dg.Definitions:
    """Health of each table, and the three actions; nothing without a table."""
    if not catalog.tables:
        return dg.Definitions()
    return dg.Definitions(assets=[*health_assets(catalog), *action_assets(catalog)])


def build_definitions(environ: Mapping[str, str]) -> dg.Definitions:
    """Everything for the catalog that ``environ`` points at.

    Raises:
        DeclarationError: A declaration is wrong; files and lines are named.
        ServiceGraphError: The declared services contradict each other.
        MartError: The dbt project cannot be right.
        SettingsError: ``CARBON_AUTOMATION`` or ``CARBON_MART_TARGET`` has a value it cannot have.
    """
    catalog = load_catalog(catalog_directory(environ))
    return dg.Definitions.merge(
        source_tables(catalog),
        stream_databases(catalog),
        lake_tables(catalog),
        maintenance(catalog),
        quality_tables(catalog),
        marts(catalog, environ, running=automation_runs(environ)),
        doris_marts(declared_marts(catalog, environ), environ, running=automation_runs(environ)),
        trino_relations(
            catalog,
            declared_marts(catalog, environ),
            environ,
            running=automation_runs(environ),
        ),
        datahub(
            catalog,
            declared_marts(catalog, environ),
            environ,
            running=automation_runs(environ),
        ),
        superset_dashboards(catalog, environ, running=automation_runs(environ)),
        automation(catalog, environ),
        upkeep(catalog, running=automation_runs(environ)),
        alerts(catalog, running=automation_runs(environ)),
        certifying(catalog, running=automation_runs(environ)),
        in_time(catalog, declared_marts(catalog, environ), running=automation_runs(environ)),
        jobs(catalog),
        doctor(environ),
        cluster_jobs(environ),
        dg.Definitions(resources={"endpoints": EndpointsResource.from_environment(environ)}),
    )
