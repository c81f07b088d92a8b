"""A score that reads only what changed is the score that reads everything."""

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.expectations import (
    Between,
    ExpectationSpec,
    Fresh,
    Holds,
    InSet,
    NotNull,
    Query,
    RowCount,
    Unique,
)
from carbon_pipelines.quality.increment import Increment, Sums, load_increment
from carbon_pipelines.quality.scoring import ScoredTable, score_table
from carbon_pipelines_tests.lake.local_lake import LocalLake
from carbon_pipelines_tests.maintenance.compacting import compact
from carbon_pipelines_tests.quality.scoring import NOW, ScoredLake, local_engine, reading

COLUMNS = {
    "id": "int8",
    "price": "numeric(9,2)",
    "hub": "text",
    "code": "int4",
    "at": "timestamptz",
}
EXPECTATIONS: tuple[ExpectationSpec, ...] = (
    NotNull(kind="not_null", column="hub"),
    Between(kind="between", column="price", min="0", max="100"),
    InSet(kind="in_set", column="hub", values=("TTF", "ARA")),
    Unique(kind="unique", columns=("code",)),
    Unique(kind="unique", columns=("hub", "code")),
    Holds(kind="holds", name="cheap", condition="price < 90 OR hub = 'TTF'", columns=("price",)),
    Holds(kind="holds", name="past", condition='"at" < now()'),
    Query(kind="query", name="dear", sql="SELECT id FROM t WHERE price > 99"),
    Fresh(kind="fresh", column="at", at_most=timedelta(hours=2)),
    RowCount(kind="row_count", min=5),
)


def row(number: int, chance: Random, *, damage: float) -> dict[str, Any]:
    """A row, damaged with some probability."""
    bad = chance.random() < damage
    return {
        "id": number,
        "price": chance.choice(["-1.00", "99.50", "100.01"]) if bad else "12.50",
        "hub": chance.choice([None, "NBP"]) if bad and chance.random() < 0.5 else "TTF",
        "code": chance.choice([1, None]) if bad else number,
        "at": (NOW - timedelta(minutes=chance.randint(1, 100))).isoformat(),
    }


def loaded(path: Path, rows: list[dict[str, Any]]) -> LocalLake:
    lake = LocalLake(path, COLUMNS, ["id"], expectations=EXPECTATIONS)
    typed = {"at": datetime.fromisoformat, "price": Decimal}
    lake.load([{**one, **{name: to(one[name]) for name, to in typed.items()}} for one in rows])
    return lake


def score(lake: LocalLake, sums: Sums | None = None) -> ScoredTable:
    database = DatabaseSpec(name="market", owner="team:tests", tables=(lake.spec,))
    return score_table(lake.catalog, local_engine(), database, lake.spec, now=NOW, sums=sums)


def increment(lake: LocalLake, sums: Sums | None) -> Increment | None:
    table = lake.fresh()
    head = table.current_snapshot()
    assert head is not None
    return load_increment(table, head.snapshot_id, sums)


def changes(chance: Random, ids: list[int]) -> Iterator[dict[str, Any]]:
    """Some inserts, updates and deletes; ``ids`` are those of the rows."""
    damage = chance.choice([0.0, 0.3])
    for number in chance.sample(ids, chance.randint(0, 6)):
        if chance.random() < 0.4:
            ids.remove(number)
            yield {"op": "d", "before": {"id": number}}
        else:
            yield {"op": "u", "after": row(number, chance, damage=damage)}
    for _ in range(chance.randint(1, 4)):
        ids.append(max(ids, default=0) + 1)
        yield {"op": "c", "after": row(ids[-1], chance, damage=damage)}


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(20 if os.environ.get("CARBON_NIGHTLY") == "1" else 2))
def test_reading_what_changed_tells_what_reading_everything_does(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    ids = list(range(1, 31))
    lake = loaded(tmp_path, [row(number, chance, damage=0.2 * (seed % 3)) for number in ids])
    sums = score(lake).sums

    for turn in range(5):
        lake.merge(list(changes(chance, ids)))
        if turn == 3:
            compact(lake)
        assert increment(lake, sums) is not None
        partly, fully = score(lake, sums), score(lake)
        assert partly.score == fully.score
        assert partly.rows == fully.rows == len(ids)
        assert partly.sums is not None
        assert Sums.from_json(partly.sums.to_json()) == partly.sums
        sums = partly.sums


def test_only_files_that_came_or_lost_failing_rows_are_read(tmp_path: Path) -> None:
    chance = Random(1)
    lake = loaded(tmp_path, [row(number, chance, damage=0) for number in range(1, 31)])
    clean = score(lake).sums
    lake.merge([{"op": "u", "after": row(3, chance, damage=0)}])

    came = increment(lake, clean)
    assert came is not None
    assert (len(came.added), came.again) == (1, ())

    bad = {**row(4, chance, damage=0), "price": "-1.00"}
    lake.merge([{"op": "u", "after": one} for one in (bad, row(5, chance, damage=0))])
    damaged = score(lake).sums
    assert damaged is not None
    (failing,) = damaged.counts["between(price)"]
    lake.merge([{"op": "u", "after": row(4, chance, damage=0)}])
    mended = increment(lake, damaged)
    assert mended is not None
    assert (len(mended.added), mended.again) == (1, (failing,))

    after = score(lake, damaged).sums
    assert after is not None
    assert after == score(lake).sums
    assert after.counts["between(price)"] == {}
    assert increment(lake, after) == Increment((), (), after)


def test_references_are_looked_up_again_for_rows_that_came_or_if_their_table_changed(
    tmp_path: Path,
) -> None:
    lake = ScoredLake(tmp_path, "  - {kind: references, columns: [facility_id], table: facility}\n")
    lake.fill([reading(number) for number in range(10)])
    first = lake.score().sums
    lake.add([reading(20), reading(21, facility_id=7)])

    came = lake.score(sums=first)
    assert [one.unexpected_rows for one in came.score.outcomes] == [1]
    assert came.score == lake.score().score
    assert came.sums is not None
    assert not came.sums.holding

    lake.replace_facilities([1])
    gone = lake.score(sums=first)
    assert [one.unexpected_rows for one in gone.score.outcomes] == [6]
    assert gone.score == lake.score().score


def test_of_a_history_the_rows_that_are_count_and_no_older_version(tmp_path: Path) -> None:
    chance = Random(1)
    lake = LocalLake(tmp_path, COLUMNS, ["id"], mode="history", expectations=EXPECTATIONS[:5])
    lake.load([])
    bad = [{**row(number, chance, damage=0), "price": "-1.00"} for number in (1, 2, 3)]
    lake.merge([{"op": "c", "after": one} for one in bad])
    first = score(lake)
    assert (first.rows, first.score.outcomes[1].unexpected_rows) == (3, 3)

    good = [row(number, chance, damage=0) for number in (1, 2)]
    lake.merge([{"op": "u", "after": one} for one in good])

    mended = score(lake, first.sums)
    assert (mended.rows, mended.score.outcomes[1].unexpected_rows) == (3, 1)
    assert mended.score == score(lake).score


def test_what_depends_on_the_time_is_always_counted_in_full(tmp_path: Path) -> None:
    chance = Random(1)
    lake = loaded(tmp_path, [row(number, chance, damage=0.5) for number in range(1, 31)])

    sums = score(lake).sums

    assert sums is not None
    assert "cheap" in sums.counts
    assert "past" not in sums.counts
    assert sums.full_at == NOW


def test_a_snapshot_that_is_not_in_the_past_of_this_one_tells_nothing(tmp_path: Path) -> None:
    chance = Random(1)
    lake = loaded(tmp_path, [row(number, chance, damage=0) for number in range(1, 5)])
    first = lake.fresh().current_snapshot()
    assert first is not None
    lake.merge([{"op": "c", "after": row(9, chance, damage=0)}])
    later = score(lake).sums
    lake.fresh().manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()

    assert increment(lake, later) is None
    assert increment(lake, Sums(1, NOW)) is None
    assert score(lake, later).score == score(lake).score
