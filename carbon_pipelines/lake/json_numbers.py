"""Numbers that JSON cannot spell, and what else Arrow's JSON reader refuses.

What belongs here: single values of an envelope on the slow way of reading it (``change_batch.py``):
NaN and infinities are text there, and -0 looks like an integer. What does not: types of the lake.
"""

from typing import Any

import pyarrow as pa

from carbon_pipelines.errors import UnrepresentableValueError


def fitting_value(value: Any, field: pa.Field) -> Any:
    """A value of an envelope as Arrow takes it for ``field``.

    Raises:
        UnrepresentableValueError: An array that came as text is none that a list can hold.
        ValueError: A list where the declaration asks for text.
    """
    if isinstance(value, str) and pa.types.is_list(field.type):
        raise UnrepresentableValueError(field.name, "list", value)
    if isinstance(value, list) and pa.types.is_string(field.type):
        reason = (
            f"{field.name} is declared a string, but was captured as a list; restart capture after "
            "changing a declaration, and then re-copy the table"
        )
        raise ValueError(reason)
    return _number(value) if _is_float(field.type) else value


def json_integer(text: str) -> int | float:
    """A JSON integer; the float -0 is spelled like one, and an int has no sign to keep."""
    return -0.0 if text == "-0" else int(text)


def _is_float(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or (
        pa.types.is_list(kind) and pa.types.is_floating(kind.value_type)
    )


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(item) for item in value]
    return float(value) if isinstance(value, str | int) and not isinstance(value, bool) else value
