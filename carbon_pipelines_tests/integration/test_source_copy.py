"""A range is read as the snapshot saw it, or not at all."""

import threading
import time
from contextlib import closing
from datetime import timedelta

import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from carbon_pipelines import errors
from carbon_pipelines.source import connection as connection_module
from carbon_pipelines.source.connection import connect
from carbon_pipelines.source.copy import (
    CtidRange,
    ExportedSnapshot,
    plan_table_ranges,
    read_range,
)
from carbon_pipelines.source.position import parse_lsn
from carbon_pipelines.source.relation import load_relation
from carbon_pipelines.source.visibility import (
    current_insert_lsn,
    emit_marker,
    wait_until_older_transactions_ended,
)

pytestmark = pytest.mark.integration

ALL = CtidRange(0, None)
MAKE = (
    "CREATE TABLE trade (id bigint PRIMARY KEY, price numeric(10,2), note text)",
    "INSERT INTO trade SELECT i, i / 100.0, 'note ' || i FROM generate_series(1, 5000) i",
)


def relation_of(database, name="trade", schema="public"):
    with closing(connect(database.dsn)) as connection:
        return load_relation(connection, schema, name)


def read(database, snapshot, relation, columns=("id", "note"), ctid_range=ALL, **more):
    types = {"id": pa.int64()}
    batches = read_range(
        database.dsn, snapshot.snapshot_id, relation, columns, ctid_range, types, **more
    )
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def test_every_value_is_read_as_the_stream_spells_it(database):
    """The reference is what a cast in a session with the same settings gives."""
    database.run(
        "CREATE TYPE mood AS ENUM ('so so', 'fine')",
        "CREATE TABLE wide (id int PRIMARY KEY, a text, b bytea, c timestamptz, d float8, e bool,"
        " f char(5), g int[], h text[], i inet, j jsonb, k interval, l mood, m date, n regclass,"
        ' "Ö, ""x""" text, o numeric, p money)',
        "INSERT INTO wide VALUES (1, '', '\\x00ff', '2024-01-31 12:00:00.5+02', 0.1, true, 'ab',"
        " '{1,NULL}', '{a,\"b \\\"c\",NULL}', '10.0.0.1', '{\"a\": 1}', '1 day 2 hours', 'so so',"
        " '0044-03-15 BC', 'wide', E'line\\nbreak, \"quoted\" \\\\. \\r', 'NaN', 12.5)",
        "INSERT INTO wide (id, a, c, m, d) VALUES"
        " (2, NULL, 'infinity', '-infinity', '-Infinity'), (3, 'NULL', NULL, NULL, 'NaN')",
    )
    relation = relation_of(database, "wide")
    names = [column.name for column in relation.columns]
    with closing(connect(database.dsn)) as connection, ExportedSnapshot(database.dsn) as snapshot:
        texts = sql.SQL(", ").join(
            sql.SQL("CASE WHEN {0} IS NOT NULL THEN format('%s', {0}) END").format(
                sql.Identifier(name)
            )
            for name in names
        )
        expected = connection.execute(
            sql.SQL("SELECT {} FROM public.wide ORDER BY id").format(texts)
        ).fetchall()
        found = read_range(database.dsn, snapshot.snapshot_id, relation, names, ALL, {})
        rows = [tuple(row.values()) for batch in found for row in batch.to_pylist()]
    assert rows == expected
    assert rows[0][1:7] == ("", "\\x00ff", "2024-01-31 10:00:00.5+00", "0.1", "t", "ab   ")


def test_ranges_together_hold_every_row_once_in_batches_of_the_asked_size(database):
    database.run(*MAKE)
    relation = relation_of(database)
    with closing(connect(database.dsn)) as connection:
        ranges = plan_table_ranges(connection, relation, target_bytes=64 << 10)
    assert len(ranges) > 2
    with ExportedSnapshot(database.dsn) as snapshot:
        rows = [
            row
            for pages in ranges
            for row in read(database, snapshot, relation, ctid_range=pages, block_bytes=1000)
        ]
    assert sorted(rows) == [(i, f"note {i}") for i in range(1, 5001)]


def test_a_row_larger_than_a_block_is_one_batch(database):
    database.run("CREATE TABLE doc (id int PRIMARY KEY, body text)")
    database.run("INSERT INTO doc VALUES (1, repeat('x', 3000000)), (2, 'small')")
    relation = relation_of(database, "doc")
    with ExportedSnapshot(database.dsn) as snapshot:
        batches = list(
            read_range(
                database.dsn,
                snapshot.snapshot_id,
                relation,
                ["body"],
                ALL,
                {},
                block_bytes=1 << 16,
            )
        )
    assert [[len(text) for text in batch.column("body").to_pylist()] for batch in batches] == [
        [3_000_000],
        [5],
    ]


def test_only_what_the_snapshot_saw_is_read(database):
    database.run(*MAKE)
    relation = relation_of(database)
    with ExportedSnapshot(database.dsn) as snapshot:
        database.run(
            "DELETE FROM trade WHERE id <= 10",
            "INSERT INTO trade SELECT i, 0, 'new' FROM generate_series(5001, 9000) i",
            "UPDATE trade SET note = 'changed' WHERE id > 4000",
            "VACUUM trade",
            "ALTER TABLE trade ADD COLUMN later int DEFAULT 5",
        )
        rows = read(database, snapshot, relation)
    assert sorted(rows) == [(i, f"note {i}") for i in range(1, 5001)]


@pytest.mark.parametrize(
    ("change", "how"),
    [
        ("TRUNCATE trade", "was rewritten or truncated"),
        ("ALTER TABLE trade ALTER price TYPE text", "was rewritten or truncated"),
        ("VACUUM FULL trade", "was rewritten or truncated"),
        ("CLUSTER trade USING trade_pkey", "was rewritten or truncated"),
        ("DROP TABLE trade", "was renamed or dropped"),
        ("ALTER TABLE trade RENAME TO deal", "was renamed or dropped"),
        ("ALTER TABLE trade RENAME note TO remark", "was renamed or dropped"),
        ("ALTER TABLE trade DROP COLUMN note", "was renamed or dropped"),
        (
            "ALTER TABLE trade DROP COLUMN note, ADD COLUMN note text DEFAULT 'other'",
            "got another column note",
        ),
        (
            "ALTER TABLE trade RENAME TO deal; CREATE TABLE trade AS SELECT * FROM deal",
            "was replaced by another table",
        ),
    ],
)
def test_a_rewrite_and_a_truncate_between_snapshot_and_read_are_refused(database, change, how):
    database.run(*MAKE)
    relation = relation_of(database)
    with ExportedSnapshot(database.dsn) as snapshot:
        database.run(change)
        with pytest.raises(errors.RelationRewrittenError, match=how) as refusal:
            read(database, snapshot, relation)
    assert refusal.value.retryable


def test_a_truncate_cannot_come_between_the_read_and_its_check(database):
    database.run(*MAKE)
    relation = relation_of(database)
    with ExportedSnapshot(database.dsn) as snapshot, database.another() as owner:
        batches = read_range(
            database.dsn, snapshot.snapshot_id, relation, ["id"], ALL, {}, block_bytes=1000
        )
        rows = next(batches).num_rows
        owner.execute("SET lock_timeout = '200ms'")
        with pytest.raises(Exception, match="lock timeout"):
            owner.execute("TRUNCATE trade")
        owner.rollback()
        assert rows + sum(batch.num_rows for batch in batches) == 5000
        owner.execute("TRUNCATE trade")


def test_a_reader_that_stops_early_leaves_no_lock(database):
    database.run(*MAKE)
    relation = relation_of(database)
    with ExportedSnapshot(database.dsn) as snapshot:
        batches = read_range(
            database.dsn, snapshot.snapshot_id, relation, ["id"], ALL, {}, block_bytes=1000
        )
        next(batches)
        batches.close()
    database.run("SET lock_timeout = '5s'", "TRUNCATE trade")


def test_a_snapshot_that_was_closed_is_gone(database):
    database.run(*MAKE)
    relation = relation_of(database)
    with ExportedSnapshot(database.dsn) as snapshot:
        pass
    with pytest.raises(errors.SnapshotGoneError, match=snapshot.snapshot_id):
        read(database, snapshot, relation)


def test_a_locked_table_is_not_waited_for_forever(database, monkeypatch):
    short = connection_module.SESSION_OPTIONS.replace("lock_timeout=30s", "lock_timeout=200ms")
    monkeypatch.setattr(connection_module, "SESSION_OPTIONS", short)
    database.run(*MAKE)
    relation = relation_of(database)
    with ExportedSnapshot(database.dsn) as snapshot, database.another() as owner:
        owner.execute("LOCK TABLE trade IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(errors.SourceLockedError, match=r"public\.trade"):
            read(database, snapshot, relation)


def test_rows_hidden_by_a_policy_are_an_error_and_not_missing(database):
    role = f"{database.name}_reader"
    database.run(
        *MAKE,
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret'",
        f"GRANT SELECT ON trade TO {role}",
        "ALTER TABLE trade ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY few ON trade USING (id < 10)",
    )
    relation = relation_of(database)
    dsn = make_conninfo(database.dsn, user=role, password="secret")
    with ExportedSnapshot(database.dsn) as snapshot:
        with pytest.raises(errors.SourcePrivilegeError, match="row-level security"):
            list(read_range(dsn, snapshot.snapshot_id, relation, ["id"], ALL, {}))
        database.run("ALTER TABLE trade DISABLE ROW LEVEL SECURITY")
        database.run(f"REVOKE SELECT ON trade FROM {role}")
        with pytest.raises(errors.SourcePrivilegeError, match="permission denied"):
            list(read_range(dsn, snapshot.snapshot_id, relation, ["id"], ALL, {}))
    database.run(f"DROP OWNED BY {role}")


def test_a_server_that_ends_the_session_is_unreachable_and_the_call_may_be_repeated(database):
    database.run(
        "CREATE TABLE trade (id int, note text)",
        "INSERT INTO trade SELECT i, repeat('x', 1000) FROM generate_series(1, 50000) i",
    )
    relation = relation_of(database)
    with ExportedSnapshot(database.dsn) as snapshot:
        batches = read_range(database.dsn, snapshot.snapshot_id, relation, ["note"], ALL, {})
        next(batches)
        database.run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            f" WHERE datname = '{database.name}' AND query LIKE 'COPY%'"
        )
        with pytest.raises(errors.SourceUnreachableError) as failure:
            list(batches)
    assert failure.value.retryable


def test_a_snapshot_sees_what_it_says_it_sees(database):
    """Transactions that end before, across and after the snapshot, by xid and by row."""
    database.run("CREATE TABLE seen (xid bigint)")
    insert = "INSERT INTO seen SELECT pg_current_xact_id()::text::bigint % 4294967296"
    stop = threading.Event()

    def write():
        with database.another() as connection:
            while not stop.is_set():
                connection.execute(insert)
                time.sleep(0.001)
                connection.commit()

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    snapshots = []
    relation = relation_of(database, "seen")
    running = database.another()
    running.execute(insert)
    for nth in range(30):
        if nth == 15:
            running.commit()
        with ExportedSnapshot(database.dsn) as snapshot:
            rows = read_range(database.dsn, snapshot.snapshot_id, relation, ["xid"], ALL, {})
            xids = {int(xid) for batch in rows for xid in batch.column("xid").to_pylist()}
            snapshots.append((snapshot.visibility, xids))
    running.close()
    stop.set()
    for writer in writers:
        writer.join()
    every = [xid for (xid,) in database.rows("SELECT xid FROM seen")]
    assert all(visibility.xip for visibility, _ in snapshots[:15])
    for visibility, xids in snapshots:
        assert {xid for xid in every if visibility.sees(xid)} == xids


def test_a_marker_is_flushed_and_lies_above_the_lsn_it_returns(database):
    database.run("CREATE TABLE t (x int)")
    database.run("SELECT pg_create_logical_replication_slot(current_database(), 'pgoutput')")
    database.run("CREATE PUBLICATION p FOR TABLE t", "SET synchronous_commit = off")
    database.run("INSERT INTO t VALUES (1)")
    with closing(connect(database.dsn)) as connection:
        connection.execute("SET synchronous_commit = off")
        before = current_insert_lsn(connection)
        lsn = emit_marker(connection, b"\x00\xffverify")
        flushed = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert before <= lsn < parse_lsn(flushed[0])
    found = database.rows(
        "SELECT lsn::text, encode(data, 'escape') FROM pg_logical_slot_peek_binary_changes("
        "current_database(), NULL, NULL, 'proto_version', '1', 'publication_names', 'p',"
        " 'messages', 'true')"
    )
    assert len([data for _, data in found if "carbon" in data]) == 1
    begins = [row for row in found if row[1].startswith("B")]
    assert parse_lsn(begins[-1][0]) >= lsn or len(begins) == 1


def test_the_barrier_waits_for_those_that_were_running_and_for_no_others(database):
    database.run("CREATE TABLE t (x int)")
    slept = []
    with database.another() as older, closing(connect(database.dsn)) as connection:
        older.execute("INSERT INTO t VALUES (1)")
        younger = database.another()

        def sleep(seconds):
            slept.append(seconds)
            if len(slept) == 1:
                younger.execute("INSERT INTO t VALUES (2)")
            if len(slept) == 3:
                older.commit()

        wait_until_older_transactions_ended(
            connection, timeout=timedelta(seconds=60), sleep=sleep, clock=lambda: 0.0
        )
        younger.close()
    assert len(slept) == 3
