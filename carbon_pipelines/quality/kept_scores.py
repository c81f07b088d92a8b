"""Scores as the history keeps them, read back.

What belongs here: the newest scores of tables with their violations, without rows of samples. What
does not: writing them (``history.py``).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression, In

from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.quality.history import NAMESPACE, SCORE, VIOLATION

Row = Mapping[str, Any]
_VIOLATION_COLUMNS = ("score_id", "expectation", "status", "reason", "unexpected_rows")
_is_in = cast("Callable[[str, Iterable[str]], BooleanExpression]", In)


def load_kept_scores(
    catalog: Catalog, labels: Sequence[str], *, newest: int
) -> dict[str, list[tuple[Row, list[Row]]]]:
    """The newest scores of each table by its label, oldest first.

    Returns:
        Of each score its row of ``quality.score``, and of ``quality.violation`` one row for each
        expectation.

    Raises:
        LakeUnavailableError: The catalog or the object store does not answer (retryable).
    """
    kept = _rows(catalog, SCORE, "table_name", labels, ("*",))
    by_label: dict[str, list[Row]] = {label: [] for label in labels}
    for row in sorted(kept, key=lambda row: row["scored_at"]):
        by_label[row["table_name"]].append(row)
    told = {label: rows[-newest:] for label, rows in by_label.items()}
    ids = [row["score_id"] for rows in told.values() for row in rows]
    violations: dict[str, dict[str, Row]] = {}
    for row in _rows(catalog, VIOLATION, "score_id", ids, _VIOLATION_COLUMNS):
        violations.setdefault(row["score_id"], {}).setdefault(row["expectation"], row)
    return {
        label: [(row, list(violations.get(row["score_id"], {}).values())) for row in rows]
        for label, rows in told.items()
    }


def _rows(
    catalog: Catalog, table: str, column: str, values: Sequence[str], fields: Sequence[str]
) -> list[Row]:
    loaded = load_table(catalog, (NAMESPACE, table)) if values else None
    if loaded is None:
        return []
    with lake_errors(f"Iceberg table {NAMESPACE}.{table}"):
        scan = loaded.scan(row_filter=_is_in(column, values), selected_fields=tuple(fields))
        return scan.to_arrow().to_pylist()
