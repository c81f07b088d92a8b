"""Keys that the lake may show newer than a source snapshot does.

What belongs here: reading the end of a table's topic and telling which keys were touched by
transactions that a source snapshot S could not see although they committed before L. What does not:
what follows from that (``reconcile.py``).

Invariant: the lake stands at L, and S was taken before L was read. A transaction with commit_lsn
<= L is in the lake; if S sees its xid, it is in S too. So both ends can differ rightly only at keys
of transactions that are <= L and unseen, and those are all in the topic. Their events were produced
after S was taken or not long before (a synchronous standby holds a transaction back after its
commit record was written), so the topic is read from a margin before S.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import pyarrow as pa

from carbon_pipelines.quality.canonical import ComparedColumn, text_schema
from carbon_pipelines.source.visibility import Visibility

MARGIN = timedelta(minutes=10)
Key = tuple[object, ...]
"""Values of the columns that identify a row, as text in the forms of ``canonical.text_batch``."""
_FACTS = re.compile(rb'"txId":(\d+).*?"commit_lsn":(\d+)')
_SOURCE = b'"source":{'


@dataclass(frozen=True, slots=True)
class Touched:
    """What unseen transactions did to a table.

    Attributes:
        keys: Values of the touched keys, as text in the forms of ``canonical.text_batch``.
        truncated: Whether one of them truncated it.
    """

    keys: tuple[Key, ...]
    truncated: bool


def touched_keys(
    envelopes: Iterable[bytes], key: Sequence[ComparedColumn], visibility: Visibility, lsn: int
) -> Touched:
    """What was committed at or before ``lsn`` and yet unseen by ``visibility``.

    Args:
        envelopes: Values of the topic, in any order.
        key: The columns that identify a row, in key order (all, for a table without a key).
        visibility: What the source snapshot sees.
        lsn: The L of the round.
    """
    keys: dict[Key, None] = {}
    truncated = False
    for event in unseen_events(envelopes, visibility, lsn):
        truncated = truncated or event["op"] == "t"
        keys.update(dict.fromkeys(keys_of(event, key)))
    return Touched(tuple(keys), truncated)


def keys_of(event: Mapping[str, Any], key: Sequence[ComparedColumn]) -> Iterator[Key]:
    """The key before and after an event, as text; one of them where it did not change."""
    for image in (event["before"], event["after"]):
        if image is not None:
            yield tuple(_key_text(image.get(column.name), column) for column in key)


def unseen_events(
    envelopes: Iterable[bytes], visibility: Visibility, lsn: int
) -> Iterator[Mapping[str, Any]]:
    """The decoded events that ``touched_keys`` is about; the many others are never decoded.

    ``source`` is the last object of that name in an envelope: in a value its quotes are escaped.
    """
    for envelope in envelopes:
        facts = _FACTS.search(envelope, envelope.rfind(_SOURCE))
        if facts is not None and int(facts[2]) <= lsn and not visibility.sees(int(facts[1])):
            yield json.loads(envelope, parse_float=str)


def _key_text(value: object, column: ComparedColumn) -> object:
    if isinstance(value, list):
        return tuple(_key_text(item, column) for item in cast("list[object]", value))
    if value is None:
        return None
    return f"\\x{value}" if column.element == "BLOB" else _scalar_text(value)


def _scalar_text(value: object) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)


def key_batch(keys: Iterable[Key], key: Sequence[ComparedColumn]) -> pa.Table:
    """Touched keys as text columns ``c0..``, as ``canonical.text_batch`` would give them."""
    columns = list(zip(*keys, strict=True)) or [()] * len(key)
    schema = text_schema(key)
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
