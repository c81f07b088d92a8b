"""What a comparison of source and lake found.

What belongs here: the result of ``reconcile.verify_table`` and the bounds it works within. What
does not: how it is found.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pyarrow as pa

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.lake.state import TableProgress
from carbon_pipelines.quality.drilldown import Difference
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceRelation

NAMED_KEYS = 20
"""Differing keys that a sentence names."""


@dataclass(frozen=True, slots=True)
class VerifyLimits:
    """How far a comparison goes.

    Attributes:
        rounds: Source snapshots taken before keys that are still moving are reported as unsettled.
        differences: Differing keys that are named.
        drilldown_rows: Rows of differing buckets, of both ends together, that are kept whole at
            once; where there are more, only those of differing keys are, for one more reading.
        hashed_rows: Hashes of rows that may differ, of both ends together, that are kept at once;
            where there are more, keys are named among so many, and the others counted roughly.
        keep_rows: Whether the rows of the named keys are returned, for a repair.
        memory_bytes: What DuckDB may hold; past it, it spills to disk.
        threads: DuckDB's threads.
        timeout: How long to wait for capture to reach the compared point.
    """

    rounds: int = 12
    differences: int = NAMED_KEYS
    drilldown_rows: int = 50_000
    hashed_rows: int = 500_000
    keep_rows: bool = False
    memory_bytes: int = 200_000_000
    threads: int = 2
    timeout: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class DifferingRows:
    """What both ends hold at the keys that a round found differing.

    Attributes:
        progress: Where the lake stood in that round; the source's rows are those of that moment.
        relation: The source table.
        source: Its rows, as PostgreSQL's text; arrays as lists of texts.
        lake_keys: The key of each of the lake's rows, as DuckDB has it; uuids as text.
    """

    progress: TableProgress
    relation: SourceRelation
    source: pa.Table
    lake_keys: pa.Table


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a table of the lake equals its source at one point, and where it does not.

    Attributes:
        table: Its declaration.
        verified: True only if every key was compared and every one is equal.
        source_rows: Rows compared at the source.
        lake_rows: Rows compared in the lake.
        differing_keys: The first of the keys that differ.
        differing_count: How many differ.
        at_least: Whether ``differing_count`` may be too few: past ``VerifyLimits.hashed_rows``.
        schema_differences: Columns whose type in the lake does not hold the source's exactly.
        unsettled_keys: Keys that moved in every round, so that they were never compared.
        rounds: Source snapshots taken.
        position: Where the lake stood in the first complete comparison.
        snapshot_id: The table snapshot of that comparison; None for a table without any.
        seconds: Wall time.
        cpu_seconds: CPU time of this process.
        as_of: When the source was as it was compared: its snapshot was taken after that, UTC.
        changed_keys: How many keys were compared, if those were that changed since an earlier
            proof; None if all rows were.
        rows: Those of the keys that differ, by round, if they were asked for.
    """

    table: TableSpec
    verified: bool
    source_rows: int
    lake_rows: int
    differing_keys: tuple[Difference, ...]
    differing_count: int
    schema_differences: tuple[str, ...]
    unsettled_keys: int
    rounds: int
    position: Position
    snapshot_id: int | None
    seconds: float
    cpu_seconds: float
    as_of: datetime | None = None
    changed_keys: int | None = None
    at_least: bool = False
    rows: tuple[DifferingRows, ...] = field(default=(), repr=False)

    @property
    def differs(self) -> bool:
        """Whether something was found that is not equal; keys may also be yet uncompared."""
        return bool(self.differing_count or self.schema_differences)

    def sentence(self) -> str:
        """The result as one line for people."""
        if self.verified and self.changed_keys is not None:
            return (
                f"{self.table.label}: verified, {self.changed_keys:,} keys that changed since the "
                f"last proof are equal at {self.position}"
            )
        if self.verified:
            return f"{self.table.label}: verified, {self.lake_rows:,} rows equal at {self.position}"
        found = [f"{self.table.label}: NOT verified at {self.position}"]
        if self.schema_differences:
            found.append("; ".join(self.schema_differences))
        if self.differing_count:
            found.append(f"{self.source_rows:,} rows in the source, {self.lake_rows:,} in the lake")
            found.append("differing keys: " + "; ".join(map(str, self.differing_keys[:NAMED_KEYS])))
            if self.differing_count > NAMED_KEYS:
                more = f"{self.differing_count - NAMED_KEYS:,} more"
                found.append(f"and at least {more}" if self.at_least else f"and {more}")
        if self.unsettled_keys:
            found.append(
                f"{self.unsettled_keys} keys moved in all {self.rounds} rounds and stay uncompared"
            )
        return "; ".join(found)
