from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_pipelines.defs.automation.lag import (
    LONGEST_WAIT,
    Asked,
    Lag,
    decode_asked,
    encode_asked,
    plan_requests,
)

TICK = "lake/market/tick"


def requested(
    lag: Lag,
    *,
    asked: Asked | None = None,
    materialized_at: float | None = None,
    in_flight: bool = False,
    now: float = 1_000.0,
) -> bool:
    plan = plan_requests(
        [lag],
        asked={} if asked is None else {lag.asset: asked},
        materialized_at={} if materialized_at is None else {lag.asset: materialized_at},
        in_flight={lag.asset} if in_flight else set(),
        now=now,
    )
    return plan.assets == (lag.asset,)


def test_a_table_that_is_behind_gets_a_run() -> None:
    assert requested(Lag(TICK, behind=3, end=10))


def test_a_table_that_was_never_copied_gets_a_run() -> None:
    assert requested(Lag(TICK, behind=None, end=0))


def test_a_table_that_is_current_gets_none() -> None:
    assert not requested(Lag(TICK, behind=0, end=10))


def test_a_table_whose_run_has_not_ended_is_not_asked_for_again() -> None:
    assert not requested(Lag(TICK, behind=3, end=10), in_flight=True)


def test_what_a_successful_run_left_behind_is_not_work() -> None:
    markers = Lag(TICK, behind=1, end=10)

    assert not requested(markers, asked=Asked(end=10, at=500.0, times=1), materialized_at=600.0)


def test_new_events_after_a_successful_run_are_work_at_once() -> None:
    lag = Lag(TICK, behind=2, end=11)

    assert requested(lag, asked=Asked(end=10, at=999.0, times=1), materialized_at=999.5)


def test_a_failed_run_is_repeated_but_each_time_later() -> None:
    lag = Lag(TICK, behind=3, end=10)

    def waits(times: int, seconds: float) -> bool:
        asked = Asked(end=10, at=10_000.0 - seconds, times=times)
        return not requested(lag, asked=asked, materialized_at=100.0, now=10_000.0)

    assert waits(1, 59)
    assert not waits(1, 60)
    assert waits(3, 239)
    assert not waits(3, 240)
    longest = LONGEST_WAIT.total_seconds()
    assert waits(50, longest - 1)
    assert not waits(50, longest)


def test_a_failing_table_that_keeps_growing_is_not_asked_for_at_every_tick() -> None:
    grown = Lag(TICK, behind=900, end=900)

    assert not requested(grown, asked=Asked(end=10, at=970.0, times=1), materialized_at=100.0)


def test_a_table_that_caught_up_starts_afresh() -> None:
    plan = plan_requests(
        [Lag(TICK, behind=0, end=10)],
        asked={TICK: Asked(end=10, at=1.0, times=7)},
        materialized_at={},
        in_flight=set(),
        now=2.0,
    )

    assert plan.asked == {}


def test_the_memory_survives_the_cursor() -> None:
    asked = {TICK: Asked(end=10, at=1.5, times=2)}

    assert decode_asked(encode_asked(asked)) == asked


def test_a_cursor_of_another_format_is_forgotten() -> None:
    assert decode_asked(None) == {}
    assert decode_asked('{"format": 99, "asked": {"x": [1]}}') == {}


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=12),
    st.integers(0, 2),
    st.lists(st.booleans(), max_size=8),
)
def test_whatever_arrives_the_sensor_merges_it_all_and_comes_to_rest(
    arrivals: list[int], markers: int, failures: list[bool]
) -> None:
    """A topic whose last ``markers`` offsets no run ever reads; some runs fail first."""
    end, merged, asked, done_at = 0, 0, dict[str, Asked](), dict[str, float]()
    outcomes = iter(failures)
    requests_at: list[float] = []

    def tick(now: float, asked: Mapping[str, Asked]) -> Mapping[str, Asked]:
        nonlocal merged
        lag = Lag(TICK, behind=end - merged, end=end)
        plan = plan_requests([lag], asked=asked, materialized_at=done_at, in_flight=(), now=now)
        if plan.assets:
            requests_at.append(now)
            if not next(outcomes, False):
                merged, done_at[TICK] = max(merged, end - markers), now + 1
        return plan.asked

    now = 0.0
    for arrived in arrivals:
        end += arrived
        now += 30.0
        asked = tick(now, asked)
    for _ in range(900):
        now += 30.0
        asked = tick(now, asked)

    assert merged >= end - markers
    resting_since = max(requests_at, default=0.0)
    assert now - resting_since > 3 * LONGEST_WAIT.total_seconds()
