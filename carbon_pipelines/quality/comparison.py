"""Comparing two ends that stand at the same point.

What belongs here: summing both, leaving keys out and remembering them, and looking into differing
buckets. What does not: how the ends came to stand at one point (``reconcile.py``).

DuckDB keeps two small tables between rounds: ``touched``, the key hashes that this round must leave
out, and ``pending``, those that no round has compared yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from carbon_pipelines.errors import LakeUnreadableError
from carbon_pipelines.quality.drilldown import (
    Difference,
    explain_kept,
    find_differing,
    keep_hashes,
    keep_rows,
    take_differing,
)
from carbon_pipelines.quality.fine_sums import FINE_BUCKETS, FineSums
from carbon_pipelines.quality.lake_scan import LakeSnapshot
from carbon_pipelines.quality.rowhash import (
    BUCKETS,
    BucketSum,
    RowShape,
    bucket_sums,
    differing_buckets,
)
from carbon_pipelines.quality.source_scan import SOURCE_TEXT, SourceStream, registered
from carbon_pipelines.quality.touched_keys import Key, key_batch
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
    """What a comparison found at the keys it did not leave out.

    ``differing_keys`` counts those that ``differences`` names and all others; ``at_least`` says
    that there may be more, for they were too many to look at all of them. ``source`` and
    ``lake_keys`` are the rows at the named ones (``drilldown.take_differing``), if they were asked
    for.
    """

    source_rows: int
    lake_rows: int
    differences: tuple[Difference, ...] = ()
    differing_keys: int = 0
    at_least: bool = False
    source: pa.Table | None = None
    lake_keys: pa.Table | None = None


class Comparison:
    """The comparison of one table over several rounds."""

    def __init__(self, engine: duckdb.DuckDBPyConnection, label: str, limits: VerifyLimits) -> None:
        self._engine = engine
        self._label = label
        self._limits = limits
        self._is_first = True

    def begin(self, keys: Sequence[Key] | None, shape: RowShape) -> None:
        """Compare ``keys`` (as text) alone, in all rounds; None: every key."""
        self._is_first = keys is None
        if keys is not None:
            self._name_hashes("pending", keys, shape)

    def leave_out(self, keys: Sequence[Key], shape: RowShape) -> None:
        """Do not compare ``keys`` (as text) in this round."""
        self._name_hashes("touched", keys, shape)

    def _name_hashes(self, name: str, keys: Sequence[Key], shape: RowShape) -> None:
        columns = tuple(shape.columns[i] for i in shape.key_positions)
        rows = RowShape(columns, key=()).source_rows("key_text")
        self._engine.register("key_text", key_batch(keys, columns))
        self._engine.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT DISTINCT key_hash FROM ({rows})"
        )
        self._engine.unregister("key_text")

    def compare(self, ends: Ends) -> Compared:
        """Compare every key, or those that are pending, save those left out.

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
            if not differing:
                return Compared(_rows(at_source), _rows(in_lake))
            looked_at = sum(
                end[b].rows for end in (at_source, in_lake) for b in differing if b in end
            )
            found = self._look_into(differing, looked_at, ends, source, lake)
        except duckdb.Error as error:
            raise LakeUnreadableError(self._label, ends.lake.snapshot_id, str(error)) from error
        return replace(found, source_rows=_rows(at_source), lake_rows=_rows(in_lake))

    def settle(self) -> int:
        """End the round: what it left out is pending; how many keys that are."""
        pending = "touched" if self._is_first else f"touched WHERE {_PENDING}"
        self._engine.execute(
            f"CREATE OR REPLACE TEMP TABLE pending AS SELECT key_hash FROM {pending}"
        )
        self._is_first = False
        return len(self._engine.execute("SELECT key_hash FROM pending").fetchall())

    def _look_into(
        self, buckets: Sequence[int], rows: int, ends: Ends, source: str, lake: str
    ) -> Compared:
        """Name the keys that differ in ``buckets``, which have so many rows at both ends.

        Where these are many, the buckets are made fine enough to hold few rows besides those that
        differ; and where it is still many, their hashes alone are kept first. So whole rows are
        kept only of keys that differ, or are few.
        """
        max_keys, shape = self._limits.differences, ends.shape
        where = f"key_hash % {BUCKETS} IN ({', '.join(map(str, buckets))})"
        kept = "source_kept", "lake_kept"
        keys = more = 0
        many = rows > self._limits.drilldown_rows
        if many:
            where, rows, more = self._narrowed(where, rows, ends, source, lake)
            many = rows > self._limits.drilldown_rows
        if many:
            with registered(self._engine, ends.source):
                keep_hashes(self._engine, "source_hashes", source, where)
            keep_hashes(self._engine, "lake_hashes", lake, where)
            keys = find_differing(self._engine, "source_hashes", "lake_hashes", max_keys=max_keys)
            where = "key_hash IN (SELECT key_hash FROM differing)"
        with registered(self._engine, ends.source):
            keep_rows(self._engine, "source_kept", source, shape, where)
        keep_rows(self._engine, "lake_kept", lake, shape, where)
        if not many:
            keys = find_differing(self._engine, *kept, max_keys=max_keys)
        found = Compared(0, 0, explain_kept(self._engine, shape), keys + more, at_least=more > 0)
        if not self._limits.keep_rows:
            return found
        at_source, in_lake = take_differing(self._engine, shape)
        return replace(found, source=at_source, lake_keys=in_lake)

    def _narrowed(
        self, where: str, rows: int, ends: Ends, source: str, lake: str
    ) -> tuple[str, int, int]:
        """A narrower condition than ``where`` that still holds for every key that differs.

        Returns:
            It, how many rows of both ends it holds for, and at how many differing keys it does not
            hold, at least: these are more than can be looked at.
        """
        sums = FineSums()
        with registered(self._engine, ends.source):
            sums.add(self._engine, source, where)
        sums.subtract(self._engine, lake, where)
        found = sums.differing(self._limits.hashed_rows)
        if not found.rows:  # sums that are equal though rows are not: the odds are one in 2^64
            return where, rows, 0
        self._engine.register("fine", found.buckets)
        self._engine.execute("CREATE OR REPLACE TEMP TABLE fine_buckets AS SELECT * FROM fine")
        self._engine.unregister("fine")
        where = f"key_hash % {FINE_BUCKETS} IN (SELECT bucket FROM fine_buckets)"
        return where, found.rows, found.more


def _rows(sums: Mapping[int, BucketSum]) -> int:
    return sum(bucket.rows for bucket in sums.values())
