"""How a Debezium connector writes values, for databases that one captures.

What belongs here: the settings of the connector that decide how a value looks in Kafka, with what
"carbon debezium config" prints as their defaults. What does not: the connector's other settings
(``stream/debezium_config.py``) and reading values (``stream/debezium_values.py``).

A message that carries its schema says itself how decimals and times are written; the others, and
binary columns in every message, are read as declared here.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

TimePrecision = Literal[
    "adaptive",
    "adaptive_time_microseconds",
    "connect",
    "isostring",
    "microseconds",
    "nanoseconds",
]
BinaryMode = Literal["bytes", "base64", "base64-url-safe", "hex"]


class DebeziumSpec(BaseModel):
    """The connector's value settings; each field has the name of its setting, with ``_`` for dots.

    The defaults lose least: ``string`` keeps every digit, trailing zeros, NaN and infinity of a
    numeric; ``microseconds`` keeps 24:00:00 and infinite dates and timestamps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decimal_handling_mode: Literal["precise", "double", "string"] = "string"
    time_precision_mode: TimePrecision = "microseconds"
    binary_handling_mode: BinaryMode = "hex"
    interval_handling_mode: Literal["numeric", "string"] = "string"
    unavailable_value_placeholder: Annotated[str, Field(min_length=1)] = (
        "__debezium_unavailable_value"
    )
