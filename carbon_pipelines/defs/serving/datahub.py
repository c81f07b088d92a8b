"""``serving/datahub/<database>`` and ``serving/datahub/mart``: what DataHub was told of them.

What belongs here: one asset for each database and one for all marts, and when they are asked for.
What does not: what is told (``serving/datahub/``).

A score that is bad has to be told as well, so no gate is waited for. Where DataHub is not
configured, the assets are there, nothing asks for them, and a run materializes nothing.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.keys import mart_key, served_key, table_key
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.mart.project import Mart
from carbon_pipelines.serving.datahub.settings import (
    NOT_CONFIGURED,
    URL_VARIABLE,
    load_datahub_settings,
)

if TYPE_CHECKING:
    from carbon_pipelines.serving.datahub.emit import Told

SENSOR = "datahub_when_scored"
MARTS = "mart"
"""The asset of all marts; no database may be called so."""


class TellConfig(dg.Config):
    """How DataHub is told."""

    remove: bool = Field(
        default=False, description="Hide there what is declared no more; a plan shows what that is."
    )


def datahub(
    catalog: Catalog, marts: Sequence[Mart], environ: Mapping[str, str], *, running: bool
) -> dg.Definitions:
    """What is told to DataHub; what asks for it is there only where DataHub is configured."""
    configured = bool(environ.get(URL_VARIABLE))
    specs = [database_spec(one, configured=configured) for one in catalog.databases if one.tables]
    if marts:
        specs.append(marts_spec(marts, configured=configured))
    if not specs:
        return dg.Definitions()
    return dg.Definitions(
        assets=[datahub_asset(spec, catalog, marts) for spec in specs],
        sensors=[datahub_sensor(running=running)] if configured else [],
    )


def datahub_asset(
    spec: dg.AssetSpec, catalog: Catalog, marts: Sequence[Mart]
) -> dg.AssetsDefinition:
    """One scope, told to DataHub."""
    scope = spec.key.path[-1]

    @dg.multi_asset(
        name=f"serving_datahub_{scope}", specs=[spec], pool="serving", retry_policy=RETRIES
    )
    def tell(
        context: dg.AssetExecutionContext, config: TellConfig, endpoints: EndpointsResource
    ) -> Iterator[dg.MaterializeResult]:
        with as_failure():
            settings = load_datahub_settings(os.environ)
            if settings is None:
                context.log.info("%s; nothing was told", NOT_CONFIGURED)
                return
            from carbon_pipelines.serving.datahub.emit import emit
            from carbon_pipelines.serving.datahub.scope import load_wanted
            from carbon_pipelines.serving.datahub.server import DataHubServer

            wanted = load_wanted(scope, catalog, marts, endpoints.resolve(), env=settings.env)
            told = emit(DataHubServer(settings), scope, wanted.proposals, remove=config.remove)
            context.log.info("%s", told.sentence())
            yield dg.MaterializeResult(metadata=told_metadata(told))
            wanted.require_whole()

    return tell


def database_spec(database: DatabaseSpec, *, configured: bool) -> dg.AssetSpec:
    """A database's asset, downstream of its scores; of its tables, if none has a score."""
    scored = [table_key("quality", table) for table in database.tables if table.expectations]
    about = f"PostgreSQL, topics, lake, lineage, expectations and scores of {database.name}"
    return _spec(
        database.name,
        deps=scored or [table_key("lake", table) for table in database.tables],
        owners=[database.owner],
        about=about,
        configured=configured,
    )


def marts_spec(marts: Sequence[Mart], *, configured: bool) -> dg.AssetSpec:
    """The asset of all marts, downstream of each."""
    return _spec(
        MARTS,
        deps=[mart_key(mart.name) for mart in marts],
        owners=sorted({mart.owner for mart in marts}),
        about="All marts, their columns' lineage, their builds, and where they are shown",
        configured=configured,
    )


def _spec(
    scope: str, *, deps: Sequence[dg.AssetKey], owners: list[str], about: str, configured: bool
) -> dg.AssetSpec:
    state = "" if configured else f" {NOT_CONFIGURED}."
    return dg.AssetSpec(
        key=served_key("datahub", scope),
        deps=deps,
        group_name="serving",
        kinds={"datahub"},
        owners=owners,
        description=f"{about}, as DataHub was told.{state}",
        automation_condition=when_something_came() if configured else None,
        skippable=True,
    )


def when_something_came() -> dg.AutomationCondition:
    """When any of what it is about was made again; nothing has to be good, or there, for it."""
    condition = dg.AutomationCondition
    return condition.any_deps_updated().since_last_handled() & ~condition.in_progress()


def datahub_sensor(*, running: bool) -> dg.AutomationConditionSensorDefinition:
    """The sensor that has DataHub told."""
    statuses = dg.DefaultSensorStatus
    return dg.AutomationConditionSensorDefinition(
        SENSOR,
        target=dg.AssetSelection.key_prefixes(["serving", "datahub"]),
        default_status=statuses.RUNNING if running else statuses.STOPPED,
        description="Tells DataHub when a table was scored, well or ill, or a mart was built.",
    )


def told_metadata(told: "Told") -> dict[str, Any]:
    """The facts of one run."""
    return {
        "carbon/urns": told.urns,
        "carbon/told": told.aspects + told.events,
        "carbon/unchanged": told.unchanged,
        "carbon/removed": told.removed,
        "carbon/left": dg.MetadataValue.json(list(told.left)),
        "carbon/datahub_version": told.version,
        "carbon/seconds": round(told.seconds, 1),
    }
