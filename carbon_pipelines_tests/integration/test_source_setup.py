"""A source is set up once, in an order that loses nothing, and only if everything is right."""

import re
from datetime import timedelta

import psycopg
import pytest
from psycopg import pq
from psycopg.conninfo import make_conninfo

from carbon_pipelines import errors
from carbon_pipelines.source import connection as connection_module
from carbon_pipelines.source import setup as source_setup
from carbon_pipelines.source.connection import connect, load_identity
from carbon_pipelines.source.relation import load_relation
from carbon_pipelines.source.setup import ensure_source
from carbon_pipelines.source.visibility import current_insert_lsn
from carbon_pipelines_tests.integration.conftest import declare

pytestmark = pytest.mark.integration

TRADE = declare("trade", "id")
LOG = declare("log")
MAKE = (
    "CREATE TABLE trade (id int PRIMARY KEY, price numeric(10,2), note text)",
    "CREATE TABLE log (line text)",
)
SOON = timedelta(seconds=0.3)


def published(database):
    rows = database.rows("SELECT pubname, schemaname, tablename FROM pg_publication_tables")
    suffix = {
        f"carbon_{database.name}": "keyed",
        f"carbon_{database.name}_keyless": "keyless",
    }
    return {f"{schema}.{table}": suffix[name] for name, schema, table in rows}


def history(database):
    return database.rows("SELECT name, command_tag, rewritten FROM carbon.ddl_history ORDER BY id")


def test_a_fresh_source_gets_publications_then_a_slot_then_a_history(database):
    database.run(*MAKE)
    setup = ensure_source(database.dsn, database.spec(TRADE, LOG))
    assert published(database) == {
        "carbon.ddl_history": "keyed",
        "public.trade": "keyed",
        "public.log": "keyless",
    }
    assert setup.publications_changed
    assert setup.slot_created
    assert setup.triggers
    assert setup.identity_lost == ()
    assert (setup.slot.plugin, setup.slot.wal_status) == ("pgoutput", "reserved")
    assert setup.slot.failover == (database.connection.info.server_version >= 170_000)
    assert history(database) == [("trade", "carbon setup", True), ("log", "carbon setup", True)]
    with connect(database.dsn) as connection:
        assert setup.identity == load_identity(connection)
        assert setup.relations == {
            "trade": load_relation(connection, "public", "trade"),
            "log": load_relation(connection, "public", "log"),
        }
    assert setup.relations["trade"].version > 0


def test_a_second_call_writes_nothing_and_waits_for_nobody(database):
    database.run(*MAKE)
    spec = database.spec(TRADE, LOG)
    first = ensure_source(database.dsn, spec)
    with database.another() as writer, connect(database.dsn) as connection:
        writer.execute("INSERT INTO trade VALUES (1)")
        before = current_insert_lsn(connection)
        second = ensure_source(database.dsn, spec, timeout=SOON)
        written = (
            connection.execute("SELECT count(*) FROM carbon.ddl_history").fetchone(),
            current_insert_lsn(connection) - before,
        )
    assert not second.publications_changed
    assert not second.slot_created
    assert second.relations == first.relations
    assert written[0] == (2,)
    assert written[1] < 1000  # the server itself notes running transactions now and then


def test_a_table_declared_later_is_recorded_with_its_publication(database, monkeypatch):
    database.run(*MAKE)
    ensure_source(database.dsn, database.spec(TRADE))

    def killed(*_args, **_more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(source_setup, "record_shapes", killed)
        with pytest.raises(KeyboardInterrupt):
            ensure_source(database.dsn, database.spec(TRADE, LOG))
    assert "public.log" not in published(database)  # one transaction holds both
    setup = ensure_source(database.dsn, database.spec(TRADE, LOG))
    assert str(setup.publications) == (
        f'ALTER PUBLICATION "carbon_{database.name}_keyless" ADD TABLE ONLY "public"."log";'
    )
    assert history(database)[-1] == ("log", "carbon setup", True)


def test_a_table_no_longer_declared_leaves_the_publication(database):
    database.run(*MAKE)
    ensure_source(database.dsn, database.spec(TRADE, LOG))
    ensure_source(database.dsn, database.spec(TRADE))
    assert "public.log" not in published(database)


@pytest.mark.parametrize(
    ("interruption", "missed"),
    [
        ("ALTER PUBLICATION {carbon} DROP TABLE trade", {"trade"}),
        ("ALTER PUBLICATION {carbon} SET (publish = 'insert')", {"trade", "log"}),
        ("ALTER PUBLICATION {carbon} SET TABLE trade (id), carbon.ddl_history", {"trade"}),
        ("ALTER PUBLICATION {carbon} DROP TABLE carbon.ddl_history", {"trade", "log"}),
    ],
)
def test_what_was_not_published_for_a_while_is_recorded_as_rewritten(
    database, interruption, missed
):
    database.run(*MAKE)
    spec = database.spec(TRADE, LOG)
    first = ensure_source(database.dsn, spec)
    database.run(interruption.format(carbon=spec.publication_name))
    second = ensure_source(database.dsn, spec)
    renewed = {
        name
        for name, relation in second.relations.items()
        if relation.rewritten and relation.version > first.relations[name].version
    }
    assert renewed == missed


def test_quoted_names_are_published_and_recorded(database):
    database.run(
        'CREATE SCHEMA "Energy ""X"""', 'CREATE TABLE "Energy ""X"""."Güte %s" ("I d" int)'
    )
    odd = declare("odd", source_schema='Energy "X"', source_table="Güte %s")
    setup = ensure_source(database.dsn, database.spec(odd))
    assert [column.name for column in setup.relations["odd"].columns] == ["I d"]


def test_a_slot_made_anew_is_sent_every_shape_again(database):
    database.run(*MAKE)
    spec = database.spec(TRADE)
    first = ensure_source(database.dsn, spec)
    database.run(f"SELECT pg_drop_replication_slot('{spec.slot_name}')")
    second = ensure_source(database.dsn, spec)
    assert second.slot_created
    assert second.relations["trade"].version > first.relations["trade"].version


def test_versions_of_a_history_made_anew_do_not_repeat(database):
    database.run(*MAKE)
    spec = database.spec(TRADE)
    first = ensure_source(database.dsn, spec)
    database.run("DROP TABLE carbon.ddl_history")
    second = ensure_source(database.dsn, spec)
    assert second.relations["trade"].version > first.relations["trade"].version
    database.run("DROP SCHEMA carbon CASCADE")
    third = ensure_source(database.dsn, spec)
    assert third.triggers
    assert third.relations["trade"].version > second.relations["trade"].version


def test_functions_that_somebody_dropped_are_made_again(database):
    database.run(*MAKE)
    ensure_source(database.dsn, database.spec(TRADE))
    database.run("DROP FUNCTION carbon.describe_relation, carbon.on_sql_drop CASCADE")
    assert ensure_source(database.dsn, database.spec(TRADE)).triggers
    database.run("DROP TABLE trade")
    assert history(database)[-1] == ("trade", "DROP TABLE", False)


def test_another_role_than_the_one_that_made_the_setup_is_told_so(database):
    database.run(*MAKE)
    ensure_source(database.dsn, database.spec(TRADE))
    role, dsn = role_of(database, "REPLICATION")
    database.run(f"GRANT SELECT ON trade TO {role}")
    with pytest.raises(errors.SourcePrivilegeError, match="the role that owns schema carbon"):
        ensure_source(dsn, database.spec(TRADE))
    database.run(f"DROP OWNED BY {role}")


def test_a_trigger_that_somebody_disabled_is_enabled_again(database):
    database.run(*MAKE)
    ensure_source(database.dsn, database.spec(TRADE))
    database.run(
        "ALTER EVENT TRIGGER carbon_ddl_command_end DISABLE",
        "ALTER TABLE trade ADD COLUMN unseen int",
    )
    setup = ensure_source(database.dsn, database.spec(TRADE))
    assert [column.name for column in setup.relations["trade"].columns][-1] == "unseen"
    database.run("ALTER TABLE trade ADD COLUMN seen int")
    assert history(database)[-1] == ("trade", "ALTER TABLE", False)


def test_a_barrier_blocked_by_an_open_transaction_names_it(database):
    database.run(*MAKE)
    spec = database.spec(TRADE)
    with database.another(application_name="batch job") as writer:
        writer.execute("INSERT INTO trade VALUES (1)")
        pid = writer.info.backend_pid
        with pytest.raises(errors.OpenTransactionError, match="batch job") as blocked:
            ensure_source(database.dsn, spec, timeout=SOON)
        assert blocked.value.retryable
        assert len(blocked.value.blockers) == 1
        assert f"process {pid}" in blocked.value.blockers[0]
    assert ensure_source(database.dsn, spec).slot_created


def test_a_barrier_blocked_by_a_prepared_transaction_names_it(database):
    database.run(*MAKE)
    database.run("BEGIN", "INSERT INTO trade VALUES (1)", "PREPARE TRANSACTION 'night batch'")
    spec = database.spec(TRADE)
    try:
        with pytest.raises(errors.OpenTransactionError, match="ROLLBACK PREPARED 'night batch'"):
            ensure_source(database.dsn, spec, timeout=SOON)
    finally:
        database.run("COMMIT PREPARED 'night batch'")


def test_a_barrier_that_was_not_passed_is_waited_for_by_the_next_call(database):
    database.run(*MAKE)
    ensure_source(database.dsn, database.spec(TRADE))
    both = database.spec(TRADE, LOG)
    with database.another() as writer:
        writer.execute("INSERT INTO log VALUES ('before it was published')")
        for _ in range(2):  # the second call finds nothing to change, and has to wait all the same
            with pytest.raises(errors.OpenTransactionError):
                ensure_source(database.dsn, both, timeout=SOON)
    assert not ensure_source(database.dsn, both).publications_changed


def test_a_second_setup_at_the_same_moment_waits_for_the_first(database):
    database.run(*MAKE)
    with database.another() as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('carbon setup', 0))")
        with pytest.raises(errors.SourceLockedError, match="another process"):
            ensure_source(database.dsn, database.spec(TRADE), timeout=SOON)


def test_a_table_under_an_exclusive_lock_is_not_waited_for_forever(database, monkeypatch):
    short = connection_module.SESSION_OPTIONS.replace("lock_timeout=30s", "lock_timeout=200ms")
    monkeypatch.setattr(connection_module, "SESSION_OPTIONS", short)
    database.run(*MAKE)
    with database.another() as owner:
        owner.execute("LOCK TABLE trade IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(errors.SourceLockedError, match=r"public\.trade") as locked:
            ensure_source(database.dsn, database.spec(TRADE), timeout=SOON)
    assert locked.value.retryable


def test_a_table_that_is_locked_or_refused_holds_no_other_one_up(database, monkeypatch):
    short = connection_module.SESSION_OPTIONS.replace("lock_timeout=30s", "lock_timeout=200ms")
    monkeypatch.setattr(connection_module, "SESSION_OPTIONS", short)
    database.run(*MAKE, "CREATE TABLE deal (id int)")
    ensure_source(database.dsn, database.spec(TRADE, LOG))
    spec = database.spec(TRADE, LOG, declare("deal", "id"), declare("nowhere", "id"))
    database.run(
        "ALTER EVENT TRIGGER carbon_ddl_command_end DISABLE", "ALTER TABLE trade ADD more int"
    )
    with database.another() as owner:
        owner.execute("LOCK TABLE trade IN ACCESS EXCLUSIVE MODE")
        setup = ensure_source(database.dsn, spec, timeout=SOON)
        assert {name: type(error) for name, error in setup.refused.items()} == {
            "trade": errors.SourceLockedError,
            "deal": errors.KeyMissingError,
            "nowhere": errors.TableMissingError,
        }
        assert len(history(database)) == 2
    assert ensure_source(database.dsn, spec, timeout=SOON).refused.keys() == {"deal", "nowhere"}
    assert published(database).keys() == {"carbon.ddl_history", "public.trade", "public.log"}
    assert history(database)[-1] == ("trade", "carbon setup", True)


@pytest.mark.parametrize(
    ("make", "table", "error", "says"),
    [
        ((), TRADE, errors.TableMissingError, r"public\.trade does not exist"),
        (
            ("CREATE TABLE trade (id int)",),
            TRADE,
            errors.KeyMissingError,
            "REPLICA IDENTITY is DEFAULT",
        ),
        (
            ("CREATE TABLE trade (id int PRIMARY KEY DEFERRABLE)",),
            TRADE,
            errors.KeyMissingError,
            "UPDATE fail",
        ),
        (
            (MAKE[0], "ALTER TABLE trade REPLICA IDENTITY NOTHING"),
            TRADE,
            errors.KeyMissingError,
            "REPLICA IDENTITY is NOTHING",
        ),
        (
            (
                "CREATE TABLE trade (id int PRIMARY KEY, uid uuid NOT NULL UNIQUE)",
                "ALTER TABLE trade REPLICA IDENTITY USING INDEX trade_uid_key",
            ),
            TRADE,
            errors.KeyMismatchError,
            r"declares key \[id\], but PostgreSQL identifies its rows by \[uid\]",
        ),
        (
            ("CREATE TABLE trade (id int UNIQUE)", "ALTER TABLE trade REPLICA IDENTITY FULL"),
            TRADE,
            errors.KeyMismatchError,
            "nothing unique",
        ),
        (("CREATE VIEW trade AS SELECT 1 AS id",), TRADE, errors.TableKindError, "a view"),
        (
            ("CREATE UNLOGGED TABLE trade (id int PRIMARY KEY)",),
            TRADE,
            errors.TableKindError,
            "an unlogged table",
        ),
        (
            (MAKE[0], "CREATE PUBLICATION carbon_{name} FOR ALL TABLES"),
            TRADE,
            errors.PublicationConflictError,
            "FOR ALL TABLES",
        ),
        (
            (
                MAKE[0],
                "SELECT pg_create_physical_replication_slot('carbon_{name}')",
            ),
            TRADE,
            errors.SlotMismatchError,
            "plugin is physical instead of pgoutput",
        ),
    ],
)
def test_what_cannot_be_captured_is_refused_and_nothing_is_created(
    database, make, table, error, says
):
    database.run(*(statement.format(name=database.name) for statement in make))
    before = database.rows("SELECT pubname FROM pg_publication")
    with pytest.raises(error, match=says):
        ensure_source(database.dsn, database.spec(table), timeout=SOON)
    assert database.rows("SELECT pubname FROM pg_publication") == before
    assert database.rows("SELECT to_regnamespace('carbon')::text") == [(None,)]
    database.run(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
        f" WHERE slot_name = 'carbon_{database.name}'"
    )


def test_a_generated_key_is_refused_before_postgresql_18(database):
    database.run("CREATE TABLE trade (n int, id int GENERATED ALWAYS AS (n) STORED PRIMARY KEY)")
    spec = database.spec(TRADE)
    if database.connection.info.server_version >= 180_000:
        assert ensure_source(database.dsn, spec).relations["trade"].identity_columns == ("id",)
        database.run("INSERT INTO trade VALUES (1)", "UPDATE trade SET n = 2")
    else:
        with pytest.raises(errors.GeneratedKeyError, match="Key column id"):
            ensure_source(database.dsn, spec)


def test_generated_columns_that_are_never_sent_are_named(database):
    database.run(
        "CREATE TABLE trade (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id) STORED)"
    )
    setup = ensure_source(database.dsn, database.spec(TRADE))
    sent = database.connection.info.server_version >= 180_000
    names = [column.name for column in setup.relations["trade"].columns]
    assert (setup.omitted_columns, names) == (
        ((), ["id", "twice"]) if sent else (("trade.twice",), ["id"])
    )


def test_a_renamed_table_is_missing_under_its_old_name_and_the_new_one_is_told(database):
    database.run(*MAKE)
    ensure_source(database.dsn, database.spec(TRADE))
    database.run("ALTER TABLE trade RENAME TO deal")
    setup = ensure_source(database.dsn, database.spec(TRADE))
    assert re.search(r"public\.trade is now public\.deal in", str(setup.refused["trade"]))
    assert published(database)["public.deal"] == "keyed"  # nothing is lost if it comes back
    database.run("ALTER TABLE deal RENAME TO trade")
    setup = ensure_source(database.dsn, database.spec(TRADE))
    assert (setup.refused, setup.publications_changed) == ({}, False)
    assert not setup.relations["trade"].rewritten


def test_a_slot_of_another_database_is_refused(database, postgres):
    database.run(*MAKE)
    spec = database.spec(TRADE)
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as elsewhere:
        elsewhere.execute(
            "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (spec.slot_name,)
        )
        with pytest.raises(errors.SlotMismatchError, match="database is postgres"):
            ensure_source(database.dsn, spec)
        elsewhere.execute("SELECT pg_drop_replication_slot(%s)", (spec.slot_name,))


@pytest.mark.parametrize(("application", "ours"), [("flink", False), ("carbon capture", True)])
def test_a_slot_that_a_stranger_reads_is_refused_and_our_capture_is_not(
    database, application, ours
):
    database.run(*MAKE)
    spec = database.spec(TRADE)
    ensure_source(database.dsn, spec)
    conninfo = make_conninfo(database.dsn, replication="database", application_name=application)
    reader = pq.PGconn.connect(conninfo.encode())
    started = reader.exec_(
        f"START_REPLICATION SLOT {spec.slot_name} LOGICAL 0/0"
        f" (proto_version '1', publication_names '{spec.publication_name}')".encode()
    )
    assert started.status == pq.ExecStatus.COPY_BOTH, reader.error_message
    try:
        if ours:
            assert ensure_source(database.dsn, spec).slot.held_by_carbon
        else:
            with pytest.raises(errors.SlotInUseError, match="flink") as refusal:
                ensure_source(database.dsn, spec)
            assert refusal.value.pid == reader.backend_pid
    finally:
        reader.finish()


def test_a_slot_whose_wal_is_gone_is_lost(database, postgres):
    database.run(*MAKE)
    spec = database.spec(TRADE)
    ensure_source(database.dsn, spec)
    database.run("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    try:
        for _ in range(4):
            database.run("INSERT INTO log SELECT 'x'", "SELECT pg_switch_wal()")
        database.run("CHECKPOINT")
        with pytest.raises(errors.SlotLostError, match="changes are missing for good"):
            ensure_source(database.dsn, spec)
    finally:
        database.run("ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")


def test_a_server_without_a_free_slot_names_those_that_exist(database):
    database.run(*MAKE)
    limit, used = database.rows(
        "SELECT current_setting('max_replication_slots')::int,"
        " (SELECT count(*) FROM pg_replication_slots)::int"
    )[0]
    for number in range(limit - used):
        database.run(f"SELECT pg_create_physical_replication_slot('{database.name}_{number}')")
    with pytest.raises(errors.NoFreeSlotError, match=f"max_replication_slots = {limit}") as full:
        ensure_source(database.dsn, database.spec(TRADE))
    assert f"{database.name}_0" in full.value.taken


def role_of(database, *options):
    """A role of its own for one test, and its DSN."""
    role = f"{database.name}_role"
    database.run(f"CREATE ROLE {role} LOGIN PASSWORD 'secret' {' '.join(options)}")
    return role, make_conninfo(database.dsn, user=role, password="secret")


def test_each_missing_privilege_is_named_with_its_remedy(database):
    database.run(*MAKE)
    role, dsn = role_of(database)
    spec = database.spec(TRADE)
    steps = [
        (f'ALTER ROLE "{role}" REPLICATION', f"ALTER ROLE {role} REPLICATION"),
        ("read id, price, note", f"GRANT SELECT ON trade TO {role}"),
        ("row-level security", "ALTER TABLE trade DISABLE ROW LEVEL SECURITY"),
        ("GRANT CREATE ON DATABASE", f"GRANT CREATE ON DATABASE {database.name} TO {role}"),
        (r"publish public\.trade, which it does not own", f"ALTER TABLE trade OWNER TO {role}"),
    ]
    database.run("ALTER TABLE trade ENABLE ROW LEVEL SECURITY")
    for says, remedy in steps:
        with pytest.raises(errors.SourcePrivilegeError, match=says):
            ensure_source(dsn, spec)
        database.run(remedy)
    setup = ensure_source(dsn, spec)
    assert setup.slot_created
    assert not setup.triggers
    database.run(f"DROP OWNED BY {role} CASCADE")


def test_without_event_triggers_shapes_are_recorded_by_the_next_call(database):
    database.run(*MAKE)
    role, dsn = role_of(database, "REPLICATION")
    database.run(
        f"GRANT CREATE ON DATABASE {database.name} TO {role}", f"ALTER TABLE trade OWNER TO {role}"
    )
    spec = database.spec(TRADE)
    assert not ensure_source(dsn, spec).triggers
    database.run("ALTER TABLE trade ALTER note SET DEFAULT 'none'")
    assert not ensure_source(dsn, spec).relations["trade"].rewritten
    database.run("ALTER TABLE trade ADD COLUMN more int")
    setup = ensure_source(dsn, spec)
    assert setup.relations["trade"].rewritten
    assert history(database) == [
        ("trade", "carbon setup", True),
        ("trade", "carbon setup", False),
        ("trade", "carbon setup", True),
    ]
    database.run(f"DROP OWNED BY {role} CASCADE")


def test_without_event_triggers_a_lost_key_is_noticed_by_the_next_call(database):
    database.run(*MAKE, "INSERT INTO trade VALUES (1, 1, 'a')")
    role, dsn = role_of(database, "REPLICATION")
    database.run(
        f"GRANT CREATE ON DATABASE {database.name} TO {role}", f"ALTER TABLE trade OWNER TO {role}"
    )
    spec = database.spec(TRADE)
    ensure_source(dsn, spec)
    database.run("ALTER TABLE trade DROP CONSTRAINT trade_pkey")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="replica identity"):
        database.run("UPDATE trade SET note = 'b'")
    assert ensure_source(dsn, spec).identity_lost == ("trade",)
    database.run("UPDATE trade SET note = 'b'")
    database.run(f"DROP OWNED BY {role} CASCADE")


def test_without_event_triggers_a_new_file_is_kept_and_no_history(database):
    database.run(*MAKE)
    role, dsn = role_of(database, "REPLICATION")
    database.run(
        f"GRANT CREATE ON DATABASE {database.name} TO {role}", f"ALTER TABLE trade OWNER TO {role}"
    )
    spec = database.spec(TRADE)
    ensure_source(dsn, spec)
    for statement in ("VACUUM FULL trade", "ALTER TABLE trade ALTER note SET STATISTICS 9"):
        database.run(statement)
        assert not ensure_source(dsn, spec).publications_changed
    assert history(database) == [("trade", "carbon setup", True)]
    database.run("ALTER TABLE trade ALTER note TYPE text USING upper(note)")
    ensure_source(dsn, spec)
    ensure_source(dsn, spec)
    assert history(database) == [("trade", "carbon setup", True)] * 2
    database.run(f"DROP OWNED BY {role} CASCADE")


def test_a_key_dropped_between_check_and_publication_never_makes_an_update_fail(
    database, monkeypatch
):
    database.run(*MAKE, "INSERT INTO trade VALUES (1, 1, 'a')")
    ensure_source(database.dsn, database.spec(LOG))
    check = source_setup.assess

    def check_then_drop(*arguments):
        checked = check(*arguments)
        database.run("ALTER TABLE trade DROP CONSTRAINT trade_pkey")
        return checked

    monkeypatch.setattr(source_setup, "assess", check_then_drop)
    setup = ensure_source(database.dsn, database.spec(TRADE, LOG))
    database.run("UPDATE trade SET note = 'b'")
    assert setup.identity_lost == ("trade",)
    assert setup.relations["trade"].identity_columns == ()
    assert published(database)["public.trade"] == "keyless"


def test_a_role_that_would_take_our_schema_for_its_own_is_named(database):
    database.run(*MAKE, "CREATE ROLE carbon SUPERUSER")
    try:
        with pytest.raises(errors.SourceServerError, match="ALTER ROLE carbon SET search_path"):
            ensure_source(database.dsn, database.spec(TRADE))
        database.run("ALTER ROLE carbon SET search_path = public")
        assert ensure_source(database.dsn, database.spec(TRADE)).slot_created
    finally:
        database.run("DROP ROLE carbon")


def test_a_wrong_password_is_refused_and_never_repeated(database):
    dsn = make_conninfo(database.dsn, password="hunter2")
    with pytest.raises(errors.SourceAuthenticationError) as refusal:
        connect(dsn)
    assert not refusal.value.retryable
    assert "hunter2" not in str(refusal.value) + str(refusal.value.__cause__)


def test_a_database_that_does_not_exist_is_told_from_a_server_that_does_not_answer(database):
    with pytest.raises(errors.SourceDatabaseMissingError, match="nowhere"):
        connect(make_conninfo(database.dsn, dbname="nowhere"))
    with pytest.raises(errors.SourceUnreachableError) as refusal:
        connect(make_conninfo(database.dsn, port="1"))
    assert refusal.value.retryable


def test_a_table_that_loses_its_key_is_declared_lost_until_it_has_one_again(database):
    database.run(*MAKE, "INSERT INTO trade VALUES (1, 1, 'a')")
    spec = database.spec(TRADE)
    ensure_source(database.dsn, spec)
    database.run("ALTER TABLE trade DROP CONSTRAINT trade_pkey")
    assert published(database)["public.trade"] == "keyless"
    database.run("UPDATE trade SET note = 'b'")
    setup = ensure_source(database.dsn, spec)
    assert setup.identity_lost == ("trade",)
    assert type(setup.refused["trade"]) is errors.KeyMissingError
    assert setup.relations["trade"].identity_columns == ()
    database.run("ALTER TABLE trade ADD PRIMARY KEY (id)")
    setup = ensure_source(database.dsn, spec)
    assert setup.identity_lost == ()
    assert setup.relations["trade"].identity_columns == ("id",)
    assert published(database)["public.trade"] == "keyed"
