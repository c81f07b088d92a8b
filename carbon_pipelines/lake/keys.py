"""Keys of any type and any number of columns as plain integers, vectorised.

What belongs here: numbering the distinct keys of a batch and finding which rows of other data carry
one of them. What does not: files (``lookup.py``) and events (``fold.py``).
A key's number is its index in ``KeySet.keys``; -1 means "none of them".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.extension import storage

_COMPOSITE_LIMIT = 2**62
"""Above this, combined codes are renumbered before the next column is added."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """Distinct keys, in order of first appearance; one array for each key column."""

    columns: tuple[pa.Array, ...]

    def __len__(self) -> int:
        """Number of keys."""
        return len(self.columns[0])

    def rows(self, names: Sequence[str], limit: int) -> str:
        """The first keys, for an error message."""
        shown = pa.table(list(self.columns), names=list(names)).slice(0, limit).to_pylist()
        return ", ".join("(" + ", ".join(f"{k}={v}" for k, v in row.items()) + ")" for row in shown)


def number_keys(columns: Sequence[pa.Array]) -> tuple[KeySet, np.ndarray]:
    """Number the keys that the rows of ``columns`` carry.

    Returns:
        The distinct keys and, for each row, the number of its key (int64).
    """
    stored = [storage(column) for column in columns]
    codes = _dictionary_codes(stored[0])
    for column in stored[1:]:
        codes = _combine(codes, _dictionary_codes(column))
    encoded = pa.array(codes).dictionary_encode()
    numbers = encoded.indices.to_numpy().astype(np.int64)
    first = np.full(len(encoded.dictionary), len(codes), dtype=np.int64)
    first[numbers[::-1]] = np.arange(len(numbers) - 1, -1, -1)
    take = pa.array(first)
    return KeySet(tuple(column.take(take) for column in columns)), numbers


def _dictionary_codes(column: pa.Array) -> np.ndarray:
    """The number of each value; NULL is one, too."""
    return (
        column.dictionary_encode(null_encoding="encode")
        .indices.to_numpy(zero_copy_only=False)
        .astype(np.int64)
    )


def _combine(codes: np.ndarray, more: np.ndarray) -> np.ndarray:
    width = int(more.max(initial=0)) + 1
    if int(codes.max(initial=0)) + 1 > _COMPOSITE_LIMIT // width:
        codes = _dictionary_codes(pa.array(codes))
    return codes * width + more


class KeyMatcher:
    """Finds the keys of a ``KeySet`` among other rows.

    Columns are matched one after another; after each, the combinations that the set has are
    numbered anew, so codes stay below (number of keys) squared whatever the number of columns.
    """

    def __init__(self, keys: KeySet) -> None:
        self._values: list[pa.Array] = []
        self._combinations: list[pa.Array] = []
        codes = pa.array(np.zeros(len(keys), dtype=np.int64))
        for column in (storage(column) for column in keys.columns):
            values = column.unique()
            combined = _combined(codes, pc.index_in(column, value_set=values), len(values))
            combinations = combined.unique()
            self._values.append(values)
            self._combinations.append(combinations)
            codes = pc.index_in(combined, value_set=combinations)

    def match(self, columns: Sequence[pa.Array]) -> np.ndarray:
        """For each row of ``columns`` the number of its key in the set, or -1 (int64)."""
        stored = [storage(column) for column in columns]
        codes = pc.index_in(stored[0], value_set=self._values[0])
        for column, values, combinations in zip(
            stored[1:], self._values[1:], self._combinations[1:], strict=True
        ):
            combined = _combined(codes, pc.index_in(column, value_set=values), len(values))
            codes = pc.index_in(combined, value_set=combinations, skip_nulls=True)
        return pc.fill_null(codes, -1).to_numpy(zero_copy_only=False).astype(np.int64)


def _combined(codes: pa.Array, index: pa.Array, width: int) -> pa.Array:
    return pc.add(pc.multiply(codes.cast(pa.int64()), width), index.cast(pa.int64()))
