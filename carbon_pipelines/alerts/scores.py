"""When a table's score has fallen, and what changed.

What belongs here: comparing one score with the next. What does not: scoring (``quality/``), and a
score under its threshold, which fails the check of the gate.

A fall is a change, so it ends: when the score is back within ``points`` of where it fell from, or
after a day, when the lower one is what the next scores are compared with. A score that nobody knows
is compared with nothing; the gate does not pass it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from carbon_pipelines.alerts.alert import Alert
from carbon_pipelines.alerts.observed import Scored, Watched
from carbon_pipelines.alerts.pages import Pages
from carbon_pipelines.alerts.wording import clip

FORGOTTEN_AFTER_SECONDS = 24 * 3600.0
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ScoreMark:
    """What is remembered of a table's scores: the last known one, the last one, and a fall.

    ``known`` and ``seen`` are storage ids. ``fell_from`` and ``fell_to`` are set while it is told.
    """

    known: int | None = None
    seen: int | None = None
    fell_from: Scored | None = None
    fell_to: Scored | None = None
    fell_at: float = 0.0


def follow_scores(
    mark: ScoreMark, scores: Sequence[Scored], *, points: float, now: float
) -> ScoreMark:
    """The mark after ``scores``, oldest first, the last known one among them."""
    before = mark.fell_to
    known, seen = mark.known, mark.seen
    fell_from, fell_to, fell_at = mark.fell_from, mark.fell_to, mark.fell_at
    for one in scores:
        is_new = seen is None or one.storage_id > seen
        seen = max(seen or 0, one.storage_id)
        if one.score is None:
            continue
        known = one.storage_id
        if is_new and fell_from is not None and fell_from.score is not None:
            back = one.score > fell_from.score - points
            fell_from, fell_to = (None, None) if back else (fell_from, one)
        elif is_new and _fell(before, one, points):
            fell_from, fell_to, fell_at = before, one, one.at
        before = one
    if fell_from is not None and now - fell_at >= FORGOTTEN_AFTER_SECONDS:
        fell_from = fell_to = None
    if fell_from is None:
        fell_at = 0.0
    return ScoreMark(known, seen, fell_from, fell_to, fell_at)


def _fell(before: Scored | None, now: Scored, points: float) -> bool:
    if before is None or before.score is None or now.score is None:
        return False
    return now.score <= before.score - points


def score_alert(watched: Watched, mark: ScoreMark, pages: Pages) -> Alert | None:
    """The alert of a fall, if there is one."""
    if mark.fell_from is None or mark.fell_to is None:
        return None
    before, now = mark.fell_from, mark.fell_to
    changes = "; ".join((*_dimensions(before, now), *_expectations(before, now)))
    table = "/".join(watched.asset.split("/")[1:])
    return Alert(
        name="ScoreFell",
        severity="warning",
        labels=watched.labels,
        summary=clip(
            f"The score of {table} fell from {before.score:g} to {now.score:g}"
            f"{f': {changes}' if changes else ''}. Its scorecard names the rows: "
            f'"carbon quality {table}".'
        ),
        since=mark.fell_at,
        link=pages.run(now.run_id) if now.run_id else pages.asset(watched.asset),
        runbook=pages.runbook("ScoreFell", "quality"),
        run_id=now.run_id,
    )


def _dimensions(before: Scored, now: Scored) -> list[str]:
    """Dimensions that lost, most first; one that has no score now counts as lost."""
    lost = {
        name: value - now.dimensions.get(name, 0.0)
        for name, value in before.dimensions.items()
        if now.dimensions.get(name, 0.0) < value
    }
    return [
        f"{name} {before.dimensions[name]:g} to {now.dimensions.get(name, 0.0):g}"
        for name in _most(lost)
    ]


def _expectations(before: Scored, now: Scored) -> list[str]:
    """Expectations that cost points they did not cost before, most first."""
    more = {
        label: round(points - before.losses.get(label, 0.0), 1)
        for label, points in now.losses.items()
        if points - before.losses.get(label, 0.0) >= 0.1
    }
    return [f"{label} costs {more[label]:g} points more" for label in _most(more)]


def _most(lost: Mapping[str, float]) -> list[str]:
    return sorted(lost, key=lambda name: (-lost[name], name))[:_SHOWN]
