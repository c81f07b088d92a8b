"""Sums of row hashes for very many buckets, where most of the ``rowhash.BUCKETS`` differ.

What belongs here: finding a few rows around each differing key in fixed memory, however large the
table is. What does not: whether the ends are equal at all (``rowhash.py``) and which keys differ.

A few thousand differing keys all over a table make every bucket differ. Keeping the hashes of all
rows of both ends to tell them apart takes 16 bytes a row and end. Here a bucket is 16 bytes for
both ends together: the difference of their sums modulo 2^64, and how many rows it has.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

FINE_BUCKETS = 1 << 20
_BATCH_ROWS = 100_000


class FineSums:
    """What is left of each bucket when the rows of the lake are taken from those of the source."""

    def __init__(self) -> None:
        self._left = np.zeros(FINE_BUCKETS, dtype=np.uint64)
        self._rows = np.zeros(FINE_BUCKETS, dtype=np.int64)

    def add(self, engine: duckdb.DuckDBPyConnection, rows: str, where: str) -> None:
        """Add the rows of SQL ``rows`` (``RowShape.source_rows``) ``where`` a condition holds.

        Raises:
            duckdb.Error: An end cannot be read.
        """
        for buckets, hashes in _hashes(engine, rows, where):
            np.add.at(self._left, buckets, hashes)
            np.add.at(self._rows, buckets, 1)

    def subtract(self, engine: duckdb.DuckDBPyConnection, rows: str, where: str) -> None:
        """As ``add``, the other way round (``RowShape.lake_rows``); rows are counted as well."""
        for buckets, hashes in _hashes(engine, rows, where):
            np.subtract.at(self._left, buckets, hashes)
            np.add.at(self._rows, buckets, 1)

    def differing(self, most_rows: int) -> "DifferingBuckets":
        """The buckets that differ, as many as have ``most_rows`` rows; at least one, if any."""
        buckets = np.flatnonzero(self._left)
        rows = np.cumsum(self._rows[buckets])
        kept = max(int(np.searchsorted(rows, most_rows, side="right")), min(1, len(buckets)))
        inside = int(rows[kept - 1]) if kept else 0
        return DifferingBuckets(
            pa.table({"bucket": pa.array(buckets[:kept])}), inside, len(buckets) - kept
        )


@dataclass(frozen=True, slots=True)
class DifferingBuckets:
    """Buckets that differ.

    Attributes:
        buckets: Some of them, in one column ``bucket``.
        rows: The rows in these, of both ends together.
        more: How many others there are; at least one key differs in each.
    """

    buckets: pa.Table
    rows: int
    more: int


def _hashes(
    engine: duckdb.DuckDBPyConnection, rows: str, where: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(bucket, row hash) of each row, some at a time."""
    query = f"SELECT key_hash % {FINE_BUCKETS} AS b, row_hash AS h FROM ({rows}) WHERE {where}"
    try:
        for batch in engine.execute(query).to_arrow_reader(_BATCH_ROWS):
            yield batch.column(0).to_numpy(), batch.column(1).to_numpy()
    except pa.ArrowException as error:  # how DuckDB's own errors come through such a reader
        raise duckdb.Error(str(error)) from error
