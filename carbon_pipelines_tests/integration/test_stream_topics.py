"""What is read from topics, and how what does not belong together is refused."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import (
    CaptureOptionsChangedError,
    OffsetBeyondEndError,
    OffsetGapError,
    ProgressLostError,
    SlotLostError,
    StreamUnavailableError,
    TimelineDivergedError,
    TopicMissingError,
    TopicReplacedError,
    WalGapError,
    WrongDatabaseError,
)
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream import resume
from carbon_pipelines.stream.consumer import read_batches
from carbon_pipelines.stream.progress import Progress, load_progress
from carbon_pipelines.stream.schemas import load_schema_history
from carbon_pipelines.stream.topic_state import check_topic, load_topic_state
from carbon_pipelines.stream.topics import (
    ddl_topic,
    delete_topics,
    ensure_topics,
    open_admin,
    progress_topic,
    topic_of,
)
from carbon_pipelines_tests.integration.streaming import Streamed, declare, table, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def streamed(stack: Stack, source: tuple[str, str]) -> Streamed:
    """A database with the table credit, of which ten rows were captured in ten transactions."""
    name, dsn = source
    made = Streamed(stack, dsn, declare(name, table("credit", "id")))
    made.run("CREATE TABLE public.credit (id bigint PRIMARY KEY, note text)")
    made.drain()
    for identifier in range(1, 11):
        made.run(f"INSERT INTO public.credit VALUES ({identifier}, 'new')")
        if identifier % 2:
            made.drain()
    made.drain()
    return made


@pytest.fixture
def bootstrap(streamed: Streamed) -> str:
    return streamed.endpoints.stream_bootstrap


@pytest.fixture
def topic(streamed: Streamed) -> str:
    return topic_of(streamed.database.tables[0])


def recreate(streamed: Streamed, name: str) -> None:
    admin = open_admin(streamed.endpoints.stream_bootstrap)
    admin.delete_topics([name])[name].result()
    wait_until(lambda: name not in admin.list_topics(timeout=10).topics)
    ensure_topics(streamed.endpoints.stream_bootstrap, streamed.database)


def test_batches_go_on_where_the_one_before_ended(bootstrap: str, topic: str):
    state = load_topic_state(bootstrap, topic)
    whole = list(read_batches(bootstrap, topic, state.low, state.high))
    assert [len(b.values) for b in whole] == [10]
    assert (whole[0].first_offset, whole[0].next_offset) == (0, state.high)
    small = list(read_batches(bootstrap, topic, state.low, state.high, max_events=3))
    assert [len(b.values) for b in small][:3] == [3, 3, 3]
    assert [v for b in small for v in b.values] == whole[0].values
    for before, after in itertools.pairwise(small):
        assert after.first_offset == before.next_offset
    assert small[-1].next_offset == state.high
    one = list(read_batches(bootstrap, topic, state.low, state.high, max_bytes=1))
    assert max(len(b.values) for b in one) == 1
    assert [v for b in one for v in b.values] == whole[0].values


def test_reading_ends_before_the_end_asked_for(bootstrap: str, topic: str):
    offsets = next(
        read_batches(bootstrap, topic, 0, load_topic_state(bootstrap, topic).high)
    ).offsets
    part = list(read_batches(bootstrap, topic, offsets[2], offsets[5]))
    assert [b.offsets for b in part] == [offsets[2:5]]
    assert part[-1].next_offset == offsets[5]


def test_a_range_of_only_transaction_markers_is_an_empty_batch(bootstrap: str, topic: str):
    high = load_topic_state(bootstrap, topic).high
    assert [(b.values, b.next_offset) for b in read_batches(bootstrap, topic, high - 1, high)] == [
        ([], high)
    ]
    assert list(read_batches(bootstrap, topic, high, high)) == []


def test_open_and_aborted_transactions_are_not_seen(bootstrap: str, topic: str):
    before = load_topic_state(bootstrap, topic)
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"other-{topic}"})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(topic, b"never committed", partition=0)
    producer.flush(10)
    assert load_topic_state(bootstrap, topic) == before
    producer.abort_transaction(10)
    after = load_topic_state(bootstrap, topic)
    assert after.high == before.high + 2
    batches = list(read_batches(bootstrap, topic, before.high, after.high))
    assert [(b.values, b.next_offset) for b in batches] == [([], after.high)]


def test_expired_offsets_are_a_gap_that_is_named(streamed: Streamed, bootstrap: str, topic: str):
    partition = TopicPartition(topic, 0, 6)
    open_deletion = open_admin(bootstrap)
    open_deletion.delete_records([partition])[partition].result()
    state = load_topic_state(bootstrap, topic)
    assert state.low == 6
    expected = f"offsets 3 to 5 expired unread.*carbon recopy {streamed.database.name}/credit"
    with pytest.raises(OffsetGapError, match=expected):
        list(read_batches(bootstrap, topic, 3, state.high))
    assert list(read_batches(bootstrap, topic, 6, state.high))[-1].next_offset == state.high


def test_offsets_past_the_end_are_refused(bootstrap: str, topic: str):
    high = load_topic_state(bootstrap, topic).high
    with pytest.raises(OffsetBeyondEndError, match=f"ends before offset {high}"):
        list(read_batches(bootstrap, topic, high + 5, high + 9))


def test_a_missing_topic_is_an_error_of_its_own(bootstrap: str):
    with pytest.raises(TopicMissingError, match=r"cdc\.nobody"):
        load_topic_state(bootstrap, "cdc.nobody.public.nothing")
    with pytest.raises(TopicMissingError, match=r"cdc\.nobody"):
        list(read_batches(bootstrap, "cdc.nobody.public.nothing", 0, 10))


def test_a_kafka_that_does_not_answer_is_a_retryable_error(monkeypatch: pytest.MonkeyPatch):
    from carbon_pipelines.stream import consumer, topic_state, topics

    monkeypatch.setattr(consumer, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(topic_state, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(topics, "REQUEST_SECONDS", 1.0)
    for ask in (
        lambda: load_topic_state("127.0.0.1:1", "t"),
        lambda: list(read_batches("127.0.0.1:1", "t", 0, 1)),
        lambda: ensure_topics("127.0.0.1:1", declare("m", table("credit", "id"))),
    ):
        with pytest.raises(StreamUnavailableError, match=r"Kafka at 127\.0\.0\.1:1") as raised:
            ask()
        assert raised.value.retryable


def test_a_topic_created_again_is_told_from_the_one_before(
    streamed: Streamed, bootstrap: str, topic: str
):
    before = load_topic_state(bootstrap, topic)
    recreate(streamed, topic)
    with pytest.raises(TopicReplacedError, match="deleted and created again"):
        check_topic(before.topic_id, before.cluster_id, load_topic_state(bootstrap, topic))


def test_the_ddl_topic_holds_the_versions_that_events_refer_to(streamed: Streamed, bootstrap: str):
    streamed.run(
        "ALTER TABLE public.credit ADD COLUMN tonnes int",
        "INSERT INTO public.credit VALUES (11, 'new', 5)",
    )
    streamed.drain()
    versions = [e["source"]["schema_version"] for e in streamed.envelopes("credit")]
    rows = load_schema_history(bootstrap, streamed.database.name).rows
    shapes = {shape.version: [c.name for c in shape.columns] for _, shape in rows}
    assert shapes == {versions[0]: ["id", "note"], versions[-1]: ["id", "note", "tonnes"]}


def test_another_database_behind_the_name_is_refused(streamed: Streamed):
    with psycopg.connect(streamed.stack.admin_dsn, autocommit=True) as admin:
        name = streamed.database.name
        admin.execute("SELECT pg_drop_replication_slot(%s)", (streamed.database.slot_name,))
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    streamed.stack.create_source_database(name)
    streamed.run("CREATE TABLE public.credit (id bigint PRIMARY KEY, note text)")
    with pytest.raises(WrongDatabaseError, match="database oid was"):
        streamed.drain()


def declining(streamed: Streamed) -> Streamed:
    """The same database, whose slot is not to be replaced by itself."""
    declined = streamed.database.model_copy(update={"heal_slots": False})
    return replace(streamed, database=declined)


def test_a_slot_created_again_is_a_gap_in_the_wal_that_is_refused_if_so_declared(
    streamed: Streamed,
):
    streamed = declining(streamed)
    with streamed.connect() as connection:
        slot = streamed.database.slot_name
        connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
        connection.execute("INSERT INTO public.credit VALUES (11, 'lost')")
    with pytest.raises(WalGapError, match="changes between never reached Kafka") as raised:
        streamed.drain()
    assert raised.value.slot == slot
    # The way out: a new beginning, which the lake notices by the topics' ids.
    delete_topics(streamed.endpoints.stream_bootstrap, streamed.database.name)
    streamed.drain()
    streamed.run("INSERT INTO public.credit VALUES (12, 'new')")
    streamed.drain()
    assert streamed.rows("credit") == [12]


@pytest.mark.parametrize("name", [progress_topic, ddl_topic])
def test_a_topic_that_others_rely_on_cannot_be_replaced(
    streamed: Streamed, name: Callable[[str], str]
):
    recreate(streamed, name(streamed.database.name))
    with pytest.raises(ProgressLostError, match="emptied or created again"):
        streamed.drain()


def test_other_options_than_before_are_refused(streamed: Streamed, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resume, "OPTIONS", {**resume.OPTIONS, "messages": "false"})
    with pytest.raises(CaptureOptionsChangedError, match="messages: 'true' -> 'false'"):
        streamed.drain()


def write_progress(streamed: Streamed, **changes: Any) -> Progress:
    progress = load_progress(streamed.endpoints, streamed.database)
    assert progress is not None
    producer = Producer({"bootstrap.servers": streamed.endpoints.stream_bootstrap})
    changed = replace(progress, **changes)
    name = progress_topic(streamed.database.name)
    producer.produce(name, changed.encode(), b"progress", 0)
    producer.flush(10)
    return progress


def test_a_timeline_that_is_no_ancestor_is_refused(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch
):
    """A failover cannot be had here: only its history file is made up."""
    history = "1\t0/10\tno recovery target specified\n"
    monkeypatch.setattr(
        resume.ReplicationStream, "load_timeline_history", lambda _stream, _timeline: history
    )
    progress = write_progress(streamed, timeline=9)
    with pytest.raises(TimelineDivergedError, match="left at no point"):
        streamed.drain()
    history = f"9\t{Position(progress.end_lsn + 1, 0)}".split("-")[0] + "\treason\n"
    assert streamed.drain().by == "self"
    followed = load_progress(streamed.endpoints, streamed.database)
    assert followed is not None
    assert followed.timeline == progress.timeline


def test_a_slot_that_the_server_gave_up_is_refused_if_so_declared(streamed: Streamed):
    streamed = declining(streamed)
    with streamed.connect() as connection:
        connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        connection.execute("SELECT pg_reload_conf()")
        try:
            for _ in range(4):
                connection.execute("SELECT pg_logical_emit_message(false, 'x', 'x')")
                connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
            wait_until(lambda: streamed.slot("wal_status") == "lost")
            with pytest.raises(SlotLostError):
                streamed.drain()
        finally:
            connection.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
            connection.execute("SELECT pg_reload_conf()")
