"""Marts in Doris as Dagster shows them: configured, not configured, and read back."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from pyiceberg.catalog import Catalog

from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.defs.serving.doris import SENSOR, doris_asset
from carbon_pipelines.lake import connection
from carbon_pipelines.mart.project import Mart
from carbon_pipelines.serving import doris_mart
from carbon_pipelines.serving.doris_mart import Doris
from carbon_pipelines.serving.doris_settings import DorisSettings
from carbon_pipelines_tests.cli.nowhere import NOWHERE
from carbon_pipelines_tests.lake.local_lake import open_local
from carbon_pipelines_tests.serving.stub import StubDoris, running_stub
from carbon_pipelines_tests.serving.test_doris_mart import ROWS, doris, publish

NAMED = {"CARBON_DORIS_HOST": "127.0.0.1", "CARBON_DORIS_USER": "carbon"}
MART = Mart("prices", "", "team:a", {}, frozenset(), (), ())


@pytest.fixture
def stub() -> Iterator[StubDoris]:
    with running_stub() as running:
        yield running


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    catalog = open_local(tmp_path)
    publish(catalog, ROWS)
    monkeypatch.setattr(connection, "open_catalog", lambda lake: catalog)
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    return catalog


def run() -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [doris_asset(MART, configured=True)],
        resources={"endpoints": EndpointsResource()},
        raise_on_error=False,
    )


def named(stub: StubDoris, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NAMED.items():
        monkeypatch.setenv(name, value)

    def open_stub(settings: DorisSettings) -> Doris:
        assert settings.user == "carbon"
        return doris(stub)

    monkeypatch.setattr(doris_mart, "open_doris", open_stub)


def test_a_mart_that_doris_shows_tells_its_snapshot(
    stub: StubDoris, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(stub, monkeypatch)

    snapshot = catalog.load_table(("mart", "prices")).current_snapshot()
    assert snapshot is not None

    [event] = run().get_asset_materialization_events()

    told = {name: value.value for name, value in event.materialization.metadata.items()}
    assert told["carbon/snapshot_id"] == str(snapshot.snapshot_id)
    assert told["dagster/row_count"] == ROWS.num_rows == len(stub.rows("prices"))
    assert told["carbon/label"] == stub.applied[0]


def test_without_doris_a_run_is_no_failure_and_shows_nothing(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CARBON_DORIS_HOST", raising=False)

    result = run()

    assert result.success
    assert result.get_asset_materialization_events() == []


def test_rows_that_doris_refuses_fail_the_run_and_are_not_tried_again(
    stub: StubDoris, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(stub, monkeypatch)
    stub.faults.append("rows")

    result = run()

    assert not result.success
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert stub.bodies == 1


def test_only_a_configured_doris_is_asked_for() -> None:
    without, with_doris = build_definitions({}), build_definitions(NAMED)

    def conditions(definitions: dg.Definitions) -> set[bool]:
        return {
            spec.automation_condition is not None
            for spec in definitions.resolve_all_asset_specs()
            if spec.key.path[:2] == ["serving", "doris"]
        }

    def sensors(definitions: dg.Definitions) -> set[str]:
        return {one.name for one in definitions.get_repository_def().sensor_defs}

    assert (conditions(without), conditions(with_doris)) == ({False}, {True})
    assert sensors(with_doris) - sensors(without) == {SENSOR}
