"""Bounds of columns in Iceberg's single-value form.

What belongs here: serialising a smallest and a largest value. What does not: finding them
(``data_file.py``). Source: Iceberg spec, appendix D (single-value serialisation).
"""

import struct
from typing import Any

from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

BOUND_CHARACTERS = 16
"""Length of the bounds of text and binary columns, as Iceberg's ``truncate(16)``."""

_STRUCTS: dict[type[PrimitiveType], str] = {
    IntegerType: "<i",
    DateType: "<i",
    LongType: "<q",
    TimeType: "<q",
    TimestampType: "<q",
    TimestamptzType: "<q",
    FloatType: "<f",
    DoubleType: "<d",
    BooleanType: "<?",
}


def lower_bound(kind: PrimitiveType, value: Any) -> bytes | None:
    """A lower bound in Iceberg's single-value form; truncated text is below what it begins.

    A uuid has none: Java's readers took uuids for signed numbers when they compared bounds
    (apache/iceberg #14216), and would skip files that hold the value.
    """
    if isinstance(kind, UUIDType):
        return None
    if isinstance(kind, StringType):
        return value.decode()[:BOUND_CHARACTERS].encode()
    if isinstance(kind, BinaryType):
        return value[:BOUND_CHARACTERS]
    return _single_value(kind, value)


def upper_bound(kind: PrimitiveType, value: Any) -> bytes | None:
    """An upper bound in Iceberg's single-value form; truncated text is raised to stay above."""
    if isinstance(kind, UUIDType):
        return None
    if isinstance(kind, StringType):
        text = value.decode()
        return value if len(text) <= BOUND_CHARACTERS else _raised(text[:BOUND_CHARACTERS])
    if isinstance(kind, BinaryType):
        return value if len(value) <= BOUND_CHARACTERS else _raised_bytes(value[:BOUND_CHARACTERS])
    return _single_value(kind, value)


def _single_value(kind: PrimitiveType, value: Any) -> bytes:
    if isinstance(kind, DecimalType):
        return value.to_bytes((value.bit_length() // 8) + 1, "big", signed=True)
    return struct.pack(_STRUCTS[type(kind)], value)


def _raised(text: str) -> bytes | None:
    """The shortest text above every text that starts with ``text``, or ``None``."""
    while text:
        code = ord(text[-1]) + 1
        if 0xD800 <= code <= 0xDFFF:
            code = 0xE000
        if code <= 0x10FFFF:
            return (text[:-1] + chr(code)).encode()
        text = text[:-1]
    return None


def _raised_bytes(value: bytes) -> bytes | None:
    stripped = value.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None
