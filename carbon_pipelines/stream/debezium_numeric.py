"""Debezium's numerics, in each of its decimal modes, to PostgreSQL's digits.

What belongs here: the forms a numeric has and numbers in JSON as such. What does not: other types
(``debezium_values.py``).
"""

import base64
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from carbon_pipelines.catalog.debezium import DebeziumSpec

FieldSchema = Mapping[str, Any]
"""A field of a Kafka Connect schema, as its JSON converter writes it."""


class Number(str):
    """The text of a JSON number that is not an integer: no digit is lost by reading it."""

    __slots__ = ()


_SPECIAL_NUMERICS = {
    "NAN": "NaN",
    "NaN": "NaN",
    "POSITIVE_INFINITY": "Infinity",
    "Infinity": "Infinity",
    "NEGATIVE_INFINITY": "-Infinity",
    "-Infinity": "-Infinity",
}
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?")


def numeric_encoder(
    typmod: int, schema: FieldSchema | None, settings: DebeziumSpec
) -> Callable[[Any], str]:
    """How values of a numeric column become JSON: a string with PostgreSQL's digits.

    Args:
        typmod: The column's; -1 for a numeric without a bound.
        schema: Its field of the message's schema, if the message has one.
        settings: What is declared about the connector.
    """
    scale = _scale(typmod)
    written = schema["type"] if schema is not None else None
    parameters = (schema or {}).get("parameters") or {}
    unscaled = int(parameters["scale"]) if "scale" in parameters else scale
    if schema is None:
        precise = settings.decimal_handling_mode == "precise" and scale is not None
    else:
        precise = written == "bytes"

    def encode(value: Any) -> str:
        if isinstance(value, Mapping):  # VariableScaleDecimal
            digits = _unscaled_text(value["value"], value["scale"])
        elif isinstance(value, Number) or type(value) is int:
            digits = (
                f"{Decimal(value):f}" if scale is None else f"{Decimal(value):.{max(scale, 0)}f}"
            )
        elif type(value) is not str:
            raise unexpected(value, "a numeric")
        elif value in _SPECIAL_NUMERICS:
            return f'"{_SPECIAL_NUMERICS[value]}"'
        elif precise:
            digits = _unscaled_text(value, unscaled or 0)
        else:
            digits = value if _PLAIN.fullmatch(value) else f"{Decimal(value):f}"
        if scale is not None and scale <= 0:
            digits = digits.partition(".")[0]
        return f'"{digits}"'

    return encode


def _scale(typmod: int) -> int | None:
    """The declared scale of a numeric: signed, 11 bits of its typmod; None without a bound."""
    if typmod < 0:
        return None
    scale = (typmod - 4) & 0x7FF
    return scale - 0x800 if scale & 0x400 else scale


def _unscaled_text(value: str, scale: int) -> str:
    """Base64 of a big-endian two's complement integer, with ``scale`` digits after the point."""
    number = int.from_bytes(base64.b64decode(value, validate=True), "big", signed=True)
    if scale <= 0:
        return str(number * 10**-scale)
    digits = str(abs(number)).zfill(scale + 1)
    return f"{'-' if number < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def unexpected(value: Any, wanted: str) -> ValueError:
    """The error for a value of another kind."""
    shown = str(value)
    return ValueError(f"{shown[:60]!r} ({type(value).__name__}) is not {wanted}")
