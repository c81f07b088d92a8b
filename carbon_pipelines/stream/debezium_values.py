"""Debezium's JSON for one column's value to the JSON our own capture writes.

What belongs here: which form each type has in Debezium's messages, under every setting of the
connector, and turning it into the form of ``json_values.py``. What does not: dates and times
(``debezium_temporal.py``) and whole events (``debezium.py``).

A type of which Debezium loses a part that cannot be told from the message is refused, never
guessed; ``debezium_differences.py`` lists what is lost without a trace.
Source: Debezium's documentation of the PostgreSQL connector, "Data type mappings".
"""

import base64
import hashlib
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from json.encoder import encode_basestring as quote  # pyright: ignore[reportUnknownVariableType]
from typing import Any

from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.source.relation import SourceType
from carbon_pipelines.stream import debezium_temporal as temporal
from carbon_pipelines.stream.debezium_numeric import (
    FieldSchema,
    Number,
    numeric_encoder,
    unexpected,
)

Encode = Callable[[Any], str]
"""A value that is not NULL, to JSON; ValueError and its kin say that it is not of its type."""

_INTEGERS = frozenset({"int2", "int4", "int8", "oid"})
_FLOATS = frozenset({"float4", "float8"})
_TEMPORAL = frozenset({"date", "time", "timestamp", "timestamptz"})
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")
_REFUSED = {
    "timetz": "Debezium moves it to UTC, so its own time zone is lost",
    "money": "Debezium does not write its currency",
    "bit": "Debezium does not write how many bits it has",
    "varbit": "Debezium does not write how many bits it has",
}
_TOLD_IN_ARRAYS = frozenset(
    {"text", "varchar", "bpchar", "json", "jsonb", "int4", "int8", "date", "uuid"}
)
"""Element types whose arrays have a placeholder; an unchanged array of another is NULL."""


@dataclass(frozen=True, slots=True)
class ColumnReader:
    """How one column is read.

    Attributes:
        encode: To the JSON of our own envelopes.
        placeholders: Values that say that a large value was left unchanged.
        untold: NULL may say so too.
    """

    encode: Encode
    placeholders: tuple[object, ...]
    untold: bool


def column_reader(
    source: SourceType, schema: FieldSchema | None, settings: DebeziumSpec
) -> ColumnReader:
    """The reader of a column.

    Args:
        source: Its type, domains resolved.
        schema: Its field of the message's schema, if the message has one.
        settings: What is declared about the connector.
    """
    word = settings.unavailable_value_placeholder
    if source.element is None:
        encode, raw = _scalar(source, schema, settings), word.encode()
        encoded = (base64.b64encode(raw), base64.urlsafe_b64encode(raw), raw.hex().encode())
        also = tuple(each.decode() for each in encoded) if source.base_name == "bytea" else ()
        return ColumnReader(encode, (word, *also), untold=False)
    element = source.element
    items = schema.get("items") if schema is not None else None
    encode = _array(_scalar(element, items, settings), element)
    told = element.kind == "b" and element.base_name in _TOLD_IN_ARRAYS
    if element.base_name == "date" and settings.time_precision_mode in ("connect", "isostring"):
        told = False
    return ColumnReader(encode, _array_placeholders(element.base_name, word), untold=not told)


def _array_placeholders(element: str, word: str) -> tuple[object, ...]:
    raw = word.encode()
    if element in ("int4", "int8", "date"):
        return (word, list(raw))
    if element == "uuid":  # Java's UUID.nameUUIDFromBytes
        digest = hashlib.md5(raw, usedforsecurity=False).digest()
        return (word, [str(uuid.UUID(bytes=digest, version=3))])
    if element == "bytea":
        return (word, [word], [base64.b64encode(raw).decode()])
    return (word, [word])


def _scalar(source: SourceType, schema: FieldSchema | None, settings: DebeziumSpec) -> Encode:
    name = source.base_name if source.kind == "b" else ""
    if name in _REFUSED:
        return _refusing(_REFUSED[name])
    if name in _INTEGERS:
        return _integer
    if name in _FLOATS:
        return _float
    if name == "bool":
        return _boolean
    if name == "bytea":
        return _binary(schema, settings)
    if name == "numeric":
        return numeric_encoder(source.typmod, schema, settings)
    if name in _TEMPORAL:
        return _moment(source, schema, settings)
    return _interval if name == "interval" else _text


def _array(encode: Encode, element: SourceType) -> Encode:
    if element.base_name == "time" and element.kind == "b":
        return _refusing("Debezium cuts the times of an array to milliseconds")

    def encode_array(value: Any) -> str:
        if not isinstance(value, list):
            raise unexpected(value, "a list")
        if value and all(item is None for item in value):
            reason = (
                "it is an array of nothing but NULLs, which is also what Debezium writes for an "
                "array of more than one dimension"
            )
            raise ValueError(reason)
        return f"[{','.join('null' if item is None else encode(item) for item in value)}]"

    return encode_array


def _integer(value: Any) -> str:
    if type(value) is not int:
        raise unexpected(value, "an integer")
    return str(value)


def _float(value: Any) -> str:
    if type(value) is int or isinstance(value, Number):
        return str(value)
    if value in _NOT_FINITE:
        return f'"{value}"'
    raise unexpected(value, "a number")


def _boolean(value: Any) -> str:
    if not isinstance(value, bool):
        raise unexpected(value, "true or false")
    return "true" if value else "false"


def _text(value: Any) -> str:
    if type(value) is not str:
        raise unexpected(value, "a string")
    return quote(value)


def _interval(value: Any) -> str:
    if not isinstance(value, str):
        reason = "months and days are lost in an interval written as microseconds"
        raise TypeError(reason)
    return f'"{temporal.interval_text(value)}"'


def _binary(schema: FieldSchema | None, settings: DebeziumSpec) -> Encode:
    is_bytes = schema is not None and schema["type"] == "bytes"
    mode = "bytes" if is_bytes else settings.binary_handling_mode
    altchars = b"-_" if mode == "base64-url-safe" else None

    def encode_hex(value: Any) -> str:
        if type(value) is not str or not _HEX.fullmatch(value):
            raise unexpected(value, "hexadecimal")
        return f'"{value.lower()}"'

    def encode_base64(value: Any) -> str:
        if type(value) is not str:
            raise unexpected(value, "base64")
        return f'"{base64.b64decode(value, altchars, validate=True).hex()}"'

    return encode_hex if mode == "hex" else encode_base64


def _moment(source: SourceType, schema: FieldSchema | None, settings: DebeziumSpec) -> Encode:
    """A date, time or timestamp: a string is ISO 8601, a number counts in a unit."""
    kind = source.base_name
    unit = _unit(source, schema, settings)
    zoned = kind == "timestamptz"

    def encode(value: Any) -> str:
        if type(value) is str:
            return f'"{temporal.iso_text(value, zoned=zoned)}"'
        if type(value) is not int:
            raise unexpected(value, f"a {kind}")
        if kind == "date":
            return f'"{temporal.date_text(value)}"'
        if kind == "time":
            return (
                f'"{temporal.time_text(value * 1_000 if unit == "ms" else _micros(value, unit))}"'
            )
        if unit == "ns":
            return f'"{temporal.nano_timestamp_text(value)}"'
        micros = value * 1_000 if unit == "ms" else value
        return f'"{temporal.timestamp_text(micros, "+00" if zoned else "")}"'

    return encode


def _micros(value: int, unit: str) -> int:
    return value // 1_000 if unit == "ns" else value


def _unit(source: SourceType, schema: FieldSchema | None, settings: DebeziumSpec) -> str:
    """What a number counts: by the schema's name for it, else by the declared mode."""
    name = str((schema or {}).get("name") or "")
    if name:
        short = name.rpartition(".")[2]
        return "us" if short.startswith("Micro") else "ns" if short.startswith("Nano") else "ms"
    mode = settings.time_precision_mode
    if mode in ("microseconds", "nanoseconds"):
        return "us" if mode == "microseconds" else "ns"
    if mode == "connect":
        return "ms"
    if mode == "adaptive_time_microseconds" and source.base_name == "time":
        return "us"
    return "ms" if 0 <= source.typmod <= 3 else "us"


def _refusing(reason: str) -> Encode:
    def refuse(value: Any) -> str:  # noqa: ARG001
        raise ValueError(reason)

    return refuse
