"""Comparing two ends that stand at the same point.

What belongs here: summing both, leaving keys out and remembering them, and looking into differing
buckets. What does not: how the ends came to stand at one point (``reconcile.py``).

DuckDB keeps two small tables between rounds: ``touched``, the key hashes that this round must leave
out, and ``pending``, those that no round has compared yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from carbon_pipelines.errors import LakeUnreadableError
from carbon_pipelines.quality.drilldown import Difference, explain_kept, keep_rows
from carbon_pipelines.quality.lake_scan import LakeSnapshot
from carbon_pipelines.quality.rowhash import (
    RowShape,
    bucket_sums,
    differing_buckets,
    plan_drilldown,
)
from carbon_pipelines.quality.source_scan import SOURCE_TEXT, SourceStream, registered
from carbon_pipelines.quality.touched_keys import key_batch
from carbon_pipelines.quality.verification import VerifyLimits

_LEFT_OUT = "key_hash NOT IN (SELECT key_hash FROM touched)"
_PENDING = "key_hash IN (SELECT key_hash FROM pending)"


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of one table at one point."""

    shape: RowShape
    source: SourceStream
    lake: LakeSnapshot


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found at the keys it did not leave out."""

    source_rows: int
    lake_rows: int
    differences: tuple[Difference, ...] = ()
    differing_buckets: int = 0


class Comparison:
    """The comparison of one table over several rounds."""

    def __init__(self, engine: duckdb.DuckDBPyConnection, label: str, limits: VerifyLimits) -> None:
        self._engine = engine
        self._label = label
        self._limits = limits
        self._is_first = True

    def leave_out(self, keys: Sequence[tuple[object, ...]], shape: RowShape) -> None:
        """Do not compare ``keys`` (as text) in this round."""
        columns = tuple(shape.columns[i] for i in shape.key_positions)
        rows = RowShape(columns, key=()).source_rows("touched_text")
        self._engine.register("touched_text", key_batch(keys, columns))
        self._engine.execute(
            f"CREATE OR REPLACE TEMP TABLE touched AS SELECT DISTINCT key_hash FROM ({rows})"
        )
        self._engine.unregister("touched_text")

    def compare(self, ends: Ends) -> Compared:
        """Compare every key, or from the second time on the pending ones, save those left out.

        Raises:
            LakeUnreadableError: DuckDB cannot read the lake.
            SourceError: The source ended the reading.
        """
        where = _LEFT_OUT if self._is_first else f"{_PENDING} AND {_LEFT_OUT}"
        source = f"SELECT * FROM ({ends.shape.source_rows(SOURCE_TEXT)}) WHERE {where}"
        columns = frozenset(ends.lake.columns)
        lake = f"SELECT * FROM ({ends.shape.lake_rows(ends.lake.sql, columns)}) WHERE {where}"
        try:
            with registered(self._engine, ends.source):
                at_source = bucket_sums(self._engine, source)
            in_lake = bucket_sums(self._engine, lake)
            differing = differing_buckets(at_source, in_lake)
            buckets = plan_drilldown(
                differing, at_source, in_lake, max_rows=self._limits.drilldown_rows
            )
            found = self._look_into(buckets, ends, source, lake) if buckets else ()
        except duckdb.Error as error:
            raise LakeUnreadableError(self._label, ends.lake.snapshot_id, str(error)) from error
        return Compared(
            source_rows=sum(bucket.rows for bucket in at_source.values()),
            lake_rows=sum(bucket.rows for bucket in in_lake.values()),
            differences=found,
            differing_buckets=len(differing),
        )

    def settle(self) -> int:
        """End the round: what it left out is pending; how many keys that are."""
        pending = "touched" if self._is_first else f"touched WHERE {_PENDING}"
        self._engine.execute(
            f"CREATE OR REPLACE TEMP TABLE pending AS SELECT key_hash FROM {pending}"
        )
        self._is_first = False
        return len(self._engine.execute("SELECT key_hash FROM pending").fetchall())

    def _look_into(
        self, buckets: Sequence[int], ends: Ends, source: str, lake: str
    ) -> tuple[Difference, ...]:
        with registered(self._engine, ends.source):
            keep_rows(self._engine, "source_kept", source, ends.shape, buckets)
        keep_rows(self._engine, "lake_kept", lake, ends.shape, buckets)
        return explain_kept(self._engine, ends.shape, max_keys=self._limits.differences)
