"""What the fields of every declaration are made of.

What belongs here: values that more than one kind of declaration holds, how they are written, and
the base class. What does not: any declaration (``table.py``, ``database.py``,
``expectations.py``).
"""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

WORD = re.compile(r"[a-z][a-z0-9_]*")

_DURATION = re.compile(r"([1-9][0-9]*)(m|h|d)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def mistake(reason: str, at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """What a validator raises: a sentence, and the path of the field to change if not this one."""
    kind = "mistake"
    return PydanticCustomError(kind, "{reason}", {"reason": reason, "at": at})


def duration(value: object) -> object:
    """Turn ``15m``, ``1h`` or ``2d`` into a timedelta; a timedelta passes."""
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        reason = "must be a whole number of minutes, hours or days, like 15m, 1h or 2d"
        raise mistake(reason)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _team(value: object) -> object:
    """Accept only ``team:<name>``, which Dagster shows as the owner."""
    if isinstance(value, str) and re.fullmatch(r"team:[A-Za-z0-9][A-Za-z0-9_.-]*", value):
        return value
    reason = "must name a team, like team:market-data"
    raise mistake(reason)


def _word(value: object) -> object:
    """Accept only names that work in every engine without quotes."""
    if isinstance(value, str) and WORD.fullmatch(value):
        return value
    reason = "must start with a letter a-z and hold only a-z, 0-9 and _, like price_tick"
    raise mistake(reason)


Word = Annotated[str, BeforeValidator(_word)]
Team = Annotated[str, BeforeValidator(_team)]
Name = Annotated[str, StringConstraints(min_length=1)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Declared(BaseModel):
    """Base of every declaration: a field it does not know is an error, and no value changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
