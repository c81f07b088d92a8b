"""Which partition each row belongs to.

What belongs here: partition values of rows in Iceberg's own representation, and splitting rows by
them. What does not: the files of a partition (``partitions.py``).

PyIceberg's split goes by way of Python's dates: an infinite timestamp fails there, or gets the
partition of NULL, where readers do not look for it. Dates and times are therefore plain integers
here, and their transforms are integer arithmetic; the other transforms are PyIceberg's.
Source: Iceberg spec, "Partition Transforms".
"""

from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import quote_plus

import numpy as np
import pyarrow as pa
from pyiceberg.partitioning import PartitionField, PartitionKey, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import (
    DayTransform,
    HourTransform,
    IdentityTransform,
    TimeTransform,
    TruncateTransform,
    YearTransform,
)
from pyiceberg.typedef import Record

from carbon_pipelines.errors import UnrepresentableValueError
from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.temporal import DAY_MICROSECONDS

_HOUR_MICROSECONDS = DAY_MICROSECONDS // 24


class RowPartition(PartitionKey):
    """A partition, known by its values in Iceberg's representation."""

    def __init__(self, spec: PartitionSpec, schema: Schema, values: Record) -> None:
        super().__init__([], spec, schema)
        # where the parent's cached property looks first
        self.__dict__["partition"] = values

    def to_path(self) -> str:
        """The folder's name, which is for people only; dates past Python's calendar are numbers."""
        try:
            return super().to_path()
        except OverflowError:
            names = [quote_plus(field.name, safe="") for field in self.partition_spec.fields]
            texts = [quote_plus(str(value), safe="") for value in self.partition]
            return "/".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))


def split_by_partition(
    rows: pa.Table, spec: PartitionSpec, schema: Schema
) -> Iterator[tuple[RowPartition, pa.Table]]:
    """Each partition that ``rows`` touch, with its rows in their order.

    Args:
        rows: With the columns of ``schema``.
        spec: A partitioned spec.
        schema: Iceberg's, of the rows.

    Raises:
        UnrepresentableValueError: A timestamp lies outside the hours that Iceberg can count, or a
            number's truncated value outside its type.
    """
    values = [_partition_values(rows, field, schema) for field in spec.fields]
    codes = np.zeros(rows.num_rows, dtype=np.int64)
    for column in values:
        encoded = column.dictionary_encode(null_encoding="encode")
        combined = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
        codes = np.unique(combined, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    for indexes in np.split(order, starts[1:]):
        record = Record(*(column[int(indexes[0])].as_py() for column in values))
        yield RowPartition(spec, schema, record), rows.take(pa.array(indexes))


def _partition_values(rows: pa.Table, field: PartitionField, schema: Schema) -> pa.Array:
    source = schema.find_field(field.source_id)
    column = rows.column(source.name).combine_chunks()
    if isinstance(field.transform, TimeTransform):
        return _temporal(column, field.transform, source.name)
    if isinstance(field.transform, IdentityTransform):
        return _physical(column)
    values = _physical(field.transform.pyarrow_transform(source.field_type)(column))
    if isinstance(field.transform, TruncateTransform):
        _refuse_outside(column, values, field.transform, source.name)
    return values


def _refuse_outside(
    column: pa.Array, values: pa.Array, transform: TruncateTransform, name: str
) -> None:
    """Refuse a number whose truncated value its own type cannot hold: it would be rounded up.

    Truncation goes down, so only the lowest numbers of a type are concerned. An integer comes round
    to the other end of its range, where filters do not look for it; a decimal gets one digit more.
    """
    if pa.types.is_integer(values.type):
        outside = pc.greater(values, column)
    elif pa.types.is_decimal(values.type):
        kind = values.type
        wider = pa.decimal256(kind.precision + 2, kind.scale)
        lowest = pa.scalar(-(Decimal(10) ** (kind.precision - kind.scale)), wider)
        outside = pc.less_equal(values.cast(wider), lowest)
    else:
        return
    indexes = pc.indices_nonzero(outside)
    if len(indexes):
        value = str(column[indexes[0].as_py()].as_py())
        raise UnrepresentableValueError(name, f"partition by {transform}", value)


def _physical(column: pa.Array) -> pa.Array:
    """Dates and times as the integers, and uuids as the bytes, that Iceberg keeps."""
    if isinstance(column, pa.ExtensionArray):
        return column.storage
    if pa.types.is_date32(column.type):
        return column.view(pa.int32())
    if pa.types.is_timestamp(column.type) or pa.types.is_time64(column.type):
        return column.view(pa.int64())
    return column


def _temporal(column: pa.Array, transform: TimeTransform, name: str) -> pa.Array:
    missing = column.is_null().to_numpy(zero_copy_only=False)
    numbers = _physical(column).fill_null(0).to_numpy().astype(np.int64)
    periods = _periods(numbers, transform, is_date=pa.types.is_date32(column.type))
    outside = np.flatnonzero(np.abs(periods) > np.iinfo(np.int32).max)
    if len(outside):
        value = f"{numbers[outside[0]]} microseconds"
        raise UnrepresentableValueError(name, f"partition by {transform}", value)
    return pa.array(periods.astype(np.int32), mask=missing)


def _periods(numbers: np.ndarray, transform: TimeTransform, *, is_date: bool) -> np.ndarray:
    """Years, months, days or hours since 1970 of days or microseconds since then, rounded down."""
    if isinstance(transform, HourTransform):
        return numbers // _HOUR_MICROSECONDS
    days = numbers if is_date else numbers // DAY_MICROSECONDS
    if isinstance(transform, DayTransform):
        return days
    # NumPy's calendar rounds down too, but overflows near the infinite microseconds: days first
    unit = "Y" if isinstance(transform, YearTransform) else "M"
    return days.astype("datetime64[D]").astype(f"datetime64[{unit}]").astype(np.int64)
