"""What the numbers that an engine counted mean for each expectation.

What belongs here: passed, failed or unknown, and the sentence that says why; pure. What does not:
counting (``engine_pass.py``) and points (``score.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from carbon_pipelines.catalog.expectations import (
    Between,
    Columns,
    ExpectationSpec,
    Fresh,
    Holds,
    InSet,
    LengthBetween,
    Matches,
    NotNull,
    Query,
    References,
    RowCount,
    RowExpectation,
    Unique,
)
from carbon_pipelines.quality.checks import schema_differences
from carbon_pipelines.quality.fit import LakeColumns
from carbon_pipelines.quality.outcome import Outcome, outcome_of

NO_ROWS = "the table has no rows, so nothing is known of it"
_NAMED_VALUES = 5


@dataclass(frozen=True, slots=True)
class Counted:
    """What an engine counted for one expectation.

    Attributes:
        rows: Of the table.
        unexpected_rows: That fail; None for what is not about rows.
        facts: Other aggregates of the check, in its order.
        hidden: Whether values may not be told.
        note: What to know about rows that fail.
    """

    rows: int
    unexpected_rows: int | None = None
    facts: tuple[object, ...] = ()
    sample: tuple[Mapping[str, str | None], ...] = ()
    hidden: bool = False
    note: str = ""


def judge(expectation: ExpectationSpec, counted: Counted, columns: LakeColumns) -> Outcome:
    """The outcome of an expectation that could be checked."""
    if isinstance(expectation, RowCount):
        return _row_count(expectation, counted.rows)
    if isinstance(expectation, Columns):
        found = schema_differences(expectation, columns)
        reason = "; ".join(found) or f"{len(expectation.types)} columns are as expected"
        return outcome_of(expectation, "failed" if found else "passed", reason)
    if counted.rows == 0:
        return outcome_of(expectation, "unknown", NO_ROWS, rows=0)
    if isinstance(expectation, Fresh):
        return _fresh(expectation, counted)
    unexpected = counted.unexpected_rows or 0
    mostly = expectation.mostly if isinstance(expectation, RowExpectation) else 1.0
    # a share of rows that meet it, without the rounding of 1 - share
    met = counted.rows - unexpected >= mostly * counted.rows
    return outcome_of(
        expectation,
        "passed" if met else "failed",
        _sentence(expectation, unexpected, counted.rows, mostly)
        + (counted.note * bool(unexpected)),
        unexpected_rows=unexpected,
        rows=counted.rows,
        sample=counted.sample,
    )


def unscorable(expectation: ExpectationSpec, detail: str) -> Outcome:
    """The outcome of an expectation that threw: not passed, and not failed either."""
    return outcome_of(expectation, "unknown", f"could not be checked: {detail}")


def violation_words(expectation: ExpectationSpec) -> str:
    """What is wrong with a row that fails."""
    words: Mapping[type[ExpectationSpec], str] = {
        NotNull: "are null",
        Unique: "are not the only ones with their values",
        Holds: "do not meet the condition",
        Query: "were given by the query",
    }
    if isinstance(expectation, Between | LengthBetween):
        what = "have a length" if isinstance(expectation, LengthBetween) else "are"
        return f"{what} {_outside(expectation.min, expectation.max)}"
    if isinstance(expectation, InSet):
        return f"are none of {_values(expectation.values)}"
    if isinstance(expectation, Matches):
        return f"do not match {expectation.pattern}"
    if isinstance(expectation, References):
        return f"refer to no row of {expectation.table}"
    return words.get(type(expectation), "fail")


def _sentence(expectation: ExpectationSpec, unexpected: int, rows: int, mostly: float) -> str:
    if unexpected == 0:
        return f"none of {rows:,} rows {violation_words(expectation)}"
    share = 100.0 * unexpected / rows
    told = f"{share:.2g} %" if share >= 0.01 else "less than 0.01 %"
    allowed = f", {100 * (1 - mostly):.2g} % may" if mostly < 1 else ""
    return f"{unexpected:,} of {rows:,} rows {violation_words(expectation)} ({told}{allowed})"


def _row_count(expected: RowCount, rows: int) -> Outcome:
    if rows == 0 and expected.min != 0:
        return outcome_of(expected, "failed", f"no rows, {_range(expected)} expected", rows=0)
    low, high = expected.min, expected.max
    outside = (low is not None and rows < low) or (high is not None and rows > high)
    reason = f"{rows:,} rows, {_range(expected)} expected"
    return outcome_of(expected, "failed" if outside else "passed", reason, rows=rows)


def _fresh(fresh: Fresh, counted: Counted) -> Outcome:
    newest, is_fresh = counted.facts
    allowed = _age(fresh.at_most)
    if newest is None:
        return outcome_of(
            fresh, "unknown", f"{fresh.column} has no value that is not in the future"
        )
    told = "" if counted.hidden else f" {newest}"
    if is_fresh:
        return outcome_of(fresh, "passed", f"the newest value{told} is at most {allowed} old")
    return outcome_of(fresh, "failed", f"the newest value{told} is older than {allowed}")


def _outside(low: object, high: object) -> str:
    if low is None:
        return f"above {high}"
    return f"below {low}" if high is None else f"outside {low} to {high}"


def _range(expected: RowCount) -> str:
    if expected.min is None:
        return f"at most {expected.max:,}"
    if expected.max is None:
        return f"at least {expected.min:,}"
    return f"{expected.min:,} to {expected.max:,}"


def _values(values: Sequence[str]) -> str:
    named = ", ".join(values[:_NAMED_VALUES])
    return named if len(values) <= _NAMED_VALUES else f"{named} and more"


def _age(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    if minutes % (24 * 60) == 0:
        return f"{minutes // (24 * 60)} d"
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"
