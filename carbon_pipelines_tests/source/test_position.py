"""Positions order changes as the stream does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.source.position import Position, format_lsn, parse_lsn

LSNS = st.integers(0, 2**64 - 1)
POSITIONS = st.builds(Position, LSNS, st.integers(0, 2**40))


@given(POSITIONS)
def test_a_position_survives_being_written_and_read(position):
    assert Position.parse(str(position)) == position


@given(LSNS)
def test_an_lsn_survives_being_written_and_read(lsn):
    assert parse_lsn(format_lsn(lsn)) == lsn


@given(POSITIONS, POSITIONS)
def test_positions_order_by_commit_first_and_ordinal_second(one, other):
    pair = (one.commit_lsn, one.ordinal) < (other.commit_lsn, other.ordinal)
    assert (one < other) == pair


def test_a_position_is_spelled_like_an_lsn_of_postgresql():
    assert str(Position(0x16B3748, 3)) == "0/16B3748-3"
    assert parse_lsn("A/ff") == 0xA_0000_00FF


@pytest.mark.parametrize("text", ["", "0/1", "0/1-", "0/1-x", "01-1", "0/1-1-1", "0/123456789-1"])
def test_what_is_no_position_is_refused(text):
    with pytest.raises(ValueError, match="is not"):
        Position.parse(text)
