import re

import dagster as dg
import pytest

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.keys import STAGES

DEFS = build_definitions({})
SPECS = list(DEFS.resolve_all_asset_specs())
WORD = re.compile(r"[a-z][a-z0-9_]*")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.key.to_user_string())
def test_every_asset_says_what_and_whose_it_is(spec: dg.AssetSpec) -> None:
    stage, *rest = spec.key.path

    assert stage in STAGES
    assert spec.group_name == stage
    assert all(WORD.fullmatch(part) for part in rest)
    assert all(owner.startswith("team:") for owner in spec.owners)
    assert spec.owners
    assert spec.kinds
    assert spec.description


def test_every_declared_table_is_an_asset_of_source_and_lake() -> None:
    labels = {table.label for table in load_catalog().tables}
    keys = {spec.key.to_user_string() for spec in SPECS}

    assert {key for key in keys if key.startswith("lake/")} == {f"lake/{name}" for name in labels}
    assert {key for key in keys if key.startswith("source/")} == {
        f"source/{name}" for name in labels
    }


def test_a_stages_pool_is_called_as_the_stage() -> None:
    pools = {
        (key.path[0], node.op.pool)
        for node in DEFS.resolve_asset_graph().assets_defs
        if node.is_materializable
        for key in node.keys
    }

    assert pools == {
        (stage, stage) for stage in ("stream", "lake", "maintenance", "quality", "mart", "serving")
    }


def test_every_lake_table_is_as_fresh_as_it_was_promised() -> None:
    promised = {
        f"lake/{table.label}": dg.FreshnessPolicy.time_window(fail_window=table.freshness)
        for table in load_catalog().tables
    }

    assert promised == {
        spec.key.to_user_string(): spec.freshness_policy
        for spec in SPECS
        if spec.group_name == "lake"
    }


def test_assets_carry_the_strictest_classification_of_what_reaches_the_lake() -> None:
    tags = {spec.key.to_user_string(): spec.tags for spec in SPECS}

    assert tags["lake/market/counterparty"]["carbon/classification"] == "restricted"
    assert "carbon/classification" not in tags["lake/market/credit_state_change"]


def test_runs_work_in_one_process() -> None:
    from carbon_pipelines.definitions import defs

    assert defs().executor is dg.in_process_executor
