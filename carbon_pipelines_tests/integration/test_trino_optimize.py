"""A table that Trino compacts keeps its rows and its place, and merges go on behind it."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from trino.dbapi import Cursor

from carbon_pipelines.cli import cli
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.maintenance.actions import COMPACTION, op_name
from carbon_pipelines.embedded.endpoints import TrinoEndpoint
from carbon_pipelines.errors import OptimizeFailedError, OptimizeInterruptedError
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.maintenance.trino_optimize import optimize_table
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.supervised import write_catalog

pytestmark = [pytest.mark.integration, pytest.mark.trino]


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    """A table of many small files with deletes."""
    pipeline.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int, note text)",
        "INSERT INTO t SELECT g, 0, 'row ' || g FROM generate_series(1, 500) g",
    )
    pipeline.declare("t")
    for number in range(6):
        pipeline.execute(
            f"UPDATE t SET n = n + 1 WHERE id % 6 = {number}", f"DELETE FROM t WHERE id = {number}"
        )
        pipeline.follow("t")
    return pipeline


@pytest.fixture
def endpoint(pipeline: Pipeline, trino: Cursor) -> TrinoEndpoint:
    """The embedded Trino, which has started by then, as commands find it."""
    assert trino.execute("SELECT 1").fetchall()
    return pipeline.stack.endpoints().trino


def test_trino_compacts_and_merges_go_on(pipeline: Pipeline, endpoint: TrinoEndpoint) -> None:
    before = pipeline.progress("t")
    with open_catalog(pipeline.endpoints.lake) as catalog:
        done = optimize_table(endpoint, catalog, pipeline.tables["t"].identifier)
        again = optimize_table(endpoint, catalog, pipeline.tables["t"].identifier)

    assert len(done.snapshot_ids) == 1
    assert (done.files_after, done.deletes_after) == (1, 0) != (done.files_before, 0)
    assert done.cpu_seconds > 0
    assert again.snapshot_ids == ()
    assert pipeline.progress("t") == before
    assert pipeline.differences("t") == 0

    pipeline.execute("UPDATE t SET n = 9 WHERE id < 100", "INSERT INTO t VALUES (1000, 1, 'new')")
    pipeline.follow("t")
    assert pipeline.differences("t") == 0
    assert verify_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints).verified


def test_a_table_declared_so_is_compacted_by_trino_from_the_shell_and_from_dagster(
    pipeline: Pipeline, endpoint: TrinoEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del endpoint
    declared = pipeline.tables["t"].model_copy(update={"engine": "trino"})
    pipeline.tables["t"] = declared
    catalog = write_catalog(pipeline, tmp_path)
    monkeypatch.setenv("CARBON_HOME", str(pipeline.stack.home))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(catalog))

    def carbon(*more: str) -> str:
        result = CliRunner().invoke(cli, ["compact", declared.label, *more])
        assert result.exit_code == 0, result.output
        return result.output

    assert "its declaration: Trino compacts this table" in carbon()
    assert "became 1 and 0 by Trino" in carbon("--apply")
    assert "nothing was compacted" in carbon("--apply", "--engine", "native")
    pipeline.execute("UPDATE t SET n = 5 WHERE id % 2 = 0")
    pipeline.follow("t")

    job = build_definitions({"CARBON_CATALOG_DIR": str(catalog)}).resolve_job_def("upkeep")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            instance=instance,
            partition_key=declared.label,
            asset_selection=[COMPACTION],
            run_config={"ops": {op_name(COMPACTION): {"config": {"dry_run": False}}}},
        )
    [event] = result.get_asset_materialization_events()
    assert event.materialization.metadata["carbon/engine"].value == "trino"
    assert event.materialization.metadata["carbon/files_after"].value == 1
    assert pipeline.differences("t") == 0


def test_a_trino_that_does_not_answer_or_refuses_is_said(
    pipeline: Pipeline, endpoint: TrinoEndpoint
) -> None:
    identifier = pipeline.tables["t"].identifier
    with open_catalog(pipeline.endpoints.lake) as catalog:
        away = replace(endpoint, port=1)
        with pytest.raises(OptimizeInterruptedError, match=r"127\.0\.0\.1:1"):
            optimize_table(away, catalog, identifier)
        other = replace(endpoint, catalog="elsewhere")
        with pytest.raises(OptimizeFailedError, match=r"TABLE_NOT_FOUND.*elsewhere") as refused:
            optimize_table(other, catalog, identifier)
    assert not refused.value.retryable
    assert OptimizeInterruptedError.retryable
    assert pipeline.differences("t") == 0
