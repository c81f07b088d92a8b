"""How much of a table's past is kept.

What belongs here: the settings, and those that a table has of its own. What does not: what they
mean for each snapshot (``expiry.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from carbon_pipelines.errors import RetentionZeroError

AGE = "history.expire.max-snapshot-age-ms"
AT_LEAST = "history.expire.min-snapshots-to-keep"
REF_AGE = "history.expire.max-ref-age-ms"


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of every branch.

    Attributes:
        max_age: A younger snapshot stays.
        at_least: So many of the newest stay, however old.
        at_most: Only so many of the newest stay for their age, and of those on no branch only what
            is not older than so many of ``main``; ``None``: all.
        spared: A younger one stays even beyond ``at_most``.
        max_ref_age: Branches and tags without an age of their own go when their snapshot is older.

    Raises:
        RetentionZeroError: One of them is zero or less.
    """

    max_age: timedelta = timedelta(days=1)
    at_least: int = 10
    at_most: int | None = None
    max_ref_age: timedelta | None = None
    spared: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        zero = timedelta(0)
        for setting, value, least in (
            ("max_age", self.max_age, zero),
            ("max_ref_age", self.max_ref_age, zero),
            ("at_least", self.at_least, 0),
            ("at_most", self.at_most, 0),
        ):
            if value is not None and value <= least:  # pyright: ignore[reportOperatorIssue]
                raise RetentionZeroError(setting, value)

    def declared_in(self, properties: Mapping[str, str]) -> "Retention":
        """This, with what the table's own properties say instead.

        Raises:
            RetentionZeroError: A property is no number above zero.
        """
        own = {name: _number(properties, name) for name in (AGE, AT_LEAST, REF_AGE)}
        age_ms, at_least, ref_age_ms = own[AGE], own[AT_LEAST], own[REF_AGE]
        return replace(
            self,
            max_age=self.max_age if age_ms is None else milliseconds(age_ms),
            at_least=self.at_least if at_least is None else at_least,
            max_ref_age=self.max_ref_age if ref_age_ms is None else milliseconds(ref_age_ms),
        )


def milliseconds(count: int) -> timedelta:
    """A duration that may be longer than any."""
    try:
        return timedelta(milliseconds=count)
    except OverflowError:  # "for ever", as other engines write it
        return timedelta.max


def _number(properties: Mapping[str, str], name: str) -> int | None:
    text = properties.get(name)
    if text is None:
        return None
    if not text.strip().isdecimal() or int(text) <= 0:
        raise RetentionZeroError(f"table property {name}", text)
    return int(text)
