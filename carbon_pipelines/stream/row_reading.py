"""A row of pgoutput to the JSON of its values, by a function that is written for its columns.

What belongs here: reading a tuple of a message, one Python function to a shape of a relation. What
does not: which columns there are and how a value is encoded (``envelope.py``, ``json_values.py``).

This is the innermost loop of capture: it runs once for each value of the source. A loop over the
columns costs half as much again as one statement to a column, which is why the function's source is
made from a template, like ``dataclasses`` makes its own. Nothing from outside becomes source: only
the number of a column and one of the forms below.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

from carbon_pipelines.stream.json_values import NEEDS_ESCAPE, Encode, quote, string

Values = list[bytes]
"""The JSON of a row's values, in the order of the relation's columns."""

RowReader = Callable[[bytes, int], tuple[Values, int, list[int]]]
"""(message, offset of a tuple) -> values, offset after it, indexes of unchanged columns."""

_TEXT, _NULL, _UNCHANGED = b"tnu"
_SIZE = Struct(">I").unpack_from

_BEGIN = """\
def read_row(m, at):
    if m[at:at + 2] != width:
        raise ValueError(wrong_width)
    at += 2
    unchanged = []
"""
_COLUMN = """\
    if m[at] == {text}:
        s = at + 5
        at = s + size(m, at + 1)[0]
        v{i} = {value}
    else:
        v{i} = absent(m[at], {i}, unchanged)
        at += 1
"""
_END = "    return [{values}], at, unchanged\n"

_AS_IT_IS = "m[s:at]"
_QUOTED = "b'\"%b\"' % m[s:at]"
_STRING = "string(m[s:at]) if needs_escape(m, s, at) else b'\"%b\"' % m[s:at]"
_ENCODED = "e{i}(m[s:at])"


@dataclass(frozen=True, slots=True)
class ColumnReading:
    """How one column is read.

    Attributes:
        encode: From PostgreSQL's text to JSON; None where they are the same.
        null: What a NULL becomes.
        unavailable: What stands for an unchanged TOAST value.
    """

    encode: Encode | None
    null: bytes
    unavailable: bytes


def compile_reader(columns: Sequence[ColumnReading]) -> RowReader:
    """The function that reads rows of these columns.

    It raises ValueError if a row has another number of columns, or a value is of an unknown kind.
    """

    def absent(kind: int, index: int, unchanged: list[int]) -> bytes:
        if kind == _NULL:
            return columns[index].null
        if kind != _UNCHANGED:
            reason = f"a value of kind {chr(kind)!r}"
            raise ValueError(reason)
        unchanged.append(index)
        return columns[index].unavailable

    names: dict[str, Any] = {
        "width": len(columns).to_bytes(2, "big"),
        "wrong_width": f"a row does not have the {len(columns)} columns of its relation message",
        "size": _SIZE,
        "string": string,
        "needs_escape": NEEDS_ESCAPE.search,
        "absent": absent,
    }
    source = _BEGIN
    for index, column in enumerate(columns):
        names[f"e{index}"] = column.encode
        form = _FORMS.get(column.encode, _ENCODED).format(i=index)
        source += _COLUMN.format(text=_TEXT, i=index, value=form)
    source += _END.format(values=", ".join(f"v{index}" for index in range(len(columns))))
    exec(compile(source, "<a relation's row reader>", "exec"), names)
    return names["read_row"]


_FORMS: dict[Encode | None, str] = {None: _AS_IT_IS, quote: _QUOTED, string: _STRING}
