"""A real pipeline in trouble: its owner is told by a real receiver, and told when it is over."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.cli import cli
from carbon_pipelines.defs.automation.alerts import alerts_sensor
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines_tests.alerts.receivers import Recorder, recording
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration

TABLE = """\
source_table: t
key: [id]
freshness: 15m
description: A table.
columns:
  holder: {classification: confidential}
expectations:
  - {kind: between, column: n, min: 0}
  - {kind: not_null, column: holder, severity: critical}
"""
OWNERS = "default:\n  - {kind: webhook, url_variable: CARBON_ALERTS_TEST}\n"


class Watch:
    """The database's definitions, one instance, and the sensor evaluated by hand."""

    def __init__(self, pipeline: Pipeline, root: Path, recorder: Recorder) -> None:
        self.pipeline, self.recorder = pipeline, recorder
        self.table = f"{pipeline.name}/t"
        self.definitions = build_definitions({"CARBON_CATALOG_DIR": str(root)})
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(root))
        self.now = datetime.now(UTC)
        self.sensor = alerts_sensor(
            load_catalog(root), running=False, environ=os.environ, clock=lambda: self.now
        )
        self.cursor: str | None = None

    def run(self) -> None:
        """Bring the table up to now, and score it."""
        keys = [
            dg.AssetKey(["stream", self.pipeline.name]),
            dg.AssetKey(["lake", self.pipeline.name, "t"]),
            dg.AssetKey(["quality", self.pipeline.name, "t"]),
        ]
        job = self.definitions.resolve_implicit_global_asset_job_def()
        job.execute_in_process(asset_selection=keys, instance=self.instance, raise_on_error=False)

    def tick(self) -> list[tuple[str, str]]:
        self.now = max(self.now, datetime.now(UTC)) + timedelta(seconds=30)
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=self.definitions
        )
        self.cursor = self.sensor.evaluate_tick(context).cursor
        self.told = [alert for body in self.recorder.take() for alert in body["alerts"]]
        return sorted((one["status"], one["labels"]["alertname"]) for one in self.told)


@pytest.fixture
def watch(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    pipeline.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n int, holder text)",
        "INSERT INTO t SELECT g, g, 'Jane Doe' FROM generate_series(1, 100) g",
    )
    declared = tmp_path / pipeline.name
    declared.mkdir()
    (declared / "_database.yaml").write_text("owner: team:tests\n")
    (declared / "t.yaml").write_text(TABLE)
    (tmp_path / "owners.yaml").write_text(OWNERS)
    monkeypatch.setenv("CARBON_HOME", str(pipeline.stack.home))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path))
    with recording() as recorder:
        monkeypatch.setenv("CARBON_ALERTS_TEST", recorder.url)
        made = Watch(pipeline, tmp_path, recorder)
        with made.instance:
            yield made


def test_owners_are_told_of_a_fallen_score_and_a_parked_table_and_of_their_ends(
    watch: Watch,
) -> None:
    watch.run()
    assert watch.tick() == []

    watch.pipeline.execute("UPDATE t SET n = -id WHERE id <= 30", "INSERT INTO t VALUES (0, 1)")
    watch.run()

    assert watch.tick() == [("firing", "ScoreFell"), ("firing", "ScoreTooLow")]
    summary = {one["labels"]["alertname"]: one["annotations"]["summary"] for one in watch.told}
    assert summary["ScoreFell"].startswith(f"The score of {watch.table} fell from 100 to ")
    assert "not_null(holder) costs " in summary["ScoreFell"]
    assert "not passed, critical: not_null(holder)" in summary["ScoreTooLow"]
    assert "Jane" not in str(watch.told)
    assert {one["labels"]["stage"] for one in watch.told} == {"quality"}

    watch.pipeline.execute("UPDATE t SET n = abs(n), holder = 'x'")
    park = ["park", watch.table, "--reason", "the disk is being moved"]
    watch.run()
    assert CliRunner().invoke(cli, park).exit_code == 0
    watch.run()
    assert watch.tick() == [
        ("firing", "TableStands"),
        ("resolved", "ScoreFell"),
        ("resolved", "ScoreTooLow"),
    ]
    assert watch.tick() == []

    release = ["release", watch.table, "--reason", "moved", "--yes"]
    assert CliRunner().invoke(cli, release).exit_code == 0
    watch.run()
    assert watch.tick() == [("resolved", "TableStands")]
    assert watch.tick() == []
