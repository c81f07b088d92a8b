"""A set of very many paths in eight bytes each.

What belongs here: adding, asking, and which were never asked for. What does not: what a path means.

Of each path only a hash of 64 bits is kept. Two paths with one hash (among a million paths that are
held against a million others, a chance of 1 in 18 million) make ``in`` say yes of a path that was
never added. So a set holds what is to be *kept*, never what is to be removed: such a mistake leaves
a file where it is.
"""

from collections.abc import Iterable

import numpy as np

from carbon_pipelines.maintenance.locations import normalise

_PENDING = 1 << 18
"""Hashes that are collected before they are sorted into the rest."""


class PathSet:
    """Paths by their normalised names."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._sorted = np.empty(0, dtype=np.int64)
        self._asked = np.empty(0, dtype=np.bool_)
        self._pending: set[int] = set()
        for path in paths:
            self.add(path)

    def __len__(self) -> int:
        """How many different paths were added."""
        self._settle()
        return len(self._sorted)

    @property
    def state_bytes(self) -> int:
        """What the set holds in memory, once nothing is pending."""
        self._settle()
        return self._sorted.nbytes + self._asked.nbytes

    def add(self, path: str) -> None:
        """Put a path in."""
        self._pending.add(hash(normalise(path)))
        if len(self._pending) >= _PENDING:
            self._settle()

    def add_new(self, path: str) -> bool:
        """Put a path in; whether it was not in before."""
        number = hash(normalise(path))
        if number in self._pending or self._find(number) is not None:
            return False
        self.add(path)
        return True

    def contains(self, paths: Iterable[str]) -> list[bool]:
        """Which of ``paths`` were added; remembers that they were asked for."""
        self._settle()
        hashes = np.fromiter((hash(normalise(path)) for path in paths), dtype=np.int64)
        if not len(self._sorted):
            return [False] * len(hashes)
        at = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
        found = self._sorted[at] == hashes
        self._asked[at[found]] = True
        return found.tolist()

    def __contains__(self, path: str) -> bool:
        """Whether a path was added; not remembered as asked for."""
        number = hash(normalise(path))
        return number in self._pending or self._find(number) is not None

    @property
    def unasked(self) -> int:
        """How many of the paths ``contains`` never met."""
        self._settle()
        return int(len(self._asked) - np.count_nonzero(self._asked))

    def was_asked(self, path: str) -> bool:
        """Whether ``contains`` met this path, which was added."""
        self._settle()
        at = self._find(hash(normalise(path)))
        return at is not None and bool(self._asked[at])

    def _find(self, number: int) -> int | None:
        at = int(np.searchsorted(self._sorted, number))
        return at if at < len(self._sorted) and self._sorted[at] == number else None

    def _settle(self) -> None:
        if not self._pending:
            return
        new = np.fromiter(self._pending, dtype=np.int64, count=len(self._pending))
        self._pending.clear()
        new.sort()
        if len(self._sorted):
            at = np.minimum(np.searchsorted(self._sorted, new), len(self._sorted) - 1)
            new = new[self._sorted[at] != new]
        places = np.searchsorted(self._sorted, new)
        self._sorted = np.insert(self._sorted, places, new)
        self._asked = np.insert(self._asked, places, False)
