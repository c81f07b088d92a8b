"""Upkeep as the UI and the sensor run it: seen first, then done, and nothing of it is lost."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from carbon_pipelines.defs.automation.upkeep import actions_due
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.maintenance.actions import COMPACTION, EXPIRY, ORPHANS, op_name
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.supervised import write_catalog

pytestmark = pytest.mark.integration

MERGES = 12
OBSERVED = "ASSET_OBSERVATION"


class Ui:
    """Runs of one Dagster instance over a pipeline's declarations."""

    def __init__(self, pipeline: Pipeline, catalog: Path, instance: dg.DagsterInstance) -> None:
        self.pipeline, self.instance = pipeline, instance
        self._definitions = build_definitions({"CARBON_CATALOG_DIR": str(catalog)})
        self.table = pipeline.tables["t"]

    def look(self) -> Mapping[str, Any]:
        """What the hourly look says of the table."""
        job = self._definitions.resolve_job_def("health")
        return self._metadata(job.execute_in_process(instance=self.instance))

    def run(self, action: dg.AssetKey, **config: object) -> dg.ExecuteInProcessResult:
        """One action on the table."""
        return self._definitions.resolve_job_def("upkeep").execute_in_process(
            instance=self.instance,
            partition_key=self.table.label,
            asset_selection=[action],
            run_config={"ops": {op_name(action): {"config": config}}},
        )

    def do(self, action: dg.AssetKey, **config: object) -> Mapping[str, Any]:
        """One action, not as a dry run; what it tells."""
        return self._metadata(self.run(action, dry_run=False, **config))

    def _metadata(self, result: dg.ExecuteInProcessResult) -> Mapping[str, Any]:
        assert result.success
        [event] = result.get_asset_materialization_events()
        metadata = event.materialization.metadata
        return {name: value.value for name, value in metadata.items()}


@pytest.fixture
def ui(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ui]:
    """A table of many small files."""
    pipeline.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n bigint)",
        "INSERT INTO t SELECT g, 0 FROM generate_series(1, 200) g",
    )
    pipeline.declare("t")
    pipeline.follow("t")
    for number in range(MERGES):
        pipeline.execute(
            f"UPDATE t SET n = {number} WHERE id % {MERGES} = {number}",
            f"INSERT INTO t VALUES ({1000 + number}, 0)",
        )
        pipeline.follow("t")
    monkeypatch.setenv("CARBON_HOME", str(pipeline.stack.home))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Ui(pipeline, write_catalog(pipeline, tmp_path), instance)


def test_a_dry_run_shows_its_plan_and_changes_nothing(ui: Ui) -> None:
    before = ui.pipeline.iceberg("t").metadata_location

    for action in (COMPACTION, EXPIRY, ORPHANS):
        result = ui.run(action)

        [told] = [
            event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"
        ]
        observation = told.asset_observation_data.asset_observation
        assert "t" in str(observation.metadata["carbon/plan"].value)
        assert observation.partition == ui.table.label
        assert not result.get_asset_materialization_events()

    assert ui.pipeline.iceberg("t").metadata_location == before


def test_what_a_look_asks_for_is_done_and_then_nothing_is_asked_for(ui: Ui) -> None:
    looked = ui.look()
    assert list(actions_due(ui.instance, ui.table)) == [COMPACTION]

    compacted = ui.do(COMPACTION)
    expired = ui.do(EXPIRY, older_than_hours=0.000001, keep=1)
    orphans = ui.do(ORPHANS)
    looked_again = ui.look()

    assert compacted["carbon/files_removed"] >= MERGES
    assert compacted["carbon/files_added"] == 1
    assert compacted["carbon/score"] > compacted["carbon/score_before"] == looked["carbon/score"]
    assert expired["carbon/snapshots_removed"] > MERGES
    assert expired["carbon/files_removed"] > MERGES
    assert orphans["carbon/orphans"] == 0
    assert looked_again["carbon/small_files"] <= 1
    assert list(actions_due(ui.instance, ui.table)) == []
    assert ui.pipeline.differences("t") == 0

    ui.pipeline.execute("UPDATE t SET n = n + 1", "DELETE FROM t WHERE id <= 50")
    ui.pipeline.follow("t")
    assert ui.pipeline.differences("t") == 0
