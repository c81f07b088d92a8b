"""JSON for one column's value, from the text PostgreSQL sends.

What belongs here: which form each type has in an envelope, and the functions that make it. What
does not: where the text comes from and what the column is called (``envelope.py``).

Integers and floats are numbers, booleans are true and false, bytea is hex, arrays are arrays, and
every other type is a string with PostgreSQL's text. So is an array with more than one dimension or
another lower bound than 1, which a JSON array cannot tell from others, and an array of which we do
not know the delimiter (``SourceType.is_list``). Types whose text can hold neither quote,
backslash nor control character are not searched for them: that search costs more than the rest.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from psycopg.postgres import types as builtin_types

from carbon_pipelines.source.array_text import is_one_list, parse_array
from carbon_pipelines.source.relation import SourceType

NULL = b"null"
UNAVAILABLE = b'"__debezium_unavailable_value"'
"""Stands for an unchanged TOAST value in columns that are strings."""

Encode = Callable[[bytes], bytes]

_NUMBERS = frozenset({"int2", "int4", "int8", "oid"})
_FLOATS = frozenset({"float4", "float8"})
_PLAIN_TEXT = frozenset(
    {
        *("numeric", "uuid", "date", "time", "timetz", "timestamp", "timestamptz", "interval"),
        *("inet", "cidr", "macaddr", "macaddr8", "bit", "varbit", "pg_lsn", "xid", "xid8"),
    }
)
_NOT_FINITE = frozenset({b"NaN", b"Infinity", b"-Infinity"})
NEEDS_ESCAPE = re.compile(rb'["\\\x00-\x1f]')
_ESCAPES = {bytes([code]): b"\\u%04x" % code for code in range(32)} | {
    b'"': b'\\"',
    b"\\": b"\\\\",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
}
_TO_JSON_ARRAY = bytes.maketrans(b"{}", b"[]")


@dataclass(frozen=True, slots=True)
class ValueEncoding:
    """How values of one type are written; ``encode`` is None where the text is JSON already."""

    encode: Encode | None
    unavailable: bytes


def value_encoding(source_type: SourceType, *, as_text: bool = False) -> ValueEncoding:
    """The encoding of a type that is resolved to its base.

    Args:
        source_type: The column's type.
        as_text: The column is declared a string: its array is PostgreSQL's text as well.
    """
    if source_type.element is not None and source_type.is_list and not as_text:
        return ValueEncoding(_array_encoder(source_type.element), NULL)
    encode = _scalar_encoder(source_type)
    is_string = encode in (quote, string, _bytea)
    return ValueEncoding(encode, UNAVAILABLE if is_string else NULL)


def builtin_type(oid: int, typmod: int) -> SourceType | None:
    """The type with this oid if every PostgreSQL has it, so that no catalog needs to be asked."""
    info = builtin_types.get(oid)
    if info is None:
        return None
    if info.oid == oid or info.delimiter != ",":
        return SourceType(oid, typmod, info.name, "b", info.name, None)
    element = SourceType(info.oid, typmod, info.name, "b", info.name, None)
    return SourceType(oid, typmod, f"{info.name}[]", "b", f"_{info.name}", element)


def string(value: bytes) -> bytes:
    """A JSON string for UTF-8 text; bytes past ASCII stay as they are."""
    if NEEDS_ESCAPE.search(value):
        value = NEEDS_ESCAPE.sub(_escape, value)
    return b'"%b"' % value


def _escape(found: re.Match[bytes]) -> bytes:
    return _ESCAPES[found[0]]


def quote(value: bytes) -> bytes:
    """A JSON string for text that needs no escapes."""
    return b'"%b"' % value


def _bytea(value: bytes) -> bytes:
    return b'"%b"' % value[2:]  # without \x


def _float(value: bytes) -> bytes:
    return b'"%b"' % value if value in _NOT_FINITE else value


_boolean = {b"t": b"true", b"f": b"false"}.__getitem__


def _scalar_encoder(source_type: SourceType) -> Encode | None:
    if not source_type.is_built_in:
        return string
    base_name = source_type.base_name
    if base_name in _NUMBERS:
        return None
    if base_name in _FLOATS:
        return _float
    if base_name == "bool":
        return _boolean
    if base_name == "bytea":
        return _bytea
    return quote if base_name in _PLAIN_TEXT else string


def _array_encoder(element: SourceType) -> Encode:
    encode = _scalar_encoder(element)

    def encode_array(text: bytes) -> bytes:
        if not is_one_list(text):
            return string(text)
        return b"[%b]" % b",".join([_element(item, encode) for item in parse_array(text)])

    def encode_number_array(text: bytes) -> bytes:
        if not is_one_list(text):
            return string(text)
        return text.translate(_TO_JSON_ARRAY).replace(b"NULL", NULL)

    return encode_number_array if encode is None else encode_array


def _element(element: object, encode: Encode | None) -> bytes:
    match element:
        case None:
            return NULL
        case bytes():
            return element if encode is None else encode(element)
        case _:
            reason = f"an array element is a {type(element).__name__}"
            raise TypeError(reason)
