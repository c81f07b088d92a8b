"""A snapshot sees 32-bit xids as PostgreSQL would see the transactions they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.source.visibility import Visibility


@st.composite
def snapshots(draw):
    xmin = draw(st.integers(3, 2**40) | st.integers(2**32 - 50, 2**32 + 50))
    xmax = xmin + draw(st.integers(0, 200))
    running = draw(st.frozensets(st.integers(xmin, xmin + 200), max_size=20))
    return Visibility(xmin, xmax, frozenset(xid for xid in running if xid < xmax))


def sees_in_full(snapshot, xid):
    """The rule for 64-bit xids: PostgreSQL manual, 9.27.11."""
    return xid < snapshot.xmin or (xid < snapshot.xmax and xid not in snapshot.xip)


@given(snapshots(), st.integers(-300, 500) | st.integers(-(2**31), 2**31 - 1))
def test_a_wrapped_xid_is_seen_as_the_full_one_nearest_to_the_snapshot(snapshot, distance):
    xid = snapshot.xmin + distance
    assert snapshot.sees(xid % 2**32) == sees_in_full(snapshot, xid)


@given(snapshots(), st.lists(st.integers(0, 2**32 - 1) | st.integers(-300, 500), max_size=50))
def test_many_xids_are_seen_as_each_one_is(snapshot, values):
    xids = [x if x > 500 else (snapshot.xmin + x) % 2**32 for x in values]
    expected = [snapshot.sees(xid) for xid in xids]
    for dtype in (np.uint32, np.int64):
        assert snapshot.sees_many(np.array(xids, dtype=dtype)).tolist() == expected


@given(snapshots())
def test_a_snapshot_survives_being_written_and_read(snapshot):
    assert Visibility.parse(str(snapshot)) == snapshot


def test_a_snapshot_is_spelled_like_pg_current_snapshot():
    assert Visibility.parse("10:20:11,12") == Visibility(10, 20, frozenset({11, 12}))
    assert str(Visibility(10, 20, frozenset({12, 11}))) == "10:20:11,12"
    assert Visibility.parse("10:10:") == Visibility(10, 10, frozenset())


@pytest.mark.parametrize("text", ["", "10:20", "10:20:11,", "a:b:c", "10:20:11;12"])
def test_what_is_no_snapshot_is_refused(text):
    with pytest.raises(ValueError, match="is not a snapshot"):
        Visibility.parse(text)
