"""What is remembered of runs and scores, over any order in which they come."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.alerts.observed import Ended, FailedStep, Look, Materialized, Scored, Watched
from carbon_pipelines.alerts.runs import Failing, fold_runs, still_failing
from carbon_pipelines.alerts.scores import FORGOTTEN_AFTER_SECONDS, ScoreMark, follow_scores

UNITS = ("asset:a", "asset:b")


def ended(at: float, *, failed: frozenset[str], succeeded: frozenset[str]) -> Ended:
    steps = tuple(FailedStep(unit, {"asset": unit[6:]}, "It broke.") for unit in sorted(failed))
    return Ended(f"run-{at:g}", at, steps, succeeded)


@st.composite
def runs(draw: st.DrawFn) -> list[Ended]:
    outcomes = draw(st.lists(st.lists(st.sampled_from(["no", "yes", "-"]), min_size=2, max_size=2)))
    return [
        ended(
            float(at),
            failed=frozenset(u for u, o in zip(UNITS, outcome, strict=True) if o == "no"),
            succeeded=frozenset(u for u, o in zip(UNITS, outcome, strict=True) if o == "yes"),
        )
        for at, outcome in enumerate(outcomes)
    ]


@given(runs(), st.data())
def test_what_fails_is_what_failed_last_since_the_last_success_however_it_is_cut(
    history: list[Ended], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(history)))
    shuffled = data.draw(st.permutations(history[cut:]))

    found = fold_runs(fold_runs({}, history[:cut]), shuffled)

    for unit in UNITS:
        outcomes = [
            (run.at, any(step.unit == unit for step in run.failed))
            for run in history
            if unit in run.succeeded or any(step.unit == unit for step in run.failed)
        ]
        successes = [at for at, failed in outcomes if not failed]
        after = [at for at, failed in outcomes if failed and at > max(successes, default=-1.0)]
        expected = (after[0], after[-1]) if after else None
        one = found.get(unit)
        assert (None if one is None else (one.since, one.at)) == expected


@given(runs(), st.data())
def test_a_run_that_is_seen_late_does_not_undo_a_later_one(
    history: list[Ended], data: st.DataObject
) -> None:
    late = [run for run in history if data.draw(st.booleans())]
    early = [run for run in history if run not in late]

    found = fold_runs(fold_runs({}, early), late)

    in_order = fold_runs({}, history)
    for unit in UNITS:
        newest = [
            (run.at, unit not in run.succeeded)
            for run in history
            if unit in run.succeeded or any(step.unit == unit for step in run.failed)
        ]
        if newest and newest[-1][1]:  # it fails, since whenever
            assert found[unit].at == in_order[unit].at == newest[-1][0]


@given(runs())
def test_runs_that_are_read_again_change_nothing(history: list[Ended]) -> None:
    once = fold_runs({}, history)

    assert fold_runs(once, history[-1:]) == once


def test_a_failure_is_over_when_its_asset_is_made_or_declared_no_more() -> None:
    failing = {"asset:a": Failing({"asset": "a"}, "It broke.", 10.0, 20.0, "run")}

    def after(made: dict[str, Materialized], *assets: str) -> bool:
        watched = {asset: Watched(asset, freshness=timedelta(hours=1)) for asset in assets}
        return bool(still_failing(failing, Look(30.0, watched, made, {})))

    assert after({}, "a")
    assert after({"a": Materialized(15.0)}, "a")
    assert not after({"a": Materialized(25.0)}, "a")
    assert not after({})


def scored(number: int, score: float | None) -> Scored:
    return Scored(storage_id=number, at=float(number), score=score)


def follow(*scores: float | None, points: float = 5.0) -> list[float | None]:
    """Where each score leaves the fall: what it fell from, or None."""
    mark, found = ScoreMark(), []
    seen = [scored(number, score) for number, score in enumerate(scores, start=1)]
    for number, one in enumerate(seen):
        known = [before for before in seen[:number] if before.storage_id == mark.known]
        between = [s for s in seen[:number] if mark.known and s.storage_id > mark.known]
        mark = follow_scores(mark, [*known, *between, one], points=points, now=one.at)
        found.append(None if mark.fell_from is None else mark.fell_from.score)
    return found


def test_a_score_falls_from_the_one_before_and_is_back_when_it_is_near_it() -> None:
    assert follow(100, 96, 92, 87, 80, 86, 88) == [None, None, None, 92, 92, 92, None]


def test_a_score_that_is_unknown_is_compared_with_nothing_and_forgets_nothing() -> None:
    assert follow(100, None, None, 90, None, 99) == [None, None, None, 100, 100, None]


def test_the_first_score_has_not_fallen() -> None:
    assert follow(10) == [None]


def test_after_a_day_the_lower_score_is_what_the_next_is_compared_with() -> None:
    fell = follow_scores(ScoreMark(), [scored(1, 100), scored(2, 80)], points=5, now=2.0)
    day = follow_scores(fell, [], points=5, now=2.0 + FORGOTTEN_AFTER_SECONDS)
    lower = replace(scored(3, 74), at=90_000.0)
    again = follow_scores(day, [scored(2, 80), lower], points=5, now=90_000.0)

    assert fell.fell_from == scored(1, 100)
    assert day.fell_from is None
    assert again.fell_from == scored(2, 80)


@given(st.lists(st.one_of(st.none(), st.integers(0, 100))), st.integers(1, 100))
def test_reading_scores_one_by_one_or_all_at_once_is_the_same(
    scores: list[float | None], points: float
) -> None:
    seen = [scored(number, score) for number, score in enumerate(scores, start=1)]
    once = follow_scores(ScoreMark(), seen, points=points, now=1_000.0)

    last = follow(*scores, points=points)[-1] if scores else None
    assert (None if once.fell_from is None else once.fell_from.score) == last
