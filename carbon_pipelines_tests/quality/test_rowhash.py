"""Sums of row hashes tell equal ends from different ones, and where they differ."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_pipelines.quality.canonical import ComparedColumn, text_schema
from carbon_pipelines.quality.rowhash import (
    BucketSum,
    RowShape,
    bucket_sums,
    differing_buckets,
)

COLUMNS = (
    ComparedColumn("id", "INTEGER"),
    ComparedColumn("tag", "VARCHAR"),
    ComparedColumn("price", "DECIMAL(8,2)"),
    ComparedColumn("marks", "INTEGER", is_array=True),
)
MIRROR = RowShape(COLUMNS, key=(0, 1))
BAG = RowShape(COLUMNS, key=())
Row = tuple[int, str, str | None, tuple[int | None, ...] | None]


@pytest.fixture(scope="module")
def engine() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(
        "CREATE TABLE lake (id INTEGER, tag VARCHAR, price DECIMAL(8,2), marks INTEGER[])"
    )
    return connection


def source_sums(
    engine: duckdb.DuckDBPyConnection, shape: RowShape, rows: Sequence[Row]
) -> dict[int, BucketSum]:
    texts = [
        (
            str(i),
            tag,
            price,
            None if marks is None else [None if m is None else str(m) for m in marks],
        )
        for i, tag, price, marks in rows
    ]
    columns = list(zip(*texts, strict=True)) or [()] * len(COLUMNS)
    schema = text_schema(COLUMNS)
    table = pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
    )
    engine.register("source_text", table)
    return bucket_sums(engine, shape.source_rows("source_text"))


def lake_sums(
    engine: duckdb.DuckDBPyConnection, shape: RowShape, rows: Sequence[Row]
) -> dict[int, BucketSum]:
    engine.execute("DELETE FROM lake")
    if rows:
        values = [(i, tag, price, None if m is None else list(m)) for i, tag, price, m in rows]
        engine.executemany("INSERT INTO lake VALUES (?, ?, ?, ?)", values)
    return bucket_sums(engine, shape.lake_rows("lake", frozenset(c.name for c in COLUMNS)))


_PRICES = st.none() | st.decimals(-999_999, 999_999, places=2).map(str)
_MARKS = st.none() | st.lists(st.none() | st.integers(-2, 2), max_size=3).map(tuple)
_ROWS = st.lists(
    st.tuples(
        st.integers(-5, 5),
        st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=3),
        _PRICES,
        _MARKS,
    ),
    max_size=8,
)
_KEYED = _ROWS.map(lambda rows: list({row[:2]: row for row in rows}.values()))


@settings(max_examples=40, deadline=None)
@given(rows=_KEYED, order=st.randoms(use_true_random=False))
def test_equal_ends_have_equal_sums_in_whatever_order_they_are_read(
    engine: duckdb.DuckDBPyConnection, rows: list[Row], order: "object"
) -> None:
    shuffled = list(rows)
    order.shuffle(shuffled)  # type: ignore[attr-defined]

    assert (
        differing_buckets(source_sums(engine, MIRROR, rows), lake_sums(engine, MIRROR, shuffled))
        == ()
    )


@settings(max_examples=40, deadline=None)
@given(source=_KEYED, lake=_KEYED)
def test_different_ends_differ_in_a_bucket_of_each_differing_key_and_in_no_other(
    engine: duckdb.DuckDBPyConnection, source: list[Row], lake: list[Row]
) -> None:
    wrong_keys = {row[:2] for row in set(source) ^ set(lake)}
    expected = {
        bucket
        for i, tag in wrong_keys
        for bucket in lake_sums(engine, MIRROR, [(i, tag, None, None)])
    }

    assert (
        set(differing_buckets(source_sums(engine, MIRROR, source), lake_sums(engine, MIRROR, lake)))
        == expected
    )


@settings(max_examples=40, deadline=None)
@given(source=_ROWS, lake=_ROWS)
def test_bags_are_equal_exactly_when_each_row_is_there_as_often(
    engine: duckdb.DuckDBPyConnection, source: list[Row], lake: list[Row]
) -> None:
    equal = sorted(map(repr, source)) == sorted(map(repr, lake))

    assert (
        differing_buckets(source_sums(engine, BAG, source), lake_sums(engine, BAG, lake)) == ()
    ) == equal


@pytest.mark.parametrize(
    ("source", "lake"),
    [
        (
            [(1, "a", "1.00", ()), (2, "a", "2.00", ())],
            [(1, "a", "2.00", ()), (2, "a", "1.00", ())],
        ),
        ([(1, "a", None, ())], [(1, "a", None, None)]),
        ([(1, "a", None, ())], [(1, "a", None, (None,))]),
        ([(1, "a", "0.00", None)], [(1, "a", None, None)]),
        (
            [(1, "a", None, None)],
            [(1, "a", None, None), (1, "a", None, None), (1, "a", None, None)],
        ),
    ],
    ids=[
        "values swapped between rows",
        "empty list for NULL",
        "NULL in a list",
        "NULL for zero",
        "a row tripled",
    ],
)
def test_what_might_cancel_out_does_not(
    engine: duckdb.DuckDBPyConnection, source: list[Row], lake: list[Row]
) -> None:
    assert (
        differing_buckets(source_sums(engine, MIRROR, source), lake_sums(engine, MIRROR, lake))
        != ()
    )


def test_a_refused_source_value_is_not_equal_to_null_in_the_lake(
    engine: duckdb.DuckDBPyConnection,
) -> None:
    source = source_sums(engine, MIRROR, [(1, "a", "NaN", None)])

    assert differing_buckets(source, lake_sums(engine, MIRROR, [(1, "a", None, None)])) != ()


def test_a_column_that_the_lake_has_not_yet_counts_as_null(
    engine: duckdb.DuckDBPyConnection,
) -> None:
    source = source_sums(engine, MIRROR, [(1, "a", None, None)])
    lake_sums(engine, MIRROR, [(1, "a", "5.00", (1,))])

    assert bucket_sums(engine, MIRROR.lake_rows("lake", frozenset({"id", "tag"}))) == source
