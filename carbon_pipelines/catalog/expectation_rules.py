"""The rules between the fields of expectations, and between them and the table's others.

What belongs here: what can be told from the declaration alone, with the path of the field to
change. What does not: whether a column exists (``quality/fit.py``).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from carbon_pipelines.catalog.expectations import (
    Between,
    Columns,
    ExpectationSpec,
    Holds,
    InSet,
    LengthBetween,
    Query,
    RowCount,
)

if TYPE_CHECKING:
    from carbon_pipelines.catalog.table import TableSpec

_Found = tuple[tuple[str | int, ...], str]


def expectation_contradictions(table: "TableSpec") -> Iterator[_Found]:
    """Expectations that cannot be checked, or would be checked twice."""
    first: dict[str, int] = {}
    for index, expectation in enumerate(table.expectations):
        at = ("expectations", index)
        label = expectation.label
        if label in first:
            reason = (
                f'is called "{label}", and so is expectations[{first[label]}]; '
                'remove one, or give one another "name"'
            )
            yield at, reason
        if isinstance(expectation, Holds | Query) and expectation.name is None:
            yield at, 'needs a "name", to be called by in scores'
        first.setdefault(label, index)
        for field, column in expectation.reads:
            if column in table.dropped_columns:
                reason = f'column "{column}" is dropped before it reaches the lake'
                yield (*at, field), f'{reason}; remove it here or remove its "protect: drop"'
        for name, reason in _own_contradictions(expectation):
            yield (*at, name), reason


def _own_contradictions(expectation: ExpectationSpec) -> Iterator[tuple[str, str]]:
    """What one expectation's own fields cannot both say."""
    columns = [column for _, column in expectation.reads]
    for column in {column for column in columns if columns.count(column) > 1}:
        yield "columns", f'names column "{column}" twice'
    if isinstance(expectation, Between | LengthBetween | RowCount):
        if expectation.min is None and expectation.max is None:
            yield "kind", f'"{expectation.kind}" needs "min", "max" or both'
        if isinstance(expectation, LengthBetween | RowCount) and (
            expectation.min is not None
            and expectation.max is not None
            and expectation.min > expectation.max
        ):
            yield "max", f"is below min, {expectation.min}, so that nothing could meet it"
    if isinstance(expectation, InSet):
        for value in expectation.values:
            if expectation.values.count(value) > 1:
                yield "values", f'lists "{value}" twice'
                break
    if isinstance(expectation, Columns):
        for name in expectation.types:
            if not name.strip():
                yield "types", "a column's name must not be empty"
