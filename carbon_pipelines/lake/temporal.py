"""Dates and times in PostgreSQL's ISO text form to integers, for the values Arrow's casts refuse.

What belongs here: parsing one text at a time, pure. What does not: columns (``codec.py``).
Source: PostgreSQL manual 8.5, DateStyle ISO; days are of the proleptic Gregorian calendar.
"""

import re

_DATE = re.compile(r"(\d{4,7})-(\d\d)-(\d\d)")
_TIME = re.compile(r"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?")
_TIMESTAMP = re.compile(
    r"(\d{4,6}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d{1,6})?)"
    r"(?:([+-])(\d\d)(?::?(\d\d))?(?::?(\d\d))?)?( BC)?"
)
DAY_INFINITY = 2**31 - 1
"""Days of ``infinity``; ``-infinity`` is the negated value."""
MICROSECOND_INFINITY = 2**63 - 1
"""Microseconds of ``infinity``; ``-infinity`` is the negated value."""
DAY_MICROSECONDS = 86_400_000_000


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a proleptic Gregorian date; year 0 is 1 BC."""
    shifted = year - (month <= 2)
    era, year_of_era = divmod(shifted, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return (
        era * 146_097
        + year_of_era * 365
        + year_of_era // 4
        - year_of_era // 100
        + day_of_year
        - 719_468
    )


def parse_date(text: str) -> int | None:
    """Days since 1970-01-01, or ``None`` if ``text`` is no date."""
    if text in {"infinity", "-infinity"}:
        return DAY_INFINITY if text == "infinity" else -DAY_INFINITY
    match = _DATE.fullmatch(text.removesuffix(" BC"))
    if match is None:
        return None
    year = int(match[1])
    return days_from_civil(1 - year if text.endswith(" BC") else year, int(match[2]), int(match[3]))


def parse_time(text: str) -> int | None:
    """Microseconds since midnight, below one day, or ``None`` (``24:00:00`` included)."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    seconds = int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3])
    microseconds = seconds * 1_000_000 + int((match[4] or "0").ljust(6, "0"))
    return microseconds if microseconds < DAY_MICROSECONDS else None


def parse_timestamp(text: str) -> int | None:
    """Microseconds since 1970-01-01 00:00 (UTC where a zone offset is given), or ``None``.

    PostgreSQL counts from 2000 and reaches the year 294276; 64 bits from 1970 end in January
    294247, and their last number is infinity.
    """
    if text in {"infinity", "-infinity"}:
        return MICROSECOND_INFINITY if text == "infinity" else -MICROSECOND_INFINITY
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    days = parse_date(match[1] + (match[7] or ""))
    time = parse_time(match[2])
    if days is None or time is None:
        return None
    offset = int(match[4] or 0) * 3600 + int(match[5] or 0) * 60 + int(match[6] or 0)
    moment = days * DAY_MICROSECONDS + time
    moment -= (-offset if match[3] == "-" else offset) * 1_000_000
    return moment if abs(moment) < MICROSECOND_INFINITY else None
