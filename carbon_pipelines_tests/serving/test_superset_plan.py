"""What bringing a dashboard changes: only our own objects, and never an edit by hand."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from carbon_pipelines.errors import DashboardFilesError
from carbon_pipelines.serving.superset_access import load_access
from carbon_pipelines.serving.superset_code import (
    DashboardCode,
    dashboards_directory,
    load_dashboards,
    marked,
)
from carbon_pipelines.serving.superset_plan import LiveObject, bundle_files, plan_dashboard
from carbon_pipelines.serving.superset_proven import CELL, Proof, Proven, say_proven

[CODE] = load_dashboards(dashboards_directory({}))
ALL = frozenset(dataset.uuid for dataset in CODE.datasets)
FIRST = CODE.charts[0]


def brought(code: DashboardCode = CODE) -> dict[str, LiveObject]:
    """What Superset has after it was brought."""
    objects = (*code.charts, code.dashboard)
    return {one.uuid: LiveObject(marked(one.fields, one.digest)) for one in objects}


def edited(live: LiveObject, **fields: Any) -> LiveObject:
    return LiveObject({**live.fields, **fields}, "Ann")


def test_an_empty_superset_gets_everything() -> None:
    plan = plan_dashboard(CODE, {}, frozenset())

    assert {one.change for one in plan.objects} == {"make"}
    assert set(plan.missing_datasets) == set(CODE.marts)
    assert len(bundle_files(plan)) == len(CODE.charts) + 1


def test_what_was_brought_stays() -> None:
    plan = plan_dashboard(CODE, brought(), ALL)

    assert (plan.changes, bundle_files(plan)) == ((), {})


def test_ids_and_colours_of_one_superset_are_no_edit() -> None:
    live = brought()
    chart = live[FIRST.uuid].fields
    context = {**json.loads(chart["query_context"]), "datasource": {"id": 9, "type": "table"}}
    params = {**chart["params"], "datasource": "9__table", "dashboards": [4]}
    live[FIRST.uuid] = edited(
        live[FIRST.uuid], params=params, query_context=json.dumps(context), cache_timeout=None
    )
    board = live[CODE.dashboard.uuid].fields
    position = json.loads(json.dumps(board["position"]))
    for cell in position.values():
        if isinstance(cell, dict) and cell["type"] == "CHART":
            cell["meta"]["chartId"] = 77
    metadata = {
        **board["metadata"],
        "map_label_colors": {"a": "b"},
        "chart_configuration": {"7": 1},
    }
    live[CODE.dashboard.uuid] = edited(
        live[CODE.dashboard.uuid], position=position, metadata=metadata
    )

    assert plan_dashboard(CODE, live, ALL).changes == ()


def test_an_older_state_of_ours_is_replaced_and_not_kept() -> None:
    older = replace(FIRST, fields={**FIRST.fields, "slice_name": "An older name"})
    before = replace(CODE, charts=(older, *CODE.charts[1:]))

    [change] = plan_dashboard(CODE, brought(before), ALL).changes

    assert (change.code.uuid, change.change, change.kept) == (FIRST.uuid, "replace", None)


def test_an_edit_by_hand_is_kept_under_a_name_and_uuid_of_its_own() -> None:
    live = brought()
    live[FIRST.uuid] = edited(live[FIRST.uuid], slice_name="Mine", description="my words")

    plan = plan_dashboard(CODE, live, ALL)
    again = plan_dashboard(CODE, live, ALL)

    [change], [copy] = plan.changes, plan.copies
    assert change.change == "keep a copy and replace"
    assert copy.title.startswith("Mine (edited by Ann, ")
    assert (copy.fields["description"], copy.fields["certified_by"]) == ("my words", None)
    assert copy.uuid not in {FIRST.uuid, *live}
    assert again.copies == plan.copies
    assert set(bundle_files(plan)) == {f"charts/{FIRST.uuid}.yaml", f"charts/{copy.uuid}.yaml"}


def test_an_edited_dashboard_is_kept_with_the_charts_that_were_edited_on_it() -> None:
    live = brought()
    board = CODE.dashboard.uuid
    live[FIRST.uuid] = edited(live[FIRST.uuid], slice_name="Mine")
    live[board] = edited(live[board], dashboard_title="My board")

    chart, dashboard = plan_dashboard(CODE, live, ALL).copies

    shown = {
        cell["meta"]["uuid"]
        for cell in dashboard.fields["position"].values()
        if isinstance(cell, dict) and cell["type"] == "CHART"
    }
    assert shown == {one.uuid for one in CODE.charts} - {FIRST.uuid} | {chart.uuid}
    assert dashboard.fields["slug"] is None


def test_a_chart_whose_dataset_was_deleted_is_repaired_and_no_edit() -> None:
    live = brought()
    fields = {k: v for k, v in live[FIRST.uuid].fields.items() if k != "dataset_uuid"}
    live[FIRST.uuid] = LiveObject(fields)

    [change] = plan_dashboard(CODE, live, ALL).changes

    assert (change.change, change.kept) == ("replace", None)


def test_what_is_proven_changes_the_dashboard_alone() -> None:
    live = brought()
    proven = Proven((Proof("market.credit", None),))

    [change] = plan_dashboard(say_proven(CODE, proven), live, ALL).changes

    assert (change.code.kind, change.change) == ("dashboard", "replace")
    said = change.code.fields["position"][CELL]["meta"]["code"]
    assert said.startswith("### Proven as of unknown: ")


def rewritten(place: Path, file: str, **fields: Any) -> Path:
    """The sample's files with one changed; None leaves a field out."""
    for source in sorted(CODE.place.rglob("*.yaml")):
        target = place / "board" / source.relative_to(CODE.place)
        target.parent.mkdir(parents=True, exist_ok=True)
        told: Mapping[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
        if str(source.relative_to(CODE.place)) == file:
            told = {k: v for k, v in {**told, **fields}.items() if v is not None}
        target.write_text(yaml.safe_dump(dict(told)), encoding="utf-8")
    return place


@pytest.mark.parametrize(
    ("file", "fields", "told"),
    [
        ("metadata.yaml", {"version": "2.0.0"}, "is an export of version 2.0.0"),
        ("charts/open_cost.yaml", {"version": "9"}, "is no chart of export version 1.0.0"),
        ("charts/open_cost.yaml", {"query_context": None}, "has no query_context"),
        ("charts/open_cost.yaml", {"dataset_uuid": "x"}, "is of a dataset without a file"),
        ("charts/open_cost.yaml", {"uuid": "x"}, "places other charts than there are files of"),
        ("dashboards/carbon_market.yaml", {"dashboard_title": None}, "is no dashboard"),
    ],
)
def test_files_that_superset_could_not_take_are_refused_before_anything_is_sent(
    tmp_path: Path, file: str, fields: Mapping[str, Any], told: str
) -> None:
    with pytest.raises(DashboardFilesError, match=told):
        load_dashboards(rewritten(tmp_path, file, **fields))


def test_a_dashboard_has_to_say_what_is_proven() -> None:
    fields = json.loads(json.dumps(CODE.dashboard.fields))
    del fields["position"][CELL]
    code = replace(CODE, dashboard=replace(CODE.dashboard, fields=fields))

    with pytest.raises(DashboardFilesError, match="has no text"):
        say_proven(code, Proven(()))


def test_access_to_a_mart_that_the_dashboard_has_not_is_refused(tmp_path: Path) -> None:
    place = rewritten(tmp_path, "access.yaml", roles={"r": ["another"]}, row_level_security=None)

    with pytest.raises(DashboardFilesError, match="names another, which is not there"):
        load_access(place / "board", frozenset(CODE.marts))
