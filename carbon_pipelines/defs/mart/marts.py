"""``mart/<model>``: what people look at, made of certified snapshots alone.

What belongs here: the assets of the dbt project's marts, their tests as checks, and when they are
asked for. What does not: building (``mart/build.py``) and the models (``dbt/``).

One step builds whatever of them a run has chosen: dbt takes seconds to start. A mart waits for the
gates of all tables that it reads; it would gain nothing by not waiting, for a table that does not
pass its gate stays certified where it was. The graph is made of a light reading of the project
(``mart/project.py``): dbt's own would cost more than everything else here together.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.keys import mart_key
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.errors import MartSourceError, MartTestsAloneError
from carbon_pipelines.mart.project import (
    DIRECTORY_VARIABLE,
    Mart,
    load_marts,
    mart_target,
    project_directory,
    require_project,
)

if TYPE_CHECKING:
    from carbon_pipelines.mart.build import BuiltMart
    from carbon_pipelines.mart.dbt_run import NodeResult

SENSOR = "marts_when_certified"
_CLASSES = ("public", "internal", "confidential", "restricted")
_KINDS = {"embedded": {"dbt", "duckdb", "iceberg"}, "cluster": {"dbt", "trino", "iceberg"}}


def marts(catalog: Catalog, environ: Mapping[str, str], *, running: bool) -> dg.Definitions:
    """Every mart of the dbt project, and what asks for them; without a project there are none.

    A project that CARBON_DBT_DIR names has to fit the declarations. The sample's own, which is
    there otherwise, is for the sample's tables: of its marts those are left out that read others.

    Raises:
        MartProjectError: The project cannot be understood.
        MartSourceError: A mart reads a table that is never certified.
        SettingUnknownError: CARBON_MART_TARGET is no target.
    """
    target = mart_target(environ)
    built = declared_marts(catalog, environ)
    if not built:
        return dg.Definitions()
    return dg.Definitions(
        assets=[mart_assets(built, target)], sensors=[mart_sensor(running=running)]
    )


def declared_marts(catalog: Catalog, environ: Mapping[str, str]) -> list[Mart]:
    """Marts of the dbt project that can be built from what is declared.

    Raises:
        MartProjectError, MartSourceError: As for `marts`.
    """
    directory = project_directory(environ)
    if directory is None:
        return []
    built: list[Mart] = []
    for mart in load_marts(directory):
        try:
            check_sources(mart, catalog)
        except MartSourceError:
            if environ.get(DIRECTORY_VARIABLE):
                raise
            continue
        built.append(mart)
    return built


def check_sources(mart: Mart, catalog: Catalog) -> None:
    """Whether every table that a mart reads can become certified, and is read in one way.

    Raises:
        MartSourceError: One is not declared, has no expectations, or is a history.
    """
    tables = {table.identifier: table for table in catalog.tables}
    for source in mart.sources:
        table = tables.get(source)
        if table is None:
            raise MartSourceError(mart.name, "/".join(source), "which is not declared")
        if not table.expectations:
            reason = "of which nothing is expected, so that it is never certified"
            raise MartSourceError(mart.name, table.label, reason)
        if table.is_history:
            raise MartSourceError(mart.name, table.label, "which is a history of its rows")


def mart_assets(built: Sequence[Mart], target: str) -> dg.AssetsDefinition:
    """The assets, as one step of which any part can be run."""

    @dg.multi_asset(
        name="marts",
        specs=[mart_spec(mart, target) for mart in built],
        check_specs=[
            dg.AssetCheckSpec(
                test.name,
                asset=mart_key(mart.name),
                blocking=test.blocks,
                description=test.description,
            )
            for mart in built
            for test in mart.tests
        ],
        can_subset=True,
        pool="mart",
        retry_policy=RETRIES,
    )
    def build(
        context: dg.AssetExecutionContext, endpoints: EndpointsResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        from carbon_pipelines.mart.build import build_marts

        chosen = [mart for mart in built if mart_key(mart.name) in context.selected_asset_keys]
        with as_failure():
            if not chosen:
                raise MartTestsAloneError
            project = require_project(os.environ)
            found = build_marts(chosen, endpoints.resolve(), target=target, project=project)
            for one in found:
                context.log.info("%s", one.sentence())
                yield from (check_result(one, test) for test in one.tests)
                if one.error is None:
                    yield dg.MaterializeResult(
                        asset_key=mart_key(one.name), metadata=mart_metadata(one)
                    )
            for one in found:
                if one.error is not None:
                    raise one.error

    return build


def mart_spec(mart: Mart, target: str) -> dg.AssetSpec:
    """One mart, downstream of the gates of the tables that it reads."""
    return dg.AssetSpec(
        key=mart_key(mart.name),
        deps=[dg.AssetKey(["quality", *source]) for source in mart.sources],
        group_name="mart",
        kinds=_KINDS[target],
        owners=[mart.owner],
        description=mart.description,
        metadata={"dagster/table_name": f"mart.{mart.name}"},
        tags=classification_tags(mart),
        automation_condition=when_certified(),
    )


def classification_tags(mart: Mart) -> dict[str, str]:
    """The strictest classification of a mart's columns, if one has any."""
    if not mart.classifications:
        return {}
    return {"carbon/classification": max(mart.classifications, key=_CLASSES.index)}


def when_certified() -> dg.AutomationCondition:
    """When a gate has let something new through, and none that it reads is shut."""
    condition = dg.AutomationCondition
    return condition.eager() & condition.all_deps_blocking_checks_passed()


def mart_sensor(*, running: bool) -> dg.AutomationConditionSensorDefinition:
    """The sensor that asks for marts."""
    statuses = dg.DefaultSensorStatus
    return dg.AutomationConditionSensorDefinition(
        SENSOR,
        target=dg.AssetSelection.groups("mart"),
        default_status=statuses.RUNNING if running else statuses.STOPPED,
        description="Builds a mart when a table that it reads was scored and every gate is open.",
    )


def check_result(mart: "BuiltMart", test: "NodeResult") -> dg.AssetCheckResult:
    """What a dbt test said; one that only warns blocks nothing."""
    severities = dg.AssetCheckSeverity
    metadata: dict[str, Any] = {"carbon/status": test.status}
    if test.failures is not None:
        metadata["carbon/failures"] = test.failures
    return dg.AssetCheckResult(
        asset_key=mart_key(mart.name),
        check_name=test.name,
        passed=test.status == "pass",
        severity=severities.WARN if test.status == "warn" else severities.ERROR,
        description=test.message or None,
        metadata=metadata,
    )


def mart_metadata(mart: "BuiltMart") -> dict[str, Any]:
    """The facts of one build; ids are no numbers to plot."""
    columns = [dg.TableColumn(name, kind) for name, kind in mart.columns]
    return {
        "dagster/row_count": mart.row_count,
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "carbon/snapshot_id": str(mart.snapshot_id),
        "carbon/certified": {name: str(found) for name, found in mart.certified.items()},
        "carbon/changed": mart.changed,
        "carbon/seconds": round(mart.seconds, 1),
    }
