import datetime as dt
import struct
import uuid
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.errors import UnrepresentableValueError
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.temporal import (
    DAY_INFINITY,
    MICROSECOND_INFINITY,
    parse_date,
    parse_timestamp,
)
from carbon_pipelines_tests.lake.local_lake import open_duckdb

UTC = pa.timestamp("us", tz="UTC")


def decoded(texts: list[str | None], target: pa.DataType) -> list[object]:
    return decode_column(pa.array(texts, pa.string()), target, column="c").to_pylist()


def integers(texts: list[str | None], target: pa.DataType) -> list[int | None]:
    kind = pa.int32() if target == pa.date32() else pa.int64()
    return decode_column(pa.array(texts, pa.string()), target, column="c").view(kind).to_pylist()


@given(st.lists(st.none() | st.uuids()))
def test_uuids_keep_their_bytes(values: list[uuid.UUID | None]) -> None:
    assert decoded([None if v is None else str(v) for v in values], pa.uuid()) == values


@given(st.lists(st.none() | st.binary()), st.booleans())
def test_bytea_keeps_its_bytes_with_and_without_the_hex_prefix(
    values: list[bytes | None],
    prefixed: bool,  # noqa: FBT001
) -> None:
    prefix = "\\x" if prefixed else ""

    texts = [None if v is None else prefix + v.hex() for v in values]

    assert decoded(texts, pa.binary()) == values


@given(st.lists(st.none() | st.decimals(-(10**10), 10**10, places=4)))
def test_numerics_are_exact(values: list[Decimal | None]) -> None:
    texts = [None if v is None else f"{v:f}" for v in values]

    assert decoded(texts, pa.decimal128(18, 4)) == values


@given(st.lists(st.none() | st.datetimes(timezones=st.just(dt.UTC))))
def test_timestamps_keep_every_microsecond(values: list[dt.datetime | None]) -> None:
    texts = [None if v is None else v.isoformat(" ", "microseconds") for v in values]

    assert decoded(texts, UTC) == values


@given(st.lists(st.floats() | st.none()))
def test_floats_keep_every_bit_that_is_not_a_nan_payload(values: list[float | None]) -> None:
    special = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
    texts = [None if v is None else special.get(repr(v), repr(v)) for v in values]

    found = decoded(texts, pa.float64())

    assert [None if v is None else struct.pack("d", v) for v in found if v == v] == [
        None if v is None else struct.pack("d", v) for v in values if v == v
    ]
    assert [v is None or v == v for v in found] == [v is None or v == v for v in values]


def test_infinite_timestamps_are_what_duckdb_reads_as_infinity() -> None:
    texts = ["infinity", "2024-01-31 12:00:00.5+00", "-infinity", None]

    assert integers(texts, UTC) == [
        MICROSECOND_INFINITY,
        1706702400500000,
        -MICROSECOND_INFINITY,
        None,
    ]


def test_infinite_dates_and_dates_outside_the_four_digit_years_are_days() -> None:
    texts = [
        "infinity",
        "-infinity",
        "4714-11-24 BC",
        "5874897-12-31",
        "0001-12-31 BC",
        "2024-02-29",
    ]

    assert integers(texts, pa.date32()) == [
        DAY_INFINITY,
        -DAY_INFINITY,
        -2440588,
        2145042905,  # PostgreSQL: date - date "1970-01-01"
        -719163,
        19782,
    ]


@given(st.integers(-4713, 294246), st.integers(1, 12), st.integers(1, 28))
def test_days_agree_with_duckdb_over_all_of_postgresqls_years(
    year: int, month: int, day: int
) -> None:
    era = "" if year > 0 else " BC"
    text = f"{year if year > 0 else 1 - year:04}-{month:02}-{day:02}"
    date = f"{text} (BC)" if era else text
    query = f"SELECT datediff('day', DATE '1970-01-01', DATE '{date}')"

    assert (parse_date(text + era),) == open_duckdb().execute(query).fetchone()


@given(st.lists(st.none() | st.times()))
def test_times_keep_every_microsecond(values: list[dt.time | None]) -> None:
    texts = [None if v is None else v.isoformat() for v in values]

    assert decoded(texts, pa.time64("us")) == values


ELEMENT = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)


@given(st.lists(st.none() | st.lists(ELEMENT, max_size=4)))
def test_arrays_of_text_keep_every_element(rows: list[list[str | None] | None]) -> None:
    def spelled(element: str | None) -> str:
        escaped = (element or "").replace("\\", "\\\\").replace('"', '\\"')
        return "NULL" if element is None else f'"{escaped}"'

    texts = [None if row is None else "{" + ",".join(map(spelled, row)) + "}" for row in rows]

    assert decoded(texts, pa.list_(pa.field("element", pa.string()))) == rows


@given(st.dates())
def test_days_agree_with_the_standard_library(date: dt.date) -> None:
    assert parse_date(date.isoformat()) == (date - dt.date(1970, 1, 1)).days


def test_zone_offsets_with_minutes_and_seconds_are_subtracted() -> None:
    assert parse_timestamp("1900-01-01 00:00:00+01:15:30") == parse_timestamp(
        "1899-12-31 22:44:30+00"
    )
    assert parse_timestamp("1900-01-01 00:00:00-03") == parse_timestamp("1900-01-01 03:00:00+00")


def test_arrays_from_copy_and_from_envelopes_are_the_same() -> None:
    target = pa.list_(pa.field("element", pa.int32()))
    from_copy = decode_column(pa.array(["{1,NULL,3}", None, "{}"]), target, column="c")
    from_envelope = decode_column(
        pa.array([[1, None, 3], None, []], pa.list_(pa.int64())), target, column="c"
    )

    assert from_copy.to_pylist() == from_envelope.to_pylist() == [[1, None, 3], None, []]


def test_text_arrays_keep_quotes_commas_and_the_word_null() -> None:
    target = pa.list_(pa.field("element", pa.string()))

    found = decode_column(pa.array(['{"a,b","say \\"hi\\"",NULL,"NULL",""}']), target, column="c")

    assert found.to_pylist() == [["a,b", 'say "hi"', None, "NULL", ""]]


@pytest.mark.parametrize(
    ("text", "target", "called"),
    [
        ("NaN", pa.decimal128(10, 2), "decimal(10, 2)"),
        ("123456789.00", pa.decimal128(8, 2), "decimal(8, 2)"),
        ("24:00:00", pa.time64("us"), "time"),
        ("{{1,2},{3,4}}", pa.list_(pa.field("element", pa.int32())), "list"),
        ("[0:1]={1,2}", pa.list_(pa.field("element", pa.int32())), "list"),
        ("[1:1][2:2]={{a}}", pa.list_(pa.field("element", pa.string())), "list"),
        ("294247-01-10 04:00:54.775807", pa.timestamp("us"), "timestamp"),
        ("294276-12-31 23:59:59.999999+00", UTC, "timestamptz"),
        ("99999999999", pa.int32(), "int"),
        ("maybe", pa.bool_(), "boolean"),
    ],
)
def test_a_value_without_a_place_is_named_and_never_changed(
    text: str, target: pa.DataType, called: str
) -> None:
    with pytest.raises(UnrepresentableValueError, match="column c") as refused:
        decode_column(pa.array([text]), target, column="c")

    assert refused.value.type_name == called
