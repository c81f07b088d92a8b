"""Dashboards in Superset as Dagster shows them: configured, and not configured."""

import dagster as dg
import pytest

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.defs.serving.superset import SENSOR, superset_asset
from carbon_pipelines.errors import SettingMissingError, SettingUnknownError
from carbon_pipelines.mart.project import load_marts, require_project
from carbon_pipelines.serving.superset_code import dashboards_directory, load_dashboards
from carbon_pipelines.serving.superset_settings import load_superset_settings
from carbon_pipelines_tests.cli.nowhere import NOWHERE

KEY = dg.AssetKey(["serving", "superset", "carbon_market"])
HOME = {"CARBON_HOME": "/nonexistent"}
NAMED = {
    **HOME,
    "CARBON_SUPERSET_URL": "https://superset.example.org/",
    "CARBON_SUPERSET_USER": "carbon",
    "CARBON_SUPERSET_PASSWORD": "secret",
}
MARTS = {mart.name: mart for mart in load_marts(require_project({}))}


def spec(environ: dict[str, str]) -> tuple[dg.AssetSpec, set[str]]:
    definitions = build_definitions(environ)
    found = {one.key: one for one in definitions.resolve_all_asset_specs()}
    return found[KEY], {one.name for one in definitions.get_repository_def().sensor_defs}


def test_a_dashboard_stands_behind_its_marts_and_the_gates_of_their_tables() -> None:
    found, sensors = spec(NAMED)

    deps = {dep.asset_key.to_user_string() for dep in found.deps}
    assert {f"mart/{name}" for name in MARTS} <= deps
    assert {"/".join(["quality", *one]) for mart in MARTS.values() for one in mart.sources} <= deps
    assert found.automation_condition is not None
    assert SENSOR in sensors


def test_without_superset_it_is_there_and_nothing_asks_for_it() -> None:
    found, sensors = spec(HOME)

    assert found.automation_condition is None
    assert "Superset is not configured" in str(found.description)
    assert SENSOR not in sensors


def test_without_superset_a_run_is_no_failure_and_shows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**NOWHERE, **HOME}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CARBON_SUPERSET_URL", raising=False)
    [code] = load_dashboards(dashboards_directory({}))
    asset = superset_asset(code, MARTS, load_catalog(), configured=False)

    done = dg.materialize([asset], resources={"endpoints": EndpointsResource()})

    assert done.success
    assert done.get_asset_materialization_events() == []


def test_an_address_is_read_whole_and_the_password_shows_nowhere() -> None:
    found = load_superset_settings(NAMED)

    assert found is not None
    assert (found.url, found.label) == (
        "https://superset.example.org",
        "Superset at superset.example.org",
    )
    assert "secret" not in repr(found)


@pytest.mark.parametrize("name", ["CARBON_SUPERSET_USER", "CARBON_SUPERSET_PASSWORD"])
def test_an_address_without_user_or_password_is_told(name: str) -> None:
    with pytest.raises(SettingMissingError, match=name):
        load_superset_settings({**NAMED, name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CARBON_SUPERSET_URL", "ftp://superset"),
        ("CARBON_SUPERSET_URL", "https://ann:hush@superset"),
        ("CARBON_SUPERSET_URL", "https://superset:port"),
        ("CARBON_SUPERSET_PROVIDER", "saml"),
    ],
)
def test_a_setting_without_meaning_is_told_without_what_may_be_secret(
    name: str, value: str
) -> None:
    with pytest.raises(SettingUnknownError, match=name) as told:
        load_superset_settings({**NAMED, name: value})

    assert "hush" not in str(told.value)
