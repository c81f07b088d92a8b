"""The fields of expectations and scores, and where a declaration is written.

What belongs here: dimensions, severities, weights, shares and bounds as fields. What does not: the
kinds of expectations (``expectations.py``).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from carbon_pipelines.catalog.values import Declared, duration, mistake

Dimension = Literal[
    "completeness", "uniqueness", "validity", "consistency", "timeliness", "accuracy"
]
DIMENSIONS: tuple[Dimension, ...] = (
    "completeness",
    "uniqueness",
    "validity",
    "consistency",
    "timeliness",
    "accuracy",
)
Severity = Literal["info", "warning", "critical"]

_MOST_SAMPLE_ROWS = 100
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a declaration is written; two that differ in nothing else are the same.

    ``lines`` has the line of each field that is written down.
    """

    path: Path = field(default=Path(), compare=False)
    line: int = field(default=0, compare=False)
    lines: Mapping[str, int] = field(default_factory=dict[str, int], compare=False)

    def line_of(self, name: str) -> int:
        """The line of a field, or of the whole if the field is not written."""
        return self.lines.get(name, self.line)


def _number(value: object) -> float | None:
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        number = float(value)
        return number if math.isfinite(number) else None
    return None


def _weight(value: object) -> object:
    """Accept a number above 0, to 100."""
    number = _number(value)
    if number is None or not 0 < number <= 100:
        reason = "must be a number above 0 and at most 100, like 2 or 0.5"
        raise mistake(reason)
    return number


def _threshold(value: object) -> object:
    """Accept a number from 0 to 100."""
    number = _number(value)
    if number is None or not 0 <= number <= 100:
        reason = "must be a number from 0 to 100, like 95"
        raise mistake(reason)
    return number


def _share(value: object) -> object:
    """Accept a number above 0, to 1."""
    number = _number(value)
    if number is None or not 0 < number <= 1:
        reason = "must be a share of the rows above 0 and at most 1, like 0.999"
        raise mistake(reason)
    return number


def _count(value: object) -> object:
    """Accept a whole number from 0 on."""
    if re.fullmatch("[0-9]{1,15}", str(value)):
        return int(str(value))
    reason = "must be a whole number from 0 on, like 1000"
    raise mistake(reason)


def _sample_rows(value: object) -> object:
    """Accept a whole number from 0 to the most."""
    if re.fullmatch("[0-9]{1,3}", str(value)) and int(str(value)) <= _MOST_SAMPLE_ROWS:
        return int(str(value))
    reason = f"must be a whole number from 0 to {_MOST_SAMPLE_ROWS}, like 10"
    raise mistake(reason)


Weight = Annotated[float, BeforeValidator(_weight)]
Share = Annotated[float, BeforeValidator(_share)]
Count = Annotated[int, BeforeValidator(_count)]
Age = Annotated[timedelta, BeforeValidator(duration)]


class QualitySpec(Declared):
    """How a table's expectations become one score.

    ``threshold`` is the score, 0 to 100, from which on a snapshot is good enough to be read;
    ``weights`` count dimensions against each other, 1 if not written. Of rows that fail an
    expectation, ``sample_rows`` are kept. The owner is told of a score that falls by ``drop``
    points.
    """

    threshold: Annotated[float, BeforeValidator(_threshold)] = 90.0
    weights: Mapping[Dimension, Weight] = Field(default_factory=dict[Dimension, float])
    sample_rows: Annotated[int, BeforeValidator(_sample_rows)] = 10
    drop: Weight = 5.0
