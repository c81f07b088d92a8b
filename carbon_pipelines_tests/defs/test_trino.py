"""Views and marts in Trino as Dagster shows them: configured or not, and in time or not."""

from datetime import timedelta

import dagster as dg
import pytest

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.defs.automation.in_time import (
    AGAIN_SECONDS,
    AT_ONCE,
    CHECK,
    Look,
    choose_turn,
    decode_looks,
    encode_looks,
    in_time_check,
    subjects_of,
)
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.defs.serving.trino import SENSOR, trino_asset
from carbon_pipelines.mart.project import load_marts, require_project
from carbon_pipelines_tests.cli.nowhere import NOWHERE

NAMED = {"CARBON_TRINO_URI": "https://ann@trino.example/lake"}
CATALOG, MARTS = load_catalog(), load_marts(require_project({}))
TABLE = CATALOG.database("market").table("carbon_price_tick")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """No Trino is named, and no stack is there."""
    for name, value in {**NOWHERE, "CARBON_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CARBON_TRINO_URI", raising=False)


@pytest.mark.parametrize("declared", [TABLE, MARTS[0]], ids=["view", "mart"])
@pytest.mark.usefixtures("nowhere")
def test_without_trino_a_run_is_no_failure_and_shows_nothing(declared) -> None:
    result = dg.materialize(
        [trino_asset(declared, configured=False)], resources={"endpoints": EndpointsResource()}
    )

    assert result.success
    assert result.get_asset_materialization_events() == []


@pytest.mark.usefixtures("nowhere")
def test_without_trino_a_view_is_neither_late_nor_in_time() -> None:
    check = in_time_check(CATALOG, subjects_of(CATALOG, ()))
    key = dg.AssetKey(["serving", "trino", *TABLE.identifier])
    job = dg.define_asset_job(
        "look", selection=dg.AssetSelection.checks(dg.AssetCheckKey(key, CHECK))
    )
    definitions = dg.Definitions(
        asset_checks=[check], jobs=[job], resources={"endpoints": EndpointsResource()}
    )

    result = definitions.resolve_job_def("look").execute_in_process()

    assert result.success
    assert result.get_asset_check_evaluations() == []


def test_only_a_configured_trino_is_asked_for() -> None:
    without, with_trino = build_definitions({}), build_definitions(NAMED)

    def specs(definitions: dg.Definitions) -> list[dg.AssetSpec]:
        specs = definitions.resolve_all_asset_specs()
        return [spec for spec in specs if spec.key.path[:2] == ["serving", "trino"]]

    def conditions(definitions: dg.Definitions) -> set[bool]:
        return {spec.automation_condition is not None for spec in specs(definitions)}

    def sensors(definitions: dg.Definitions) -> set[str]:
        return {one.name for one in definitions.get_repository_def().sensor_defs}

    assert (conditions(without), conditions(with_trino)) == ({False}, {True})
    assert sensors(with_trino) - sensors(without) == {SENSOR}
    assert all("not configured" in str(spec.description) for spec in specs(without))


def test_dagster_is_told_what_changed_what_was_made_since_and_else_once_an_hour() -> None:
    known = Look("", told_at=1000.0, at=2000.0)

    assert not known.is_due("", now=2000.0, made_at=900.0)
    assert known.is_due("certified", now=2000.0, made_at=900.0)
    assert known.is_due("", now=2000.0, made_at=1500.0)
    assert known.is_due("", now=1000.0 + AGAIN_SECONDS, made_at=900.0)
    assert decode_looks(encode_looks({"mart/m": known})) == {"mart/m": known}
    assert decode_looks("") == {}


def test_of_many_tables_those_take_their_turn_that_were_looked_at_longest_ago() -> None:
    names = [f"t{number:03}" for number in range(AT_ONCE + 5)]
    first = choose_turn(names, {})
    looks = {name: Look("", 1.0, 1.0) for name in first}

    second = choose_turn(names, looks)

    assert len(first) == len(second) == AT_ONCE
    assert set(names) - set(first) <= set(second)


def test_a_mart_may_promise_something_else_than_its_databases() -> None:
    assert CATALOG.database("market").visible_within == timedelta(hours=2)
    assert {mart.visible_within for mart in MARTS} == {None}
