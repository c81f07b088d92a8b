"""Array texts are read as PostgreSQL's array_out writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.source.array_text import parse_array


def written(value, delimiter=b","):
    """A reference for array_out: what needs quotes is in the manual, 8.15.6."""
    if value is None:
        return b"NULL"
    if isinstance(value, list):
        return b"{" + delimiter.join(written(item, delimiter) for item in value) + b"}"
    special = any(mark in value for mark in (b"{", b"}", b'"', b"\\", delimiter))
    spaced = any(space in value for space in (b" ", b"\t", b"\n", b"\r", b"\v", b"\f"))
    if special or spaced or not value or value.upper() == b"NULL":
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return value


ELEMENTS = st.none() | st.text('ab{},;"\\ \n\tNULé', max_size=5).map(str.encode)
ARRAYS = st.recursive(
    st.lists(ELEMENTS, max_size=4), lambda inner: st.lists(inner, min_size=1), max_leaves=6
)


@given(ARRAYS)
def test_every_array_is_read_as_it_was_written(value):
    assert parse_array(written(value)) == value


@given(ARRAYS)
def test_the_semicolons_of_box_arrays_are_read_as_well(value):
    assert parse_array(written(value, b";"), delimiter=b";") == value


@given(ARRAYS, st.integers(-9, 9))
def test_lower_bounds_are_dropped(value, low):
    assert parse_array(b"[%d:%d][1:2]=" % (low, low + 1) + written(value)) == value


def test_a_quoted_null_is_a_text():
    assert parse_array(b'{NULL,"NULL",null}') == [None, b"NULL", b"null"]


@pytest.mark.parametrize(
    "text", [b"", b"1,2", b"{1", b"{1}}", b"{1}2", b'{"a}', b"1{2}", b"{}{}", b"[0:1]{1}"]
)
def test_what_is_no_array_is_refused(text):
    with pytest.raises(ValueError, match="not the text of an array"):
        parse_array(text)
