"""The source's application never fails because of us, and its DDL is recorded at its place.

Every kind of table that we publish is put through every DDL and then every DML, with the history
intact, gone, and refusing rows.
"""

import re

import psycopg
import pytest
from psycopg import sql

from carbon_pipelines.source.connection import connect
from carbon_pipelines.source.relation import load_relation
from carbon_pipelines.source.setup import ensure_source
from carbon_pipelines_tests.integration.conftest import declare

pytestmark = pytest.mark.integration

# Kind of table -> how it is made, and how it is declared.
KINDS = {
    "primary key": (
        ["CREATE TABLE {t} (id int PRIMARY KEY, v text NOT NULL, n numeric(10,2))"],
        ("id",),
    ),
    "unique index as identity": (
        [
            "CREATE TABLE {t} (id int NOT NULL, v text NOT NULL, n numeric(10,2))",
            "CREATE UNIQUE INDEX {t}_key ON {t} (id, v)",
            "ALTER TABLE {t} REPLICA IDENTITY USING INDEX {t}_key",
        ],
        ("id", "v"),
    ),
    "full identity": (
        [
            "CREATE TABLE {t} (id int PRIMARY KEY, v text NOT NULL, n numeric(10,2))",
            "ALTER TABLE {t} REPLICA IDENTITY FULL",
        ],
        ("id",),
    ),
    "no key": (["CREATE TABLE {t} (id int, v text NOT NULL, n numeric(10,2))"], ()),
    "no identity": (
        [
            "CREATE TABLE {t} (id int PRIMARY KEY, v text NOT NULL, n numeric(10,2))",
            "ALTER TABLE {t} REPLICA IDENTITY NOTHING",
        ],
        (),
    ),
    "generated column": (
        [
            "CREATE TABLE {t} (id int PRIMARY KEY, v text NOT NULL, n numeric(10,2),"
            " twice int GENERATED ALWAYS AS (id * 2) STORED)"
        ],
        ("id",),
    ),
    "inheritance parent": (
        [
            "CREATE TABLE {t} (id int PRIMARY KEY, v text NOT NULL, n numeric(10,2))",
            "CREATE TABLE {t}_child (LIKE {t}) INHERITS ({t})",
        ],
        ("id",),
    ),
}

DDL = {
    "add a column": ["ALTER TABLE {t} ADD COLUMN added int DEFAULT 5"],
    "add a volatile column": ["ALTER TABLE {t} ADD COLUMN added float DEFAULT random()"],
    "drop a column": ["ALTER TABLE {t} DROP COLUMN n"],
    "drop a key column": ["ALTER TABLE {t} DROP COLUMN id CASCADE"],
    "rename a column": ["ALTER TABLE {t} RENAME COLUMN v TO renamed"],
    "drop the primary key": ["ALTER TABLE {t} DROP CONSTRAINT IF EXISTS {t}_pkey"],
    "drop the identity's index": ["DROP INDEX IF EXISTS {t}_key"],
    "take the identity away": ["ALTER TABLE {t} REPLICA IDENTITY NOTHING"],
    "change a type": ["ALTER TABLE {t} ALTER COLUMN n TYPE text USING 'n=' || n"],
    "rename the table": ["ALTER TABLE {t} RENAME TO {t}_other"],
    "move the table": ["CREATE SCHEMA {t}_s", "ALTER TABLE {t} SET SCHEMA {t}_s"],
    "rename the schema": ["ALTER SCHEMA app RENAME TO app_other"],
    "drop the table": ["DROP TABLE {t} CASCADE"],
    "drop the schema": ["DROP SCHEMA app CASCADE"],
    "create a table as a query": ["CREATE TABLE {t}_as AS SELECT * FROM {t}"],
    "drop a type that a column has": [
        "CREATE TYPE {t}_mood AS ENUM ('calm')",
        "ALTER TABLE {t} ADD COLUMN mood {t}_mood",
        "DROP TYPE {t}_mood CASCADE",
    ],
    "use a temporary table": [
        "CREATE TEMP TABLE {t}_temp (id int PRIMARY KEY)",
        "ALTER TABLE {t}_temp DROP CONSTRAINT {t}_temp_pkey",
        "DROP TABLE {t}_temp",
    ],
}

BREAK = {
    "history intact": [],
    "history dropped": ["DROP TABLE carbon.ddl_history"],
    "history refuses rows": [
        "CREATE FUNCTION carbon.no_space() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'no space left on device' USING ERRCODE = 'disk_full'; END $$",
        "CREATE TRIGGER no_space BEFORE INSERT ON carbon.ddl_history"
        " FOR EACH ROW EXECUTE FUNCTION carbon.no_space()",
    ],
    "functions dropped": ["DROP FUNCTION carbon.record_relation, carbon.describe_relation CASCADE"],
    "schema dropped": ["DROP SCHEMA carbon CASCADE"],
}


def set_up(database):
    """One table of each kind, owned by an application's role without any right of ours."""
    role = f"{database.name}_app"
    database.run(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT CREATE ON DATABASE {database.name} TO {role}",
        f"CREATE SCHEMA app AUTHORIZATION {role}",
        f"SET ROLE {role}",
        "SET search_path = app",
    )
    tables = []
    for number, (make, key) in enumerate(KINDS.values()):
        name = f"t{number}"
        database.run(*(statement.format(t=name) for statement in make))
        database.run(f"INSERT INTO {name} (id, v, n) VALUES (1, 'a', 1), (2, 'b', 2)")
        tables.append(declare(name, *key, source_schema="app"))
    database.run("RESET ROLE")
    ensure_source(database.dsn, database.spec(*tables))
    return role


def use(connection, oid):
    """INSERT, UPDATE, DELETE and TRUNCATE on a table, whatever it is called by now."""
    found = connection.execute(
        "SELECT n.nspname, c.relname, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.oid = %s AND a.attnum BETWEEN 1 AND 3 AND NOT a.attisdropped GROUP BY 1, 2",
        (oid,),
    ).fetchone()
    if found is None:
        return
    table, columns = sql.Identifier(*found[:2]), found[2]
    values = {"id": "7", "n": "'7'"}
    fields = sql.SQL(", ").join(map(sql.Identifier, columns))
    row = sql.SQL(", ".join(values.get(name, "'seven'") for name in columns))
    text = sql.Identifier(next(name for name in columns if name in ("v", "renamed")))
    for statement in (
        sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(table, fields, row),
        sql.SQL("UPDATE {} SET {} = 'eight' WHERE {} = 'seven'").format(table, text, text),
        sql.SQL("UPDATE {} SET {} = {} || '!'").format(table, text, text),
        sql.SQL("DELETE FROM {} WHERE {} = 'eight!'").format(table, text),
        sql.SQL("TRUNCATE {}").format(table),
    ):
        connection.execute(statement)


@pytest.mark.parametrize("broken", BREAK)
@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_the_application_goes_on_after_every_ddl_on_every_kind_of_table(
    database, broken, isolation
):
    role = set_up(database)
    database.run(*BREAK[broken])
    demotion_works = broken != "schema dropped"
    for number, kind in enumerate(KINDS):
        for change, statements in DDL.items():
            loses_key = change in (
                "drop a key column", "drop the primary key", "drop the identity's index",
                "take the identity away",
            )  # fmt: skip
            if loses_key and not demotion_works:
                continue  # PostgreSQL refuses updates then; the next test says how it comes back
            with database.connection.transaction(force_rollback=True):
                application = database.connection
                application.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
                application.execute(f"SET LOCAL ROLE {role}")
                name = f"t{number}"
                (oid,) = application.execute(f"SELECT 'app.{name}'::regclass::oid").fetchone()
                try:
                    for statement in statements:
                        application.execute(statement.format(t=name))
                    use(application, oid)
                except psycopg.Error as failure:
                    pytest.fail(f"{kind}, {change}: {failure}")


def test_without_our_schema_an_update_works_again_after_the_next_setup(database):
    set_up(database)
    database.run("DROP SCHEMA carbon CASCADE", "ALTER TABLE t0 DROP CONSTRAINT t0_pkey")
    keyless = [
        declare(f"t{number}", *key, source_schema="app")
        for number, (_, key) in enumerate(KINDS.values())
    ]
    setup = ensure_source(database.dsn, database.spec(*keyless))
    assert setup.identity_lost == ("t0",)
    database.run("UPDATE t0 SET v = 'works'")


def test_primary_key_dropped_moves_the_table_in_the_same_transaction(database):
    set_up(database)
    with database.connection.transaction():
        database.connection.execute("ALTER TABLE t0 DROP CONSTRAINT t0_pkey")
        database.connection.execute("UPDATE t0 SET v = 'c'")
        database.connection.execute("DELETE FROM t0 WHERE id = 1")
    rows = database.rows("SELECT pubname FROM pg_publication_tables WHERE tablename = 't0'")
    assert rows == [(f"carbon_{database.name}_keyless",)]


def test_a_primary_key_dropped_and_rolled_back_leaves_the_table_where_it_was(database):
    set_up(database)
    with database.connection.transaction(force_rollback=True):
        database.connection.execute("ALTER TABLE t0 DROP CONSTRAINT t0_pkey")
    rows = database.rows("SELECT pubname FROM pg_publication_tables WHERE tablename = 't0'")
    assert rows == [(f"carbon_{database.name}",)]


def test_ddl_works_in_a_session_that_turns_triggers_off_or_changes_how_values_are_spelled(database):
    set_up(database)
    database.run(
        "SET session_replication_role = replica",
        "SET datestyle = 'German, DMY'",
        "SET timezone = 'Asia/Kolkata'",
        "SET standard_conforming_strings = off",
        "SET search_path = pg_temp, app",
        "CREATE TEMP TABLE pg_class (oid oid)",
        "CREATE TEMP TABLE pg_publication_rel (prrelid oid)",
        "ALTER TABLE t0 ADD COLUMN at timestamptz DEFAULT '2024-01-31 12:00:00+00'",
    )
    rows = database.rows(
        "SELECT columns -> -1 ->> 'missing_value', columns -> -1 ->> 'default'"
        " FROM carbon.ddl_history ORDER BY id DESC LIMIT 1"
    )
    missing, default = rows[0]
    assert missing == "2024-01-31 12:00:00+00"
    assert "2024-01-31 12:00:00+00" in default


def changes_recorded(database, *statements):
    """What the history says about some statements: name, columns by attnum, rewritten, command."""
    (last,) = database.rows("SELECT max(id) FROM carbon.ddl_history")[0]
    database.run(*statements)
    return [
        (name, [f"{c['attnum']} {c['name']}" for c in columns], rewritten, tag)
        for name, columns, rewritten, tag in database.rows(
            "SELECT name, columns, rewritten, command_tag FROM carbon.ddl_history"
            " WHERE id > %s ORDER BY name, id",
            last,
        )
    ]


BOTH = ["1 id", "2 v", "3 n"]


@pytest.mark.parametrize(
    ("statements", "recorded"),
    [
        (
            ["ALTER TABLE t0 RENAME COLUMN v TO word"],
            [("t0", ["1 id", "2 word", "3 n"], False, "ALTER TABLE")],
        ),
        (
            ["ALTER TABLE t0 DROP COLUMN n"],
            [("t0", ["1 id", "2 v"], False, "ALTER TABLE")],
        ),
        (
            ["ALTER TABLE t0 ADD COLUMN x int DEFAULT 5"],
            [("t0", [*BOTH, "4 x"], False, "ALTER TABLE")],
        ),
        (
            ["ALTER TABLE t0 ADD COLUMN x float DEFAULT random()"],
            [("t0", [*BOTH, "4 x"], True, "ALTER TABLE")],
        ),
        (
            ["ALTER TABLE t0 ALTER n TYPE text USING 'x'"],
            [("t0", BOTH, True, "ALTER TABLE")],
        ),
        (["VACUUM FULL t0", "CLUSTER t0 USING t0_pkey"], []),
        (["ALTER TABLE t0 RENAME TO t0_new"], [("t0_new", BOTH, False, "ALTER TABLE")]),
        (["DROP TABLE t0, t3"], [("t0", [], False, "DROP TABLE"), ("t3", [], False, "DROP TABLE")]),
        (
            ["ALTER TABLE t1 DROP CONSTRAINT IF EXISTS nothing", "DROP INDEX t1_key"],
            [
                ("t1", BOTH, False, "ALTER TABLE"),
                ("t1", BOTH, False, "DROP INDEX"),
            ],
        ),
        (["ALTER TABLE t6 ALTER n TYPE numeric(20,4)"], [("t6", BOTH, True, "ALTER TABLE")]),
        (["CREATE TABLE copied AS SELECT * FROM t0", "DROP TABLE copied"], []),
    ],
)
def test_ddl_is_recorded_by_attnum(database, statements, recorded):
    set_up(database)
    assert changes_recorded(database, *statements) == recorded


def test_ddl_on_a_parent_is_recorded_for_the_child_that_is_published(database):
    database.run(
        "CREATE TABLE parent (id int, v text)",
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
    )
    ensure_source(database.dsn, database.spec(declare("child", "id")))
    recorded = changes_recorded(database, "ALTER TABLE parent ADD COLUMN x int")
    assert recorded == [("child", ["1 id", "2 v", "3 x"], False, "ALTER TABLE")]


def test_renaming_a_schema_is_recorded_for_each_of_its_tables(database):
    set_up(database)
    recorded = changes_recorded(database, "ALTER SCHEMA app RENAME TO app_new")
    assert [name for name, *_ in recorded] == [f"t{number}" for number in range(len(KINDS))]
    schemas = database.rows(
        "SELECT DISTINCT schema FROM carbon.ddl_history WHERE command_tag = 'ALTER SCHEMA'"
    )
    assert schemas == [("app_new",)]


def test_changing_a_type_is_recorded_for_the_tables_that_use_it(database):
    database.run(
        "CREATE TYPE mood AS ENUM ('calm')",
        "CREATE DOMAIN moods AS mood[]",
        "CREATE TABLE day (id int PRIMARY KEY, mood moods)",
    )
    ensure_source(database.dsn, database.spec(declare("day", "id")))
    recorded = changes_recorded(
        database, "ALTER TYPE mood RENAME TO temper", "ALTER TYPE temper RENAME VALUE 'calm' TO 'c'"
    )
    assert recorded == [("day", ["1 id", "2 mood"], False, "ALTER TYPE")] * 2
    labels = database.rows(
        "SELECT columns #>> '{1,type,2,labels,0,1}' FROM carbon.ddl_history ORDER BY id"
    )
    assert labels == [("calm",), ("calm",), ("c",)]


def test_the_record_comes_between_the_rows_before_and_after_it(database):
    """In the slot's own stream, within one transaction, savepoints included."""
    database.run("CREATE TABLE trade (id int PRIMARY KEY)")
    spec = database.spec(declare("trade", "id"))
    ensure_source(database.dsn, spec)
    with database.connection.transaction():
        database.connection.execute("INSERT INTO trade VALUES (1)")
        database.connection.execute("ALTER TABLE trade ADD COLUMN x int")
        with database.connection.transaction(force_rollback=True):
            database.connection.execute("ALTER TABLE trade ADD COLUMN gone int")
        database.connection.execute("INSERT INTO trade VALUES (2, 2)")
        database.connection.execute("ALTER TABLE trade RENAME x TO y")
        database.connection.execute("INSERT INTO trade VALUES (3, 3)")
    messages = database.rows(
        "SELECT data FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, 'proto_version', '1',"
        " 'publication_names', %s)",
        spec.slot_name,
        spec.publication_name,
    )
    names: dict[bytes, str] = {}
    inserted = []
    for (message,) in messages:
        if message[:1] == b"R":
            names[message[1:5]] = re.split(rb"\0", message[5:])[1].decode()
        if message[:1] == b"I":
            inserted.append(names[message[1:5]])
    history, row = "ddl_history", "trade"
    assert inserted == [history, row, history, row, history, row]


def test_the_index_we_take_for_the_identity_is_the_one_postgresql_takes(database):
    database.run(
        "CREATE TABLE a (id int PRIMARY KEY, uid uuid NOT NULL UNIQUE)",
        "CREATE TABLE b (LIKE a INCLUDING ALL)",
        "ALTER TABLE b REPLICA IDENTITY USING INDEX b_uid_key",
        "CREATE TABLE c (id int PRIMARY KEY DEFERRABLE)",
        "CREATE TABLE d (LIKE a INCLUDING ALL)",
        "ALTER TABLE d REPLICA IDENTITY FULL",
        "CREATE TABLE e (id int, day date, v text, PRIMARY KEY (day, id) INCLUDE (v))",
        "CREATE TABLE f (LIKE b INCLUDING ALL)",
        "ALTER TABLE f REPLICA IDENTITY USING INDEX f_uid_key",
        "DROP INDEX IF EXISTS nothing",
        "ALTER TABLE f DROP CONSTRAINT f_uid_key",
        "CREATE TABLE g (id int)",
    )
    with connect(database.dsn) as connection:
        for name in "abcdefg":
            relation = load_relation(connection, "public", name)
            (expected,) = database.rows(
                "SELECT coalesce(array_agg(a.attname::text ORDER BY k.place), '{}')"
                " FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, place),"
                " pg_attribute a WHERE i.indexrelid = pg_get_replica_identity_index(%s::regclass)"
                " AND k.place <= i.indnkeyatts AND a.attrelid = i.indrelid"
                " AND a.attnum = k.attnum",
                name,
            )[0]
            assert (name, list(relation.identity_columns)) == (name, expected)


def test_nobody_but_the_owner_may_write_the_history_or_call_its_functions(database):
    role = set_up(database)
    database.run(f"SET ROLE {role}")
    for forged in (
        "INSERT INTO carbon.ddl_history (oid) VALUES (1)",
        "SELECT carbon.record_relation('app.t0'::regclass, 'x', true)",
        "SELECT * FROM carbon.demote_keyless_tables()",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            database.run(forged)
    database.run("RESET ROLE")
