"""Marts in Dagster: what they wait for, what asks for them, and how a build is shown."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from carbon_pipelines.catalog.load import PACKAGED, load_catalog
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.mart.marts import SENSOR, check_sources, mart_assets, when_certified
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.errors import (
    MartBuildError,
    MartProjectMissingError,
    MartSourceError,
    MartTestsFailedError,
)
from carbon_pipelines.mart import build
from carbon_pipelines.mart.build import BuiltMart
from carbon_pipelines.mart.dbt_run import NodeResult
from carbon_pipelines.mart.project import Mart, load_marts, require_project
from carbon_pipelines_tests.catalog.declarations import PRICE_TICK, declare
from carbon_pipelines_tests.cli.nowhere import NOWHERE

PROJECT = require_project({})
MARTS = load_marts(PROJECT)
CREDITS, CURVE = (
    next(mart for mart in MARTS if mart.name == name)
    for name in ("credit_inventory", "price_curve")
)


def specs(environ: Mapping[str, str]) -> dict[str, dg.AssetSpec]:
    """Marts by key."""
    found = build_definitions(environ).resolve_all_asset_specs()
    return {spec.key.to_user_string(): spec for spec in found if spec.group_name == "mart"}


def test_every_model_is_an_asset_behind_the_gates_of_what_it_reads() -> None:
    found = specs({})

    assert set(found) == {f"mart/{mart.name}" for mart in MARTS}
    deps = {dep.asset_key.to_user_string() for dep in found["mart/credit_inventory"].deps}
    assert deps == {"quality/market/credit", "quality/market/facility"}
    assert found["mart/carbon_cost_exposure"].tags["carbon/classification"] == "confidential"
    assert "carbon/classification" not in found["mart/price_curve"].tags
    assert found["mart/price_curve"].kinds == {"dbt", "duckdb", "iceberg"}
    assert specs({"CARBON_MART_TARGET": "cluster"})["mart/price_curve"].kinds == {
        "dbt",
        "trino",
        "iceberg",
    }


def test_tests_block_unless_dbt_only_warns() -> None:
    graph = build_definitions({}).resolve_asset_graph()
    blocking = {
        key.name: graph.get_check_spec(key).blocking
        for key in graph.asset_check_keys
        if key.asset_key.path[0] == "mart"
    }

    tests = {test.name: test.blocks for mart in MARTS for test in mart.tests}
    assert blocking == {**tests, "in_time": False}
    assert not blocking["emission_intensity_knows_the_facility"]


@pytest.mark.parametrize(
    ("environ", "status"),
    [({}, "STOPPED"), ({"CARBON_AUTOMATION": "running"}, "RUNNING")],
)
def test_the_sensor_starts_as_the_other_automations_do(
    environ: Mapping[str, str], status: str
) -> None:
    [sensor] = [one for one in build_definitions(environ).sensors or () if one.name == SENSOR]

    assert sensor.default_status == dg.DefaultSensorStatus[status]


def test_the_samples_marts_are_for_the_samples_tables(tmp_path: Path) -> None:
    half = shutil.copytree(PACKAGED, tmp_path / "half")
    (half / "market" / "transfer.yaml").unlink()
    other = declare(tmp_path / "other", "shop", price_tick=PRICE_TICK)

    kept = specs({"CARBON_CATALOG_DIR": str(half)})

    assert set(kept) == {f"mart/{mart.name}" for mart in MARTS} - {"mart/carbon_cost_exposure"}
    assert specs({"CARBON_CATALOG_DIR": str(other)}) == {}


def test_a_project_that_somebody_names_has_to_fit_the_declarations(tmp_path: Path) -> None:
    half = shutil.copytree(PACKAGED, tmp_path / "half")
    (half / "market" / "transfer.yaml").unlink()
    named = {"CARBON_DBT_DIR": str(PROJECT)}

    assert specs(named) == specs({})
    with pytest.raises(MartSourceError, match="market/transfer, which is not declared"):
        specs({**named, "CARBON_CATALOG_DIR": str(half)})
    with pytest.raises(MartProjectMissingError, match="CARBON_DBT_DIR"):
        specs({"CARBON_DBT_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"expectations": ()}, "of which nothing is expected"),
        ({"mode": "history"}, "which is a history of its rows"),
    ],
)
def test_a_table_that_is_never_certified_or_is_a_history_is_refused(
    change: Mapping[str, object], reason: str
) -> None:
    catalog = load_catalog()
    market = catalog.database("market")
    tables = tuple(
        table.model_copy(update=dict(change)) if table.name == "credit" else table
        for table in market.tables
    )
    changed = replace(catalog, databases=(market.model_copy(update={"tables": tables}),))

    with pytest.raises(MartSourceError, match=reason):
        check_sources(CREDITS, changed)
    check_sources(CURVE, changed)


class Gate:
    """A scored table whose blocking check says what the test wants, and a mart behind it."""

    def __init__(
        self, instance: dg.DagsterInstance, condition: dg.AutomationCondition | None = None
    ) -> None:
        self.instance, self.is_open, self.cursor = instance, True, None
        key = dg.AssetKey(["quality", "market", "credit"])

        @dg.asset(key=key, check_specs=[dg.AssetCheckSpec("passes", asset=key, blocking=True)])
        def scored() -> Iterator[dg.MaterializeResult]:
            result = dg.AssetCheckResult(check_name="passes", passed=self.is_open)
            yield dg.MaterializeResult(check_results=[result])

        @dg.asset(
            key=["mart", "made"],
            deps=[key],
            group_name="mart",
            automation_condition=condition or when_certified(),
        )
        def made() -> None:
            """A mart."""

        self.definitions = dg.Definitions(assets=[scored, made])

    def score(self, *, is_open: bool) -> bool:
        """Score the table; whether the run succeeded."""
        self.is_open = is_open
        return self._run(dg.AssetKey(["quality", "market", "credit"]))

    def asked_for(self) -> bool:
        """Whether a tick of the sensor asks for the mart, which is then built, and seen built."""
        if not self._tick():
            return False
        assert self._run(dg.AssetKey(["mart", "made"]))
        assert not self._tick()
        return True

    def _tick(self) -> bool:
        told = dg.evaluate_automation_conditions(
            self.definitions,
            self.instance,
            asset_selection=dg.AssetSelection.groups("mart"),
            cursor=self.cursor,
        )
        self.cursor = told.cursor
        return told.total_requested == 1

    def _run(self, key: dg.AssetKey) -> bool:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance, asset_selection=[key], raise_on_error=False
        ).success


def test_a_mart_is_asked_for_when_the_gate_opens_and_not_while_it_is_shut() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        gate = Gate(instance)
        assert not gate.asked_for()
        assert gate.score(is_open=True)
        assert gate.asked_for()
        assert not gate.asked_for()

        assert not gate.score(is_open=False)
        assert [gate.asked_for(), gate.asked_for()] == [False, False]

        assert gate.score(is_open=True)
        assert gate.asked_for()
        assert not gate.asked_for()


def test_without_its_second_half_the_condition_would_ask_behind_a_shut_gate() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        gate = Gate(instance, dg.AutomationCondition.eager())
        assert not gate.asked_for()
        assert gate.score(is_open=True)
        assert gate.asked_for()

        assert not gate.score(is_open=False)
        assert gate.asked_for()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> dict[str, BuiltMart]:
    """What a build, which is faked here, comes to; tests change it."""
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    results = {mart.name: built_mart(mart) for mart in (CREDITS, CURVE)}

    def fake(marts: tuple[Mart, ...], *_: object, **__: object) -> tuple[BuiltMart, ...]:
        return tuple(results[mart.name] for mart in marts)

    monkeypatch.setattr(build, "build_marts", fake)
    return results


def built_mart(mart: Mart) -> BuiltMart:
    return BuiltMart(
        name=mart.name,
        certified={".".join(source): 2**62 for source in mart.sources},
        tests=tuple(NodeResult("test", test.name, "pass", "", 0) for test in mart.tests),
        error=None,
        snapshot_id=2**61,
        changed=True,
        row_count=7,
        columns=(("day", "date"),),
        seconds=1.26,
    )


def run(*marts: Mart) -> dg.ExecuteInProcessResult:
    assets = mart_assets((CREDITS, CURVE), "embedded")
    return dg.materialize(
        [assets],
        selection=dg.AssetSelection.assets(*(["mart", mart.name] for mart in marts)),
        resources={"endpoints": EndpointsResource()},
        raise_on_error=False,
    )


def test_a_built_mart_shows_what_it_was_made_of(built: dict[str, BuiltMart]) -> None:
    result = run(CREDITS)

    [event] = result.get_asset_materialization_events()
    metadata = {name: value.value for name, value in event.materialization.metadata.items()}
    schema = metadata.pop("dagster/column_schema")
    assert isinstance(schema, dg.TableSchema)
    assert [(column.name, column.type) for column in schema.columns] == [("day", "date")]
    assert metadata == {
        "dagster/row_count": 7,
        "carbon/snapshot_id": str(2**61),
        "carbon/certified": {"market.credit": str(2**62), "market.facility": str(2**62)},
        "carbon/changed": True,
        "carbon/seconds": 1.3,
    }
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks == {test.name: True for test in CREDITS.tests}


def test_a_failed_test_fails_the_run_and_shows_no_new_mart(built: dict[str, BuiltMart]) -> None:
    name = "credit_inventory_knows_the_state"
    built["credit_inventory"] = replace(
        built["credit_inventory"],
        tests=(NodeResult("test", name, "fail", "Got 3 results", 3),),
        error=MartTestsFailedError("credit_inventory", {name: "Got 3 results"}),
    )

    result = run(CREDITS, CURVE)

    assert not result.success
    [event] = result.get_asset_materialization_events()
    assert event.asset_key == dg.AssetKey(["mart", "price_curve"])
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [(check.check_name, check.description) for check in failed] == [(name, "Got 3 results")]
    assert failed[0].metadata["carbon/failures"].value == 3


def test_a_test_that_only_warns_is_shown_and_the_mart_too(built: dict[str, BuiltMart]) -> None:
    tests = tuple(
        replace(test, status="warn") if test.name == "price_curve_closes" else test
        for test in built["price_curve"].tests
    )
    built["price_curve"] = replace(built["price_curve"], tests=tests)

    result = run(CURVE)

    assert result.success
    [warned] = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert (warned.check_name, warned.severity) == (
        "price_curve_closes",
        dg.AssetCheckSeverity.WARN,
    )


def test_rows_that_could_not_be_made_fail_the_run_once(built: dict[str, BuiltMart]) -> None:
    error = MartBuildError("price_curve", "no such column")
    built["price_curve"] = replace(built["price_curve"], tests=(), error=error)

    result = run(CURVE)

    assert not result.success
    assert result.get_asset_materialization_events() == []
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "no such column" in str(failure.step_failure_data.user_failure_data)
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
