"""Hashes of rows, sums of hashes per bucket, and which buckets differ.

What belongs here: the SQL that gives every row of either end a ``key_hash`` and ``row_hash`` by the
same function (DuckDB's 64-bit ``hash`` over the canonical values), the sum per bucket, and the pure
comparison of sums. What does not: reading either end, and which rows differ.

A bucket's sum is (rows, xor, total): a row lost, added, doubled or changed changes it unless 64-bit
hashes collide. A row's hash covers its key, so values swapped between two rows do not cancel out.
As in PostgreSQL, 0.0 and -0.0 count as equal, and so do all NaN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbon_pipelines.quality.canonical import ComparedColumn

if TYPE_CHECKING:
    import duckdb

BUCKETS = 1024


@dataclass(frozen=True, slots=True)
class BucketSum:
    """What is known of all rows of one bucket."""

    rows: int
    xor: int
    total: int


@dataclass(frozen=True, slots=True)
class RowShape:
    """The columns that are compared and which of them are the key.

    Attributes:
        columns: All compared columns.
        key: Positions of the key columns; empty for a table without a key, whose rows are compared
            as a bag: the whole row is then its own key.
    """

    columns: tuple[ComparedColumn, ...]
    key: tuple[int, ...]

    @property
    def key_positions(self) -> tuple[int, ...]:
        """Positions of the columns that identify a row."""
        return self.key or tuple(range(len(self.columns)))

    def source_rows(self, relation: str) -> str:
        """SQL over text columns ``c0..`` (see ``canonical.text_batch``).

        Yields canonical values ``c0..``, texts ``r0..``, ``key_hash`` and ``row_hash`` (UBIGINT).
        """
        casts = ", ".join(
            f"{c.cast(f'c{i}')} AS c{i}, c{i} AS r{i}" for i, c in enumerate(self.columns)
        )
        checks = (c.refused(f"r{i}", f"c{i}") for i, c in enumerate(self.columns))
        refused = " OR ".join(check for check in checks if check) or "false"
        row_hash = f"xor({self._row_hash}, ({refused})::UBIGINT)"
        return (
            f"SELECT *, {self._key_hash} AS key_hash, {row_hash} AS row_hash"
            f" FROM (SELECT {casts} FROM {relation})"
        )

    def lake_rows(self, relation: str, present: frozenset[str]) -> str:
        """SQL over the Iceberg columns that yields the same as ``source_rows``.

        A column that the lake has not (``present``) counts as NULL: it was added to the source, and
        no row has come with a value for it yet.
        """
        values = ", ".join(
            f"{identifier(c.name) if c.name in present else f'NULL::{c.type}'} AS c{i}"
            for i, c in enumerate(self.columns)
        )
        texts = ", ".join(f"c{i} AS r{i}" for i in range(len(self.columns)))
        return (
            f"SELECT *, {texts}, {self._key_hash} AS key_hash, {self._row_hash} AS row_hash"
            f" FROM (SELECT {values} FROM {relation})"
        )

    @property
    def _key_hash(self) -> str:
        return self._hash(self.key_positions)

    @property
    def _row_hash(self) -> str:
        return self._hash(range(len(self.columns)))

    def _hash(self, positions: Sequence[int]) -> str:
        arguments = (a for i in positions for a in self.columns[i].hash_arguments(f"c{i}"))
        return f"hash({', '.join(arguments)})"


def identifier(name: str) -> str:
    """``name`` quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def bucket_sums(engine: "duckdb.DuckDBPyConnection", rows: str) -> dict[int, BucketSum]:
    """Sum the rows of one end.

    Args:
        engine: Where the relations in ``rows`` are known.
        rows: SQL from ``RowShape.source_rows`` or ``lake_rows``.
    """
    query = (
        f"SELECT key_hash % {BUCKETS}, count(*), bit_xor(row_hash), sum(row_hash)"
        f" FROM ({rows}) GROUP BY 1"
    )
    return {
        int(bucket): BucketSum(int(count), int(xor), int(total))
        for bucket, count, xor, total in engine.execute(query).fetchall()
    }


def differing_buckets(
    source: Mapping[int, BucketSum], lake: Mapping[int, BucketSum]
) -> tuple[int, ...]:
    """The buckets whose sums differ, in order; a bucket that one end has not is empty there."""
    return tuple(sorted(b for b in source.keys() | lake.keys() if source.get(b) != lake.get(b)))
