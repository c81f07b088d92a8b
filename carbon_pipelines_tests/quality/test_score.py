from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.catalog.quality import DIMENSIONS, Dimension, QualitySpec, Severity
from carbon_pipelines.quality.outcome import Outcome, Status
from carbon_pipelines.quality.score import CRITICAL_CAP, Loss, judge_score, shown

ROWS = 1_000


def outcome(
    label: str,
    status: Status = "passed",
    *,
    dimension: Dimension = "validity",
    severity: Severity = "warning",
    weight: float = 1.0,
    unexpected: int | None = 0,
    rows: int | None = ROWS,
) -> Outcome:
    return Outcome(
        label=label,
        kind="between",
        columns=(),
        dimension=dimension,
        severity=severity,
        weight=weight,
        status=status,
        reason="as told",
        unexpected_rows=unexpected,
        rows=rows,
    )


_WEIGHTS = st.floats(0.1, 100)
KNOWN = st.builds(
    lambda failing, dimension, severity, weight, unexpected: outcome(
        "x",
        "failed" if failing else "passed",
        dimension=dimension,
        severity=severity,
        weight=weight,
        unexpected=unexpected if failing else 0,
    ),
    st.booleans(),
    st.sampled_from(DIMENSIONS),
    st.sampled_from(["info", "warning", "critical"]),
    _WEIGHTS,
    st.integers(1, ROWS),
)
QUALITY = st.builds(
    lambda weights: QualitySpec(weights=weights),
    st.dictionaries(st.sampled_from(DIMENSIONS), _WEIGHTS),
)


def labelled(outcomes: list[Outcome]) -> list[Outcome]:
    return [replace(one, label=f"x{number}") for number, one in enumerate(outcomes)]


OUTCOMES = st.lists(KNOWN, min_size=1, max_size=8).map(labelled)


@given(OUTCOMES, QUALITY)
def test_what_is_lost_is_what_the_score_lacks(outcomes: list[Outcome], how: QualitySpec) -> None:
    score = judge_score(outcomes, how)

    assert score.value is not None
    assert 0 <= score.value <= 100
    assert sum(loss.points for loss in score.losses) == pytest.approx(100 - score.value)
    assert all(loss.points > 0 and loss.reason for loss in score.losses)
    failed = {one.label for one in outcomes if one.status == "failed"}
    assert {loss.label for loss in score.losses} == failed


@given(OUTCOMES, QUALITY, st.data())
def test_more_failing_rows_never_make_a_better_score(
    outcomes: list[Outcome], how: QualitySpec, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(outcomes) - 1))
    before = outcomes[at].unexpected_rows or 0
    worse = replace(
        outcomes[at],
        status="failed",
        unexpected_rows=data.draw(st.integers(max(before, 1), ROWS)),
    )

    found = judge_score(outcomes, how)
    after = judge_score([*outcomes[:at], worse, *outcomes[at + 1 :]], how)

    assert found.value is not None
    assert after.value is not None
    assert after.value <= found.value + 1e-9
    before_by, after_by = (
        {one.dimension: one.score or 0.0 for one in score.dimensions} for score in (found, after)
    )
    assert all(after_by[name] <= before_by[name] + 1e-9 for name in before_by)


@given(OUTCOMES, QUALITY)
def test_a_failed_critical_expectation_caps_the_score(
    outcomes: list[Outcome], how: QualitySpec
) -> None:
    critical = outcome("y", "failed", severity="critical", weight=0.1, unexpected=1)

    score = judge_score([*outcomes, critical], how)

    assert score.value is not None
    assert score.value <= CRITICAL_CAP
    assert not score.passes
    assert next(one for one in score.dimensions if one.dimension == "validity").score is not None


@given(OUTCOMES, QUALITY)
def test_what_is_unknown_has_no_number(outcomes: list[Outcome], how: QualitySpec) -> None:
    unknown = outcome("y", "unknown", severity="info", weight=0.1, unexpected=None, rows=None)

    score = judge_score([*outcomes, unknown], how)

    assert score.value is None
    assert not score.passes
    assert score.unknown == ("y: as told",)
    assert shown(score.value) == "unknown"
    assert [one.score is None for one in score.dimensions] == [
        one.dimension == "validity" for one in score.dimensions
    ]


def test_a_table_of_which_nothing_is_expected_is_unknown() -> None:
    score = judge_score([], QualitySpec(threshold=0))

    assert (score.value, score.passes) == (None, False)
    assert score.verdict() == "unknown: nothing is expected of the table"


def test_weights_divide_the_points() -> None:
    outcomes = [
        outcome("nulls", "failed", dimension="completeness", unexpected=ROWS),
        outcome("range", "failed", weight=3, unexpected=500),
        outcome("format"),
    ]

    score = judge_score(outcomes, QualitySpec(threshold=40, weights={"validity": 4}))

    # completeness has 20 points; validity 80, three quarters of them for "range", which loses
    # 0.3 and half of the rest of them
    assert score.value == pytest.approx(100 - 20 - 80 * 0.75 * 0.65)
    assert [(one.label, round(one.points, 9)) for one in score.losses] == [
        ("range", 39.0),
        ("nulls", 20.0),
    ]
    assert score.verdict() == "41 of 100, threshold 40: passed"


def test_a_score_that_lacks_something_is_never_shown_as_100() -> None:
    assert [shown(value) for value in (100.0, 99.999, 99.95, 0.04)] == ["100", "99.9", "99.9", "0"]
    assert Loss(0.001, "x", None, "why").sentence() == "-less than 0.1: why"


def test_one_bad_row_of_a_large_table_is_seen() -> None:
    lost = [
        judge_score([outcome("x", "failed", unexpected=1, rows=rows)], QualitySpec()).value
        for rows in (10, 5_000_000)
    ]

    assert lost[0] is not None
    assert lost[1] is not None
    assert lost[0] < lost[1] < 70.01
