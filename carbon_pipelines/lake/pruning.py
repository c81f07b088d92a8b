"""Which files and row groups can hold one of the values that are looked for.

What belongs here: comparing values of one column with the bounds in manifests and footers. What
does not: reading what is left (``lookup.py``, ``bag_lookup.py``).
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.schema import Schema
from pyiceberg.types import DateType, IntegerType, LongType, TimestampType, TimestamptzType

from carbon_pipelines.lake.table_files import LiveFile

_WITH_BOUNDS = IntegerType | LongType | DateType | TimestampType | TimestamptzType


class BoundsPruner:
    """Decides by the bounds of one column whether a file or row group may hold a value.

    Integers, dates and timestamps only; of other types everything may. NULL is a value that is
    looked for if it is among them.
    """

    def __init__(self, values: pa.Array, field_id: int, schema: Schema) -> None:
        self._field_id, self._null_wanted = field_id, bool(values.null_count)
        kind = schema.find_field(field_id).field_type
        self._sorted: np.ndarray | None = None
        if isinstance(kind, _WITH_BOUNDS):
            known = values.drop_null()
            numbers = (
                known.cast(pa.int64()) if pa.types.is_integer(known.type) else _as_integers(known)
            )
            self._sorted = np.sort(numbers.to_numpy(zero_copy_only=False))

    def may_hold(self, data: LiveFile) -> bool:
        """Whether a data file may."""
        low = (data.file.lower_bounds or {}).get(self._field_id)
        high = (data.file.upper_bounds or {}).get(self._field_id)
        if self._sorted is None or low is None or high is None:
            return True
        if self._null_wanted and (data.file.null_value_counts or {}).get(self._field_id, 1):
            return True
        return self._any_between(
            int.from_bytes(low, "little", signed=True), int.from_bytes(high, "little", signed=True)
        )

    def row_groups(self, footer: pq.FileMetaData, name: str) -> Iterator[tuple[int, int]]:
        """(row group, its first row) of the row groups that may, of a file that calls it so."""
        first = 0
        paths = [footer.schema.column(i).path for i in range(footer.num_columns)]
        index = paths.index(name) if name in paths else None
        for group in range(footer.num_row_groups):
            row_group = footer.row_group(group)
            statistics = row_group.column(index).statistics if index is not None else None
            if self._sorted is None or statistics is None or self._may_be_in(statistics):
                yield group, first
            first += row_group.num_rows

    def _may_be_in(self, statistics: pq.Statistics) -> bool:
        if not statistics.has_min_max:
            return True
        if self._null_wanted and (not statistics.has_null_count or statistics.null_count):
            return True
        return self._any_between(int(statistics.min_raw), int(statistics.max_raw))

    def _any_between(self, low: int, high: int) -> bool:
        assert self._sorted is not None
        index = int(np.searchsorted(self._sorted, low, side="left"))
        return index < len(self._sorted) and int(self._sorted[index]) <= high


def _as_integers(values: pa.Array) -> pa.Array:
    """Dates as days and timestamps as microseconds."""
    if pa.types.is_date32(values.type):
        return values.view(pa.int32()).cast(pa.int64())
    return values.view(pa.int64())
