"""Each thing that rules capture out has an error of its own."""

from dataclasses import replace

import pytest

from carbon_pipelines import errors
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.source.assessment import missing_identity
from carbon_pipelines.source.connection import SourceIdentity, check_identity, describe_dsn
from carbon_pipelines.source.preflight import (
    ServerFacts,
    TableFacts,
    check_creation,
    check_senders,
    check_server,
    check_table,
)
from carbon_pipelines.source.slot import SlotState, check_slot

SERVER = ServerFacts(
    location="db:5432/market",
    role="carbon",
    version=180_004,
    in_recovery=False,
    encoding="UTF8",
    wal_level="logical",
    may_replicate=True,
    may_create=True,
    slots_limit=10,
    slots_used=1,
    senders_limit=10,
    senders_used=1,
)
FACTS = TableFacts(
    oid=1,
    kind="r",
    persistence="p",
    owned=True,
    unreadable=(),
    row_security=False,
    replica_identity="d",
    identity=("id",),
    keys=(frozenset({"id"}),),
    unpublished=(),
)
SLOT = SlotState(
    name="carbon_market",
    plugin="pgoutput",
    database="market",
    temporary=False,
    holder_pid=None,
    holder_name=None,
    wal_status="reserved",
    invalidation_reason=None,
    restart_lsn=1,
    confirmed_flush_lsn=2,
    lag_bytes=0,
    failover=True,
    synced=False,
)
IDENTITY = SourceIdentity("7711680360644391923", 1, 16384)


def table(key=("id",), mode="mirror", **more):
    return TableSpec(
        database="market",
        name="trade",
        source_table="trade",
        key=key,
        mode=mode,
        owner="team:market",
        freshness="1h",
        description="Trades.",
        **more,
    )


@pytest.mark.parametrize(
    ("fact", "error", "says"),
    [
        ({"version": 140_010}, errors.SourceServerError, "PostgreSQL 14"),
        ({"version": 190_000}, errors.SourceServerError, "PostgreSQL 19"),
        ({"in_recovery": True}, errors.SourceServerError, "standby"),
        ({"encoding": "SQL_ASCII"}, errors.SourceServerError, "SQL_ASCII"),
        ({"wal_level": "replica"}, errors.WalLevelError, "wal_level = replica"),
        ({"may_replicate": False}, errors.SourcePrivilegeError, 'ALTER ROLE "carbon" REPLICATION'),
    ],
)
def test_a_server_that_cannot_be_captured_is_refused(fact, error, says):
    check_server(SERVER)
    with pytest.raises(error, match=says):
        check_server(replace(SERVER, **fact))


def test_a_server_without_a_free_sender_is_refused_for_now():
    check_senders(SERVER)
    with pytest.raises(errors.NoFreeSenderError, match="max_wal_senders = 10") as refusal:
        check_senders(replace(SERVER, senders_used=10))
    assert refusal.value.retryable


def test_a_role_that_may_not_publish_is_refused():
    check_creation(SERVER)
    with pytest.raises(errors.SourcePrivilegeError, match='GRANT CREATE ON DATABASE "market"'):
        check_creation(replace(SERVER, may_create=False))


@pytest.mark.parametrize(
    ("fact", "error", "says"),
    [
        ({"declared_above": "public.all"}, errors.PartitionDeclaredError, "both are declared"),
        ({"kind": "v"}, errors.TableKindError, "a view"),
        ({"kind": "f"}, errors.TableKindError, "a foreign table"),
        ({"persistence": "u"}, errors.TableKindError, "an unlogged table"),
        ({"unreadable": ("price",)}, errors.SourcePrivilegeError, "read price"),
        ({"row_security": True}, errors.SourcePrivilegeError, "BYPASSRLS"),
        ({"identity": ("uid",)}, errors.KeyMismatchError, r"declares key \[id\].*by \[uid\]"),
        ({"identity": ("id", "day")}, errors.KeyMismatchError, r"by \[id, day\]"),
        ({"replica_identity": "f", "identity": (), "keys": ()}, errors.KeyMismatchError, "nothing"),
    ],
)
def test_a_table_that_cannot_be_captured_is_refused(fact, error, says):
    with pytest.raises(error, match=says):
        check_table(table(), replace(FACTS, **fact), SERVER)


def test_a_table_of_whole_rows_is_published_for_updates_only_as_long_as_they_are_sent():
    whole = table(key=(), identity="full")
    sent = replace(FACTS, replica_identity="f", identity=())

    assert check_table(whole, sent, SERVER)
    assert not check_table(whole, FACTS, SERVER)
    assert "REPLICA IDENTITY is DEFAULT" in str(missing_identity(whole, FACTS))


def test_a_protected_column_need_not_be_readable():
    protected = table(columns={"ssn": {"protect": "drop"}})
    assert check_table(protected, replace(FACTS, unreadable=("ssn",)), SERVER)


def test_a_generated_key_column_is_refused_where_it_is_not_sent():
    old = replace(SERVER, version=150_018)
    with pytest.raises(errors.GeneratedKeyError, match="PostgreSQL 15 sends no generated"):
        check_table(table(), replace(FACTS, unpublished=("id",)), old)


def test_the_order_of_key_columns_does_not_matter():
    assert check_table(table(("day", "id")), replace(FACTS, identity=("id", "day")), SERVER)


def test_a_table_with_full_identity_needs_a_declared_key_that_is_unique():
    full = replace(FACTS, replica_identity="f", identity=())
    assert check_table(table(), full, SERVER)
    with pytest.raises(errors.KeyMismatchError):
        check_table(table(("day",)), full, SERVER)


def test_a_table_without_identity_is_keyless():
    keyless = replace(FACTS, identity=(), keys=())
    assert not check_table(table(), keyless, SERVER)
    assert not check_table(table((), "append"), keyless, SERVER)


def test_a_table_declared_append_is_keyless_even_with_a_key():
    assert not check_table(table((), "append"), FACTS, SERVER)


@pytest.mark.parametrize(
    ("state", "error", "says"),
    [
        ({"plugin": "test_decoding"}, errors.SlotMismatchError, "plugin is test_decoding"),
        ({"plugin": "physical"}, errors.SlotMismatchError, "plugin is physical"),
        ({"database": "other"}, errors.SlotMismatchError, "database is other"),
        ({"temporary": True}, errors.SlotMismatchError, "temporary"),
        ({"wal_status": "lost"}, errors.SlotLostError, "wal_status is lost"),
        ({"invalidation_reason": "wal_removed"}, errors.SlotLostError, "wal_removed"),
        ({"holder_pid": 7, "holder_name": "flink"}, errors.SlotInUseError, 'process 7 \\("flink"'),
        ({"holder_pid": 7, "holder_name": None}, errors.SlotInUseError, "hidden from our role"),
    ],
)
def test_a_slot_that_is_lost_or_somebody_elses_is_refused(state, error, says):
    with pytest.raises(error, match=says):
        check_slot(replace(SLOT, **state), database="market")


def test_a_slot_that_our_capture_reads_is_ours():
    check_slot(SLOT, database="market")
    check_slot(replace(SLOT, holder_pid=7, holder_name="carbon capture"), database="market")


@pytest.mark.parametrize(
    ("fact", "says"),
    [
        ({"system_identifier": "1"}, "system identifier was 7711680360644391923 and is 1"),
        ({"database_oid": 5}, "database oid was 16384 and is 5"),
        ({"timeline": 2}, "timeline was 1 and is 2"),
    ],
)
def test_another_database_behind_the_same_name_is_refused(fact, says):
    check_identity(IDENTITY, IDENTITY)
    with pytest.raises(errors.SourceIdentityError, match=says):
        check_identity(IDENTITY, replace(IDENTITY, **fact))


def test_an_address_is_described_without_its_password():
    dsn = "postgresql://carbon:hunter2@db.example:6543/market?sslmode=require"
    assert describe_dsn(dsn) == "db.example:6543/market"


def test_a_dsn_that_cannot_be_parsed_is_not_repeated():
    with pytest.raises(errors.SettingsError) as refusal:
        describe_dsn("postgresql//carbon:hunter2@db/market")
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__
