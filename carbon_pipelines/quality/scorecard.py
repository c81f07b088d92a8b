"""How a score is shown: one page for the terminal and for Dagster, and the same facts as JSON.

What belongs here: words and tables. What does not: what they say (``score.py``).
"""

from collections.abc import Iterable, Sequence
from typing import Any

from carbon_pipelines.quality.outcome import Outcome
from carbon_pipelines.quality.score import Score, shown, shown_loss
from carbon_pipelines.quality.scoring import ScoredTable


def scorecard(scored: ScoredTable) -> str:
    """A page in Markdown that explains the number."""
    score = scored.score
    lines = [
        f"# {scored.label}: {_title(score)}",
        "",
        f"{scored.rows:,} rows of table snapshot {scored.snapshot_id}, at source position "
        f"{scored.position}; scored {scored.scored_at:%Y-%m-%d %H:%M:%S %Z} against expectations "
        f"{scored.version}.",
    ]
    if score.unknown:
        lines += ["", "## Unknown", "", *(f"- {sentence}" for sentence in score.unknown)]
    if score.dimensions:
        rows = [
            (one.dimension, shown(one.score), f"{one.points:.1f}", str(one.expectations))
            for one in score.dimensions
        ]
        lines += ["", *_table(("dimension", "score", "points", "expectations"), rows)]
    if score.losses:
        rows = [
            (f"-{shown_loss(one.points)}", one.dimension or "all", one.reason)
            for one in score.losses
        ]
        title = "## Why it is not 100" if score.value is not None else "## What is known to fail"
        lines += ["", title, "", *_table(("points", "dimension", "why"), rows)]
    for outcome in score.outcomes:
        if outcome.status == "failed" and outcome.sample:
            lines += ["", f"### Rows that fail {outcome.label}", "", *_sample(outcome)]
    return "\n".join(lines) + "\n"


def score_facts(scored: ScoredTable) -> dict[str, Any]:
    """The same as plain values, for JSON."""
    score = scored.score
    return {
        "table": scored.label,
        "snapshot_id": scored.snapshot_id,
        "position": scored.position,
        "rows": scored.rows,
        "scored_at": scored.scored_at.isoformat(),
        "expectations_version": scored.version,
        "score": score.value,
        "threshold": score.threshold,
        "passes": score.passes,
        "failed_critical": list(score.failed_critical),
        "unknown": list(score.unknown),
        "dimensions": {one.dimension: one.score for one in score.dimensions},
        "losses": [
            {"points": one.points, "dimension": one.dimension, "reason": one.reason}
            for one in score.losses
        ],
        "expectations": [
            {
                "label": one.label,
                "kind": one.kind,
                "columns": list(one.columns),
                "dimension": one.dimension,
                "severity": one.severity,
                "weight": one.weight,
                "status": one.status,
                "reason": one.reason,
                "unexpected_rows": one.unexpected_rows,
                "sample": [dict(row) for row in one.sample],
            }
            for one in score.outcomes
        ],
    }


def _title(score: Score) -> str:
    if score.value is None:
        return "unknown"
    return score.verdict()


def _sample(outcome: Outcome) -> list[str]:
    columns = list(outcome.sample[0])
    rows = [[_cell(row.get(name)) for name in columns] for row in outcome.sample]
    lines = _table(columns, rows)
    more = (outcome.unexpected_rows or 0) - len(rows)
    counts_rows = outcome.kind != "unique"
    return [*lines, "", f"and {more:,} more"] if more > 0 and counts_rows else lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown whose columns stand below each other as plain text too."""
    cells = [[_escaped(text) for text in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [lines[0], rule, *lines[1:]]


def _cell(value: str | None) -> str:
    return "NULL" if value is None else value


def _escaped(text: str) -> str:
    """Text that cannot end its cell."""
    return " ".join(text.replace("|", "\\|").split())
