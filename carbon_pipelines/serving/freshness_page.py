"""Freshness as people read it: lines for a terminal, and a page for Dagster.

What belongs here: text. What does not: the numbers (``freshness.py``).
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from carbon_pipelines.serving.freshness import Freshness, Stage

_HEADS = ("stage", "behind", "arrived after", "there since", "position")


def verdict(found: Freshness) -> str:
    """Whether what people look at is as fresh as is promised, and if not, what holds it up."""
    promised = _promised(found.promise)
    held = found.held_by
    if held is None:
        last = found.stages[-1]
        if last.behind_seconds is None:
            return f"{found.label}: {last.name} has nothing yet; {promised} is promised"
        behind = span(last.behind_seconds)
        return f"{found.label}: at most {behind} behind its source, {promised} is promised"
    before = found.stages[found.stages.index(held) - 1] if held is not found.stages[0] else None
    told = f", {before.name} is {span(before.behind_seconds)} behind" if before is not None else ""
    of = f" of {held.of}" if held.of is not None else ""
    return (
        f"{found.label}: {span(held.behind_seconds)} behind its source, {promised} is promised; "
        f'it is held up by stage "{held.name}"{of}{told}'
    )


def lines(found: Freshness) -> Iterator[str]:
    """A table or mart for a terminal."""
    yield verdict(found)
    rows = [_HEADS, *(_cells(stage) for stage in found.stages)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def page(found: Freshness) -> str:
    """A table or mart as markdown."""
    rows = [_HEADS, ("---",) * len(_HEADS), *(_cells(stage) for stage in found.stages)]
    return "\n".join([verdict(found), "", *(f"| {' | '.join(row)} |" for row in rows), "", _LEGEND])


_LEGEND = (
    "*behind*: how long the oldest change waits, now, that the stage lacks. *arrived after*: how "
    "old the newest change that it has was when it came there; from one stage to the next it grows "
    "by what that takes."
)


def _cells(stage: Stage) -> tuple[str, ...]:
    of = f" ({stage.of})" if stage.of is not None else ""
    return (
        f"{stage.name}{of}",
        span(stage.behind_seconds),
        span(stage.arrived_after_seconds),
        _moment(stage.since),
        stage.position or "-",
    )


def _promised(most: timedelta) -> str:
    """As declarations write it."""
    minutes = int(most.total_seconds() // 60)
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


def span(seconds: float | None) -> str:
    """A time like ``0.4 s``, ``12 s``, ``3 min`` or ``2.5 h``."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _moment(at: datetime | None) -> str:
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
