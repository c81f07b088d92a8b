"""A table that cannot go on is parked with its reason; the others go on.

Released, it goes on from where it stood.
"""

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner

from carbon_pipelines.catalog.table import ColumnSpec
from carbon_pipelines.cli import cli
from carbon_pipelines.defs.automation.observe import observe_lag
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.errors import (
    TableParkedError,
    UnsupportedSchemaChangeError,
    UnsupportedTypeError,
)
from carbon_pipelines.lake.parking import HISTORY
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.lake.release import apply_release, plan_release
from carbon_pipelines.lake.sync import sync_table
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    pipeline.execute("CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1)")
    pipeline.declare("t", on_rewrite="park")
    return pipeline


def test_a_ddl_that_cannot_be_followed_parks_its_table_and_no_other(pipeline: Pipeline) -> None:
    pipeline.execute("CREATE TABLE other (id int PRIMARY KEY)")
    pipeline.declare("other")
    for name in pipeline.tables:
        pipeline.follow(name)
    pipeline.execute(
        "UPDATE t SET n = 2",
        "ALTER TABLE t ALTER n TYPE bigint USING n * 10",
        "INSERT INTO t VALUES (2, 5)",
        "INSERT INTO other VALUES (1)",
    )
    pipeline.drain()
    with pytest.raises(UnsupportedSchemaChangeError):
        pipeline.sync("t")
    stands = pipeline.progress("t")

    without_kafka = replace(pipeline.endpoints, stream_bootstrap="127.0.0.1:1")
    with pytest.raises(TableParkedError, match=r"rewrites the table|changes n from"):
        sync_table(pipeline.tables["t"], pipeline.database, without_kafka)
    pipeline.sync("other")
    lags = {lag.asset: lag for lag in observe_lag(pipeline.database, pipeline.endpoints).lags}

    assert pipeline.iceberg("t").scan().to_arrow().to_pylist() == [{"id": 1, "n": 2}]
    assert pipeline.differences("other") == 0
    assert lags[f"lake/{pipeline.name}/t"].behind == 0
    [plan] = plan_release([pipeline.tables["t"]], pipeline.endpoints)
    assert plan.lag_offsets > 0
    apply_release(plan, pipeline.endpoints, reason="look again", by="ann")
    with pytest.raises(UnsupportedSchemaChangeError):
        pipeline.sync("t")
    assert pipeline.progress("t") == stands

    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.execute("UPDATE t SET n = n + 1")
    pipeline.follow("t")

    assert pipeline.differences("t") == 0
    history = json.loads(pipeline.iceberg("t").properties[HISTORY])
    assert [entry["released"]["by"] for entry in history] == ["ann", "carbon"]


def test_a_table_goes_on_from_where_it_stood_once_the_cause_is_gone(pipeline: Pipeline) -> None:
    pipeline.declare("t", columns={"place": ColumnSpec(type="decimal(9,2)")})
    pipeline.follow("t")
    pipeline.execute(
        "UPDATE t SET n = 2",
        "ALTER TABLE t ADD place point",
        "INSERT INTO t VALUES (2, 2, '(1,2)')",
    )
    pipeline.drain()
    with pytest.raises(UnsupportedTypeError):
        pipeline.sync("t")
    assert pipeline.iceberg("t").scan().to_arrow().to_pylist() == [{"id": 1, "n": 2}]

    pipeline.declare("t")
    [plan] = plan_release([pipeline.tables["t"]], pipeline.endpoints)
    apply_release(plan, pipeline.endpoints, reason="the type is corrected", by="ann")
    synced = pipeline.sync("t")

    assert synced.copied_rows == 0
    assert pipeline.differences("t") == 0


def test_people_park_release_and_see_it_in_dagster(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = tmp_path / pipeline.name
    declared.mkdir()
    (declared / "_database.yaml").write_text("owner: team:tests\n")
    document = {"source_table": "t", "key": ["id"], "freshness": "15m", "description": "A table."}
    (declared / "t.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.setenv("CARBON_HOME", str(pipeline.stack.home))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path))
    table = f"{pipeline.name}/t"
    definitions = build_definitions({"CARBON_CATALOG_DIR": str(tmp_path)})
    sync = definitions.resolve_job_def(f"sync_{pipeline.name}")
    release = definitions.resolve_job_def("release")

    def checks() -> list[tuple[bool, str]]:
        result = sync.execute_in_process()
        found = result.get_asset_check_evaluations()
        assert {one.check_name for one in found} == {"captured", "flowing", "dead_letters"}
        [flowing] = [one for one in found if one.check_name == "flowing"]
        made = {
            event.asset_key.to_user_string()
            for event in result.get_asset_materialization_events()
            if event.asset_key is not None
        }
        assert (f"lake/{table}" in made) == flowing.passed
        return [(flowing.passed, flowing.description or "")]

    def released(**more: object) -> dict[str, object]:
        config = {"tables": [table], "reason": "moved", **more}
        run = {"ops": {"release_tables": {"config": config}}}
        events = release.execute_in_process(run_config=run).all_events
        [output] = [e.step_output_data for e in events if e.event_type_value == "STEP_OUTPUT"]
        return {name: entry.value for name, entry in output.metadata.items()}

    assert checks() == [(True, "")]
    parked = CliRunner().invoke(cli, ["park", table, "--reason", "the disk is being moved"])
    assert (parked.exit_code, "the disk is being moved" in parked.output) == (0, True)
    assert [(passed, "the disk is being moved" in why) for passed, why in checks()] == [
        (False, True)
    ]
    dry = CliRunner().invoke(cli, ["release", table, "--reason", "moved"])
    assert "Nothing was changed" in dry.output
    assert released()["carbon/released"] is False
    assert [passed for passed, _ in checks()] == [False]
    assert released(dry_run=False)["carbon/released"] is True
    assert checks() == [(True, "")]
    again = CliRunner().invoke(cli, ["release", table, "--reason", "moved", "--yes"])
    assert (again.exit_code, "is not parked" in again.output) == (1, True)
    with pytest.raises(dg.Failure, match="is not parked"):
        released()
