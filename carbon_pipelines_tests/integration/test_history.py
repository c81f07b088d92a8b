"""Tables with ``mode: history``: the lake has every version that a trigger in PostgreSQL saw."""

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from carbon_pipelines.catalog.table import ColumnSpec, PartitionField
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import (
    HistoryColumnError,
    HistoryKeptError,
    ModeChangedError,
    RepairRefusedError,
    TableParkedError,
    UnrepresentableValueError,
)
from carbon_pipelines.lake.first_copy import FirstCopy
from carbon_pipelines.lake.history_columns import TO_LSN
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.lake.release import apply_release, plan_release
from carbon_pipelines.lake.start_over import apply_start_over, plan_start_over
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines.quality.repair import REPAIR_LIMITS, plan_repair
from carbon_pipelines_tests.integration.audit import (
    AUDIT,
    Version,
    audited,
    check_times,
    in_the_lake,
    rows_of,
)
from carbon_pipelines_tests.integration.pipeline import Killed, Pipeline, die
from carbon_pipelines_tests.integration.supervised import MOMENTS, pipeline_processes

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:Merge on read is not yet supported:UserWarning"),
]

TABLE = (
    "CREATE TABLE t (id bigint PRIMARY KEY, n int, doc text)",
    "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
    *AUDIT,
    "INSERT INTO t SELECT g, g % 7, repeat(md5(g::text), 100) FROM generate_series(1, 300) g",
)
CHANGES: tuple[Sequence[str], ...] = (
    ("UPDATE t SET n = n + 1 WHERE id % 5 = 0",),
    ("UPDATE t SET doc = doc || 'x' WHERE id % 7 = 0", "UPDATE t SET n = -n WHERE id % 7 = 0"),
    ("UPDATE t SET id = id + 1000 WHERE id % 11 = 0",),
    ("DELETE FROM t WHERE id > 5000",),
    ("INSERT INTO t VALUES (5001, 1, 'short'), (5002, 2, NULL)", "DELETE FROM t WHERE id = 5001"),
    ("DELETE FROM t WHERE id % 13 = 0",),
    ("DELETE FROM t WHERE id = 17", "INSERT INTO t VALUES (17, 0, 'again')"),
    ("SAVEPOINT s", "UPDATE t SET n = 99", "ROLLBACK TO s", "UPDATE t SET n = 98 WHERE id = 1"),
    ("UPDATE t SET id = -id WHERE id = 2", "UPDATE t SET id = -id, n = 5 WHERE id = -2"),
    ("UPDATE t SET n = n WHERE id = 3",),
    ("UPDATE t SET n = 50 WHERE id = 4", "DELETE FROM t WHERE id = 4"),
)
AGAIN = "INSERT INTO t SELECT g, 0, repeat('z', 3000) FROM generate_series(1, 200) g"


def change(pipeline: Pipeline, changes: Sequence[Sequence[str]] = CHANGES) -> None:
    """Each of ``changes`` is a transaction."""
    with pipeline.connect() as application:
        for statements in changes:
            for statement in statements:
                application.execute(statement.encode())
            application.commit()


def start(pipeline: Pipeline, **more: object) -> tuple[dict[int, dict[str, object]], int]:
    """Copy the table; its rows and the newest entry of the audit then."""
    pipeline.execute(*TABLE)
    pipeline.declare("t", mode="history", **more)
    copied = rows_of(pipeline)
    with pipeline.connect() as connection:
        (after,) = connection.execute("SELECT max(seq) FROM audit").fetchall()[0]
    pipeline.follow("t")
    return copied, after


def versions(pipeline: Pipeline, columns: str = "id, n, doc") -> list[Version]:
    return in_the_lake(pipeline, columns)


@pytest.mark.parametrize("partitioned", [False, True])
def test_every_version_is_kept_with_the_commits_that_began_and_ended_it(
    pipeline: Pipeline, *, partitioned: bool
) -> None:
    field = PartitionField(column="n", transform="bucket[3]")
    copied, after = start(pipeline, partitioning=(field,) if partitioned else ())
    assert versions(pipeline) == audited(pipeline, copied, after=after)

    change(pipeline)
    pipeline.follow("t")
    assert versions(pipeline) == audited(pipeline, copied, after=after)
    assert pipeline.differences("t") == 0

    # one batch with everything before and behind two TRUNCATEs, then a foreign compaction
    change(pipeline)
    change(pipeline, [("UPDATE t SET n = 7 WHERE id < 50", "TRUNCATE t", AGAIN)])
    change(pipeline)
    change(pipeline, [("TRUNCATE t",), (AGAIN,), ("UPDATE t SET n = 1 WHERE id = 1",)])
    pipeline.follow("t")
    assert versions(pipeline) == audited(pipeline, copied, after=after)
    pipeline.compact("t")

    for changes in CHANGES:
        change(pipeline, [changes])
        pipeline.follow("t")
    change(pipeline, [("TRUNCATE t",)])
    pipeline.follow("t")
    assert versions(pipeline) == audited(pipeline, copied, after=after)
    assert pipeline.differences("t") == 0
    check_times(pipeline)


def test_a_kill_before_or_after_the_commit_makes_no_version_twice(pipeline: Pipeline) -> None:
    copied, after = start(pipeline)
    for moment in MOMENTS:
        change(pipeline)
        pipeline.drain()
        with pytest.raises(Killed):
            pipeline.sync("t", hooks=MergeHooks(**{moment: die}))
        pipeline.sync("t")
        assert versions(pipeline) == audited(pipeline, copied, after=after)

    # another writer comes in between, and the plan is made anew
    change(pipeline)
    pipeline.drain()
    compacted = list[int]()

    def compact() -> None:
        if not compacted:
            compacted.append(1)
            pipeline.compact("t")

    pipeline.sync("t", hooks=MergeHooks(after_write=compact))
    assert compacted
    assert versions(pipeline) == audited(pipeline, copied, after=after)


def test_merging_processes_that_are_killed_leave_every_version_once(
    stack: Stack, pipeline: Pipeline, tmp_path: Path
) -> None:
    copied, after = start(pipeline)
    with pipeline_processes(stack, pipeline, tmp_path) as (capture, merge):
        for moment in MOMENTS:
            merge.restart(f"--die={moment}", "--at=2")
            give_up_at = time.monotonic() + timedelta(minutes=2).total_seconds()
            while merge.process.poll() is None:
                assert time.monotonic() < give_up_at, merge.tail()
                capture.keep()
                change(pipeline)
                time.sleep(0.3)
            merge.keep()
    pipeline.follow("t")
    assert versions(pipeline) == audited(pipeline, copied, after=after)
    assert pipeline.differences("t") == 0


def test_columns_that_are_added_and_renamed_are_followed_in_every_version(
    pipeline: Pipeline,
) -> None:
    copied, after = start(pipeline)
    change(pipeline)
    pipeline.follow("t")
    change(
        pipeline,
        [
            ("UPDATE t SET n = 3 WHERE id < 20",),
            ("ALTER TABLE t ADD more text", "UPDATE t SET more = 'm' WHERE id < 10"),
            ("ALTER TABLE t RENAME n TO amount",),
            ("UPDATE t SET amount = 4 WHERE id < 15",),
            ("ALTER TABLE t ADD kind text NOT NULL DEFAULT 'usual'",),
            ("UPDATE t SET kind = 'other' WHERE id < 5", "DELETE FROM t WHERE id = 30"),
            ("ALTER TABLE t ALTER amount TYPE bigint",),
            ("UPDATE t SET amount = 5000000000 WHERE id < 3",),
        ],
    )
    pipeline.follow("t")
    added = {"more": None, "kind": "usual"}
    expected = audited(pipeline, copied, after=after, renamed={"n": "amount"}, added=added)
    assert versions(pipeline, "id, amount, doc, more, kind") == expected
    assert pipeline.differences("t") == 0


REWRITES = {
    "a rewrite": "ALTER TABLE t ALTER n TYPE text USING n::text || '!'",
    "a dropped table": "DROP TABLE t; CREATE TABLE t (id bigint PRIMARY KEY, n int, doc text)",
}


@pytest.mark.parametrize("statement", REWRITES.values(), ids=REWRITES.keys())
def test_what_only_a_copy_would_answer_parks_the_table_with_all_its_versions(
    pipeline: Pipeline, statement: str
) -> None:
    copied, after = start(pipeline)
    change(pipeline)
    expected = audited(pipeline, copied, after=after)
    pipeline.execute(*statement.split("; "), "UPDATE t SET n = NULL WHERE id = 1")

    with pytest.raises(HistoryKeptError):
        pipeline.follow("t")
    with pytest.raises(TableParkedError, match="history"):
        pipeline.sync("t")
    with pytest.raises(HistoryKeptError):
        recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    with pytest.raises(HistoryKeptError):
        list(
            apply_start_over(
                plan_start_over(pipeline.database),
                pipeline.database,
                pipeline.endpoints,
                report=lambda _: None,
            )
        )
    assert versions(pipeline) == expected

    # the way out: a new history beside the one that is kept
    pipeline.declare("again", mode="history", source_table="t")
    kept = pipeline.tables.pop("t")
    pipeline.follow("again")
    assert pipeline.differences("again") == 0
    pipeline.tables["t"] = kept
    assert versions(pipeline) == expected


def test_a_slot_that_lost_changes_parks_the_table_with_all_its_versions(
    pipeline: Pipeline,
) -> None:
    copied, after = start(pipeline)
    change(pipeline)
    pipeline.follow("t")
    expected = audited(pipeline, copied, after=after)
    give_up_at = time.monotonic() + 30
    while pipeline.is_captured():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
    pipeline.execute(
        f"SELECT pg_drop_replication_slot('{pipeline.database.slot_name}')",
        "DELETE FROM t WHERE id < 20",
    )

    with pytest.raises(HistoryKeptError, match="gap in its topic"):
        pipeline.follow("t")
    with pytest.raises(TableParkedError):
        pipeline.sync("t")
    assert versions(pipeline) == expected


def test_a_copy_that_was_not_published_begins_again(pipeline: Pipeline) -> None:
    pipeline.execute(*TABLE)
    table = pipeline.declare("t", mode="history")
    pipeline.drain()
    with pytest.raises(Killed):
        FirstCopy(
            pipeline.catalog,
            table,
            pipeline.database,
            pipeline.endpoints,
            report=lambda _: None,
            after_range=die,
        ).run()
    change(pipeline)
    copied = rows_of(pipeline)
    with pipeline.connect() as connection:
        (after,) = connection.execute("SELECT max(seq) FROM audit").fetchall()[0]
    pipeline.follow("t")
    change(pipeline)
    pipeline.follow("t")
    assert versions(pipeline) == audited(pipeline, copied, after=after)


def test_changes_beside_the_first_copy_end_its_versions_where_they_begin(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(*TABLE)
    pipeline.declare("t", mode="history")
    pipeline.drain()
    ended = threading.Event()

    def write(part: int) -> None:
        rows = f"id % 3 = 0 AND id % 2 = {part}"
        with psycopg.connect(pipeline.dsn, autocommit=True) as application:
            while not ended.is_set():
                application.execute(f"UPDATE t SET n = n + 1 WHERE {rows}".encode())

    writers = [threading.Thread(target=write, args=(part,)) for part in range(2)]
    for writer in writers:
        writer.start()
    try:
        pipeline.follow("t")
        pipeline.follow("t")
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    pipeline.follow("t")

    assert pipeline.differences("t") == 0
    lives: dict[int, list[Version]] = {}
    for version in versions(pipeline):
        lives.setdefault(version.id, []).append(version)
    for life in lives.values():
        assert [one.until for one in life] == [*(one.since for one in life[1:]), -1]
        numbers = [dict(one.fields)["n"] for one in life]
        assert numbers == list(range(numbers[0], numbers[0] + len(life)))
    assert len(lives[3]) > 1


def test_a_changed_mode_is_refused_and_a_mirror_may_be_copied_anew_as_a_history(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(*TABLE)
    pipeline.declare("t")
    pipeline.follow("t")
    table = pipeline.declare("t", mode="history")
    with pytest.raises(ModeChangedError, match='"mode: mirror"'):
        pipeline.follow("t")

    copied = rows_of(pipeline)
    with pipeline.connect() as connection:
        (after,) = connection.execute("SELECT max(seq) FROM audit").fetchall()[0]
    recopy_table(table, pipeline.database, pipeline.endpoints)
    change(pipeline)
    pipeline.follow("t")
    expected = audited(pipeline, copied, after=after)
    assert versions(pipeline) == expected

    mirror = pipeline.declare("t")
    with pytest.raises(ModeChangedError, match='"mode: history"'):
        pipeline.follow("t")
    with pytest.raises(HistoryKeptError):
        recopy_table(mirror, pipeline.database, pipeline.endpoints)
    assert versions(pipeline) == expected


def test_a_column_that_takes_a_name_of_ours_parks_the_table_until_it_is_left_out(
    pipeline: Pipeline,
) -> None:
    copied, after = start(pipeline)
    before = audited(pipeline, copied, after=after)
    pipeline.execute(f"ALTER TABLE t ADD {TO_LSN} int", "UPDATE t SET n = 70 WHERE id = 1")

    with pytest.raises(HistoryColumnError, match=TO_LSN):
        pipeline.follow("t")
    with pytest.raises(TableParkedError):
        pipeline.sync("t")
    assert versions(pipeline) == before

    left_out = {TO_LSN: ColumnSpec(protect="drop")}
    table = pipeline.declare("t", mode="history", columns=left_out)
    (plan,) = plan_release([table], pipeline.endpoints)
    apply_release(plan, pipeline.endpoints, reason="left out", by="a test")
    change(pipeline)
    pipeline.follow("t")
    assert versions(pipeline) == audited(pipeline, copied, after=after, dropped=TO_LSN)


def test_a_version_that_cannot_be_held_parks_the_table_even_if_the_next_one_can(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "CREATE TABLE t (id int PRIMARY KEY, price numeric)", "INSERT INTO t VALUES (1, 1.5)"
    )
    pipeline.declare("t", mode="history", columns={"price": ColumnSpec(type="decimal(9,2)")})
    pipeline.follow("t")
    pipeline.execute(
        "UPDATE t SET price = 2.5",
        "INSERT INTO t VALUES (2, 2)",
        "UPDATE t SET price = 1.555 WHERE id = 1",
        "UPDATE t SET price = 3.5",
    )

    with pytest.raises(UnrepresentableValueError):
        pipeline.follow("t")
    with pytest.raises(TableParkedError):
        pipeline.sync("t")
    found = pipeline.iceberg("t").scan().to_arrow().select(["id", "price", TO_LSN]).to_pylist()
    kept = sorted((row["id"], float(row["price"]), row[TO_LSN] is None) for row in found)
    assert kept == [(1, 1.5, False), (1, 2.5, True), (2, 2.0, True)]


def test_the_open_versions_are_verified_and_are_not_mended(pipeline: Pipeline) -> None:
    start(pipeline)
    change(pipeline)
    table = pipeline.tables["t"]
    found = verify_table(table, pipeline.database, pipeline.endpoints)
    assert found.verified, found.sentence()

    lake = pipeline.iceberg("t")
    rows = lake.scan().to_arrow()
    lost = [
        number
        for number, (key, until) in enumerate(
            zip(rows.column("id").to_pylist(), rows.column(TO_LSN).to_pylist(), strict=True)
        )
        if key == 1 and until is None
    ]
    lake.overwrite(rows.take([i for i in range(rows.num_rows) if i not in lost]))
    found = verify_table(table, pipeline.database, pipeline.endpoints, limits=REPAIR_LIMITS)
    assert [(d.kind, d.key) for d in found.differing_keys] == [("missing in lake", ("1",))]
    with pytest.raises(RepairRefusedError, match="keeps a history"):
        plan_repair(found, pipeline.endpoints)
