"""``serving/trino/<namespace>/<name>``: what people query in Trino, read back before it counts.

What belongs here: one asset for each certified table and each mart, and when it is asked for. What
does not: bringing it there (``serving/trino_serving.py``).

Where no Trino is named the assets are there all the same, so that the graph shows what could be
served. Nothing asks for them then; a run that somebody starts uses the embedded Trino, if there is
one, and else materializes nothing: such an asset is neither well nor ill.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.keys import mart_key, served_key, table_key
from carbon_pipelines.defs.lake.tables import table_tags
from carbon_pipelines.defs.mart.marts import classification_tags, when_certified
from carbon_pipelines.defs.quality.tables import scored_tables
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.embedded.trino_endpoint import TRINO_VARIABLE
from carbon_pipelines.mart.project import Mart

if TYPE_CHECKING:
    from carbon_pipelines.serving.trino_serving import ServedRelation
    from carbon_pipelines.serving.trino_view import Relation

SENSOR = "trino_when_certified"
NOT_CONFIGURED = f"Trino is not configured: {TRINO_VARIABLE} is not set"

Declared = TableSpec | Mart
"""What an asset shows."""


def trino_relations(
    catalog: Catalog, marts: Sequence[Mart], environ: Mapping[str, str], *, running: bool
) -> dg.Definitions:
    """Views and marts in Trino; what asks for them is there only where a Trino is named."""
    configured = bool(environ.get(TRINO_VARIABLE))
    declared: list[Declared] = [
        table for database in catalog.databases for table in scored_tables(database)
    ]
    declared += marts
    if not declared:
        return dg.Definitions()
    assets = [trino_asset(one, configured=configured) for one in declared]
    sensors = [trino_sensor(running=running)] if configured else []
    return dg.Definitions(assets=assets, sensors=sensors)


def trino_asset(declared: Declared, *, configured: bool) -> dg.AssetsDefinition:
    """One view or mart in Trino, downstream of the gate or of the mart."""
    spec = trino_spec(declared, configured=configured)

    @dg.multi_asset(
        name="_".join(spec.key.path), specs=[spec], pool="serving", retry_policy=RETRIES
    )
    def serve(
        context: dg.AssetExecutionContext, endpoints: EndpointsResource
    ) -> Iterator[dg.MaterializeResult]:
        from carbon_pipelines.lake.connection import open_catalog
        from carbon_pipelines.serving.trino_serving import TrinoServing

        with as_failure():
            resolved = endpoints.resolve()
            if not resolved.has_trino:
                context.log.info("%s; nothing was served", NOT_CONFIGURED)
                return
            with open_catalog(resolved.lake) as lake:
                served = TrinoServing(resolved.trino, resolved.lake).serve(lake, _shown(declared))
            context.log.info("%s", served.sentence())
            yield dg.MaterializeResult(metadata=served_metadata(served))

    return serve


def trino_spec(declared: Declared, *, configured: bool) -> dg.AssetSpec:
    """What the graph shows of it."""
    if isinstance(declared, Mart):
        key, upstream = served_key("trino", "mart", declared.name), mart_key(declared.name)
        what, tags = f"The mart {declared.name} as Trino shows it", classification_tags(declared)
    else:
        key, upstream = served_key("trino", *declared.identifier), table_key("quality", declared)
        what, tags = f"What is certified of {declared.label}, as a view", table_tags(declared)
    state = "" if configured else f" {NOT_CONFIGURED}."
    return dg.AssetSpec(
        key=key,
        deps=[upstream],
        group_name="serving",
        kinds={"trino"},
        owners=[declared.owner],
        description=f"{what}, read back.{state}",
        tags=tags,
        automation_condition=when_certified() if configured else None,
        skippable=True,
    )


def trino_sensor(*, running: bool) -> dg.AutomationConditionSensorDefinition:
    """The sensor that asks for views and marts in Trino."""
    statuses = dg.DefaultSensorStatus
    return dg.AutomationConditionSensorDefinition(
        SENSOR,
        target=dg.AssetSelection.key_prefixes(["serving", "trino"]),
        default_status=statuses.RUNNING if running else statuses.STOPPED,
        description="Reads back in Trino what was certified or built, once no gate of it is shut.",
    )


def served_metadata(served: "ServedRelation") -> dict[str, Any]:
    """The facts of one view or mart shown; ids are no numbers to plot."""
    cost = served.cost
    return {
        "dagster/row_count": served.rows.rows,
        "dagster/table_name": served.name,
        "carbon/snapshot_id": str(served.snapshot_id),
        "carbon/check_sum": str(served.rows.total),
        "carbon/summed_columns": len(served.summed),
        "carbon/left_out": list(served.left_out),
        "carbon/changed": served.changed,
        "carbon/visible_since": dg.MetadataValue.timestamp(served.visible.at),
        "carbon/trino_cpu_seconds": round(cost.cpu_seconds, 3),
        "carbon/trino_rows": cost.rows,
        "carbon/trino_bytes": cost.size_bytes,
        "carbon/seconds": round(served.seconds, 1),
    }


def _shown(declared: Declared) -> "Relation":
    from carbon_pipelines.serving.trino_view import mart_as_it_is, view_of

    return mart_as_it_is(declared) if isinstance(declared, Mart) else view_of(declared)
