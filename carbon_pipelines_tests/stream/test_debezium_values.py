"""Values as Debezium wrote them in each of its modes, and the text PostgreSQL has for them."""

import base64
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.stream.debezium_numeric import Number
from carbon_pipelines.stream.debezium_temporal import (
    date_text,
    interval_text,
    iso_text,
    nano_timestamp_text,
    time_text,
    timestamp_text,
)
from carbon_pipelines.stream.debezium_values import column_reader
from carbon_pipelines_tests.stream.debezium import source_type

BOUNDED = (10 << 16 | 2) + 4
"""The typmod of numeric(10,2)."""
NEGATIVE = (5 << 16 | (-2 & 0x7FF)) + 4
"""The typmod of numeric(5,-2)."""


def read(kind: str, value: Any, *, typmod: int = -1, schema: Any = None, **settings: Any) -> Any:
    text = json.dumps(value) if not isinstance(value, bytes) else value.decode()
    given_value = json.loads(text, parse_float=Number)
    reader = column_reader(source_type(kind, typmod), schema, DebeziumSpec(**settings))
    return json.loads(reader.encode(given_value), parse_float=str)


@pytest.mark.parametrize(
    ("kind", "mode", "value", "text"),
    [
        ("date", "microseconds", 19_782, "2024-02-29"),
        ("date", "connect", -735_160, "0044-03-15 BC"),
        ("date", "adaptive", 3_672_207, "12024-02-29"),
        ("date", "adaptive", 2_146_033_979, "infinity"),
        ("date", "adaptive", -2_147_472_692, "infinity"),
        ("date", "adaptive", -2_147_472_691, "-infinity"),
        ("date", "adaptive", 2_145_042_905, "5874897-12-31"),
        ("date", "adaptive", -2_440_588, "4714-11-24 BC"),
        ("date", "isostring", "2024-02-29Z", "2024-02-29"),
        ("date", "isostring", "-0043-03-15Z", "0044-03-15 BC"),
        ("date", "isostring", "+12024-02-29Z", "12024-02-29"),
        ("date", "isostring", "+5877611-06-21Z", "infinity"),
        ("date", "isostring", "-5877611-06-21Z", "infinity"),
        ("date", "isostring", "-5877611-06-22Z", "-infinity"),
        ("date", "isostring", "+5874897-12-31Z", "5874897-12-31"),
        ("time", "microseconds", 45_296_123_456, "12:34:56.123456"),
        ("time", "microseconds", 86_400_000_000, "24:00:00"),
        ("time", "connect", 45_296_123, "12:34:56.123000"),
        ("time", "nanoseconds", 45_296_123_456_000, "12:34:56.123456"),
        ("time", "isostring", "12:34:56.123456Z", "12:34:56.123456"),
        ("timestamp", "microseconds", 1_709_210_096_123_456, "2024-02-29 12:34:56.123456"),
        ("timestamp", "microseconds", -63_517_780_800_000_000, "0044-03-15 12:00:00 BC"),
        ("timestamp", "microseconds", 317_278_728_000_000_001, "12024-02-29 12:00:00.000001"),
        ("timestamp", "adaptive", (1 << 63) - 1, "infinity"),
        ("timestamp", "adaptive", -(1 << 63), "-infinity"),
        ("timestamp", "nanoseconds", 1_709_210_096_123_456_000, "2024-02-29 12:34:56.123456"),
        ("timestamp", "microseconds", 9_223_372_036_825_200_000, "infinity"),
        ("timestamp", "microseconds", -9_223_372_036_832_400_000, "-infinity"),
        ("timestamp", "nanoseconds", (1 << 63) - 1, "infinity"),
        ("timestamp", "nanoseconds", -9_223_372_036_832_400_000, "1677-09-21 00:12:43.167600"),
        ("timestamp", "connect", 1_709_210_096_123, "2024-02-29 12:34:56.123000"),
        ("timestamp", "connect", 9_223_372_036_825_200_000, "infinity"),
        ("timestamp", "connect", -9_223_372_036_832_400_000, "-infinity"),
        ("timestamp", "isostring", "2024-02-29T12:34:56.123456Z", "2024-02-29 12:34:56.123456"),
        ("timestamp", "isostring", "-0043-03-15T12:00:00Z", "0044-03-15 12:00:00 BC"),
        ("timestamp", "isostring", "+292278994-08-16T23:00:00Z", "infinity"),
        ("timestamp", "isostring", "-292275055-05-16T23:00:00Z", "-infinity"),
        ("timestamp", "isostring", "+294247-01-10T04:00:25.2Z", "infinity"),
        ("timestamp", "isostring", "-290308-12-21T19:59:27.6Z", "-infinity"),
        ("timestamptz", "adaptive", "2024-02-29T10:34:56.100000Z", "2024-02-29 10:34:56.1+00"),
        ("timestamptz", "adaptive", "-0043-03-15T12:00:00.000000Z", "0044-03-15 12:00:00+00 BC"),
        ("timestamptz", "adaptive", "-infinity", "-infinity"),
    ],
)
def test_moments(kind: str, mode: str, value: object, text: str) -> None:
    assert read(kind, value, time_precision_mode=mode) == text


@pytest.mark.parametrize(
    ("mode", "kind", "typmod", "value"),
    [
        ("adaptive", "timestamp", 0, 1_709_210_097_000),
        ("adaptive", "timestamp", 3, 1_709_210_097_000),
        ("adaptive", "timestamp", 4, 1_709_210_097_000_000),
        ("adaptive_time_microseconds", "timestamp", 3, 1_709_210_097_000),
        ("microseconds", "timestamp", 3, 1_709_210_097_000_000),
        ("adaptive", "time", 3, 45_297_000),
        ("adaptive_time_microseconds", "time", 3, 45_297_000_000),
    ],
)
def test_the_unit_of_a_number_without_a_schema_follows_from_mode_and_precision(
    mode: str, kind: str, typmod: int, value: int
) -> None:
    text = read(kind, value, typmod=typmod, time_precision_mode=mode)

    assert text == ("12:34:57" if kind == "time" else "2024-02-29 12:34:57")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("io.debezium.time.Timestamp", 1_709_210_097_000),
        ("org.apache.kafka.connect.data.Timestamp", 1_709_210_097_000),
        ("io.debezium.time.MicroTimestamp", 1_709_210_097_000_000),
        ("io.debezium.time.NanoTimestamp", 1_709_210_097_000_000_000),
    ],
)
def test_a_schema_in_the_message_says_the_unit_whatever_is_declared(name: str, value: int) -> None:
    schema = {"type": "int64", "name": name}

    assert read("timestamp", value, schema=schema) == "2024-02-29 12:34:57"


def test_a_timestamp_that_overflowed_on_its_way_is_refused() -> None:
    with pytest.raises(ValueError, match="before PostgreSQL's first timestamp"):
        read("timestamp", -9_223_372_036_853_775_810)


VARIABLE = {"type": "struct", "name": "io.debezium.data.VariableScaleDecimal"}
DECIMAL = {
    "type": "bytes",
    "name": "org.apache.kafka.connect.data.Decimal",
    "parameters": {"scale": "2", "connect.decimal.precision": "10"},
}


@pytest.mark.parametrize(
    ("typmod", "mode", "schema", "value", "text"),
    [
        (-1, "string", None, "12345678901234567890.123450", "12345678901234567890.123450"),
        (-1, "string", None, "NAN", "NaN"),
        (-1, "string", None, "POSITIVE_INFINITY", "Infinity"),
        (-1, "string", None, "NEGATIVE_INFINITY", "-Infinity"),
        (-1, "string", None, "1E-7", "0.0000001"),
        (
            -1,
            "precise",
            None,
            {"scale": 5, "value": "AQVuDzamRD3i33k="},
            "12345678901234567890.12345",
        ),
        (-1, "precise", VARIABLE, {"scale": 400, "value": "AQ=="}, f"0.{'0' * 399}1"),
        (BOUNDED, "precise", None, "AJY=", "1.50"),
        (BOUNDED, "precise", DECIMAL, "/2o=", "-1.50"),
        (BOUNDED, "string", DECIMAL, "AlQL4/8=", "99999999.99"),
        (BOUNDED, "string", None, "NAN", "NaN"),
        (BOUNDED, "double", None, 1.5, "1.50"),
        (-1, "double", None, b"1.2345678901234567E+19", "12345678901234567000"),
        (-1, "double", None, "NaN", "NaN"),
        (NEGATIVE, "string", None, f"12300.{'0' * 2046}", "12300"),
        (NEGATIVE, "double", None, b"12300.0", "12300"),
    ],
)
def test_numerics(typmod: int, mode: str, schema: Any, value: object, text: str) -> None:
    found = read("numeric", value, typmod=typmod, schema=schema, decimal_handling_mode=mode)

    assert found == text


@pytest.mark.parametrize(
    ("mode", "schema", "value"),
    [
        ("hex", None, "00fffe7e"),
        ("base64", None, "AP/+fg=="),
        ("base64-url-safe", None, "AP_-fg=="),
        ("bytes", None, "AP/+fg=="),
        ("hex", {"type": "bytes"}, "AP/+fg=="),
        ("hex", {"type": "string"}, "00FFFE7E"),
    ],
)
def test_binary_is_hexadecimal_whatever_it_was(mode: str, schema: Any, value: str) -> None:
    assert read("bytea", value, schema=schema, binary_handling_mode=mode) == "00fffe7e"


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("int8", -9_223_372_036_854_775_808, -9_223_372_036_854_775_808),
        ("float8", b"123456789.12345679", "123456789.12345679"),
        ("float8", b"1.0E-300", "1.0E-300"),
        ("float4", "NaN", "NaN"),
        ("bool", False, False),
        ("text", 'h\u00e9\u2028"\\\n', 'h\u00e9\u2028"\\\n'),
        ("json", '{"a": 1.0}', '{"a": 1.0}'),
        ("text[]", ["a", None, "b,c"], ["a", None, "b,c"]),
        ("int4[]", [], []),
        ("float8[]", b'[1.50, "NaN", null]', ["1.50", "NaN", None]),
        ("numeric[]", ["1.50", None], ["1.50", None]),
        ("bytea[]", ["00ff"], ["00ff"]),
        ("interval", "P1Y2M3DT4H5M6.78S", "1 year 2 mons 3 days 04:05:06.78"),
    ],
)
def test_other_values_are_as_our_own_capture_writes_them(
    kind: str, value: object, found: object
) -> None:
    assert read(kind, value) == found


@pytest.mark.parametrize(
    ("kind", "value", "settings"),
    [
        ("int4", "1", {}),
        ("int4", True, {}),
        ("float8", "one", {}),
        ("bool", "t", {}),
        ("text", 1, {}),
        ("numeric", "one", {}),
        ("numeric", [], {}),
        ("date", "yesterday", {}),
        ("date", 1.5, {}),
        ("bytea", "AP/+fg==", {}),
        ("bytea", "00 ff", {"binary_handling_mode": "base64"}),
        ("date", 2_145_042_906, {}),
        ("date", -2_440_589, {}),
        ("timestamp", "+5874898-01-01T00:00:00Z", {}),
        ("interval", 37_091_106_780_000, {}),
        ("timetz", "10:04:56.5Z", {}),
        ("varbit", "FQ==", {}),
        ("time[]", ["12:34:56.123Z"], {}),
        ("int4[]", [None, None], {}),
        ("int4[]", 1, {}),
    ],
)
def test_what_is_not_a_value_of_its_type_or_lost_a_part_is_refused(
    kind: str, value: object, settings: dict[str, str]
) -> None:
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        read(kind, value, **settings)


@given(st.dates())
def test_every_date_is_the_same_as_a_number_and_as_text(day: date) -> None:
    days = (day - date(1970, 1, 1)).days

    assert date_text(days) == iso_text(f"{day}Z", zoned=False) == day.isoformat()


@given(st.datetimes())
def test_every_timestamp_is_the_same_in_each_mode(moment: datetime) -> None:
    micros = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )
    text = moment.isoformat(" ")

    assert timestamp_text(micros) == text
    assert nano_timestamp_text(micros * 1_000) == text
    written = iso_text(f"{moment.isoformat()}Z", zoned=True)
    assert datetime.fromisoformat(written) == moment.replace(tzinfo=UTC)


@given(st.integers(-1_721_000, 2_145_042_904))
def test_dates_of_every_era_count_up_without_a_gap(days: int) -> None:
    def civil(text: str) -> tuple[int, int, int]:
        numbers, _, era = text.partition(" ")
        year, month, day = map(int, numbers.split("-"))
        return (1 - year if era else year), month, day

    today, tomorrow = civil(date_text(days)), civil(date_text(days + 1))

    same_month = (today[0], today[1], today[2] + 1)
    assert tomorrow in (same_month, (today[0], today[1] + 1, 1), (today[0] + 1, 1, 1))


@given(st.integers(0, 86_400_000_000))
def test_every_time_of_day_is_read_back(micros: int) -> None:
    hours, minutes, seconds = time_text(micros).split(":")

    in_micros = Decimal(seconds) * 1_000_000
    assert (int(hours) * 60 + int(minutes)) * 60_000_000 + in_micros == micros


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=2, min_value=-(10**8) + 1, max_value=10**8 - 1
    )
)
def test_a_numeric_is_the_same_in_each_mode(number: Decimal) -> None:
    text = f"{number:.2f}"
    text = text if number else "0.00"
    unscaled = int(Decimal(text).scaleb(2))
    raw = unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)
    precise = base64.b64encode(raw).decode()

    assert read("numeric", text, typmod=BOUNDED) == text
    assert read("numeric", precise, typmod=BOUNDED, decimal_handling_mode="precise") == text
    assert read("numeric", {"scale": 2, "value": precise}, decimal_handling_mode="precise") == text
    assert read("numeric", float(text), typmod=BOUNDED, decimal_handling_mode="double") == text


@pytest.mark.parametrize(
    ("iso", "text"),
    [
        ("P0Y-1M2DT0H0M-1S", "-1 mons +2 days -00:00:01"),
        ("P0Y0M0DT0H0M0S", "00:00:00"),
        ("P2Y0M1DT100H0M0.000001S", "2 years 1 day 100:00:00.000001"),
        ("P0Y0M-3DT0H1M0S", "-3 days +00:01:00"),
    ],
)
def test_intervals(iso: str, text: str) -> None:
    assert interval_text(iso) == text
