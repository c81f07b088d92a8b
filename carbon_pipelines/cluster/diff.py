"""What differs between an object as it is and as it would be.

What belongs here: fields, by path, without what the server keeps for itself. What does not: what a
difference means (``danger.py``).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

_OF_SERVER = frozenset(
    ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"]
)
_SHOWN = 80
"""Characters of a value in a line; the rest is cut."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field; None: it is not there."""

    path: str
    before: Any
    after: Any

    def line(self, *, secret: bool = False) -> str:
        """``path: before -> after``; values of a Secret are never shown."""
        if secret and self.path.startswith(("data", "stringData")):
            return f"{self.path}: changed"
        return f"{self.path}: {_shown(self.before)} -> {_shown(self.after)}"


def field_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """Fields that differ, in the order of their paths; lists of named items are matched by name."""
    return tuple(
        sorted(_compare("", _own(before), _own(after)), key=lambda change: _natural(change.path))
    )


def _own(body: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = {k: v for k, v in body.get("metadata", {}).items() if k not in _OF_SERVER}
    return {**{k: v for k, v in body.items() if k != "status"}, "metadata": metadata}


def _compare(path: str, before: Any, after: Any) -> Iterator[FieldChange]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}, key=str):
            at = f"{path}.{key}" if path else str(key)
            yield from _compare(at, before.get(key), after.get(key))
        return
    if isinstance(before, list) and isinstance(after, list):
        one, other = (_by_name(cast("list[Any]", items)) for items in (before, after))
        for key in dict.fromkeys((*one, *other)):
            yield from _compare(f"{path}[{key}]", one.get(key), other.get(key))
        return
    yield FieldChange(path, before, after)


def _by_name(items: list[Any]) -> dict[str, Any]:
    """Items by their name, if each has one of its own; else by their position."""
    names = [item.get("name") if isinstance(item, Mapping) else None for item in items]
    if None not in names and len({*names}) == len(names):
        return {str(name): item for name, item in zip(names, items, strict=True)}
    return {str(number): item for number, item in enumerate(items)}


def _natural(path: str) -> tuple[int, str]:
    return (0 if path.startswith("spec") else 1, path)


def _shown(value: Any) -> str:
    if value is None:
        return "(none)"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
