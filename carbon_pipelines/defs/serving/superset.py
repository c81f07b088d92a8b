"""``serving/superset/<dashboard>``: a dashboard that shows its marts, read back before it counts.

What belongs here: one asset for each dashboard that is kept as code, and when it is asked for. What
does not: bringing it there (``serving/superset_serve.py``).

Where Superset is not configured the assets are there all the same, so that the graph shows what
could be served. Nothing asks for them, and a run that somebody starts materializes nothing: such an
asset is neither well nor ill.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.keys import mart_key, served_key
from carbon_pipelines.defs.mart.marts import declared_marts
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.mart.project import Mart
from carbon_pipelines.serving.superset_code import (
    DashboardCode,
    dashboards_directory,
    load_dashboards,
)
from carbon_pipelines.serving.superset_settings import (
    NOT_CONFIGURED,
    is_configured,
    load_superset_settings,
)

if TYPE_CHECKING:
    from carbon_pipelines.serving.superset_serve import ServedDashboard

SENSOR = "superset_when_built"


def superset_dashboards(
    catalog: Catalog, environ: Mapping[str, str], *, running: bool
) -> dg.Definitions:
    """The dashboards whose marts are all declared; what asks for them only if configured.

    Raises:
        DashboardFilesError: The files of a dashboard cannot be understood.
    """
    marts = {mart.name: mart for mart in declared_marts(catalog, environ)}
    found = load_dashboards(dashboards_directory(environ)) if marts else ()
    configured = is_configured(environ)
    assets = [
        superset_asset(code, marts, catalog, configured=configured)
        for code in found
        if set(code.marts) <= marts.keys()
    ]
    sensors = [superset_sensor(running=running)] if configured and assets else []
    return dg.Definitions(assets=assets, sensors=sensors)


def superset_asset(
    code: DashboardCode, marts: Mapping[str, Mart], catalog: Catalog, *, configured: bool
) -> dg.AssetsDefinition:
    """One dashboard, downstream of its marts and of the gates of the tables that these read."""

    @dg.multi_asset(
        name=f"serving_superset_{code.name}",
        specs=[superset_spec(code, [marts[name] for name in code.marts], configured=configured)],
        pool="serving",
        retry_policy=RETRIES,
    )
    def serve(
        context: dg.AssetExecutionContext, endpoints: EndpointsResource
    ) -> Iterator[dg.MaterializeResult]:
        from carbon_pipelines.serving.superset_http import SupersetApi
        from carbon_pipelines.serving.superset_open import open_lake
        from carbon_pipelines.serving.superset_serve import serve_dashboard

        with as_failure():
            settings = load_superset_settings(os.environ)
            if settings is None:
                context.log.info("%s; nothing was served", NOT_CONFIGURED)
                return
            chosen = list(marts.values())
            at = endpoints.resolve()
            with (
                open_lake(at, chosen, catalog, os.environ) as lake,
                SupersetApi(settings) as api,
            ):
                served = serve_dashboard(api, code, lake)
            for line in (*served.changed, served.sentence()):
                context.log.info("%s", line)
            yield dg.MaterializeResult(metadata=served_metadata(served))

    return serve


def superset_spec(code: DashboardCode, marts: Sequence[Mart], *, configured: bool) -> dg.AssetSpec:
    """What the graph shows of it."""
    state = "" if configured else f" {NOT_CONFIGURED}."
    gates = sorted({source for mart in marts for source in mart.sources})
    return dg.AssetSpec(
        key=served_key("superset", code.name),
        deps=[
            *(mart_key(mart.name) for mart in marts),
            *(dg.AssetKey(["quality", *source]) for source in gates),
        ],
        group_name="serving",
        kinds={"superset"},
        owners=sorted({mart.owner for mart in marts}),
        description=f'The dashboard "{code.dashboard.title}" as people see it, read back.{state}',
        automation_condition=when_built() if configured else None,
        skippable=True,
    )


def when_built() -> dg.AutomationCondition:
    """When a mart was built, and no gate is shut; a gate that opens has marts built first."""
    gates = dg.AssetSelection.key_prefixes(["quality"])
    condition = dg.AutomationCondition
    return condition.eager().ignore(gates) & condition.all_deps_blocking_checks_passed()


def superset_sensor(*, running: bool) -> dg.AutomationConditionSensorDefinition:
    """The sensor that asks for dashboards."""
    statuses = dg.DefaultSensorStatus
    return dg.AutomationConditionSensorDefinition(
        SENSOR,
        target=dg.AssetSelection.key_prefixes(["serving", "superset"]),
        default_status=statuses.RUNNING if running else statuses.STOPPED,
        description="Brings a dashboard when a mart of it was built and none of its gates is shut.",
    )


def served_metadata(served: "ServedDashboard") -> dict[str, Any]:
    """The facts of one dashboard; ids are no numbers to plot."""
    score = {} if served.score is None else {"carbon/score": served.score}
    return {
        **score,
        "carbon/address": dg.MetadataValue.url(served.address),
        "carbon/proven": dg.MetadataValue.md(served.proven.markdown()),
        "carbon/snapshots": {name: str(found) for name, found in served.snapshots.items()},
        "carbon/chart_rows": dict(served.charts),
        "carbon/changed": list(served.changed),
        "carbon/outdated": list(served.outdated),
        "carbon/seconds": round(served.seconds, 1),
    }
