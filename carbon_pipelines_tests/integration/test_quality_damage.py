"""Whatever is wrong in the lake, verification finds it, names it, and finds nothing else."""

from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from psycopg import connect

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.quality.drilldown import Difference
from carbon_pipelines.quality.verification import VerifyLimits
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.quality_bench import Bench, Rows, open_bench

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def bench(stack: Stack) -> Iterator[Bench]:
    name = "verify_damage"
    source = SourceDatabase(name, stack.create_source_database(name))
    with open_bench(stack, source) as bench:
        yield bench
    with connect(stack.admin_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot('carbon_verify_damage')")


@pytest.fixture
def copy(bench: Bench) -> Iterator[Bench]:
    """The bench, whose copies are put back afterwards."""
    tables = [bench.iceberg(name) for name in bench.tables]
    before = [table.current_snapshot() for table in tables]
    yield bench
    for table, snapshot in zip(tables, before, strict=True):
        assert snapshot is not None
        table.refresh()
        table.manage_snapshots().rollback_to_snapshot(snapshot.snapshot_id).commit()


def _edit(row_id: int, **values: Callable[[object], object]) -> Callable[[Rows], Rows]:
    """Change columns of one row."""

    def edit(rows: Rows) -> Rows:
        return [
            {**row, **{name: to(row[name]) for name, to in values.items()}}
            if row["id"] == row_id
            else row
            for row in rows
        ]

    return edit


def _swap(rows: Rows) -> Rows:
    prices = {row["id"]: row["price"] for row in rows}
    other = {10: 11, 11: 10}
    return [{**row, "price": prices[other.get(int(str(row["id"])), row["id"])]} for row in rows]


def _revive(rows: Rows) -> Rows:
    return [*rows, *({**row, "price": Decimal("0.0001")} for row in rows if row["id"] == 5)]


KEY_5, KEY_10, KEY_11 = ("5", "p2"), ("10", "p1"), ("11", "p2")
DAMAGES: dict[str, tuple[Callable[[Rows], Rows], tuple[Difference, ...]]] = {
    "a row deleted": (
        lambda rows: [row for row in rows if row["id"] != 5],
        (Difference(KEY_5, "missing in lake"),),
    ),
    "a row doubled": (
        lambda rows: [*rows, *(row for row in rows if row["id"] == 5)],
        (Difference(KEY_5, "duplicate in lake"),),
    ),
    "a row that never was": (
        lambda rows: [*rows, {**rows[0], "id": -7, "part": "p0"}],
        (Difference(("-7", "p0"), "extra in lake"),),
    ),
    "one value changed": (_edit(5, big=lambda _: 1), (Difference(KEY_5, "changed", ("big",)),)),
    "a NULL for a value": (
        _edit(5, flag=lambda _: None),
        (Difference(KEY_5, "changed", ("flag",)),),
    ),
    "an empty text for a value": (
        _edit(5, name=lambda _: ""),
        (Difference(KEY_5, "changed", ("name",)),),
    ),
    "a stale version revived": (_revive, (Difference(KEY_5, "duplicate in lake"),)),
    "a key changed": (
        _edit(5, id=lambda _: 5005),
        (Difference(KEY_5, "missing in lake"), Difference(("5005", "p2"), "extra in lake")),
    ),
    "values swapped between two rows": (
        _swap,
        (Difference(KEY_10, "changed", ("price",)), Difference(KEY_11, "changed", ("price",))),
    ),
    "a text cut short": (
        _edit(5, doc=lambda text: str(text)[:-1]),
        (Difference(KEY_5, "changed", ("doc",)),),
    ),
    "a time off by a microsecond": (
        _edit(5, at=lambda at: at + 1),  # type: ignore[operator]
        (Difference(KEY_5, "changed", ("at",)),),
    ),
    "a decimal off in its last digit": (
        _edit(5, price=lambda price: price + Decimal("0.0001")),  # type: ignore[operator]
        (Difference(KEY_5, "changed", ("price",)),),
    ),
    "an element of a list lost": (
        _edit(5, marks=lambda _: []),
        (Difference(KEY_5, "changed", ("marks",)),),
    ),
    "a byte flipped": (
        _edit(5, bytes=lambda raw: b"\x00" + bytes(raw)[1:]),  # type: ignore[arg-type]
        (Difference(KEY_5, "changed", ("bytes",)),),
    ),
    "everything lost": (
        lambda rows: [row for row in rows if row["id"] in {4}],
        (),
    ),
}


def test_a_copy_of_every_common_type_is_verified_and_the_oracle_agrees(bench: Bench) -> None:
    found = [bench.verify(table) for table in bench.database.tables]

    assert [(v.verified, v.source_rows, v.lake_rows, v.differing_keys) for v in found] == [
        (True, 400, 400, ()),
        (True, 200, 200, ()),
    ]
    assert [bench.differences(name) for name in bench.tables] == [0, 0]


@pytest.mark.parametrize(("change", "expected"), DAMAGES.values(), ids=DAMAGES.keys())
def test_verification_finds_the_damage_and_names_it(
    copy: Bench, change: Callable[[Rows], Rows], expected: tuple[Difference, ...]
) -> None:
    copy.damage(copy.reading, change)

    found = copy.verify(copy.reading)

    assert not found.verified
    assert copy.differences("reading") > 0
    assert found.differing_keys == expected or (not expected and len(found.differing_keys) == 20)


@pytest.mark.parametrize("what", ["everything lost", "a stale version revived"])
def test_the_same_is_found_where_few_rows_may_be_kept(copy: Bench, what: str) -> None:
    copy.damage(copy.reading, DAMAGES[what][0])
    usual = copy.verify(copy.reading)

    hashed = copy.verify(copy.reading, VerifyLimits(drilldown_rows=0))
    few = copy.verify(copy.reading, VerifyLimits(drilldown_rows=0, hashed_rows=100))

    assert len(hashed.differing_keys) == len(usual.differing_keys)
    assert hashed.differing_count == usual.differing_count
    assert len(few.differing_keys) == len(usual.differing_keys)
    assert few.differing_count == usual.differing_count
    assert (hashed.at_least, few.at_least) == (False, what == "everything lost")
    assert ("and at least 379 more" in few.sentence()) == few.at_least


def test_a_row_that_capture_never_saw_is_missing(copy: Bench) -> None:
    publication = copy.database.publication_name
    copy.execute(
        f"ALTER PUBLICATION {publication} DROP TABLE reading",
        "INSERT INTO reading (id, part) VALUES (9001, 'p0')",
        f"ALTER PUBLICATION {publication} ADD TABLE reading",
    )
    try:
        found = copy.verify(copy.reading)
    finally:
        copy.execute("DELETE FROM reading WHERE id = 9001")

    assert found.differing_keys == (Difference(("9001", "p0"), "missing in lake"),)


def test_a_bag_that_lost_one_of_equal_rows_and_doubled_another_is_found(copy: Bench) -> None:
    def unbalance(rows: Rows) -> Rows:
        lost = next(i for i, row in enumerate(rows) if (row["word"], row["size"]) == ("w3", 1))
        doubled = next(row for row in rows if (row["word"], row["size"]) == ("w4", 2))
        return [*rows[:lost], *rows[lost + 1 :], doubled]

    copy.damage(copy.entry, unbalance)

    found = copy.verify(copy.entry)

    assert (found.verified, found.source_rows, found.lake_rows) == (False, 200, 200)
    assert [(d.key[1:], d.kind) for d in found.differing_keys] == [
        (("w3", "1"), "missing in lake"),
        (("w4", "2"), "duplicate in lake"),
    ]
