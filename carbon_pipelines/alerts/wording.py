"""What of an error's text leaves for a chat or a mailbox.

What belongs here: hiding and shortening. What does not: markup (each receiver's own).

Errors of ours go out as they are, but for one thing: some may hold a row's values, and of a table
with protected columns (classified confidential or restricted) such a sentence stays on the run's
page. An error that nobody foresaw, or another program's, may hold anything, so only its name goes.
"""

from functools import cache

from carbon_pipelines.errors import CarbonPipelinesError, debezium
from carbon_pipelines.errors.showing import may_show_values

LONGEST = 700
"""Characters of a summary; the page that it links to has all of it."""


def told(text: str, *, error: str | None, hides: bool) -> str:
    """The part of an error's text that may leave.

    Args:
        text: The sentence of an error, or what a check says.
        error: The class of the error; None: no error, the text is ours.
        hides: Whether values of some column that it may be about are protected.
    """
    if error is not None and error not in own_errors():
        return f"{error}, an error that is not foreseen; its words are on the page of the run."
    if hides and may_show_values(text):
        named = f"{error}: its" if error else "Its"
        return f"{named} sentence may hold protected values and is only on the page that is linked."
    return clip(text)


@cache
def own_errors() -> frozenset[str]:
    """The names of all errors that the project raises on purpose."""
    assert debezium  # its classes belong to the tree once they are imported
    found: set[str] = set()
    waiting: list[type[CarbonPipelinesError]] = [CarbonPipelinesError]
    while waiting:
        one = waiting.pop()
        found.add(one.__name__)
        waiting.extend(one.__subclasses__())
    return frozenset(found)


def clip(text: str, longest: int = LONGEST) -> str:
    """One line of at most ``longest`` characters; what is left out is shown as an ellipsis.

    The end stays: it is the next step.
    """
    line = " ".join(text.split())
    if len(line) <= longest:
        return line
    end = longest // 3
    return f"{line[: longest - end - 3]} … {line[-end:]}"


def moment(at: float) -> str:
    """A time for people, in UTC to the minute."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
