"""Ranges cover a table once, and COPY's text is decoded without losing a distinction."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.errors import CopyUnreadableError
from carbon_pipelines.source.copy import CtidRange, plan_ranges
from carbon_pipelines.source.copy_text import decode_block


@given(st.integers(0, 10_000), st.integers(0, 10**7), st.integers(1, 10**8), st.integers(0, 10**9))
def test_ranges_cover_every_page_once_and_the_last_has_no_end(pages, rows, target, table_bytes):
    ranges = plan_ranges(pages, rows, target, table_bytes=table_bytes)
    assert ranges[0].first_page == 0
    assert [r.end_page for r in ranges] == [*(r.first_page for r in ranges[1:]), None]
    assert sum(r.rows for r in ranges) <= rows


def test_ranges_of_a_table_with_large_documents_have_fewer_pages():
    mebibyte = 1 << 20
    assert len(plan_ranges(1024, 0, 8 * mebibyte)) == 1
    assert len(plan_ranges(1024, 0, 8 * mebibyte, table_bytes=80 * mebibyte)) == 11


def test_a_range_is_a_condition_on_ctid():
    assert CtidRange(0, 5).predicate() == "ctid >= '(0,0)'::tid AND ctid < '(5,0)'::tid"
    assert CtidRange(5, None).predicate() == "ctid >= '(5,0)'::tid"


def written(rows):
    """COPY's CSV: NULL is nothing, and an empty string is quoted."""
    out = io.StringIO()
    for row in rows:
        fields = ("" if v is None else '"' + v.replace('"', '""') + '"' for v in row)
        out.write(",".join(fields) + "\n")
    return out.getvalue().encode()


TEXTS = st.none() | st.text(alphabet=st.sampled_from('a,"\n\r\\. é') | st.characters(codec="utf-8"))


@given(st.integers(1, 3).flatmap(lambda n: st.lists(st.tuples(*[TEXTS] * n), min_size=1)))
def test_every_text_is_decoded_as_it_was(rows):
    types = {f"c{place}": pa.string() for place in range(len(rows[0]))}
    decoded = decode_block(written(rows), types, "public.trade")
    assert [tuple(row.values()) for batch in decoded for row in batch.to_pylist()] == rows


def test_a_byte_order_mark_that_begins_a_block_is_the_first_values():
    texts = ["\ufeffmarked", "\ufeff", "plain"]
    for first in range(3):
        (batch,) = decode_block(
            "".join(f"{text}\n" for text in texts[first:]).encode(), {"c": pa.string()}, "public.t"
        )
        assert batch.column("c").to_pylist() == texts[first:]


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_floats_of_32_bits_keep_every_bit(numbers):
    texts = [np.format_float_positional(np.float32(n), trim="0") for n in numbers]
    texts = [{"inf": "Infinity", "-inf": "-Infinity"}.get(text, text) for text in texts]
    (batch,) = decode_block("\n".join([*texts, ""]).encode(), {"c": pa.float32()}, "public.t")
    assert batch.column("c").to_numpy().tobytes() == np.array(numbers, np.float32).tobytes()


def test_numbers_and_booleans_are_decoded_if_asked_for():
    types = {"n": pa.int64(), "f": pa.float64(), "b": pa.bool_()}
    text = b"9223372036854775807,1.5,t\n,NaN,f\n-1,-Infinity,\n"
    (batch,) = decode_block(text, types, "public.trade")
    assert [str(row) for row in batch.to_pylist()] == [
        "{'n': 9223372036854775807, 'f': 1.5, 'b': True}",
        "{'n': None, 'f': nan, 'b': False}",
        "{'n': -1, 'f': -inf, 'b': None}",
    ]


def test_bytes_that_are_not_utf8_are_refused():
    with pytest.raises(CopyUnreadableError, match=r"public\.trade"):
        decode_block(b'"\xff"\n', {"c": pa.string()}, "public.trade")
