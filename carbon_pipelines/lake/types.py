"""Which Iceberg and Arrow type a PostgreSQL type becomes.

What belongs here: the mapping of types, pure. What does not: the conversion of values
(``codec.py``) and the schema of a whole table (``evolution.py``). docs/lake.md documents the
mapping.
Sources: PostgreSQL manual chapter 8; Iceberg spec, "Primitive Types" and "Parquet".
"""

import re

import pyarrow as pa
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from carbon_pipelines.errors import UnsupportedTypeError
from carbon_pipelines.source.relation import SourceType

_PRIMITIVES: dict[str, PrimitiveType] = {
    "int2": IntegerType(),
    "int4": IntegerType(),
    "int8": LongType(),
    "oid": LongType(),
    "bool": BooleanType(),
    "float4": FloatType(),
    "float8": DoubleType(),
    "text": StringType(),
    "varchar": StringType(),
    "bpchar": StringType(),
    "char": StringType(),
    "name": StringType(),
    "json": StringType(),
    "jsonb": StringType(),
    "date": DateType(),
    "time": TimeType(),
    "timestamp": TimestampType(),
    "timestamptz": TimestamptzType(),
    "uuid": UUIDType(),
    "bytea": BinaryType(),
}
_DECLARED = re.compile(r"decimal\((\d{1,2}),\s*(\d{1,2})\)")
MAX_DECIMAL_PRECISION = 38
"""The largest precision of an Iceberg decimal."""

_ARROW: dict[type[IcebergType], pa.DataType] = {
    IntegerType: pa.int32(),
    LongType: pa.int64(),
    BooleanType: pa.bool_(),
    FloatType: pa.float32(),
    DoubleType: pa.float64(),
    StringType: pa.string(),
    DateType: pa.date32(),
    TimeType: pa.time64("us"),
    TimestampType: pa.timestamp("us"),
    TimestamptzType: pa.timestamp("us", tz="UTC"),
    UUIDType: pa.uuid(),
    BinaryType: pa.binary(),
}


def iceberg_type(source: SourceType, declared: str | None = None) -> IcebergType:
    """The Iceberg type that holds ``source`` exactly; element ids of lists are placeholders (-1).

    Args:
        source: The column's type, domains resolved.
        declared: ``decimal(p,s)`` for an unbounded numeric, from the table's declaration.

    Raises:
        UnsupportedTypeError: The type has no mapping.
    """
    if source.element is not None:
        return ListType(-1, iceberg_type(source.element, declared), element_required=False)
    if source.kind == "e":
        return StringType()
    if source.base_name == "numeric":
        return _numeric(source, declared)
    if source.kind == "b" and source.base_name in _PRIMITIVES:
        return _PRIMITIVES[source.base_name]
    raise UnsupportedTypeError(source.name)


def _numeric(source: SourceType, declared: str | None) -> PrimitiveType:
    if declared is not None:
        match = _DECLARED.fullmatch(declared)
        if match is None:
            raise UnsupportedTypeError(declared)
        return DecimalType(int(match[1]), int(match[2]))
    if source.typmod < 0:
        return StringType()
    # pg_type typmod of numeric: ((precision << 16) | (scale & 0x7ff)) + 4, scale signed in 11 bits
    packed = source.typmod - 4
    precision, scale = packed >> 16 & 0xFFFF, packed & 0x7FF
    scale = scale - 0x800 if scale & 0x400 else scale
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    return StringType() if precision > MAX_DECIMAL_PRECISION else DecimalType(precision, scale)


def arrow_type(iceberg: IcebergType) -> pa.DataType:
    """The Arrow type in which we hold and write values of ``iceberg``, without field ids."""
    if isinstance(iceberg, ListType):
        return pa.list_(pa.field("element", arrow_type(iceberg.element_type)))
    if isinstance(iceberg, DecimalType):
        return pa.decimal128(iceberg.precision, iceberg.scale)
    return _ARROW[type(iceberg)]


def json_type(source: SourceType) -> pa.DataType:
    """The Arrow type of a value as it stands in an envelope (numbers, booleans, lists or text)."""
    if source.element is not None:
        return pa.list_(json_type(source.element))
    if source.kind == "b" and source.base_name in {"int2", "int4", "int8", "oid"}:
        return pa.int64()
    if source.kind == "b" and source.base_name in {"float4", "float8"}:
        return pa.float64()
    if source.kind == "b" and source.base_name == "bool":
        return pa.bool_()
    return pa.string()


def copy_type(source: SourceType) -> pa.DataType | None:
    """The type that COPY's csv can be read in directly, or ``None`` for text."""
    return (
        None
        if source.element is not None or json_type(source) == pa.string()
        else json_type(source)
    )
