"""Which stage holds a change up, and how old changes are at each."""

from datetime import UTC, datetime, timedelta

from carbon_pipelines.lake.reached import Place, Reached
from carbon_pipelines.serving.freshness import (
    Freshness,
    MartStanding,
    SourceTimes,
    TableStanding,
    mart_stages,
    table_stages,
)
from carbon_pipelines.serving.freshness_page import lines, page, verdict
from carbon_pipelines.stream.event_times import Beside, EventTimes, TopicTimes

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def event(offset: int) -> EventTimes:
    """Event n is committed n minutes after noon, and in Kafka half a second later."""
    return EventTimes(offset, at(60 * offset), at(60 * offset + 0.5))


def times(*offsets: int, end: int, capture_behind: float = 0.0) -> SourceTimes:
    """A topic with an event at each offset from 0 to ``end``."""
    beside = {
        offset: Beside(
            event(offset - 1) if offset else None, event(offset) if offset < end else None
        )
        for offset in offsets
    }
    return SourceTimes(TopicTimes(beside, event(end - 1) if end else None), capture_behind)


def place(offset: int) -> Place:
    return Place(100 + offset, f"0/{offset}+1", offset)


def shown(offset: int, when: datetime) -> Reached:
    return Reached(100 + offset, when, {"shop/a": place(offset)})


def fresh(stages: tuple, promise: timedelta = timedelta(minutes=5)) -> Freshness:
    return Freshness("shop/a", "team:a", promise, stages)


def test_a_table_that_has_everything_is_not_behind_however_long_nothing_has_come() -> None:
    standing = TableStanding(
        merged=(place(3), at(122)),
        certified=(place(3), at(130)),
        visible={"trino": shown(3, at(135))},
    )
    found = fresh(table_stages("shop/a", standing, times(3, end=3), at(90_000)))

    assert [(one.name, one.behind_seconds) for one in found.stages] == [
        ("captured", 0.0),
        ("merged", 0.0),
        ("certified", 0.0),
        ("trino", 0.0),
    ]
    assert [one.arrived_after_seconds for one in found.stages] == [0.5, 2.0, 10.0, 15.0]
    assert found.held_by is None
    assert verdict(found) == "shop/a: at most 0.0 s behind its source, 5m is promised"


def test_the_first_stage_that_is_later_than_promised_holds_the_change_up() -> None:
    standing = TableStanding(
        merged=(place(9), at(500)),
        certified=(place(4), at(200)),
        visible={"trino": shown(3, at(190))},
    )
    found = fresh(table_stages("shop/a", standing, times(9, 4, 3, end=10), at(560)))

    # the oldest change that each lacks is event 9, 4 and 3
    assert [one.behind_seconds for one in found.stages] == [0.0, 20.0, 320.0, 380.0]
    assert found.held_by is found.stages[2]
    assert verdict(found) == (
        "shop/a: 5 min behind its source, 5m is promised; it is held up by stage "
        '"certified", merged is 20 s behind'
    )
    assert fresh(found.stages, timedelta(minutes=10)).held_by is None


def test_no_stage_is_fresher_than_the_one_before_it() -> None:
    standing = TableStanding(merged=(place(3), at(122)), certified=(place(3), at(130)))
    stalled = times(3, end=3, capture_behind=1000.0)
    found = fresh(table_stages("shop/a", standing, stalled, at(900)))

    assert {one.behind_seconds for one in found.stages} == {1000.0}
    assert found.held_by is found.stages[0]


def test_a_stage_that_nothing_has_reached_is_neither_late_nor_in_time() -> None:
    found = fresh(
        table_stages("shop/a", TableStanding((place(2), at(61)), None), times(2, end=9), at(100))
    )
    certified = found.stages[-1]
    assert (certified.behind_seconds, certified.since, found.held_by) == (None, None, None)
    assert verdict(found) == "shop/a: certified has nothing yet; 5m is promised"


def test_a_mart_is_as_far_behind_as_the_table_that_it_is_most_behind_of() -> None:
    of_a, of_b = times(2, 5, end=6), times(4, end=4)
    tables = {
        "shop/a": table_stages(
            "shop/a", TableStanding((place(5), at(301)), (place(5), at(310))), of_a, at(400)
        ),
        "shop/b": table_stages(
            "shop/b", TableStanding((place(4), at(190)), (place(4), at(191))), of_b, at(400)
        ),
    }
    built = Reached(1, at(320), {"shop/a": place(2), "shop/b": place(4)})
    seen = MartStanding(built, {"trino": Reached(1, at(330), built.sources)})
    stages = mart_stages(tables, seen, {"shop/a": of_a, "shop/b": of_b}, at(400))

    assert [(one.name, one.behind_seconds, one.of) for one in stages] == [
        ("captured", 0.0, "shop/a"),
        ("merged", 100.0, "shop/a"),
        ("certified", 100.0, "shop/a"),
        ("mart", 280.0, "shop/a"),
        ("trino", 280.0, "shop/a"),
    ]
    # the newest change in it is the last one of the other table
    assert [one.arrived_after_seconds for one in stages[-2:]] == [140.0, 150.0]
    late = Freshness("mart/m", "team:a", timedelta(minutes=4), stages)
    assert late.held_by is stages[3]
    assert 'stage "mart" of shop/a, certified is 100 s behind' in verdict(late)


def test_a_mart_that_was_never_built_has_its_tables_stages() -> None:
    of_a = times(2, end=2)
    tables = {"shop/a": table_stages("shop/a", TableStanding((place(2), at(61)), None), of_a, NOON)}
    stages = mart_stages(tables, MartStanding(None), {"shop/a": of_a}, at(100))
    assert [(one.name, one.behind_seconds) for one in stages] == [
        ("captured", 0.0),
        ("merged", 0.0),
        ("certified", None),
        ("mart", None),
    ]


def test_people_read_the_stages_as_a_table() -> None:
    standing = TableStanding((place(2), at(62)), None)
    found = fresh(table_stages("shop/a", standing, times(2, end=2), at(100)))

    assert list(lines(found)) == [
        "shop/a: certified has nothing yet; 5m is promised",
        "  stage      behind  arrived after  there since              position",
        "  captured   0.0 s   0.5 s          2026-01-05 12:01:00 UTC  -",
        "  merged     0.0 s   2.0 s          2026-01-05 12:01:02 UTC  0/2+1",
        "  certified  -       -              -                        -",
    ]
    assert "| merged | 0.0 s | 2.0 s | 2026-01-05 12:01:02 UTC | 0/2+1 |" in page(found)
