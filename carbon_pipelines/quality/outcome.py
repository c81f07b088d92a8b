"""What came of one expectation.

What belongs here: values that a check, Great Expectations or a comparison with the source can all
give, and that a score is made of. What does not: making them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from carbon_pipelines.catalog.expectations import ExpectationSpec
from carbon_pipelines.catalog.quality import Dimension, Severity

Status = Literal["passed", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One expectation's result at one table snapshot.

    Attributes:
        label: What the expectation is called; once in a table.
        columns: Those that it is about.
        unexpected_rows: How many rows fail it, exactly; None if it is not about rows, or unknown.
        rows: How many rows there are; None if unknown.
        reason: A sentence: what was found.
        sample: Some of the failing rows, column to text; protected values are not in it.
    """

    label: str
    kind: str
    columns: tuple[str, ...]
    dimension: Dimension
    severity: Severity
    weight: float
    status: Status
    reason: str
    unexpected_rows: int | None = None
    rows: int | None = None
    sample: tuple[Mapping[str, str | None], ...] = field(default=())

    @property
    def prevalence(self) -> float:
        """Share of the rows that fail; 1 for what is not about rows."""
        if self.unexpected_rows is None or not self.rows:
            return 1.0
        return min(1.0, self.unexpected_rows / self.rows)


def outcome_of(
    expectation: ExpectationSpec,
    status: Status,
    reason: str,
    *,
    unexpected_rows: int | None = None,
    rows: int | None = None,
    sample: tuple[Mapping[str, str | None], ...] = (),
) -> Outcome:
    """The outcome of a declared expectation."""
    return Outcome(
        label=expectation.label,
        kind=expectation.kind_name,
        columns=tuple(column for _, column in expectation.reads),
        dimension=expectation.of_dimension,
        severity=expectation.severity,
        weight=expectation.weight,
        status=status,
        reason=reason,
        unexpected_rows=unexpected_rows,
        rows=rows,
        sample=sample,
    )
