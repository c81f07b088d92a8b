"""Rows of differing buckets become sentences about keys."""

import duckdb

from carbon_pipelines.quality.canonical import ComparedColumn
from carbon_pipelines.quality.drilldown import (
    Difference,
    explain_kept,
    explain_rows,
    find_differing,
    keep_hashes,
    keep_rows,
    take_differing,
)
from carbon_pipelines.quality.rowhash import RowShape

COLUMNS = (
    ComparedColumn("id", "INTEGER"),
    ComparedColumn("name", "VARCHAR"),
    ComparedColumn("kg", "INTEGER"),
)
MIRROR = RowShape(COLUMNS, key=(0,))
BAG = RowShape(COLUMNS, key=())


def test_each_damage_is_named_with_its_key() -> None:
    source = [
        ("1", "ore", "5"),
        ("2", "gas", None),
        ("3", "oil", "7"),
        ("10", "sun", "1"),
        ("11", "sea", "2"),
    ]
    lake = [
        ("1", "ore", "5"),
        ("2", "gaz", "0"),
        ("10", "sun", "1"),
        ("10", "sun", "0"),
        ("11", "sea", "2"),
        ("12", "dam", "4"),
    ]

    assert explain_rows(MIRROR, source, lake) == (
        Difference(("2",), "changed", ("name", "kg")),
        Difference(("3",), "missing in lake"),
        Difference(("10",), "duplicate in lake"),
        Difference(("12",), "extra in lake"),
    )


def test_a_bag_is_compared_by_how_often_a_row_is_there() -> None:
    once, twice = ("1", "ore", "5"), ("2", "gas", None)

    assert explain_rows(BAG, [once, twice, twice], [once, once, twice]) == (
        Difference(once, "duplicate in lake"),
        Difference(twice, "missing in lake"),
    )


def test_the_sentence_names_columns_but_no_values() -> None:
    assert (
        str(Difference(("7", None), "changed", ("name", "kg"))) == "(7, NULL): changed in name, kg"
    )


def test_only_rows_that_differ_leave_the_engine_and_no_more_than_asked_for() -> None:
    engine = duckdb.connect(config={"threads": 1})
    text = "(SELECT n::VARCHAR AS c0, 'x' AS c1, '1' AS c2 FROM range(100) t(n))"
    kg = "CASE WHEN n % 10 = 3 THEN 2 ELSE 1 END"
    lake = f"(SELECT n::INTEGER AS id, 'x' AS name, {kg} AS kg FROM range(100) t(n))"
    present = frozenset(c.name for c in COLUMNS)
    source, in_lake = MIRROR.source_rows(text), MIRROR.lake_rows(lake, present)
    keep_rows(engine, "source_kept", source, MIRROR, "true")
    keep_rows(engine, "lake_kept", in_lake, MIRROR, "true")
    keep_hashes(engine, "source_hashes", source, "key_hash % 2 = 1")
    keep_hashes(engine, "lake_hashes", in_lake, "key_hash % 2 = 1")

    differing = find_differing(engine, "source_kept", "lake_kept", max_keys=100)
    everything = explain_kept(engine, MIRROR)
    rows, keys = take_differing(engine, MIRROR)

    assert differing == 10
    assert everything == tuple(Difference((f"{n}",), "changed", ("kg",)) for n in range(3, 100, 10))
    assert sorted(rows.to_pylist(), key=lambda row: int(row["id"])) == [
        {"id": str(n), "name": "x", "kg": "1"} for n in range(3, 100, 10)
    ]
    assert sorted(keys.to_pydict()["id"]) == list(range(3, 100, 10))
    assert find_differing(engine, "source_kept", "lake_kept", max_keys=4) == 10
    assert len(explain_kept(engine, MIRROR)) == 4
    odd = find_differing(engine, "source_hashes", "lake_hashes", max_keys=100)
    assert 0 < odd < 10
    assert len(explain_kept(engine, MIRROR)) == odd
