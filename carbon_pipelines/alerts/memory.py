"""What one evaluation leaves for the next, as the text of a sensor's cursor.

What belongs here: the fields and their form. What does not: what they mean (``runs.py``,
``scores.py``, ``telling.py``, ``troubles.py``).

Why the cursor: Dagster keeps it in its own database, evaluates a sensor in one process at a time,
and writes the cursor once the evaluation has ended. So it survives restarts, and as long as there
is one daemon, no two evaluations differ about what was told. Alertmanager keeps state of its own,
but not which ends it still has to be told.

A text of another format is forgotten, which tells what fires once more.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from carbon_pipelines.alerts.alert import Alert
from carbon_pipelines.alerts.observed import Scored
from carbon_pipelines.alerts.runs import Failing
from carbon_pipelines.alerts.scores import ScoreMark
from carbon_pipelines.alerts.telling import Known, Receipt
from carbon_pipelines.alerts.troubles import Trouble

FORMAT = 1
_PACKED = "zlib:"


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything that is remembered.

    ``until`` is up to when ended runs were read, and ``seen`` are the runs shortly before it, with
    their ends, which the next look meets again.
    """

    until: float | None = None
    seen: Mapping[str, float] = field(default_factory=dict[str, float])
    failing: Mapping[str, Failing] = field(default_factory=dict[str, Failing])
    marks: Mapping[str, ScoreMark] = field(default_factory=dict[str, ScoreMark])
    never: Mapping[str, float] = field(default_factory=dict[str, float])
    known: Mapping[str, Known] = field(default_factory=dict[str, Known])
    troubles: Mapping[str, Trouble] = field(default_factory=dict[str, Trouble])


def encode_memory(memory: Memory) -> str:
    """The cursor; packed, for Dagster keeps a copy of it with each tick."""
    document = {
        "format": FORMAT,
        "until": memory.until,
        "seen": dict(memory.seen),
        "failing": {name: asdict(one) for name, one in memory.failing.items()},
        "marks": {name: _mark(one) for name, one in memory.marks.items()},
        "never": dict(memory.never),
        "known": {name: _known(one) for name, one in memory.known.items()},
        "troubles": {name: asdict(one) for name, one in memory.troubles.items()},
    }
    text = json.dumps(document, separators=(",", ":"))
    return _PACKED + base64.b64encode(zlib.compress(text.encode())).decode("ascii")


def decode_memory(cursor: str | None) -> Memory:
    """Read a cursor."""
    if not cursor or not cursor.startswith(_PACKED):
        return Memory()
    text = zlib.decompress(base64.b64decode(cursor.removeprefix(_PACKED)))
    document: dict[str, Any] = json.loads(text)
    if document.get("format") != FORMAT:
        return Memory()
    return Memory(
        until=document["until"],
        seen=document["seen"],
        failing={name: Failing(**one) for name, one in document["failing"].items()},
        marks={name: _read_mark(one) for name, one in document["marks"].items()},
        never=document["never"],
        known={name: _read_known(one) for name, one in document["known"].items()},
        troubles={name: Trouble(**one) for name, one in document["troubles"].items()},
    )


def _mark(mark: ScoreMark) -> list[Any]:
    short: list[Any] = [mark.known, mark.seen]
    if mark.fell_from is None or mark.fell_to is None:
        return short
    return [*short, asdict(mark.fell_from), asdict(mark.fell_to), mark.fell_at]


def _read_mark(written: list[Any]) -> ScoreMark:
    known, seen, *fall = written
    if not fall:
        return ScoreMark(known, seen)
    fell_from, fell_to, at = fall
    return ScoreMark(known, seen, Scored(**fell_from), Scored(**fell_to), at)


def _known(known: Known) -> dict[str, Any]:
    alert = asdict(known.alert)
    del alert["fingerprint"]  # follows from the labels
    return {
        "alert": alert,
        "receipts": {name: asdict(one) for name, one in known.receipts.items()},
        "owed": sorted(known.owed),
        "ended_at": known.ended_at,
    }


def _read_known(written: dict[str, Any]) -> Known:
    return Known(
        alert=Alert(**written["alert"]),
        receipts={name: Receipt(**one) for name, one in written["receipts"].items()},
        owed=frozenset(written["owed"]),
        ended_at=written["ended_at"],
    )
