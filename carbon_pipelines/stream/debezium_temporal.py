"""Debezium's dates, times and intervals to the text PostgreSQL sends.

What belongs here: pure conversions of one value. What does not: which of them a column needs
(``debezium_values.py``).

Numbers count from 1970-01-01 UTC. Debezium has no infinity: it writes what the JDBC driver made of
one, which lies outside of PostgreSQL's range and is therefore known.
Sources: PostgreSQL manual, 8.5; Debezium's documentation of the PostgreSQL connector, "Temporal
types".
"""

import re
from datetime import date

MICROSECONDS = 1_000_000
_DAY = 86_400 * MICROSECONDS
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_FIRST_ORDINAL, _LAST_ORDINAL = date.min.toordinal(), date.max.toordinal()
_FIRST_MICROSECOND = -210_866_803_200 * MICROSECONDS
_DAYS = range(-2_440_588, 2_145_042_906)
"""PostgreSQL's first timestamp and its dates: from Julian day 0 to 5874897-12-31."""
_YEARS = range(-4_713, 5_874_898)

# What single values become, then those of an array; Debezium 3.6 and 3.7 differ.
_INFINITE_DAYS = {
    2_146_033_979: "infinity",
    -2_147_472_692: "infinity",
    -2_147_472_691: "-infinity",
    -622_191_234: "infinity",
    -625_821_272: "-infinity",
}
_OVERFLOWN = {(1 << 63) - 1: "infinity", -(1 << 63): "-infinity"}
_INFINITE_MICROSECONDS = {
    **_OVERFLOWN,
    # the driver's milliseconds, taken for microseconds and as they are
    9_223_372_036_825_200_000: "infinity",
    -9_223_372_036_832_400_000: "-infinity",
    9_223_372_036_825_200_000_000: "infinity",
    -9_223_372_036_832_400_000_000: "-infinity",
}
_INFINITE_YEARS = {
    292_278_994: "infinity",
    -292_275_055: "-infinity",
    292_269_055: "-infinity",
    -290_308: "-infinity",
}
_INFINITE_TEXTS = {
    "infinity": "infinity",
    "-infinity": "-infinity",
    "+294247-01-10T04:00:25.2": "infinity",
    "+5877611-06-21": "infinity",
    "-5877611-06-21": "infinity",
    "-5877611-06-22": "-infinity",
}

_ISO = re.compile(
    r"(?:([+-]?\d{4,9})-(\d\d)-(\d\d))?T?(?:(\d\d:\d\d)(:\d\d)?(\.\d{1,9})?)?(Z|[+-]\d\d(?::\d\d)*)?"
)
_PERIOD = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)D)?"
    r"(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?)(\d+)(?:\.(\d{1,9}))?S)?)?"
)


def date_text(days: int) -> str:
    """``19782`` -> ``2024-02-29``; infinity and years before 1 as PostgreSQL writes them.

    Raises:
        ValueError: The day is outside of PostgreSQL's range.
    """
    if days in _INFINITE_DAYS:
        return _INFINITE_DAYS[days]
    if days not in _DAYS:
        reason = f"day {days} from 1970-01-01 is none of PostgreSQL's"
        raise ValueError(reason)
    written, era = _civil(days)
    return written + era


def timestamp_text(microseconds: int, zone: str = "") -> str:
    """Microseconds to ``2024-02-29 12:34:56.123456``.

    Args:
        microseconds: As Debezium writes them, or milliseconds times 1,000.
        zone: Put after the time.

    Raises:
        ValueError: The value is outside of PostgreSQL's range: it overflowed on its way.
    """
    if microseconds in _INFINITE_MICROSECONDS:
        return _INFINITE_MICROSECONDS[microseconds]
    if microseconds < _FIRST_MICROSECOND:
        reason = f"{microseconds} microseconds lie before PostgreSQL's first timestamp"
        raise ValueError(reason)
    days, of_day = divmod(microseconds, _DAY)
    written, era = _civil(days)
    return f"{written} {time_text(of_day)}{zone}{era}"


def nano_timestamp_text(nanoseconds: int) -> str:
    """Nanoseconds to text; PostgreSQL has none below a microsecond."""
    if nanoseconds in _OVERFLOWN:
        return _OVERFLOWN[nanoseconds]
    return timestamp_text(nanoseconds // 1_000)


def time_text(microseconds: int) -> str:
    """Microseconds since midnight to ``12:34:56.123456``; ``24:00:00`` is one PostgreSQL has."""
    seconds, fraction = divmod(microseconds, MICROSECONDS)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    written = f"{hour:02d}:{minute:02d}:{second:02d}"
    return f"{written}.{fraction:06d}" if fraction else written


def iso_text(value: str, *, zoned: bool) -> str:
    """An ISO 8601 date, time or timestamp to PostgreSQL's text.

    Args:
        value: Like ``2024-02-29T12:34:56.123456Z``, ``+12024-02-29Z`` or ``12:34:56Z``.
        zoned: Whether the column's type has a time zone; else the one written means nothing.

    Raises:
        ValueError: It is none of these, or outside of PostgreSQL's range.
    """
    known = _INFINITE_TEXTS.get(value.removesuffix("Z"))
    if known is not None:
        return known
    found = _ISO.fullmatch(value)
    if found is None or not value:
        reason = f"{value!r} is not a date or time of ISO 8601"
        raise ValueError(reason)
    year, month, day, minutes, seconds, fraction, zone = found.groups()
    written, era = "", ""
    if year is not None:
        known = _INFINITE_YEARS.get(int(year))
        if known is not None:
            return known
        if int(year) not in _YEARS:
            reason = f"{value!r} is outside of PostgreSQL's range"
            raise ValueError(reason)
        written, era = _named(int(year), int(month), int(day))
    time = f"{minutes}{seconds or ':00'}{_fraction(fraction)}" if minutes else ""
    offset = ("+00" if zone == "Z" else zone or "") if zoned else ""
    return " ".join(part for part in (written, time) if part) + offset + era


def interval_text(value: str) -> str:
    """``P1Y2M3DT4H5M6.78S`` to ``1 year 2 mons 3 days 04:05:06.78`` (IntervalStyle postgres).

    Raises:
        ValueError: It is no such interval.
    """
    found = _PERIOD.fullmatch(value)
    if found is None:
        reason = f"{value!r} is not an interval of ISO 8601"
        raise ValueError(reason)
    years, months, days, hours, minutes = (int(part or 0) for part in found.groups()[:5])
    sign, seconds, fraction = found.group(6, 7, 8)
    micros = int(seconds or 0) * MICROSECONDS + int((fraction or "0").ljust(6, "0")[:6])
    micros = (-micros if sign else micros) + (hours * 60 + minutes) * 60 * MICROSECONDS
    parts: list[str] = []
    for number, one, many in (
        (years, "year", "years"),
        (months, "mon", "mons"),
        (days, "day", "days"),
    ):
        if number:
            plus = "+" if number > 0 and parts and parts[-1].startswith("-") else ""
            parts.append(f"{plus}{number} {one if number == 1 else many}")
    if micros or not parts:
        whole = time_text(abs(micros))
        clock = whole.rstrip("0") if "." in whole else whole
        plus = "+" if micros >= 0 and parts and parts[-1].startswith("-") else ""
        parts.append(("-" if micros < 0 else plus) + clock)
    return " ".join(parts)


def _fraction(digits: str | None) -> str:
    """At most six digits, without zeros at the end."""
    kept = (digits or "")[:7].rstrip("0")
    return kept if len(kept) > 1 else ""


def _civil(days: int) -> tuple[str, str]:
    ordinal = days + _EPOCH_ORDINAL
    if _FIRST_ORDINAL <= ordinal <= _LAST_ORDINAL:
        return date.fromordinal(ordinal).isoformat(), ""
    # the calendar repeats every 400 years of 146,097 days
    cycles, in_cycle = divmod(ordinal - 1, 146_097)
    found = date.fromordinal(in_cycle + 1)
    return _named(found.year + 400 * cycles, found.month, found.day)


def _named(year: int, month: int, day: int) -> tuple[str, str]:
    """Date and era: ISO's year 0 is PostgreSQL's 1 BC."""
    shown, era = (year, "") if year > 0 else (1 - year, " BC")
    return f"{shown:04d}-{month:02d}-{day:02d}", era
