"""Tables without a key: each row is in the lake as many times as in the source.

Every test follows a table through a copy and merges and compares with DuckDB alone, which counts
equal rows.
"""

import pytest

from carbon_pipelines.catalog.table import ColumnSpec
from carbon_pipelines.errors import (
    FullIdentityMissingError,
    MalformedEnvelopeError,
    RepairRefusedError,
    RowsMissingError,
    TableParkedError,
    UnrepresentableValueError,
)
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines.quality.repair import REPAIR_LIMITS, plan_repair
from carbon_pipelines_tests.integration.pipeline import Killed, Pipeline, die

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:Merge on read is not yet supported:UserWarning"),
]


WIDE = (
    "CREATE TABLE t (n int, x float8, y real, word text, doc text, js jsonb, at timestamptz,"
    " many text[], floats float8[], id uuid, raw bytea, flag bool, amount numeric(20,4))",
    "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
    "ALTER TABLE t REPLICA IDENTITY FULL",
)
ROWS = (
    """INSERT INTO t SELECT g % 3, 'NaN', '-0', 'w', repeat(md5((g % 2)::text), 300),
         '{"b": [1, null], "a": "x"}', timestamptz '2024-01-01 00:00+00', ARRAY['a', NULL, '"'],
         ARRAY['NaN', '-0', NULL]::float8[], md5((g % 2)::text)::uuid, '\\x00ff', g % 2 = 0, g % 3
       FROM generate_series(1, 60) g""",
    "INSERT INTO t SELECT FROM generate_series(1, 5)",
    "INSERT INTO t (x, y) VALUES (0, 0), ('-0', 0), (0, '-0'), ('-0', '-0'), (0, 0)",
)
CHANGES = (
    "UPDATE t SET n = -1 WHERE ctid = (SELECT min(ctid) FROM t WHERE n = 1)",
    "UPDATE t SET word = NULL WHERE ctid IN (SELECT ctid FROM t WHERE n = 2 LIMIT 3)",
    "DELETE FROM t WHERE ctid IN (SELECT ctid FROM t WHERE n = 0 LIMIT 7)",
    "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE n IS NULL AND x IS NULL)",
    "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE x::text = '0' AND y::text = '0')",
    "UPDATE t SET x = -x WHERE y::text = '-0' AND x = 0",
    "UPDATE t SET doc = doc || 'x' WHERE ctid IN (SELECT ctid FROM t WHERE n = 1 LIMIT 2)",
    "UPDATE t SET floats = floats || 1.5::float8 WHERE n = 2 AND flag",
    "UPDATE t SET word = word WHERE flag",
    "INSERT INTO t SELECT * FROM t WHERE n = 1",
)


def test_a_table_without_a_key_has_every_row_as_often_as_its_source(pipeline: Pipeline) -> None:
    pipeline.execute(*WIDE, *ROWS)
    table = pipeline.declare("t", (), identity="full")
    pipeline.follow("t")
    assert pipeline.differences("t") == 0

    pipeline.execute(*CHANGES)
    pipeline.follow("t")
    assert pipeline.differences("t") == 0
    found = verify_table(table, pipeline.database, pipeline.endpoints)
    assert found.verified, found.sentence()

    with pipeline.connect() as application:
        for statement in (*CHANGES, "TRUNCATE t", *ROWS, *CHANGES):
            application.execute(statement.encode())
    pipeline.follow("t")
    assert pipeline.differences("t") == 0

    pipeline.compact("t")
    pipeline.execute(*CHANGES, "DELETE FROM t WHERE n = 1")
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_a_kill_before_or_after_the_commit_changes_no_row_twice(pipeline: Pipeline) -> None:
    pipeline.execute(*WIDE, *ROWS)
    pipeline.declare("t", (), identity="full")
    pipeline.follow("t")

    pipeline.execute(*CHANGES)
    pipeline.drain()
    for hooks in (MergeHooks(after_write=die), MergeHooks(after_commit=die)):
        with pytest.raises(Killed):
            pipeline.sync("t", hooks=hooks)
    assert not pipeline.sync("t").events
    assert pipeline.differences("t") == 0

    # another writer comes in between, and the plan is made anew
    pipeline.execute(*CHANGES)
    pipeline.drain()
    compacted = list[int]()

    def compact() -> None:
        if not compacted:
            compacted.append(1)
            pipeline.compact("t")

    pipeline.sync("t", hooks=MergeHooks(after_write=compact))
    assert compacted
    assert pipeline.differences("t") == 0


def test_columns_that_come_go_and_change_are_followed_with_the_count_of_each_row(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "CREATE TABLE t (a int, b text, c real, d int)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t SELECT g % 4, 'b', 0.1, g % 2 FROM generate_series(1, 40) g",
    )
    pipeline.declare("t", (), identity="full", on_rewrite="park")
    pipeline.follow("t")

    some = "WHERE ctid IN (SELECT ctid FROM t WHERE a = 1 LIMIT 2)"
    with pipeline.connect() as application:
        for statement in (
            f"UPDATE t SET b = 'before' {some}",
            "ALTER TABLE t DROP d",
            f"DELETE FROM t {some}",
            "ALTER TABLE t ADD e int NOT NULL DEFAULT 7",
            f"UPDATE t SET e = 8 {some}",
            "ALTER TABLE t RENAME b TO f",
            "ALTER TABLE t ADD b text",
            f"UPDATE t SET f = 'after', b = 'new' {some}",
        ):
            application.execute(statement.encode())
    pipeline.execute("ALTER TABLE t ALTER a TYPE bigint", f"DELETE FROM t {some}")
    pipeline.execute("ALTER TABLE t ALTER c TYPE float8", f"UPDATE t SET c = 0.1 {some}")
    pipeline.execute("DELETE FROM t WHERE ctid IN (SELECT ctid FROM t WHERE a = 2 LIMIT 3)")

    assert not pipeline.follow("t").recopied
    assert pipeline.differences("t") == 0


def test_a_table_that_is_not_sent_whole_is_refused_before_anything_is_published(
    pipeline: Pipeline,
) -> None:
    pipeline.execute("CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1)")
    pipeline.declare("t", (), identity="full")

    with pytest.raises(FullIdentityMissingError, match="is DEFAULT"):
        pipeline.drain()

    pipeline.execute("ALTER TABLE t REPLICA IDENTITY FULL", "UPDATE t SET n = 2")
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_an_identity_that_is_taken_away_stops_its_table_alone_until_it_is_back(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "CREATE TABLE other (id int PRIMARY KEY, n int)",
        "CREATE TABLE t (n int, word text)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t SELECT 1, 'a' FROM generate_series(1, 3)",
    )
    pipeline.declare("other")
    pipeline.declare("t", (), identity="full")
    pipeline.follow_all()

    pipeline.execute(
        "INSERT INTO t VALUES (2, 'b')",
        "ALTER TABLE t REPLICA IDENTITY DEFAULT",
        "UPDATE t SET n = 5 WHERE n = 2",
        "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)",
        "INSERT INTO other VALUES (1, 1)",
    )
    pipeline.drain()
    with pytest.raises(FullIdentityMissingError):
        pipeline.sync("t")
    assert sorted(pipeline.iceberg("t").scan().to_arrow().column("n").to_pylist()) == [1, 1, 1, 2]
    pipeline.sync("other")
    assert pipeline.differences("other") == 0

    pipeline.execute("ALTER TABLE t REPLICA IDENTITY FULL", "UPDATE t SET n = 6 WHERE n = 5")
    assert pipeline.follow("t").recopied
    pipeline.execute("DELETE FROM t WHERE n = 6")
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_old_rows_that_did_not_come_whole_and_were_not_announced_park_their_table_alone(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "CREATE TABLE other (id int PRIMARY KEY, n int)",
        "CREATE TABLE t (code int NOT NULL, n int)",
        "CREATE UNIQUE INDEX t_code ON t (code)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t VALUES (1, 1), (2, 2)",
    )
    pipeline.declare("other")
    pipeline.declare("t", (), identity="full")
    pipeline.follow_all()

    pipeline.execute(
        "ALTER EVENT TRIGGER carbon_ddl_command_end DISABLE",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_code",
        "UPDATE t SET n = 3 WHERE code = 1",
        "DELETE FROM t WHERE code = 2",
        "INSERT INTO other VALUES (1, 1)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
    )
    pipeline.drain()
    pipeline.sync("other")
    with pytest.raises(MalformedEnvelopeError, match="REPLICA IDENTITY was not FULL"):
        pipeline.sync("t")
    with pytest.raises(TableParkedError):
        pipeline.sync("t")
    assert pipeline.differences("other") == 0

    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_a_value_that_its_column_cannot_hold_parks_the_table_before_its_row(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "CREATE TABLE t (n int, price numeric)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t VALUES (1, 1.5), (1, 1.5)",
    )
    pipeline.declare("t", (), identity="full", columns={"price": ColumnSpec(type="decimal(9,2)")})
    pipeline.follow("t")

    pipeline.execute(
        "UPDATE t SET n = 2 WHERE ctid = (SELECT min(ctid) FROM t)",
        "UPDATE t SET price = 1.555 WHERE n = 2",
        "DELETE FROM t WHERE n = 1",
    )
    with pytest.raises(UnrepresentableValueError):
        pipeline.follow("t")
    with pytest.raises(TableParkedError):
        pipeline.sync("t")
    rows = pipeline.iceberg("t").scan().to_arrow().column("n").to_pylist()
    assert sorted(rows) == [1, 2]

    pipeline.declare("t", (), identity="full", columns={"price": ColumnSpec(type="decimal(9,4)")})
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_a_row_that_is_missing_in_the_lake_is_found_by_comparing_and_parks_on_its_delete(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "CREATE TABLE t (n int, word text)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t SELECT g % 2, 'w' FROM generate_series(1, 6) g",
    )
    table = pipeline.declare("t", (), identity="full")
    pipeline.follow("t")
    lake = pipeline.iceberg("t")
    lake.overwrite(lake.scan().to_arrow().slice(1))

    found = verify_table(table, pipeline.database, pipeline.endpoints, limits=REPAIR_LIMITS)
    assert not found.verified
    assert [(d.kind, d.key[1]) for d in found.differing_keys] == [("missing in lake", "w")]
    with pytest.raises(RepairRefusedError):
        plan_repair(found, pipeline.endpoints)

    pipeline.execute("DELETE FROM t")
    with pytest.raises(RowsMissingError, match="name 1 rows"):
        pipeline.follow("t")
    with pytest.raises(TableParkedError):
        pipeline.sync("t")
    pipeline.execute("INSERT INTO t VALUES (1, 'w'), (1, 'w')")
    recopy_table(table, pipeline.database, pipeline.endpoints)
    pipeline.follow("t")
    assert pipeline.differences("t") == 0
