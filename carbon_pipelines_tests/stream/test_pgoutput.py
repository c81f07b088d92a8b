"""The parser reads back what an encoder written from the manual wrote."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.stream.pgoutput import (
    BODY,
    Begin,
    Commit,
    Keepalive,
    LogicalMessage,
    Relation,
    RelationColumn,
    Truncate,
    decode_begin,
    decode_commit,
    decode_keepalive,
    decode_message,
    decode_relation,
    decode_truncate,
    encode_feedback,
    start_replication,
    wal_start,
)
from carbon_pipelines_tests.stream import wal

lsns = st.integers(0, 2**64 - 1)
oids = st.integers(0, 2**32 - 1)
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
columns = st.builds(wal.Column, names, oids, st.booleans(), st.integers(-1, 2**31 - 1))


@given(lsns, oids, st.integers(0, 2**40))
def test_a_begin_is_read_back(commit_lsn: int, xid: int, committed_at_ms: int):
    encoded = wal.begin(commit_lsn, xid=xid, committed_at_ms=committed_at_ms)
    assert decode_begin(encoded, BODY + 1) == Begin(commit_lsn, committed_at_ms, xid)


@given(lsns, lsns)
def test_a_commit_is_read_back(commit_lsn: int, end_lsn: int):
    encoded = wal.commit(commit_lsn, end_lsn=end_lsn)
    assert decode_commit(encoded, BODY + 1) == Commit(commit_lsn, end_lsn)
    assert wal_start(encoded) == end_lsn


@given(oids, names, names, st.sampled_from("dnfi"), st.lists(columns, max_size=40))
def test_a_relation_is_read_back(oid, schema, name, identity, given_columns):
    encoded = wal.relation(oid, schema, name, given_columns, identity=identity)
    assert decode_relation(encoded, BODY + 1) == Relation(
        oid,
        schema,
        name,
        identity,
        tuple(RelationColumn(c.name, c.type_oid, c.typmod, c.in_identity) for c in given_columns),
    )


def test_the_empty_schema_of_a_relation_is_pg_catalog():
    encoded = wal.relation(1, "", "pg_class", [])
    assert decode_relation(encoded, BODY + 1).schema == "pg_catalog"


@given(st.lists(oids, min_size=1, max_size=9), st.booleans(), st.booleans())
def test_a_truncate_is_read_back(relations, cascade, restart):
    encoded = wal.truncate(relations, cascade=cascade, restart=restart)
    assert decode_truncate(encoded, BODY + 1) == Truncate(tuple(relations), cascade, restart)


@given(st.booleans(), lsns, names, st.binary(max_size=99))
def test_a_logical_message_is_read_back(transactional, lsn, prefix, content):
    encoded = wal.message(prefix, content, transactional=transactional, lsn=lsn)
    assert decode_message(encoded, BODY + 1) == LogicalMessage(transactional, lsn, prefix, content)


@given(st.binary(max_size=99))
def test_a_message_that_is_cut_is_refused(content: bytes):
    encoded = wal.message("carbon", content + b"!", transactional=True)
    with pytest.raises(ValueError, match="is cut at"):
        decode_message(encoded[:-1], BODY + 1)


@given(lsns, st.booleans())
def test_a_keepalive_is_read_back(wal_end, reply_requested):
    encoded = b"k" + struct.pack(">QqB", wal_end, 0, reply_requested)
    assert decode_keepalive(encoded) == Keepalive(wal_end, reply_requested)


def test_feedback_says_what_was_received_and_what_may_be_forgotten():
    encoded = encode_feedback(received=30, flushed=20, now=946_684_801.5)
    assert encoded == b"r" + struct.pack(">QQQqB", 30, 20, 20, 1_500_000, 0)


def test_replication_starts_with_the_fixed_options_and_quoted_publications():
    assert start_replication("carbon_m", ("carbon_m", "it's")) == (
        b'START_REPLICATION SLOT "carbon_m" LOGICAL 0/0 ('
        b"proto_version '1', streaming 'off', messages 'true', binary 'false', "
        b"publication_names '\"carbon_m\",\"it''s\"')"
    )
