"""A repair gives differing keys the source's rows, and never takes a change back."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.cli import cli, surroundings
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import CommitConflictError, RepairRefusedError, TableMovedError
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.lake.replace_rows import Replaced
from carbon_pipelines.quality.repair import (
    REPAIR_LIMITS,
    RepairPlan,
    apply_repair,
    plan_repair,
    repair_table,
)
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.quality_bench import Bench, Rows, open_bench
from carbon_pipelines_tests.integration.quality_writers import captured, change_anything, writers

pytestmark = pytest.mark.integration


@pytest.fixture
def bench(stack: Stack, source: SourceDatabase) -> Iterator[Bench]:
    with open_bench(stack, source) as bench:
        yield bench


def _spoil(rows: Rows) -> Rows:
    """A changed byte (5), a lost row (6), an invented (-7), a doubled (8) and a stale one (9)."""
    kept = [
        {**row, "bytes": b"\x00" + bytes(row["bytes"])[1:]} if row["id"] == 5 else row  # type: ignore[arg-type]
        for row in rows
        if row["id"] != 6
    ]
    extra = {row["id"]: row for row in rows}
    return [*kept, {**extra[1], "id": -7}, extra[8], {**extra[9], "big": 0}]


def _plan(bench: Bench) -> RepairPlan:
    return plan_repair(bench.verify(bench.reading, REPAIR_LIMITS), bench.endpoints)


def _apply(bench: Bench, plan: RepairPlan, hooks: MergeHooks | None = None) -> Replaced:
    return apply_repair(plan, bench.endpoints, reason="a test", by="tester", hooks=hooks)


def test_every_kind_of_damage_is_mended_in_one_snapshot_that_says_why(bench: Bench) -> None:
    bench.damage(bench.reading, _spoil)
    plan = _plan(bench)
    before, progress = bench.iceberg("reading"), bench.progress("reading")

    done = _apply(bench, plan)

    after = bench.iceberg("reading")
    head = after.current_snapshot()
    assert head is not None
    assert head.summary is not None
    notes = head.summary.additional_properties
    assert (len(plan.differences), plan.removed_rows) == (5, 6)
    assert "(5, p2): changed in bytes" in plan.describe()
    assert (done.snapshot_id, done.keys, done.written_rows, done.removed_rows, done.moved_keys) == (
        head.snapshot_id,
        *(5, 4, 6, 0),
    )
    assert len(after.snapshots()) == len(before.snapshots()) + 1
    assert bench.progress("reading") == progress
    assert (notes["carbon.repair_reason"], notes["carbon.repair_by"]) == ("a test", "tester")
    assert bench.differences("reading") == 0
    assert bench.verify(bench.reading).verified
    bench.execute("UPDATE reading SET big = 1 WHERE id IN (5, 6, 8)", "DELETE FROM reading")
    bench.follow("reading")
    assert bench.differences("reading") == 0


def test_keys_that_events_reached_after_the_plan_keep_what_the_events_brought(
    bench: Bench,
) -> None:
    bench.damage(bench.reading, _spoil)
    plan = _plan(bench)
    bench.execute(
        "UPDATE reading SET big = 50 WHERE id = 5",
        "INSERT INTO reading (id, part) VALUES (-7, 'p1')",
        "UPDATE reading SET id = 8008 WHERE id = 8",
        "DELETE FROM reading WHERE id = 6",
    )
    bench.follow("reading")

    done = _apply(bench, plan)

    assert (done.keys, done.moved_keys) == (1, 4)
    assert bench.differences("reading") == 0


def test_events_merged_between_a_repairs_plan_and_its_commit_are_not_taken_back(
    bench: Bench,
) -> None:
    bench.damage(bench.reading, _spoil)
    plan = _plan(bench)
    pending = ["UPDATE reading SET big = 50 WHERE id = 5"]

    def merge_first() -> None:
        if pending:
            bench.execute(pending.pop())
            bench.follow("reading")

    done = _apply(bench, plan, MergeHooks(after_write=merge_first))

    assert (done.keys, done.moved_keys) == (4, 1)
    assert bench.differences("reading") == 0


def test_a_merge_that_a_repair_overtakes_begins_again_on_top_of_it(bench: Bench) -> None:
    bench.damage(bench.reading, _spoil)
    plans = [_plan(bench)]
    bench.execute(
        "UPDATE reading SET big = 50 WHERE id IN (5, 6)", "DELETE FROM reading WHERE id=9"
    )
    bench.drain()

    def repair_first() -> None:
        if plans:
            _apply(bench, plans.pop())

    bench.sync("reading", hooks=MergeHooks(after_write=repair_first))

    assert bench.differences("reading") == 0


@pytest.mark.parametrize("what", ["truncated", "copied anew"])
def test_a_table_that_is_another_by_now_is_not_repaired(bench: Bench, what: str) -> None:
    bench.damage(bench.reading, _spoil)
    plan = _plan(bench)
    if what == "truncated":
        bench.execute("TRUNCATE reading", "INSERT INTO reading (id, part) VALUES (1, 'p1')")
        bench.follow("reading")
    else:
        bench.execute("UPDATE reading SET big = 50 WHERE id = 5")
        recopy_table(bench.reading, bench.database, bench.endpoints)

    with pytest.raises(TableMovedError, match="--repair") as refused:
        _apply(bench, plan)

    assert refused.value.retryable
    bench.follow("reading")
    assert bench.differences("reading") == 0


def test_a_table_without_a_key_is_copied_anew_instead(bench: Bench) -> None:
    bench.damage(bench.entry, lambda rows: rows[1:])

    with pytest.raises(RepairRefusedError, match="recopy"):
        plan_repair(bench.verify(bench.entry, REPAIR_LIMITS), bench.endpoints)


@contextmanager
def _merging(bench: Bench) -> Iterator[None]:
    stop = threading.Event()

    def merge() -> None:
        while not stop.is_set():
            try:
                bench.sync("reading")
            except CommitConflictError:
                continue

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(merge)
        try:
            yield
        finally:
            stop.set()
        running.result()


def test_repairs_beside_writers_and_merges_lose_and_revive_nothing(bench: Bench) -> None:
    damages: list[Callable[[Rows], Rows]] = [
        _spoil,
        lambda rows: [row for row in rows if int(str(row["id"])) % 3],
    ]
    for damage in damages:
        bench.damage(bench.reading, damage)
        with captured(bench), writers(bench.dsn, change_anything, asynchronous=True):
            found = bench.verify(bench.reading, REPAIR_LIMITS)
            with _merging(bench):
                plan = plan_repair(found, bench.endpoints)
                _apply(bench, plan)
            found = repair_table(
                bench.verify(bench.reading, REPAIR_LIMITS),
                bench.database,
                bench.endpoints,
                reason="a test",
                by="tester",
                report=lambda _: None,
            )
        assert (found.differing_count, found.unsettled_keys) == (0, 0)
        bench.follow("reading")
        assert bench.differences("reading") == 0


def test_the_command_shows_a_repair_and_does_it_only_when_told_to(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.damage(bench.reading, _spoil)
    monkeypatch.setattr(surroundings, "catalog", lambda: Catalog((bench.database,)))
    monkeypatch.setattr(surroundings, "endpoints", lambda: bench.endpoints)
    command = ["verify", bench.reading.label, "--repair"]
    before = bench.iceberg("reading").metadata_location

    shown = CliRunner().invoke(cli, command)

    assert shown.exit_code == 1
    assert "gives 5 keys the rows that the source had at" in shown.output
    assert "Nothing was changed." in shown.output
    assert bench.iceberg("reading").metadata_location == before

    done = CliRunner().invoke(cli, [*command, "--yes", "--reason", "a test"])

    assert done.exit_code == 0
    assert "5 keys repaired in snapshot" in done.output
    assert bench.differences("reading") == 0


def test_the_job_shows_a_repair_and_does_it_only_when_told_to(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = tmp_path / bench.name
    declared.mkdir()
    (declared / "_database.yaml").write_text("owner: team:tests\n")
    said = {"freshness": "15m", "description": "A table."}
    reading = {"key": ["id", "part"], "columns": {"free": {"type": "decimal(18,4)"}}, **said}
    entry = {"mode": "append", **said}
    for name, document in (("reading", reading), ("entry", entry)):
        (declared / f"{name}.yaml").write_text(yaml.safe_dump({"source_table": name, **document}))
    monkeypatch.setenv("CARBON_HOME", str(bench.stack.home))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path))
    definitions = build_definitions({"CARBON_CATALOG_DIR": str(tmp_path)})
    job = definitions.resolve_job_def("repair")

    def repaired(tables: str, **more: object) -> dict[str, object]:
        config = {"tables": [f"{bench.name}/{tables}"], "reason": "a test", **more}
        run = {"ops": {"repair_tables": {"config": config}}}
        events = job.execute_in_process(run_config=run).all_events
        [output] = [e.step_output_data for e in events if e.event_type_value == "STEP_OUTPUT"]
        return {name: entry.value for name, entry in output.metadata.items()}

    bench.damage(bench.reading, _spoil)
    before = bench.iceberg("reading").metadata_location
    both = [f"{bench.name}/entry", f"{bench.name}/reading"]

    shown = repaired("*")

    assert bench.iceberg("reading").metadata_location == before
    plan = str(shown.pop("carbon/plan"))
    assert "1 keys are added, 3 replaced, 1 removed: 6 rows go, 4 rows come" in plan
    assert shown == {
        "carbon/tables": both,
        "carbon/added_keys": 1,
        "carbon/replaced_keys": 3,
        "carbon/removed_keys": 1,
        "carbon/verified": both[:1],
    }

    done = repaired("*", dry_run=False)

    head = bench.iceberg("reading").current_snapshot()
    assert head is not None
    assert head.summary is not None
    notes = head.summary.additional_properties
    assert done["carbon/verified"] == both
    assert notes["carbon.repair_reason"] == "a test"
    assert notes["carbon.repair_by"].startswith("Dagster run ")
    assert bench.differences("reading") == 0
    at_rest = bench.iceberg("reading").metadata_location
    assert repaired("reading", dry_run=False)["carbon/verified"] == both[1:]
    assert bench.iceberg("reading").metadata_location == at_rest

    bench.damage(bench.entry, lambda rows: rows[1:])
    with pytest.raises(dg.Failure, match="recopy"):
        repaired("*", dry_run=False)
