"""From differing buckets to differing rows.

What belongs here: fetching the rows of chosen buckets from both ends and naming, per key, what is
wrong. What does not: sums (``rowhash.py``), and any repair.

Values are compared but never told: a difference names the key and the columns, since values may be
confidential. Only a repair takes the rows (``take_differing``).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from carbon_pipelines.quality.rowhash import RowShape, identifier

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
    where: str,
) -> None:
    """Copy one end's rows ``where`` a condition holds into the temporary table ``name``.

    Values are kept as text (``v0..``): the canonical one, or PostgreSQL's own where that was
    refused. ``c0..`` and ``r0..`` stay next to them, for a repair.
    """
    values = ", ".join(
        f"c{i}, r{i}, coalesce(c{i}::VARCHAR, r{i}::VARCHAR) AS v{i}"
        for i in range(len(shape.columns))
    )
    engine.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT key_hash, row_hash, {values} FROM ({rows})"
        f" WHERE {where}"
    )


def keep_hashes(
    engine: "duckdb.DuckDBPyConnection",
    name: Literal["source_hashes", "lake_hashes"],
    rows: str,
    where: str,
) -> None:
    """As ``keep_rows``, but only the hashes: what is kept where rows are too many."""
    engine.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT key_hash, row_hash FROM ({rows})"
        f" WHERE {where}"
    )


def find_differing(
    engine: "duckdb.DuckDBPyConnection", source: str, lake: str, *, max_keys: int
) -> int:
    """Note the first differing key hashes in the temporary table ``differing``.

    Args:
        engine: Where ``source`` and ``lake`` were kept.
        source: ``source_kept`` or ``source_hashes``.
        lake: The same of the lake.
        max_keys: Keys that are noted at most.

    Returns:
        How many keys differ, noted or not.
    """
    per_end = "(SELECT key_hash, row_hash, count(*) AS rows FROM {} GROUP BY ALL)"
    differing = (
        f"SELECT DISTINCT key_hash FROM {per_end.format(source)} s"
        f" FULL JOIN {per_end.format(lake)} l USING (key_hash, row_hash)"
        " WHERE s.rows IS DISTINCT FROM l.rows"
    )
    engine.execute(f"CREATE OR REPLACE TEMP TABLE all_differing AS {differing}")
    engine.execute(
        "CREATE OR REPLACE TEMP TABLE differing AS"
        f" SELECT key_hash FROM all_differing ORDER BY key_hash LIMIT {max_keys}"
    )
    row = engine.execute("SELECT count(*) FROM all_differing").fetchone()
    assert row is not None
    return int(row[0])


def explain_kept(engine: "duckdb.DuckDBPyConnection", shape: RowShape) -> tuple[Difference, ...]:
    """Compare ``source_kept`` with ``lake_kept`` at the keys in ``differing``."""
    values = ", ".join(f"v{i}" for i in range(len(shape.columns)))
    ends = [
        engine.execute(
            f"SELECT {values} FROM {kept} SEMI JOIN differing USING (key_hash)"
        ).fetchall()
        for kept in ("source_kept", "lake_kept")
    ]
    return explain_rows(shape, *ends)


def take_differing(
    engine: "duckdb.DuckDBPyConnection", shape: RowShape
) -> tuple[pa.Table, pa.Table]:
    """The rows at the keys in ``differing``, for a repair.

    Returns:
        Those of the source, as PostgreSQL's text (arrays as lists of texts), and the keys of those
        of the lake, as many times as they are there, as DuckDB has them (uuids as text).
    """
    names = [column.name for column in shape.columns]
    rows = ", ".join(f"r{i} AS {identifier(name)}" for i, name in enumerate(names))
    keys = ", ".join(
        f"c{i}{'::VARCHAR' if shape.columns[i].type == 'UUID' else ''} AS {identifier(names[i])}"
        for i in shape.key_positions
    )
    source, lake = (
        engine.execute(
            f"SELECT {columns} FROM {kept} SEMI JOIN differing USING (key_hash)"
        ).to_arrow_table()
        for columns, kept in ((rows, "source_kept"), (keys, "lake_kept"))
    )
    return source, lake
