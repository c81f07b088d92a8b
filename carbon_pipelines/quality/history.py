"""Scores and violations over time: the Iceberg tables ``quality.score`` and ``quality.violation``.

What belongs here: their rows, and writing a score so that it is there once. What does not: the
tables' files (``history_table.py``) and the score.

A score is kept again only if something about it changed: the table snapshot, the expectations or
what came of them, as when a table that stands still gets stale. Its id is made of that and of the
id of the score before it, so that a process that dies and one that tries again, or two at the same
time, give a score the same id; and the commit that writes it names the id in its summary. The
violations come first: those of a score that was never written have an id that no score has.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.types import (
    BooleanType,
    DoubleType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestamptzType,
)

from carbon_pipelines.catalog.quality import DIMENSIONS
from carbon_pipelines.quality.history_table import HistoryTable, Row
from carbon_pipelines.quality.increment import Sums
from carbon_pipelines.quality.score import Score
from carbon_pipelines.quality.scoring import ScoredTable

NAMESPACE = "quality"
SCORE = "score"
VIOLATION = "violation"
TABLES = ((NAMESPACE, SCORE), (NAMESPACE, VIOLATION))
"""Both, for their upkeep."""
KEPT_SNAPSHOTS = 100
"""So many of their snapshots stay: each kept score makes one, and rows tell the past."""

_SCORE_COLUMNS: Sequence[tuple[str, IcebergType, bool]] = (
    ("score_id", StringType(), True),
    ("table_name", StringType(), True),
    ("snapshot_id", LongType(), True),
    ("expectations_version", StringType(), True),
    ("scored_at", TimestamptzType(), True),
    ("position", StringType(), True),
    ("rows", LongType(), True),
    ("score", DoubleType(), False),
    ("threshold", DoubleType(), True),
    ("passes", BooleanType(), True),
    *((dimension, DoubleType(), False) for dimension in DIMENSIONS),
    ("failed_critical", StringType(), True),
    ("reasons", StringType(), True),
    ("outcome", StringType(), True),
    ("sums", StringType(), False),
)
_VIOLATION_COLUMNS: Sequence[tuple[str, IcebergType, bool]] = (
    ("score_id", StringType(), True),
    ("table_name", StringType(), True),
    ("snapshot_id", LongType(), True),
    ("scored_at", TimestamptzType(), True),
    ("expectation", StringType(), True),
    ("kind", StringType(), True),
    ("columns", StringType(), True),
    ("dimension", StringType(), True),
    ("severity", StringType(), True),
    ("status", StringType(), True),
    ("points", DoubleType(), True),
    ("reason", StringType(), True),
    ("unexpected_rows", LongType(), False),
    ("row_number", IntegerType(), False),
    ("row", StringType(), False),
)


def record_score(catalog: Catalog, scored: ScoredTable) -> bool:
    """Keep one score; as ``record_scores``. Whether it is a new one."""
    return bool(record_scores(catalog, [scored]))


def record_scores(catalog: Catalog, scored: Sequence[ScoredTable]) -> list[str]:
    """Keep scores, all in one commit to each of the tables.

    Returns:
        Labels of the tables whose score is new; the others stand as they were kept.

    Raises:
        CommitConflictError: Others won again and again (retryable).
        CommitUnknownError: The answer to a commit was lost (retryable).
    """
    scores = HistoryTable(catalog, (NAMESPACE, SCORE), _SCORE_COLUMNS)
    violations = HistoryTable(catalog, (NAMESPACE, VIOLATION), _VIOLATION_COLUMNS)
    by_label = {one.label: one for one in scored}
    new: list[str] = []

    def plan(table: Table) -> dict[str, tuple[str, list[Row]]]:
        ids = {label: _new_id(one, table, scores) for label, one in by_label.items()}
        fresh = {label: found for label, found in ids.items() if found is not None}
        failing = {
            label: (found, list(_violation_rows(by_label[label], found)))
            for label, found in fresh.items()
        }
        violations.add(lambda inner: _unwritten(inner, violations, failing))
        new[:] = sorted(fresh)
        return {
            label: (found, [_score_row(by_label[label], found)]) for label, found in fresh.items()
        }

    scores.add(plan)
    return new


def load_sums(catalog: Catalog, label: str, version: str) -> Sums | None:
    """What the newest score of a table, against these expectations, left for the next one."""
    scores = HistoryTable(catalog, (NAMESPACE, SCORE), _SCORE_COLUMNS)
    newest = scores.newest(label, ("scored_at", "expectations_version", "sums"))
    if newest is None or newest["expectations_version"] != version or newest["sums"] is None:
        return None
    return Sums.from_json(newest["sums"])


def outcome_digest(score: Score) -> str:
    """What came of the expectations, without what changes from look to look, like an age."""
    told = [
        (one.label, one.status, one.unexpected_rows, one.severity, one.dimension)
        for one in score.outcomes
    ]
    return _digest(json.dumps([told, _rounded(score.value)]))


def _new_id(scored: ScoredTable, table: Table, scores: HistoryTable) -> str | None:
    """The id of a score that is to be kept; None if the table's last one says the same."""
    what = (scored.label, scored.snapshot_id, scored.version, outcome_digest(scored.score))
    last = scores.last_id(table, scored.label)
    told = _digest(json.dumps(what))
    if last is not None and last.startswith(told):
        return None
    return f"{told}-{_digest(last or '')[:8]}"


def _unwritten(
    table: Table, violations: HistoryTable, failing: dict[str, tuple[str, list[Row]]]
) -> dict[str, tuple[str, list[Row]]]:
    """Those whose violations are not there yet from a try that died."""
    return {
        label: (found, rows)
        for label, (found, rows) in failing.items()
        if rows and violations.last_id(table, label) != found
    }


def _score_row(scored: ScoredTable, score_id: str) -> Row:
    score = scored.score
    dimensions: dict[str, Any] = dict.fromkeys(DIMENSIONS)
    dimensions.update({one.dimension: _rounded(one.score) for one in score.dimensions})
    return {
        "score_id": score_id,
        "table_name": scored.label,
        "snapshot_id": scored.snapshot_id,
        "expectations_version": scored.version,
        "scored_at": scored.scored_at,
        "position": scored.position,
        "rows": scored.rows,
        "score": _rounded(score.value),
        "threshold": score.threshold,
        "passes": score.passes,
        **dimensions,
        "failed_critical": ", ".join(score.failed_critical),
        "reasons": "\n".join([*score.unknown, *(loss.sentence() for loss in score.losses)]),
        "outcome": outcome_digest(score),
        "sums": scored.sums.to_json() if scored.sums else None,
    }


def _violation_rows(scored: ScoredTable, score_id: str) -> Iterator[Row]:
    """One row for each row of a sample; one without a row for what has none."""
    points = {loss.label: loss.points for loss in scored.score.losses if loss.dimension}
    for outcome in scored.score.outcomes:
        if outcome.status == "passed":
            continue
        about: Row = {
            "score_id": score_id,
            "table_name": scored.label,
            "snapshot_id": scored.snapshot_id,
            "scored_at": scored.scored_at,
            "expectation": outcome.label,
            "kind": outcome.kind,
            "columns": ", ".join(outcome.columns),
            "dimension": outcome.dimension,
            "severity": outcome.severity,
            "status": outcome.status,
            "points": points.get(outcome.label, 0.0),
            "reason": outcome.reason,
            "unexpected_rows": outcome.unexpected_rows,
            "row_number": None,
            "row": None,
        }
        if not outcome.sample:
            yield about
        for number, row in enumerate(outcome.sample, start=1):
            text = json.dumps(dict(row), ensure_ascii=False)
            yield {**about, "row_number": number, "row": text}


def _rounded(score: float | None) -> float | None:
    """Without the last digits of a sum of floats."""
    return None if score is None else round(score, 6)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
