"""The progress record, and what must belong together before capture goes on."""

from dataclasses import replace

import pytest

from carbon_pipelines.errors import (
    OffsetGapError,
    ProgressFormatError,
    TopicReplacedError,
    WrongDatabaseError,
)
from carbon_pipelines.source.connection import SourceIdentity
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.progress import Progress
from carbon_pipelines.stream.resume import check_same_source, plan_timeline_change
from carbon_pipelines.stream.topic_state import check_topic
from carbon_pipelines.stream.topics import TopicState, progress_topic, table_topic

PROGRESS = Progress(
    position=Position(0x16B3748, 3),
    end_lsn=0x16B3000,
    system_identifier="7301",
    timeline=1,
    database_oid=16_384,
    options={"proto_version": "1"},
    ddl_topic_id="abc",
)


def test_a_record_is_read_back():
    assert Progress.decode("topic", PROGRESS.encode()) == PROGRESS


def test_kafka_holds_all_before_the_later_of_position_and_end():
    assert PROGRESS.commit_lsn == 0x16B3748
    assert replace(PROGRESS, end_lsn=0x16B4000).commit_lsn == 0x16B4000


@pytest.mark.parametrize(
    "value", [b'{"format_version": 2}', b"{}", b"[1]", b"no json", b'{"format_version": 1}']
)
def test_a_record_of_another_format_is_refused(value: bytes):
    with pytest.raises(ProgressFormatError, match=r"cdc\.m\._progress"):
        Progress.decode(progress_topic("m"), value)


@pytest.mark.parametrize(
    ("found", "fact"),
    [
        (SourceIdentity("7302", 1, 16_384), "system identifier was 7301 and is 7302"),
        (SourceIdentity("7301", 1, 16_385), "database oid was 16384 and is 16385"),
    ],
)
def test_another_database_behind_the_same_name_is_refused(found: SourceIdentity, fact: str):
    with pytest.raises(WrongDatabaseError, match=f"{fact}.*CARBON_SOURCE_MARKET_DSN"):
        check_same_source("market", PROGRESS, found)


def test_a_failover_is_found_in_the_history_of_timelines():
    history = "1\t0/3000060\tno recovery target specified\n\n# note\n2\t1/A0\tbefore x\n"
    assert plan_timeline_change(history, before=1) == 0x3000060
    assert plan_timeline_change(history, before=2) == 0x1000000A0
    assert plan_timeline_change(history, before=3) is None


@pytest.mark.parametrize(
    ("schema", "table", "topic"),
    [
        ("public", "price_tick", "cdc.market.public.price_tick"),
        ("Trade Desk", "t", "cdc.market.Trade_Desk.t_3dcd7a47"),
        ("public", "a.b", "cdc.market.public.a_b_b2804e74"),
        ("public", "a b", "cdc.market.public.a_b_d75ca71d"),
    ],
)
def test_a_topic_is_named_after_its_table(schema: str, table: str, topic: str):
    assert table_topic("market", schema, table) == topic


def test_a_topic_that_was_created_again_is_refused():
    found = TopicState("cdc.market.public.credit", "new", "cluster", 0, 0)
    check_topic("new", "cluster", found)
    with pytest.raises(TopicReplacedError, match=r"topic id was old and is new.*market/credit"):
        check_topic("old", "cluster", found)
    with pytest.raises(TopicReplacedError, match="cluster id was other and is cluster"):
        check_topic("new", "other", found)


def test_a_gap_names_what_was_lost_and_the_next_step():
    gap = OffsetGapError("cdc.market.trading.fill", first=512, last=899)
    assert "offsets 512 to 899 expired unread" in str(gap)
    assert 'run "carbon recopy market/trading_fill"' in str(gap)
