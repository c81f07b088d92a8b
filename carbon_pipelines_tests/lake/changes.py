"""Random changes to a small table, and the envelopes that capture sends for them.

What belongs here: Hypothesis strategies and the model of what PostgreSQL does one change at a time.
What does not: assertions. A table has a key ``id``, a small column ``n`` and a TOAST column
``doc``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

UNAVAILABLE = "__debezium_unavailable_value"


@dataclass(frozen=True)
class Change:
    """``insert``, ``update`` (``doc`` None: unchanged), ``move``, ``delete`` or ``truncate``."""

    kind: str
    key: int = 0
    to: int = 0
    n: int = 0
    doc: str | None = None


KEYS = st.integers(0, 5)
CHANGES = st.one_of(
    st.builds(Change, st.just("insert"), KEYS, n=st.integers(0, 99), doc=st.sampled_from("abcd")),
    st.builds(
        Change,
        st.just("update"),
        KEYS,
        n=st.integers(0, 99),
        doc=st.none() | st.sampled_from("efgh"),
    ),
    st.builds(
        Change, st.just("move"), KEYS, to=KEYS, n=st.integers(0, 99), doc=st.none() | st.just("m")
    ),
    st.builds(Change, st.just("delete"), KEYS),
)
SEQUENCES = st.lists(CHANGES, min_size=1, max_size=30)
WITH_TRUNCATES = st.lists(st.one_of(CHANGES, st.just(Change("truncate"))), min_size=1, max_size=30)

Rows = dict[int, tuple[int, str]]


def replay(rows: Rows, changes: Sequence[Change]) -> tuple[Rows, list[dict[str, Any]]]:
    """Apply ``changes`` one at a time; those that PostgreSQL would refuse have no effect.

    Returns:
        The rows after all changes, and the envelopes of those that had an effect.
    """
    rows, events = dict(rows), []
    for change in changes:
        step = _EFFECTS[change.kind](rows, change)
        events.extend(step)
    return rows, events


def _insert(rows: Rows, change: Change) -> list[dict[str, Any]]:
    if change.key in rows:
        return []
    rows[change.key] = (change.n, change.doc or "")
    return [{"op": "c", "after": _row(change.key, change.n, change.doc)}]


def _update(rows: Rows, change: Change) -> list[dict[str, Any]]:
    if change.key not in rows:
        return []
    rows[change.key] = (change.n, change.doc or rows[change.key][1])
    return [_update_event(change.key, change)]


def _move(rows: Rows, change: Change) -> list[dict[str, Any]]:
    if change.key not in rows or change.to in rows:
        return []
    rows[change.to] = (change.n, change.doc or rows.pop(change.key)[1])
    rows.pop(change.key, None)
    before = {"id": change.key}
    return [{"op": "d", "before": before}, {**_update_event(change.to, change), "before": before}]


def _delete(rows: Rows, change: Change) -> list[dict[str, Any]]:
    return [] if rows.pop(change.key, None) is None else [{"op": "d", "before": {"id": change.key}}]


def _truncate(rows: Rows, change: Change) -> list[dict[str, Any]]:
    rows.clear()
    return [{"op": "t"}]


_EFFECTS = {
    "insert": _insert,
    "update": _update,
    "move": _move,
    "delete": _delete,
    "truncate": _truncate,
}


def _row(key: int, n: int, doc: str | None) -> dict[str, Any]:
    return {"id": key, "n": n, "doc": UNAVAILABLE if doc is None else doc}


def _update_event(key: int, change: Change) -> dict[str, Any]:
    event: dict[str, Any] = {"op": "u", "after": _row(key, change.n, change.doc)}
    return event if change.doc is not None else {**event, "unchanged": ["doc"]}
