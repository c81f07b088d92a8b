"""Compaction beside a pipeline, on PostgreSQL, Kafka and S3; DuckDB says whether rows are right."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest
from click.testing import CliRunner
from pyiceberg.table.snapshots import Operation

from carbon_pipelines.cli import cli
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.maintenance.compact import (
    Compacted,
    CompactionHooks,
    apply_compaction,
)
from carbon_pipelines.maintenance.compaction import CompactionPolicy, plan_compaction
from carbon_pipelines.maintenance.table_facts import TableFacts, load_facts
from carbon_pipelines_tests.integration.pipeline import Killed, Pipeline, die

ROWS = 2_000
EAGER = CompactionPolicy(min_files=2, delete_ratio=0.001)
THOROUGH = CompactionPolicy(min_files=2, delete_ratio=0.001, thorough=True)


def compact(
    pipeline: Pipeline,
    name: str = "t",
    *,
    policy: CompactionPolicy = EAGER,
    hooks: CompactionHooks | None = None,
) -> Compacted:
    """Plan and apply, as a process of its own would."""
    with open_catalog(pipeline.endpoints.lake) as catalog:
        facts = load_facts(catalog.load_table(pipeline.tables[name].identifier))
        return apply_compaction(plan_compaction(facts, policy), catalog, hooks=hooks)


def facts(pipeline: Pipeline, name: str = "t") -> TableFacts:
    """What its manifests say."""
    return load_facts(pipeline.iceberg(name))


def create(pipeline: Pipeline, name: str = "t", **more: object) -> None:
    """A table with rows, declared and copied."""
    key = () if "mode" in more and more["mode"] == "append" else ("id",)
    keyed = "PRIMARY KEY" if more.pop("keyed", True) else ""
    pipeline.execute(
        f"CREATE TABLE {name} (id int8 {keyed}, day date NOT NULL, n int4, note text)",
        f"INSERT INTO {name} SELECT i, date '2024-01-01' + (i % 3)::int4, i % 7, 'note ' || i"
        f" FROM generate_series(1, {ROWS}) i",
    )
    if more.get("identity") == "full":
        key = ()
        pipeline.execute(f"ALTER TABLE {name} REPLICA IDENTITY FULL")
    pipeline.declare(name, more.pop("key", key), **more)
    pipeline.follow(name)


def change(pipeline: Pipeline, round_: int, name: str = "t") -> None:
    """Updates, deletes and inserts, committed in the source."""
    pipeline.execute(
        f"UPDATE {name} SET n = n + 1, note = note || '.' WHERE id % 11 = {round_ % 11}",
        f"DELETE FROM {name} WHERE id % 97 = {round_ % 97}",
        f"INSERT INTO {name} SELECT i, date '2024-01-02', 0, 'new' FROM generate_series("
        f"{ROWS + round_ * 100 + 1}, {ROWS + round_ * 100 + 50}) i",
    )


def changed(pipeline: Pipeline, rounds: int = 4, name: str = "t") -> None:
    """So many merges."""
    for number in range(rounds):
        change(pipeline, number, name)
        pipeline.follow(name)


@pytest.fixture
def busy(pipeline: Pipeline) -> Pipeline:
    """A keyed table after some merges."""
    create(pipeline)
    changed(pipeline)
    return pipeline


def test_a_table_is_compacted_equal_and_at_rest_and_merges_go_on(busy: Pipeline) -> None:
    before = facts(busy)
    assert before.delete_files > 0

    done = compact(busy)

    assert busy.differences("t") == 0
    after = facts(busy)
    assert (len(after.files), after.delete_files, done.left) == (1, 0, ())
    assert busy.iceberg("t").current_snapshot().summary.operation == Operation.REPLACE
    assert compact(busy).snapshot_ids == ()
    change(busy, 50)
    merged = busy.follow("t")
    assert merged.deleted_rows > 0
    assert busy.differences("t") == 0


def test_hazard_7_merges_between_write_and_commit_never_bring_a_row_back(busy: Pipeline) -> None:
    left = [60, 61, 62]

    def meanwhile() -> None:
        if left:
            change(busy, left.pop())
            busy.follow("t")

    done = compact(busy, hooks=CompactionHooks(after_write=meanwhile, before_commit=meanwhile))

    assert (len(done.snapshot_ids), done.left) == (1, ())
    assert done.conflicts == 2
    assert done.moved_deletes > 0
    assert busy.differences("t") == 0
    change(busy, 63)
    busy.follow("t")
    compact(busy)
    assert busy.differences("t") == 0
    assert facts(busy).delete_files == 0


def test_hazard_7_upkeep_converges_under_a_steady_stream_and_merges_lose_one_attempt_at_most(
    busy: Pipeline,
) -> None:
    stop, done, failed = threading.Event(), list[Compacted](), list[BaseException]()

    def upkeep() -> None:
        try:
            while not stop.is_set():
                done.append(compact(busy))
                time.sleep(0.05)
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    thread = threading.Thread(target=upkeep)
    thread.start()
    attempts: list[int] = []
    try:
        for number in range(12):
            change(busy, 10 + number)
            tries: list[None] = []
            busy.follow("t", hooks=MergeHooks(before_write=lambda t=tries: t.append(None)))
            attempts.append(len(tries))
    finally:
        stop.set()
        thread.join()

    assert failed == []
    assert busy.differences("t") == 0
    assert max(attempts) <= 2
    assert sum(len(one.snapshot_ids) for one in done) >= 3
    compact(busy)
    assert (len(facts(busy).files), facts(busy).delete_files) == (1, 0)
    assert busy.differences("t") == 0


def test_hazard_9_delete_files_go_with_the_rows_they_name(busy: Pipeline) -> None:
    compact(busy)

    assert facts(busy).delete_files == 0
    assert facts(busy).dangling == ()
    summary = busy.iceberg("t").current_snapshot().summary
    assert (summary["total-position-deletes"], summary["total-delete-files"]) == ("0", "0")


def test_hazard_10_a_rewrite_that_would_change_little_is_not_made(busy: Pipeline) -> None:
    compact(busy)
    change(busy, 70)
    busy.follow("t")
    head = busy.iceberg("t").metadata.current_snapshot_id

    done = compact(busy, policy=CompactionPolicy())

    assert done.snapshot_ids == ()
    assert busy.iceberg("t").metadata.current_snapshot_id == head


@pytest.mark.parametrize("mode", ["append", "history", "bag"])
def test_tables_of_every_mode_are_compacted_right(pipeline: Pipeline, mode: str) -> None:
    if mode == "bag":
        create(pipeline, identity="full", keyed=False)
    elif mode == "append":
        create(pipeline, mode="append", keyed=False)
    else:
        create(pipeline, mode="history")
    for number in range(4):
        if mode == "append":
            pipeline.execute(
                f"INSERT INTO t SELECT i, '2024-01-01', 1, 'x' FROM generate_series(1, {number}) i"
            )
        else:
            change(pipeline, number)
        pipeline.follow("t")
    versions = pipeline.iceberg("t").scan().to_arrow().num_rows

    def meanwhile() -> None:
        if mode != "append":
            pipeline.execute("UPDATE t SET note = 'meanwhile' WHERE id BETWEEN 101 AND 120")
            pipeline.follow("t")

    done = compact(pipeline, hooks=CompactionHooks(after_write=meanwhile))

    assert len(done.snapshot_ids) == 1
    assert pipeline.differences("t") == 0
    if mode == "history":
        assert pipeline.iceberg("t").scan().to_arrow().num_rows == versions + 20
        kinds = {one.rows_kind for one in facts(pipeline).files}
        assert kinds == {"", "ended"}
    if mode != "append":
        pipeline.execute("UPDATE t SET note = 'after' WHERE id BETWEEN 110 AND 130")
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_columns_and_partitions_of_before_are_brought_to_what_they_are_now(
    pipeline: Pipeline,
) -> None:
    create(
        pipeline,
        partitioning=({"column": "day", "transform": "day"},),
        sort_order=({"column": "n", "direction": "desc"}, {"column": "id"}),
    )
    changed(pipeline, 2)
    pipeline.execute(
        "ALTER TABLE t RENAME COLUMN note TO remark",
        "ALTER TABLE t ADD COLUMN added int8",
        "UPDATE t SET added = id WHERE id % 5 = 0",
    )
    pipeline.follow("t")
    assert any(one.older_schema for one in facts(pipeline).files)
    pipeline.execute("UPDATE t SET day = day + 1 WHERE id % 13 = 0")
    pipeline.follow("t")

    compact(pipeline, policy=THOROUGH)

    assert pipeline.differences("t") == 0
    after = facts(pipeline)
    assert len({one.group for one in after.files}) == len(after.files)
    assert {(one.older_schema, one.sort_order_id) for one in after.files} == {(False, 1)}
    with pipeline.iceberg("t").update_spec() as spec:
        spec.add_field("n", "bucket[2]")
    pipeline.execute("ALTER TABLE t RENAME COLUMN remark TO note")
    change(pipeline, 40)
    pipeline.follow("t")
    compact(pipeline)
    assert pipeline.differences("t") == 0
    assert {one.spec_id for one in facts(pipeline).files} == {1}
    compact(pipeline)
    assert len({one.group for one in facts(pipeline).files}) == len(facts(pipeline).files)
    change(pipeline, 41)
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def moments() -> Iterator[CompactionHooks]:
    """A process that ends at each moment in turn."""
    for name in ("before_write", "after_write", "before_commit", "after_commit"):
        yield CompactionHooks(**{name: die})


def test_a_process_that_dies_anywhere_leaves_the_table_and_the_next_run_finishes(
    busy: Pipeline,
) -> None:
    for number, hooks in enumerate(moments(), start=80):
        change(busy, number)
        busy.follow("t")
        with pytest.raises(Killed):
            compact(busy, hooks=hooks)
        assert busy.differences("t") == 0

    change(busy, 90)
    busy.follow("t")
    compact(busy)
    assert (len(facts(busy).files), facts(busy).delete_files) == (1, 0)
    assert busy.differences("t") == 0


def test_a_foreign_append_meanwhile_is_kept_and_merges_go_on(busy: Pipeline) -> None:
    def meanwhile() -> None:
        table = busy.iceberg("t")
        table.append(table.scan(row_filter="id = 50").to_arrow())

    compact(busy, hooks=CompactionHooks(after_write=meanwhile))

    assert busy.differences("t") == 1
    busy.execute("DELETE FROM t WHERE id = 50")
    busy.follow("t")
    assert busy.differences("t") == 0


def test_the_commands_show_health_and_plan_and_compact_only_if_told(
    busy: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = tmp_path / busy.name
    declared.mkdir()
    (declared / "_database.yaml").write_text("owner: team:tests\n")
    (declared / "t.yaml").write_text(
        "source_table: t\nkey: [id]\nfreshness: 15m\ndescription: A table.\n"
    )
    monkeypatch.setenv("CARBON_HOME", str(busy.stack.home))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path))
    options = ["compact", busy.name, "--min-files", "2", "--delete-ratio", "0.01"]

    told = CliRunner().invoke(cli, ["health", busy.name])
    shown = CliRunner().invoke(cli, options)
    head = busy.iceberg("t").metadata.current_snapshot_id
    done = CliRunner().invoke(cli, [*options, "--apply"])
    again = CliRunner().invoke(cli, [*options, "--apply"])

    assert f"{busy.name}/t: " in told.output
    assert "of 100" in told.output
    assert shown.output.count(" rows  ") == len(
        busy.iceberg("t").inspect.files(head).filter(pc.field("content") == 0)
    )
    assert "Nothing was changed" in shown.output
    assert f"{busy.name}/t: " in done.output
    assert "became 1 (" in done.output
    assert "nothing was compacted" in again.output
    assert {one.exit_code for one in (told, shown, done, again)} == {0}
    assert busy.differences("t") == 0
