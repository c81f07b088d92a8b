r"""PostgreSQL's text form of arrays, like ``{1,NULL,"a \"b\""}``.

What belongs here: splitting that text into nested lists of element texts. What does not: what an
element means (its type decides, in ``stream`` and ``lake``).
"""

import re
from typing import TypeAlias

ArrayElement: TypeAlias = "bytes | list[ArrayElement] | None"

_DIMENSIONS = re.compile(rb"(?:\[[+-]?\d+:[+-]?\d+\])+=")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_TOKEN_BOX = re.compile(rb'([{};])|"((?:[^"\\]|\\.)*)"|([^{};"]+)', re.DOTALL)
_TOKEN_COMMA = re.compile(rb'([{},])|"((?:[^"\\]|\\.)*)"|([^{},"]+)', re.DOTALL)


def is_one_list(text: bytes) -> bool:
    """Whether an array has one dimension that counts from 1 (or is empty): all a list can hold."""
    return not text.startswith((b"[", b"{{"))


def parse_array(text: bytes, *, delimiter: bytes = b",") -> list[ArrayElement]:
    """Split an array's text into its elements.

    Args:
        text: What the type's output function wrote. Lower bounds (``[0:1]={..}``) are dropped.
        delimiter: ``b","`` for every type but box, which uses ``b";"``.

    Returns:
        Elements as bytes without quotes and escapes, None for NULL, lists for further dimensions.

    Raises:
        ValueError: The text is not an array.

    Source: PostgreSQL manual, 8.15.6 "Array Input and Output Syntax".
    """
    start = found.end() if (found := _DIMENSIONS.match(text)) else 0
    open_lists: list[list[ArrayElement]] = []
    position = start
    for token in (_TOKEN_COMMA if delimiter == b"," else _TOKEN_BOX).finditer(text, start):
        if token.start() != position or (position > start and not open_lists):
            break
        position = token.end()
        mark, quoted, plain = token.groups()
        if mark == b"{":
            open_lists.append([])
        elif mark == b"}":
            closed = open_lists.pop()
            if open_lists:
                open_lists[-1].append(closed)
            elif position == len(text):
                return closed
        elif not open_lists:
            break
        elif quoted is not None:
            open_lists[-1].append(_ESCAPED.sub(rb"\1", quoted) if b"\\" in quoted else quoted)
        elif plain is not None:
            open_lists[-1].append(None if plain == b"NULL" else plain)
    reason = f"not the text of an array: {text[:80]!r}"
    raise ValueError(reason)
