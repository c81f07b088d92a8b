"""DataHub as Dagster shows it: configured, not configured, told, and refusing."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pytest

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.keys import served_key
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.defs.serving.datahub import (
    SENSOR,
    database_spec,
    datahub_asset,
    marts_spec,
)
from carbon_pipelines.errors import MartLineageError
from carbon_pipelines.serving.datahub import scope as scopes
from carbon_pipelines.serving.datahub.scope import Wanted
from carbon_pipelines_tests.cli.nowhere import NOWHERE
from carbon_pipelines_tests.serving.datahub.sink import TOKEN, Sink, running_sink
from carbon_pipelines_tests.serving.datahub.telling import CREDIT, credit, only
from carbon_pipelines_tests.serving.datahub.world import MARKET, MARTS

NAMED = {"CARBON_DATAHUB_URL": "http://127.0.0.1:9", "CARBON_DATAHUB_TOKEN": TOKEN}
KEYS = {"serving/datahub/market", "serving/datahub/mart"}


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    """A DataHub that is configured; what is known of the market is one table."""
    with running_sink() as running:
        for name, value in {**NOWHERE, **NAMED, "CARBON_DATAHUB_URL": running.url}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(scopes, "load_wanted", lambda *args, **more: Wanted(only(credit())))
        yield running


def run(config: Mapping[str, Any] | None = None) -> dg.ExecuteInProcessResult:
    asset = datahub_asset(database_spec(MARKET, configured=True), load_catalog(), MARTS)
    return dg.materialize(
        [asset],
        resources={"endpoints": EndpointsResource()},
        run_config={"ops": {"serving_datahub_market": {"config": dict(config or {})}}},
        raise_on_error=False,
    )


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_run_tells_what_is_lacking_and_says_how_much(sink: Sink) -> None:
    wanted = only(credit())

    first, second = told(run()), told(run())

    assert first["carbon/urns"] == len({one.urn for one in wanted})
    assert first["carbon/told"] + first["carbon/unchanged"] == len(wanted)
    assert (second["carbon/told"], second["carbon/unchanged"]) == (0, len(wanted))
    assert first["carbon/datahub_version"] == "v1.7.0"
    assert sink.aspects[CREDIT, "status"] == {"removed": False}


def test_what_is_declared_no_more_is_hidden_only_by_a_run_that_is_told_so(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    fewer = tuple(one for one in only(credit()) if one.urn != CREDIT)
    monkeypatch.setattr(scopes, "load_wanted", lambda *args, **more: Wanted(fewer))

    assert told(run())["carbon/left"] == [CREDIT]
    assert sink.aspects[CREDIT, "status"] == {"removed": False}
    assert told(run({"remove": True}))["carbon/removed"] == 1
    assert sink.aspects[CREDIT, "status"] == {"removed": True}


def test_without_datahub_a_run_is_no_failure_and_shows_nothing(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CARBON_DATAHUB_URL")

    result = run()

    assert result.success
    assert result.get_asset_materialization_events() == []
    assert sink.requests == []


def test_a_mart_that_cannot_be_followed_fails_the_run_once_the_rest_is_told(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    unclear = Wanted(only(credit()), (MartLineageError("mart_build.sold", "no column x"),))
    monkeypatch.setattr(scopes, "load_wanted", lambda *args, **more: unclear)

    result = run()

    assert not result.success
    assert told(result)["carbon/told"] > 0
    assert sink.aspects[CREDIT, "status"] == {"removed": False}


def test_a_wrong_token_fails_at_once_and_shows_nowhere(sink: Sink) -> None:
    sink.faults.append(401)

    result = run()

    assert not result.success
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert len(sink.requests) == 1
    assert not any(TOKEN in str(event) for event in result.all_events)


def test_a_datahub_that_is_busy_for_a_moment_is_no_failure(sink: Sink) -> None:
    sink.faults.extend([503, 429])

    assert run().success


def test_only_a_configured_datahub_is_asked_for() -> None:
    without, with_datahub = build_definitions({}), build_definitions(NAMED)

    for definitions, sensors in ((without, set[str]()), (with_datahub, {SENSOR})):
        specs = {
            spec.key.to_user_string(): spec
            for spec in definitions.resolve_all_asset_specs()
            if spec.key.path[:2] == ["serving", "datahub"]
        }
        assert set(specs) == KEYS
        for spec in specs.values():
            assert (spec.automation_condition is not None) == bool(sensors)
            assert ("not configured" in (spec.description or "")) != bool(sensors)
        named = {one.name for one in definitions.get_repository_def().sensor_defs}
        assert named & {SENSOR} == sensors


def test_it_stands_downstream_of_scores_and_marts() -> None:
    market, marts = database_spec(MARKET, configured=True), marts_spec(MARTS, configured=True)

    scored = {f"quality/{table.label}" for table in MARKET.tables if table.expectations}
    assert {dep.asset_key.to_user_string() for dep in market.deps} == scored
    assert {dep.asset_key.to_user_string() for dep in marts.deps} == {
        f"mart/{mart.name}" for mart in MARTS
    }


def test_a_score_that_does_not_pass_is_told_and_a_table_without_one_holds_nothing_up() -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("passes", asset="scored", blocking=True)])
    def scored() -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        yield dg.MaterializeResult()
        yield dg.AssetCheckResult(asset_key="scored", check_name="passes", passed=False)

    @dg.asset
    def never_scored() -> None: ...

    spec = marts_spec(MARTS, configured=True).replace_attributes(deps=["scored", "never_scored"])

    @dg.multi_asset(specs=[spec])
    def telling() -> None: ...

    definitions = dg.Definitions([scored, never_scored, telling])
    with dg.DagsterInstance.ephemeral() as instance:
        key = served_key("datahub", "mart")

        def asked(cursor: Any) -> Any:
            return dg.evaluate_automation_conditions(
                definitions, instance, asset_selection=dg.AssetSelection.assets(key), cursor=cursor
            )

        before = asked(None)
        dg.materialize([scored], instance=instance, raise_on_error=False)
        after = asked(before.cursor)
        then = asked(after.cursor)

    assert [one.get_num_requested(key) for one in (before, after, then)] == [0, 1, 0]
