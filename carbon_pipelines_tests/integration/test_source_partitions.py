"""What a source records of partitions, and which of them it refuses, in PostgreSQL 15 and 18."""

from datetime import timedelta

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from carbon_pipelines import errors
from carbon_pipelines.source.setup import ensure_source
from carbon_pipelines_tests.integration.conftest import declare

pytestmark = pytest.mark.integration

SOON = timedelta(seconds=5)
TRADE = declare("trade", "id", "day")
MAKE = (
    "CREATE TABLE trade (id int, day int, note text, PRIMARY KEY (id, day))"
    " PARTITION BY RANGE (day)",
    "CREATE TABLE trade_1 PARTITION OF trade FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE trade_2 PARTITION OF trade FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id)",
    "CREATE TABLE trade_3 PARTITION OF trade FOR VALUES FROM (20) TO (30) PARTITION BY LIST (id)",
)


def recorded(database, since=0):
    """Tag, whether rewritten, leaves and filled leaves of what was recorded of the root."""
    return database.rows(
        "SELECT command_tag, rewritten,"
        " ARRAY(SELECT coalesce(c.relname, 'gone') FROM jsonb_array_elements_text(leaves) AS leaf"
        "        LEFT JOIN pg_class c ON c.oid = leaf::oid ORDER BY 1),"
        " ARRAY(SELECT c.relname FROM jsonb_array_elements_text(filled_leaves) AS leaf"
        "         JOIN pg_class c ON c.oid = leaf::oid ORDER BY 1)"
        " FROM carbon.ddl_history WHERE name = 'trade' ORDER BY id OFFSET %s",
        since,
    )


def test_every_change_of_its_leaves_is_recorded_of_the_root(database):
    database.run(*MAKE)
    setup = ensure_source(database.dsn, database.spec(TRADE))
    assert len(setup.relations["trade"].leaves) == 1
    database.run(
        "CREATE TABLE apart (id int PRIMARY KEY)",
        "CREATE TABLE trade_2a PARTITION OF trade_2 FOR VALUES IN (1)",
        "CREATE TABLE full_one (LIKE trade INCLUDING ALL)",
        "INSERT INTO full_one VALUES (1, 30)",
        "ALTER TABLE trade ATTACH PARTITION full_one FOR VALUES FROM (30) TO (40)",
        "ALTER TABLE trade ADD COLUMN more int DEFAULT 7",
        "ALTER TABLE trade_1 SET (fillfactor = 50)",
        "ALTER TABLE trade DETACH PARTITION full_one",
        "DROP TABLE apart, trade_2a",
        "DROP TABLE full_one",
    )
    now = ["trade_1"]
    assert recorded(database, 1) == [
        ("CREATE TABLE", False, [*now, "gone"][::-1], []),
        ("ALTER TABLE", False, ["gone", "gone", *now], []),
        ("ALTER TABLE", False, ["gone", "gone", *now], []),
        ("ALTER TABLE", False, ["gone", *now], []),
        ("DROP TABLE", False, now, []),
    ]
    assert not ensure_source(database.dsn, database.spec(TRADE)).relations["trade"].rewritten
    assert len(recorded(database)) == 6


def test_a_leaf_that_came_with_rows_is_told_from_an_empty_one(database):
    database.run(*MAKE)
    ensure_source(database.dsn, database.spec(TRADE))
    database.run(
        "CREATE TABLE filled (LIKE trade INCLUDING ALL)",
        "CREATE TABLE empty (LIKE trade INCLUDING ALL)",
        "INSERT INTO filled VALUES (1, 30)",
        "ALTER TABLE trade_2 ATTACH PARTITION empty FOR VALUES IN (1)",
        "ALTER TABLE trade ATTACH PARTITION filled FOR VALUES FROM (30) TO (40)",
    )
    assert recorded(database, 1) == [
        ("ALTER TABLE", False, ["empty", "trade_1"], []),
        ("ALTER TABLE", False, ["empty", "filled", "trade_1"], ["filled"]),
    ]


def test_a_constant_that_fills_the_leaves_is_recorded_of_the_root(database):
    database.run(*MAKE, "INSERT INTO trade VALUES (1, 1)")
    ensure_source(database.dsn, database.spec(TRADE))
    database.run("ALTER TABLE trade ADD COLUMN more int DEFAULT 7")
    relation = ensure_source(database.dsn, database.spec(TRADE)).relations["trade"]
    assert [c.missing_value for c in relation.columns] == [None, None, None, "7"]


def test_a_leaf_that_an_old_snapshot_does_not_show_is_recorded_as_gone(database):
    database.run(*MAKE)
    ensure_source(database.dsn, database.spec(TRADE))
    with database.another() as session:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.execute("SELECT 1")
        database.run("CREATE TABLE trade_2a PARTITION OF trade_2 FOR VALUES IN (1)")
        session.execute("DROP TABLE trade_2a")
    assert recorded(database)[-1] == ("DROP TABLE", False, ["trade_1"], [])


def test_two_transactions_at_once_record_what_neither_sees_of_the_other_as_rewritten(database):
    database.run(*MAKE)
    ensure_source(database.dsn, database.spec(TRADE))
    with database.another() as first, database.another() as second:
        first.execute("CREATE TABLE trade_2a PARTITION OF trade_2 FOR VALUES IN (1)")
        second.execute("SET statement_timeout = '5s'")
        second.execute("CREATE TABLE trade_3a PARTITION OF trade_3 FOR VALUES IN (1)")
    assert recorded(database, 1) == [
        ("CREATE TABLE", False, ["trade_1", "trade_2a"], []),
        ("CREATE TABLE", True, ["trade_1", "trade_3a"], []),
    ]


def test_a_leaf_that_loses_its_key_takes_the_root_out_of_the_publication_of_updates(database):
    database.run(*MAKE, "INSERT INTO trade VALUES (1, 1)")
    ensure_source(database.dsn, database.spec(TRADE))
    database.run("ALTER TABLE trade_1 REPLICA IDENTITY NOTHING", "UPDATE trade SET note = 'x'")
    lost = ensure_source(database.dsn, database.spec(TRADE))
    assert lost.identity_lost == ("trade",)
    assert lost.relations["trade"].identity_columns == ()
    database.run("ALTER TABLE trade_1 REPLICA IDENTITY DEFAULT")
    back = ensure_source(database.dsn, database.spec(TRADE))
    assert back.identity_lost == ()
    assert back.relations["trade"].identity_columns == ("id", "day")
    assert back.relations["trade"].rewritten
    database.run("UPDATE trade SET note = 'y'")


def test_without_triggers_leaves_that_came_unseen_are_recorded_as_rewritten(database):
    database.run(*MAKE)
    role = f"{database.name}_role"
    database.run(
        f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'secret'",
        f"GRANT CREATE ON DATABASE {database.name} TO {role}",
        *(f"ALTER TABLE {name} OWNER TO {role}" for name in ("trade", "trade_1")),
    )
    dsn = make_conninfo(database.dsn, user=role, password="secret")
    assert not ensure_source(dsn, database.spec(TRADE)).triggers
    database.run("CREATE TABLE trade_2a PARTITION OF trade_2 FOR VALUES IN (1)")
    refusal = ensure_source(dsn, database.spec(TRADE)).refused["trade"]
    assert isinstance(refusal, errors.TablePrivilegeError)
    assert "of public.trade_2a (a partition" in str(refusal)
    database.run(f"GRANT SELECT ON trade_2a TO {role}")
    relation = ensure_source(dsn, database.spec(TRADE)).relations["trade"]
    assert (relation.rewritten, len(relation.leaves)) == (True, 2)
    database.run(f"DROP OWNED BY {role}")


@pytest.mark.parametrize(
    ("statement", "error", "says"),
    [
        (
            "ALTER TABLE trade_1 REPLICA IDENTITY NOTHING",
            errors.KeyMissingError,
            r"public\.trade_1 \(a partition of public\.trade\).*REPLICA IDENTITY is NOTHING",
        ),
        (
            "CREATE UNIQUE INDEX other ON trade_1 (day);"
            " ALTER TABLE trade_1 REPLICA IDENTITY USING INDEX other",
            errors.KeyMismatchError,
            r"public\.trade_1 .*identifies its rows by \[day\]",
        ),
        (
            "CREATE UNLOGGED TABLE fast PARTITION OF trade FOR VALUES FROM (70) TO (80)",
            errors.TableKindError,
            r"public\.fast \(a partition of public\.trade\) is an unlogged table",
        ),
    ],
)
def test_a_leaf_that_cannot_be_captured_is_named(database, statement, error, says):
    database.run(*MAKE, *statement.split("; "))
    with pytest.raises(error, match=says):
        ensure_source(database.dsn, database.spec(TRADE), timeout=SOON)
    assert database.rows("SELECT to_regnamespace('carbon')::text") == [(None,)]


def test_a_foreign_leaf_is_refused_even_where_no_key_is_declared(database):
    database.run(
        "CREATE TABLE log (day int, note text) PARTITION BY RANGE (day)",
        "CREATE FOREIGN DATA WRAPPER f",
        "CREATE SERVER s FOREIGN DATA WRAPPER f",
        "CREATE FOREIGN TABLE far PARTITION OF log FOR VALUES FROM (70) TO (80) SERVER s",
    )
    with pytest.raises(errors.TableKindError, match=r"public\.far .* is a foreign table"):
        ensure_source(database.dsn, database.spec(declare("log")), timeout=SOON)


def test_a_partition_beside_its_root_is_refused_and_alone_it_is_a_table(database):
    database.run(*MAKE, "CREATE TABLE trade_2a PARTITION OF trade_2 FOR VALUES IN (1)")
    leaf = declare("trade_2a", "id", "day")
    refused = ensure_source(database.dsn, database.spec(TRADE, leaf), timeout=SOON).refused
    assert "trade_2a is a partition of" in str(refused["trade_2a"])
    assert set(refused) == {"trade_2a"}
    setup = ensure_source(database.dsn, database.spec(leaf, declare("trade_1", "id", "day")))
    assert set(setup.relations) == {"trade_2a", "trade_1"}
    database.run("ALTER TABLE trade ADD COLUMN more int")
    assert database.rows(
        "SELECT name FROM carbon.ddl_history WHERE command_tag = 'ALTER TABLE' ORDER BY 1"
    ) == [("trade_1",), ("trade_2a",)]
