"""How long changes took from their commit in PostgreSQL to being visible in the lake.

What belongs here: counting ages and reading quantiles off the count. What does not: when a merge
was committed and which events it had (``catch_up.py``).

Ages are counted in buckets that grow by a tenth, so that the memory is the same after a minute and
after a year; a quantile is the upper edge of its bucket, never less than the true one and at most a
tenth more. The commit's time is PostgreSQL's clock and the other one ours: an age that comes out
negative counts as zero, and clocks that are seconds apart are told so by nothing here.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

_GROWTH = 1.1
_LONGEST_MS = 7 * 24 * 3600 * 1000.0
_EDGES_MS: np.ndarray = np.concatenate(
    ([0.0], _GROWTH ** np.arange(np.ceil(np.log(_LONGEST_MS) / np.log(_GROWTH)) + 1))
)


@dataclass(slots=True)
class Freshness:
    """Ages of changes at the moment they became visible.

    Attributes:
        counts: Changes to a bucket; the last one has all that are older than its edge.
        oldest_seconds: The greatest age.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(len(_EDGES_MS), dtype=np.int64))
    oldest_seconds: float = 0.0

    def add(self, committed_ms: pa.Array, visible_ms: float) -> None:
        """Count changes that became visible at ``visible_ms``.

        Args:
            committed_ms: When each was committed, in milliseconds from 1970; null is not counted.
            visible_ms: Likewise, when the lake's commit was done.
        """
        known = committed_ms.drop_null()
        if not len(known):
            return
        ages = np.maximum(visible_ms - known.to_numpy(zero_copy_only=False).astype(float), 0.0)
        buckets = np.searchsorted(_EDGES_MS, ages, side="left")
        self.counts += np.bincount(
            np.minimum(buckets, len(_EDGES_MS) - 1), minlength=len(_EDGES_MS)
        )
        self.oldest_seconds = max(self.oldest_seconds, float(ages.max()) / 1000)

    def merge(self, other: "Freshness") -> None:
        """Count what ``other`` has counted as well."""
        self.counts += other.counts
        self.oldest_seconds = max(self.oldest_seconds, other.oldest_seconds)

    @property
    def changes(self) -> int:
        """How many were counted."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """The age in seconds that ``share`` of the changes did not exceed; 0 if there are none."""
        if not self.changes:
            return 0.0
        below = np.cumsum(self.counts)
        index = int(np.searchsorted(below, np.ceil(share * below[-1]), side="left"))
        return min(float(_EDGES_MS[index]) / 1000, self.oldest_seconds)
