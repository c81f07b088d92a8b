"""``serving/doris/<mart>``: a mart that people see in Doris, read back before it counts.

What belongs here: one asset for each mart, and when it is asked for. What does not: bringing it
there (``serving/doris_mart.py``).

Where Doris is not configured the assets are there all the same, so that the graph shows what could
be served. Nothing asks for them, and a run that somebody starts materializes nothing: such an asset
is neither well nor ill.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.keys import mart_key, served_key
from carbon_pipelines.defs.mart.marts import classification_tags, when_certified
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.mart.project import Mart
from carbon_pipelines.serving.doris_settings import (
    HOST_VARIABLE,
    NOT_CONFIGURED,
    load_doris_settings,
)

if TYPE_CHECKING:
    from carbon_pipelines.serving.doris_mart import ServedMart

SENSOR = "doris_when_built"


def doris_marts(
    marts: Sequence[Mart], environ: Mapping[str, str], *, running: bool
) -> dg.Definitions:
    """The marts in Doris; what asks for them is there only where Doris is configured."""
    if not marts:
        return dg.Definitions()
    configured = bool(environ.get(HOST_VARIABLE))
    assets = [doris_asset(mart, configured=configured) for mart in marts]
    sensors = [doris_sensor(running=running)] if configured else []
    return dg.Definitions(assets=assets, sensors=sensors)


def doris_asset(mart: Mart, *, configured: bool) -> dg.AssetsDefinition:
    """One mart in Doris, downstream of the mart."""

    @dg.multi_asset(
        name=f"serving_doris_{mart.name}",
        specs=[doris_spec(mart, configured=configured)],
        pool="serving",
        retry_policy=RETRIES,
    )
    def serve(
        context: dg.AssetExecutionContext, endpoints: EndpointsResource
    ) -> Iterator[dg.MaterializeResult]:
        from carbon_pipelines.lake.connection import open_catalog
        from carbon_pipelines.serving.doris_mart import open_doris, serve_mart

        with as_failure():
            settings = load_doris_settings(os.environ)
            if settings is None:
                context.log.info("%s; nothing was served", NOT_CONFIGURED)
                return
            with open_catalog(endpoints.resolve().lake) as catalog:
                served = serve_mart(open_doris(settings), catalog, mart)
            context.log.info("%s", served.sentence())
            yield dg.MaterializeResult(metadata=served_metadata(served))

    return serve


def doris_spec(mart: Mart, *, configured: bool) -> dg.AssetSpec:
    """What the graph shows of it."""
    state = "" if configured else f" {NOT_CONFIGURED}."
    return dg.AssetSpec(
        key=served_key("doris", mart.name),
        deps=[mart_key(mart.name)],
        group_name="serving",
        kinds={"doris"},
        owners=[mart.owner],
        description=f"The mart {mart.name} as Doris shows it, read back.{state}",
        tags=classification_tags(mart),
        automation_condition=when_certified() if configured else None,
        skippable=True,
    )


def doris_sensor(*, running: bool) -> dg.AutomationConditionSensorDefinition:
    """The sensor that asks for marts in Doris."""
    statuses = dg.DefaultSensorStatus
    return dg.AutomationConditionSensorDefinition(
        SENSOR,
        target=dg.AssetSelection.key_prefixes(["serving", "doris"]),
        default_status=statuses.RUNNING if running else statuses.STOPPED,
        description="Brings a mart to Doris when it was built and none of its checks is red.",
    )


def served_metadata(served: "ServedMart") -> dict[str, Any]:
    """The facts of one mart served; ids are no numbers to plot."""
    return {
        "dagster/row_count": served.rows.rows,
        "carbon/snapshot_id": str(served.snapshot_id),
        "carbon/check_sum": str(served.rows.total),
        "carbon/changed": served.changed,
        "carbon/label": served.label or "",
        "carbon/seconds": round(served.seconds, 1),
    }
