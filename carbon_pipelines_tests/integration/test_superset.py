"""A real Superset shows what was certified, and nothing else; read back through its API."""

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from carbon_pipelines.cli import cli
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.embedded.state import StackHome
from carbon_pipelines.errors import (
    ChartFailedError,
    DashboardImportError,
    NotVisibleError,
    SupersetLoginError,
)
from carbon_pipelines.serving.superset_charts import require_visible
from carbon_pipelines.serving.superset_http import SupersetApi
from carbon_pipelines.serving.superset_import import apply_plan, load_plan
from carbon_pipelines.serving.superset_proven import CELL
from carbon_pipelines.serving.superset_serve import plan
from carbon_pipelines_tests.integration.mart_market import SOURCES
from carbon_pipelines_tests.integration.superset_world import World, open_world

pytestmark = [pytest.mark.integration, pytest.mark.superset]

TONNES = "Credits in the inventory"
INVENTORY = "SELECT sum(tonnes) FROM credit JOIN facility USING (facility_id)"
PRICES = "Price curves"


@pytest.fixture(scope="module")
def world(stack: Stack) -> Iterator[World]:
    with open_world(stack) as opened:
        yield opened


def test_a_changed_row_in_postgresql_changes_a_number_in_a_chart(world: World) -> None:
    first = world.serve()
    assert first.outdated == (
        "carbon_cost_exposure",
        "credit_inventory",
        "emission_intensity",
        "price_curve",
    )
    before = float(world.ask(INVENTORY))
    assert world.shown(TONNES) == ({"Tonnes": before},)

    world.change(
        "credit",
        """UPDATE credit SET tonnes = tonnes + 1000.5
        WHERE credit_id = (SELECT min(credit_id::text)::uuid FROM credit)""",
    )
    assert float(world.ask(INVENTORY)) == before + 1000.5
    world.certify("credit")
    assert world.build("credit_inventory")["credit_inventory"]
    # the cache of Superset knows nothing of it
    assert world.shown(TONNES) == ({"Tonnes": before},)

    served = world.serve()

    assert served.outdated == ("credit_inventory",)
    assert world.shown(TONNES) == ({"Tonnes": before + 1000.5},)
    assert (
        sum(
            value
            for row in world.shown("Credit inventory by vintage and state")
            for name, value in row.items()
            if name != "vintage" and value is not None
        )
        == before + 1000.5
    )


def test_what_is_not_certified_leaves_the_dashboard_as_it_was(world: World) -> None:
    world.serve()
    before = world.everything()
    dataset = world.code.datasets[-1]
    assert dataset.mart == "price_curve"
    at = world.api.get(f"/api/v1/dataset/{dataset.uuid}")["result"]["changed_on"]

    world.change("fuel_price_tick", "UPDATE fuel_price_tick SET price = price + 1")
    world.change("carbon_price_tick", "UPDATE carbon_price_tick SET bid = bid + 1, ask = ask + 1")

    assert world.build("price_curve") == {"price_curve": False}
    served = world.serve()
    assert (served.changed, served.outdated) == ((), ())
    assert world.everything() == before
    assert world.api.get(f"/api/v1/dataset/{dataset.uuid}")["result"]["changed_on"] == at


def test_the_dashboard_says_what_is_proven_and_the_datasets_whose_they_are(world: World) -> None:
    served = world.serve()

    board = world.api.get(f"/api/v1/dashboard/{world.code.dashboard.uuid}")["result"]
    said = json.loads(board["position_json"])[CELL]["meta"]["code"]
    assert said == served.proven.markdown()
    oldest = min(one.certificate.verified_at for one in served.proven.proofs if one.certificate)
    assert said.startswith(f"### Proven as of {oldest:%Y-%m-%d %H:%M:%S} UTC, score ")
    assert served.score is not None
    assert {one.table for one in served.proven.proofs} == {".".join(one) for one in SOURCES}
    for dataset in world.code.datasets:
        extra = json.loads(world.api.get(f"/api/v1/dataset/{dataset.uuid}")["result"]["extra"])
        assert extra["carbon"]["snapshot_id"] == str(served.snapshots[dataset.mart])
        assert extra["certification"]["certified_by"].startswith("team:")
        if dataset.mart == "credit_inventory":
            told = "Owner team:registry, contact registry@example.org."
            assert extra["certification"]["details"].endswith(told)


def test_an_edit_by_hand_is_kept_as_a_copy_and_ours_is_back(world: World) -> None:
    world.serve()
    chart, board = world.chart(PRICES), world.code.dashboard
    params = {**chart.fields["params"], "y_axis_title": "my axis"}
    change(world, "chart", chart.uuid, {"slice_name": "Mine", "params": json.dumps(params)})
    change(world, "dashboard", board.uuid, {"dashboard_title": "My board"})
    assert {one.change for one in plan(world.api, world.code, world.lake).changes} == {
        "keep a copy and replace"
    }

    served = world.serve()
    again = world.serve()

    assert (len(served.changed), again.changed) == (2, ())
    charts = titles(world, "chart", "slice_name")
    boards = titles(world, "dashboard", "dashboard_title")
    [kept] = [one for title, one in charts.items() if title.startswith("Mine (edited by carbon")]
    assert json.loads(kept["params"])["y_axis_title"] == "my axis"
    assert PRICES in charts
    [kept_board] = [title for title in boards if title.startswith("My board (edited by carbon")]
    assert board.title in boards
    shown = world.api.get(f"/api/v1/dashboard/{boards[kept_board]['id']}/charts")["result"]
    assert kept["id"] in {one["id"] for one in shown}
    for kind, found in (("dashboard", boards[kept_board]), ("chart", kept)):
        world.api.send("DELETE", f"/api/v1/{kind}/{found['id']}")


def test_a_dataset_deleted_by_hand_is_there_again_and_its_charts_show_the_mart(
    world: World,
) -> None:
    world.serve()
    before = world.everything()
    gone = next(one for one in world.code.datasets if one.mart == "price_curve")
    number = world.api.get(f"/api/v1/dataset/{gone.uuid}")["result"]["id"]
    world.api.send("DELETE", f"/api/v1/dataset/{number}")
    assert world.api.find(f"/api/v1/dataset/{gone.uuid}") is None

    served = world.serve()

    assert world.everything() == before
    assert "price_curve" in served.outdated
    assert not any("copy" in line for line in served.changed)
    assert world.serve().changed == ()


def test_a_chart_that_shows_something_else_is_never_called_visible(world: World) -> None:
    served = world.serve()
    chart, mart = world.chart(TONNES), "credit_inventory"
    rows = world.market.catalog.load_table(("mart", mart)).scan().to_arrow()
    foreign = rows.slice(1)

    with pytest.raises(NotVisibleError, match="1 rows, of which 1 are not the mart's, and lacks 1"):
        require_visible(world.api, chart, mart, served.snapshots[mart], lambda: foreign)


def test_a_dashboard_that_superset_does_not_take_changes_nothing(world: World) -> None:
    world.serve()
    fields = {**world.code.dashboard.fields, "description": "other", "what_is_this": 1}
    foreign = replace(world.code, dashboard=replace(world.code.dashboard, fields=fields))

    with pytest.raises(DashboardImportError, match="did not take the dashboard"):
        apply_plan(world.api, load_plan(world.api, foreign))

    assert plan(world.api, world.code, world.lake).changes == ()


def test_a_wrong_password_is_told_and_a_token_that_ran_out_is_renewed(world: World) -> None:
    with (
        SupersetApi(replace(world.settings, password="wrong")) as stranger,
        pytest.raises(SupersetLoginError, match='refuses the user "carbon"'),
    ):
        stranger.get("/api/v1/dashboard/")
    secrets = StackHome(world.stack.home).load_secrets()
    assert secrets is not None
    world.api.get("/api/v1/dashboard/")
    with SupersetApi(world.settings) as late:
        late.get("/api/v1/dashboard/")
        late._token = outdated(late._token, secrets.superset_secret_key)
        assert late.get("/api/v1/dashboard/")["count"] >= 1


def test_a_role_sees_the_marts_and_rows_that_the_code_says(world: World) -> None:
    world.serve()
    roles = {
        one["name"]: one["id"] for one in world.api.pages("/api/v1/security/roles/", order="name")
    }
    user = {"first_name": "v", "last_name": "v", "email": "v@example.org", "active": True}
    asked = {**user, "username": "german", "password": "german-1"}
    made = world.api.send(
        "POST",
        "/api/v1/security/users/",
        {**asked, "roles": [roles["Gamma"], roles["carbon_germany"]]},
    )
    settings = replace(world.settings, user="german", password="german-1")
    try:
        with SupersetApi(settings) as german:
            wanted = world.ask(f"{INVENTORY} WHERE country = 'DE'")
            assert world.shown(TONNES, german) == ({"Tonnes": float(wanted)},)
            assert float(wanted) < float(world.ask(INVENTORY))
            with pytest.raises(ChartFailedError, match="not for our user"):
                world.shown(PRICES, german)
            chart = world.chart(PRICES).fields
            number = world.api.get(f"/api/v1/dataset/{chart['dataset_uuid']}")["result"]["id"]
            context = json.loads(chart["query_context"])
            with pytest.raises(SupersetLoginError, match="HTTP status 403"):
                german.send(
                    "POST",
                    "/api/v1/chart/data",
                    {**context, "datasource": {"id": number, "type": "table"}},
                )
    finally:
        world.api.send("DELETE", f"/api/v1/security/users/{made['id']}")
    assert world.serve().changed == ()


def test_the_command_and_the_asset_bring_the_dashboard_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve()
    monkeypatch.setenv("CARBON_HOME", str(world.stack.home))
    runner = CliRunner()
    planned = runner.invoke(cli, ["superset", "plan"])
    assert (planned.exit_code, planned.output.count(": leave\n")) == (0, 7), planned.output

    synced = runner.invoke(cli, ["superset", "sync", "carbon_market"])
    assert synced.exit_code == 0, synced.output
    assert "6 charts show their marts, read back;" in synced.output

    definitions = build_definitions(dict(os.environ))
    key = dg.AssetKey(["serving", "superset", "carbon_market"])
    asset = definitions.get_repository_def().assets_defs_by_key[key]
    done = dg.materialize([asset])

    [event] = done.get_asset_materialization_events()
    told = {name: value.value for name, value in event.materialization.metadata.items()}
    assert told["carbon/score"] == world.serve().score
    assert len(told["carbon/chart_rows"]) == 6


def change(world: World, kind: str, uuid: str, fields: Mapping[str, Any]) -> None:
    """As a person does on a page."""
    number = world.api.get(f"/api/v1/{kind}/{uuid}")["result"]["id"]
    world.api.send("PUT", f"/api/v1/{kind}/{number}", fields)


def titles(world: World, kind: str, name: str) -> dict[str, dict[str, Any]]:
    """Every chart or dashboard by its title."""
    return {one[name]: one for one in world.api.pages(f"/api/v1/{kind}/", order=name)}


def outdated(token: str, key: str) -> str:
    """The same token, signed by the same server, of a minute that has passed."""
    head, body, _ = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    told = json.dumps({**claims, "iat": 1, "nbf": 1, "exp": 61}).encode()
    signed = f"{head}.{base64.urlsafe_b64encode(told).decode().rstrip('=')}"
    digest = hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
