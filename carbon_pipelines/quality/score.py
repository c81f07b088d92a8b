"""A table's score, 0 to 100: what its outcomes make of it, and a reason for each point lost.

What belongs here: the sums, pure. What does not: the outcomes (``engine_pass.py``), how a score is
shown (``scorecard.py``) and kept (``history.py``).

The 100 points are divided among the dimensions that have expectations by the weights of these, and
within a dimension among its expectations by theirs. A failed expectation loses part of its points:
``LEAST_LOSS`` of them however few rows fail, so that a large table does not drown its mistakes, and
the rest as the share of the rows that fail. The sum of what is lost is what the score lacks. A
failed critical expectation caps the score besides, and what the cap takes is a reason of its own.

An expectation that is unknown makes its dimension and the whole score unknown: no number stands for
what was not seen. A table without expectations is unknown too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from carbon_pipelines.catalog.quality import DIMENSIONS, Dimension, QualitySpec, Severity
from carbon_pipelines.quality.outcome import Outcome

LEAST_LOSS: Mapping[Severity, float] = {"info": 0.1, "warning": 0.3, "critical": 0.6}
"""Part of its points that a failed expectation loses at the least."""
CRITICAL_CAP = 50.0
"""No table with a failed critical expectation has a better score."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Points that the score lacks, and why."""

    points: float
    label: str
    dimension: Dimension | None
    reason: str

    def sentence(self) -> str:
        """One line for people."""
        return f"-{shown_loss(self.points)}: {self.reason}"


@dataclass(frozen=True, slots=True)
class DimensionScore:
    """One dimension's share of the 100 points, and its own score, 0 to 100; None is unknown."""

    dimension: Dimension
    points: float
    score: float | None
    expectations: int


@dataclass(frozen=True, slots=True)
class Score:
    """How good one table snapshot is.

    Attributes:
        value: 0 to 100, or None: unknown.
        losses: Largest first; together they are what ``value`` lacks. Of an unknown score they are
            those that are known.
        unknown: Sentences: what could not be told.
        threshold: The value from which on the snapshot is good enough.
    """

    value: float | None
    dimensions: tuple[DimensionScore, ...]
    losses: tuple[Loss, ...]
    unknown: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    threshold: float

    @property
    def failed_critical(self) -> tuple[str, ...]:
        """Critical expectations that are not met, by label."""
        return tuple(
            one.label
            for one in self.outcomes
            if one.severity == "critical" and one.status == "failed"
        )

    @property
    def passes(self) -> bool:
        """Whether readers may be shown the snapshot, as far as the score tells."""
        return self.value is not None and self.value >= self.threshold and not self.failed_critical

    def verdict(self) -> str:
        """One line for people."""
        if self.value is None:
            return f"unknown: {self.unknown[0]}"
        told = f"{shown(self.value)} of 100, threshold {self.threshold:g}"
        if self.failed_critical:
            return f"{told}: not passed, critical: {', '.join(self.failed_critical)}"
        return f"{told}: {'passed' if self.passes else 'not passed'}"


def judge_score(outcomes: Iterable[Outcome], quality: QualitySpec) -> Score:
    """The score that ``outcomes`` make, weighed as declared."""
    given = tuple(outcomes)
    unknown = tuple(f"{one.label}: {one.reason}" for one in given if one.status == "unknown")
    if not given:
        unknown = ("nothing is expected of the table",)
    by_dimension: dict[Dimension, list[Outcome]] = {
        dimension: [one for one in given if one.dimension == dimension] for dimension in DIMENSIONS
    }
    weights: dict[Dimension, float] = {
        dimension: quality.weights.get(dimension, 1.0)
        for dimension, found in by_dimension.items()
        if found
    }
    total = sum(weights.values())
    points: dict[Dimension, float] = {
        dimension: 100.0 * weight / total for dimension, weight in weights.items()
    }
    losses = [
        loss
        for dimension, share in points.items()
        for loss in _losses(by_dimension[dimension], share)
    ]
    losses.sort(key=lambda loss: (-loss.points, loss.label))
    value = max(0.0, 100.0 - sum(loss.points for loss in losses))
    critical = [one.label for one in given if _fails_critically(one)]
    if critical and value > CRITICAL_CAP:
        reason = f"{', '.join(critical)} failed, which caps the score at {CRITICAL_CAP:g}"
        losses.append(Loss(value - CRITICAL_CAP, critical[0], None, reason))
        value = CRITICAL_CAP
    return Score(
        value=None if unknown else value,
        dimensions=tuple(
            _dimension_score(dimension, share, by_dimension[dimension], losses)
            for dimension, share in points.items()
        ),
        losses=tuple(losses),
        unknown=unknown,
        outcomes=given,
        threshold=quality.threshold,
    )


def shown(value: float | None) -> str:
    """A score as people see it: cut after one digit, so that only 100 is shown as 100."""
    return "unknown" if value is None else f"{int(value * 10 + 1e-6) / 10:g}"


def shown_loss(points: float) -> str:
    """Points as people see them; the smallest loss is not shown as none."""
    return f"{points:.1f}" if points >= 0.05 else "less than 0.1"


def _fails_critically(outcome: Outcome) -> bool:
    return outcome.severity == "critical" and outcome.status == "failed"


def _losses(outcomes: Sequence[Outcome], points: float) -> Iterable[Loss]:
    """What the expectations of one dimension lose of its points."""
    total = sum(one.weight for one in outcomes)
    for one in outcomes:
        if one.status == "failed":
            least = LEAST_LOSS[one.severity]
            share = least + (1.0 - least) * one.prevalence
            lost = points * (one.weight / total) * share
            yield Loss(lost, one.label, one.dimension, f"{one.label}: {one.reason}")


def _dimension_score(
    dimension: Dimension, points: float, outcomes: Sequence[Outcome], losses: Iterable[Loss]
) -> DimensionScore:
    score: float | None = None
    if all(one.status != "unknown" for one in outcomes):
        lost = sum(loss.points for loss in losses if loss.dimension == dimension)
        score = max(0.0, 100.0 * (1.0 - lost / points))
        if any(map(_fails_critically, outcomes)):
            score = min(score, CRITICAL_CAP)
    return DimensionScore(dimension, points, score, len(outcomes))
