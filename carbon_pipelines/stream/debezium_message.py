"""A message of a Debezium topic, taken apart.

What belongs here: the outer form of a message, with or without its schema, and which messages say
anything. What does not: what they say (``debezium.py``).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carbon_pipelines.errors import MalformedEnvelopeError
from carbon_pipelines.stream.debezium_numeric import FieldSchema, Number

Row = Mapping[str, Any]
BROKEN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading something that is not as promised ends with."""

_PAYLOAD = b',"payload":{'


@dataclass(frozen=True, slots=True)
class Event:
    """What a message says; ``schema`` is the bytes of its schema, empty if it has none."""

    offset: int
    operation: str
    before: Row | None
    after: Row | None
    source: Mapping[str, Any]
    schema: bytes


def take_apart(topic: str, offset: int, value: bytes) -> Event | None:
    """The event of a message; None for one that says nothing.

    Raises:
        MalformedEnvelopeError: It is no event of Debezium's.
    """
    try:
        schema, payload = _unwrap(value)
        operation, source = payload["op"], payload["source"]
        if operation == "m" or (operation == "r" and source.get("snapshot") != "incremental"):
            return None
        if operation not in ("c", "u", "d", "t", "r"):
            reason = f"op is {operation!r}"
            raise ValueError(reason)
        before, after = payload.get("before"), payload.get("after")
        return Event(offset, operation, before, after, source, schema)
    except BROKEN as broken:
        reason = f"not an event of Debezium ({type(broken).__name__}: {broken})"
        raise MalformedEnvelopeError(topic, 0, offset, reason) from broken


def _unwrap(value: bytes) -> tuple[bytes, Mapping[str, Any]]:
    """A message's schema, as bytes to be read once, and its payload."""
    at = value.find(_PAYLOAD) if value.startswith(b'{"schema":') else -1
    if at > 0:
        return value[:at] + b"}", json.loads(value[at + len(_PAYLOAD) - 1 : -1], parse_float=Number)
    document: Mapping[str, Any] = json.loads(value, parse_float=Number)
    if "payload" in document and "schema" in document:
        schema = json.dumps({"schema": document["schema"]}).encode()
        return schema, document["payload"]
    return b"", document


def row_fields(schema: bytes) -> Mapping[str, FieldSchema]:
    """The fields of a row by name, from the schema of a message."""
    if not schema:
        return {}
    document = json.loads(schema)["schema"] or {}
    for field in document.get("fields", ()):
        if field["field"] == "after":
            return {column["field"]: column for column in field.get("fields", ())}
    return {}
