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

from carbon_pipelines.catalog.table import TEXT_TYPE
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
    "date": DateType(),
    "time": TimeType(),
    "timestamp": TimestampType(),
    "timestamptz": TimestamptzType(),
    "uuid": UUIDType(),
    "bytea": BinaryType(),
}
_JSON: dict[str, pa.DataType] = {
    "int2": pa.int64(),
    "int4": pa.int64(),
    "int8": pa.int64(),
    "oid": pa.int64(),
    "float4": pa.float32(),  # by way of a double, a few would be rounded twice
    "float8": pa.float64(),
    "bool": pa.bool_(),
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
_NAMES = {kind: str(iceberg()) for iceberg, kind in _ARROW.items()}


def iceberg_type(source: SourceType, declared: str | None = None) -> IcebergType:
    """The Iceberg type that holds ``source`` exactly; element ids of lists are placeholders (-1).

    A type without one of its own is a string: PostgreSQL's own text of the value.

    Args:
        source: The column's type, domains resolved.
        declared: From the table's declaration: ``string`` for PostgreSQL's text, or
            ``decimal(p,s)`` for an unbounded numeric.

    Raises:
        UnsupportedTypeError: A pseudo-type, or the declared type is no other form of this one.
    """
    if source.kind == "p":
        raise UnsupportedTypeError(source.name)
    if declared is not None and not _may_declare(source, declared):
        raise UnsupportedTypeError(f"{source.name} declared as {declared}")
    if declared == TEXT_TYPE:
        return StringType()
    if source.element is not None and source.is_list:
        kind = iceberg_type(source.element, declared)
        # an array of a domain over an array: lists in lists are text
        kind = StringType() if isinstance(kind, ListType) else kind
        return ListType(-1, kind, element_required=False)
    if not source.is_built_in:
        return StringType()
    if source.base_name == "numeric":
        return _numeric(source, declared)
    return _PRIMITIVES.get(source.base_name, StringType())


def _may_declare(source: SourceType, declared: str) -> bool:
    """Numbers, booleans and bytea have no value that their own type cannot hold, and no text."""
    if declared == TEXT_TYPE:
        is_bytea = source.is_built_in and source.base_name == "bytea"
        return not is_bytea and (source.is_list or json_type(source) == pa.string())
    element = source.element if source.element is not None and source.is_list else source
    return element.is_built_in and element.base_name == "numeric"


def _numeric(source: SourceType, declared: str | None) -> PrimitiveType:
    if declared is not None:
        match = _DECLARED.fullmatch(declared)
        if match is None:
            raise UnsupportedTypeError(f"{source.name} declared as {declared}")
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


def type_name(kind: pa.DataType) -> str:
    """What Iceberg calls a type that we hold as ``kind``, like ``decimal(8, 2)``."""
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    return _NAMES.get(kind, str(kind))


def json_type(source: SourceType, declared: str | None = None) -> pa.DataType:
    """The Arrow type of a value as it stands in an envelope (numbers, booleans, lists or text).

    A column that is declared a string is one there too.
    """
    if declared == TEXT_TYPE:
        return pa.string()
    if source.element is not None and source.is_list:
        kind = json_type(source.element)
        return pa.list_(pa.string() if pa.types.is_list(kind) else kind)
    return _JSON.get(source.base_name, pa.string()) if source.is_built_in else pa.string()


def copy_type(source: SourceType) -> pa.DataType | None:
    """The type that COPY's csv can be read in directly, or ``None`` for text."""
    kind = json_type(source)
    return None if pa.types.is_list(kind) or kind == pa.string() else kind
