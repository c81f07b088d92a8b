"""From differing buckets to differing rows.

What belongs here: fetching the rows of chosen buckets from both ends and naming, per key, what is
wrong. What does not: sums (``rowhash.py``), and any repair.

Values are compared but never returned: a difference names the key and the columns, since values may
be confidential.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from carbon_pipelines.quality.rowhash import BUCKETS, RowShape

if TYPE_CHECKING:
    import duckdb

Row = tuple[str | None, ...]
"""The canonical values of a row as text."""
Kind = Literal["missing in lake", "extra in lake", "changed", "duplicate in lake"]


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One key at which source and lake differ.

    Attributes:
        key: The key's values as text, in key order; the whole row for a table without a key.
        kind: What is wrong.
        columns: The columns that differ, for ``changed``.
    """

    key: Row
    kind: Kind
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As one line for people."""
        key = ", ".join("NULL" if value is None else value for value in self.key)
        return f"({key}): {self.kind}" + (f" in {', '.join(self.columns)}" if self.columns else "")


def explain_rows(
    shape: RowShape, source: Iterable[Row], lake: Iterable[Row]
) -> tuple[Difference, ...]:
    """What is wrong with the given rows of both ends, one difference for each key that differs."""
    at_source, in_lake = _by_key(shape, source), _by_key(shape, lake)
    found = (
        _explain_key(shape, key, at_source.get(key, Counter()), in_lake.get(key, Counter()))
        for key in at_source.keys() | in_lake.keys()
    )
    return tuple(sorted((d for d in found if d is not None), key=_reading_order))


def _reading_order(difference: Difference) -> tuple[tuple[bool, int, str], ...]:
    return tuple((value is not None, len(value or ""), value or "") for value in difference.key)


def _by_key(shape: RowShape, rows: Iterable[Row]) -> Mapping[Row, Counter[Row]]:
    grouped: dict[Row, Counter[Row]] = {}
    for row in rows:
        key = tuple(row[i] for i in shape.key_positions)
        grouped.setdefault(key, Counter())[row] += 1
    return grouped


def _explain_key(
    shape: RowShape, key: Row, source: Counter[Row], lake: Counter[Row]
) -> Difference | None:
    if source == lake:
        return None
    if not lake or lake.total() < source.total():
        return Difference(key, "missing in lake")
    if not source:
        return Difference(key, "extra in lake")
    if lake.total() > source.total():
        return Difference(key, "duplicate in lake")
    pairs = zip(shape.columns, next(iter(source - lake)), next(iter(lake - source)), strict=True)
    return Difference(key, "changed", tuple(c.name for c, left, right in pairs if left != right))


def keep_rows(
    engine: "duckdb.DuckDBPyConnection",
    name: Literal["source_kept", "lake_kept"],
    rows: str,
    shape: RowShape,
    buckets: Sequence[int],
) -> None:
    """Copy one end's rows of ``buckets`` into the temporary table ``name``.

    Values are kept as text: the canonical one, or PostgreSQL's own where that was refused.
    """
    values = ", ".join(
        f"coalesce(c{i}::VARCHAR, r{i}::VARCHAR) AS v{i}" for i in range(len(shape.columns))
    )
    wanted = ", ".join(map(str, buckets))
    engine.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT key_hash, row_hash, {values} FROM ({rows})"
        f" WHERE key_hash % {BUCKETS} IN ({wanted})"
    )


def explain_kept(
    engine: "duckdb.DuckDBPyConnection", shape: RowShape, *, max_keys: int
) -> tuple[Difference, ...]:
    """Compare ``source_kept`` with ``lake_kept``; at most ``max_keys`` differences leave DuckDB."""
    per_end = "(SELECT key_hash, row_hash, count(*) AS rows FROM {} GROUP BY ALL)"
    engine.execute(
        "CREATE OR REPLACE TEMP TABLE differing AS SELECT DISTINCT key_hash"
        f" FROM {per_end.format('source_kept')} s FULL JOIN {per_end.format('lake_kept')} l"
        " USING (key_hash, row_hash) WHERE s.rows IS DISTINCT FROM l.rows"
        f" ORDER BY key_hash LIMIT {max_keys}"
    )
    values = ", ".join(f"v{i}" for i in range(len(shape.columns)))
    ends = [
        engine.execute(
            f"SELECT {values} FROM {kept} SEMI JOIN differing USING (key_hash)"
        ).fetchall()
        for kept in ("source_kept", "lake_kept")
    ]
    return explain_rows(shape, *ends)
