"""``carbon expire``, ``lease`` and ``orphans`` over a real stack: a plan first, then the deed."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from carbon_pipelines.cli import cli
from carbon_pipelines.embedded.endpoints import source_variable
from carbon_pipelines_tests.catalog.declarations import declare, minimal
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.upkeep import needed_by, objects_of, put

pytestmark = pytest.mark.integration

Run = Callable[..., str]


@pytest.fixture
def run(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on table t, which has a first copy and three merges."""
    pipeline.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int)",
        "INSERT INTO t SELECT g, g FROM generate_series(1, 50) g",
    )
    pipeline.declare("t")
    pipeline.follow("t")
    for turn in range(3):
        pipeline.execute(f"UPDATE t SET n = {turn}")
        pipeline.follow("t")
    declare(tmp_path, pipeline.name, t=minimal("t"))
    monkeypatch.setenv("CARBON_HOME", str(pipeline.stack.home))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path))
    monkeypatch.setenv(source_variable(pipeline.name), pipeline.dsn)

    def ran(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    return ran


def test_a_plan_changes_nothing_a_lease_holds_and_apply_does_what_was_shown(
    pipeline: Pipeline, run: Run
) -> None:
    label, before = f"{pipeline.name}/t", pipeline.iceberg("t")
    oldest = min(before.metadata.snapshots, key=lambda one: one.sequence_number or 0)
    taken = run(
        *("lease", "take", label, "--owner", "dbt", "--for", "2h"),
        *("--snapshot", str(oldest.snapshot_id)),
    )
    (name,) = re.findall("carbon_lease_dbt_[0-9a-f]{8}", taken)
    assert name in run("lease", "list")
    options = ("expire", label, "--older-than", "1s", "--keep", "1")
    time.sleep(1.1)  # merges take less than a second: only then all of them are old enough

    plan = run(*options)
    total = len(before.metadata.snapshots)
    assert f"{label}: {total - 2} snapshots go, 2 stay" in plan
    assert "leased by dbt until" in plan
    assert "files that go: " in plan
    assert len(pipeline.iceberg("t").metadata.snapshots) == total

    assert f"{label}: {total - 2} snapshots expired" in run(*options, "--apply")
    assert len(pipeline.iceberg("t").metadata.snapshots) == 2
    assert f"{name} is dropped" in run("lease", "drop", label, name)
    assert "There are no leases." in run("lease", "list", label)
    run(*options, "--apply")
    assert f"{label}: 1 snapshots expired" in run(*options, "--apply")
    table = pipeline.iceberg("t")
    assert objects_of(table) == needed_by(table)
    assert pipeline.differences("t") == 0


def test_orphans_are_shown_moved_and_brought_back(pipeline: Pipeline, run: Run) -> None:
    label, table = f"{pipeline.name}/t", pipeline.iceberg("t")
    left = f"{table.location()}/data/left.parquet"
    put(table, left)
    whole = objects_of(table)
    options = ("orphans", label, "--older-than", "1s", "--may-take-files-of-running-writers")

    assert f"{label}: 0 orphans" in run("orphans", label)
    time.sleep(1.1)  # as old as --older-than asks for, however fast the machine is
    plan = run(*options)
    assert left in plan
    assert "Nothing was changed" in plan
    assert objects_of(table) == whole

    assert "1 orphans of 1 bytes quarantined" in run(*options, "--apply")
    assert left not in objects_of(table)
    assert "1 files" in run("orphans", "restore", label)
    assert "1 files of 1 bytes are back" in run("orphans", "restore", label, "--apply")
    assert objects_of(table) == whole
    assert "nothing in quarantine" in run("orphans", "restore", label, code=1)
    assert pipeline.differences("t") == 0
