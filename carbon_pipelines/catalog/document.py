"""Reading one YAML file without losing where each value stands.

What belongs here: text to plain values (``str``, ``list``, ``dict``) plus the line of each, and
the mistakes that YAML itself lets pass (a field written twice, an alias). What does not: what the
values mean (``load.py``).

Every scalar stays text: to YAML 1.1 a column called ``no`` or ``on`` would be a boolean, and
``1:30`` would be ninety. No field of ours needs YAML's guess.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from carbon_pipelines.errors import DeclarationError

Loc = tuple[str | int, ...]
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # the C parser, where PyYAML has it


@dataclass(frozen=True, slots=True)
class Document:
    """A file's fields, and the line (from 1) on which each path of them begins."""

    path: Path
    fields: Mapping[str, Any]
    lines: Mapping[Loc, int]

    def line(self, loc: Sequence[str | int]) -> int:
        """The line of ``loc``, or of the nearest thing around it that is written down."""
        at = tuple(loc)
        while at not in self.lines:
            at = at[:-1]
        return self.lines[at]


def load_document(path: Path) -> Document:
    """Read one declaration.

    Raises:
        DeclarationError: The file is not UTF-8, or not what ``parse_document`` accepts.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DeclarationError([(path, line, "is not UTF-8 text; save it as UTF-8")]) from error
    return parse_document(path, text)


def parse_document(path: Path, text: str) -> Document:
    """Parse what ``path`` holds, or would hold.

    Raises:
        DeclarationError: The text is not YAML, not a mapping of fields, writes a field twice or
            uses an alias.
    """
    try:
        root = _compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = f"is not YAML: {error.problem or error.context}"
        raise DeclarationError([(path, line, reason)]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DeclarationError([(path, line, f"is not YAML: {error.reason}")]) from error
    reader = _Reader(path)
    if not isinstance(root, MappingNode):
        reason = 'must hold fields, one "name: value" per line; see docs/catalog.md'
        raise DeclarationError([(path, 1, reason)])
    reader.lines[()] = root.start_mark.line + 1
    fields: dict[str, Any] = reader.value(root, ())
    if reader.problems:
        raise DeclarationError(reader.problems)
    return Document(path, fields, reader.lines)


def _compose(text: str) -> Node | None:
    compose = cast("Callable[..., Node | None]", yaml.compose)  # pyright: ignore[reportUnknownMemberType]
    return compose(text, Loader=_LOADER)


class _Reader:
    """Walks a node tree once; collects lines and problems on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Loc, int] = {}
        self.problems: list[tuple[Path, int, str]] = []
        self.seen: set[int] = set()

    def value(self, node: Node, loc: Loc) -> Any:
        """The plain value of ``node``, whose path from the top is ``loc``."""
        if id(node) in self.seen:
            self.problem(self.lines[loc], "an alias (*name) is not supported; write the value out")
            return None
        self.seen.add(id(node))
        if isinstance(node, MappingNode):
            return self.mapping(node, loc)
        if isinstance(node, SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[*loc, index] = item.start_mark.line + 1
            return [self.value(item, (*loc, index)) for index, item in enumerate(node.value)]
        return node.value

    def mapping(self, node: MappingNode, loc: Loc) -> dict[str, Any]:
        """The fields of a mapping, each allowed once."""
        fields: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                self.problem(line, "a field's name must be text")
            elif key.value in fields:
                first = self.lines[*loc, key.value]
                self.problem(line, f'"{key.value}" is written twice; the first is on line {first}')
            else:
                self.lines[*loc, key.value] = line
                fields[key.value] = self.value(value, (*loc, key.value))
        return fields

    def problem(self, line: int, reason: str) -> None:
        """Note one mistake."""
        self.problems.append((self.path, line, reason))
