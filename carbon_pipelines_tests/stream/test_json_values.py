"""What PostgreSQL writes as text comes out of json.loads as the same value."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.source.relation import SourceType
from carbon_pipelines.stream.json_values import builtin_type, string, value_encoding

any_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def encoded(oid: int, text: bytes):
    source_type = builtin_type(oid, -1)
    assert source_type is not None
    encode = value_encoding(source_type).encode
    return json.loads(text if encode is None else encode(text))


def array_text(value) -> str:
    """The array text of a (nested) list of strings or None, as PostgreSQL would write it."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "{" + ",".join(map(array_text, value)) + "}"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(any_text)
def test_any_text_is_the_same_string(text: str):
    assert json.loads(string(text.encode())) == text


def test_every_escape_and_every_plane_is_the_same_string():
    control = "".join(map(chr, range(1, 128)))
    planes = "".join(chr(plane << 16 | 0x41) for plane in range(17)) + "\u2028\u2029\ufeff\x7f"
    assert json.loads(string((control + planes).encode())) == control + planes


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_are_numbers(number: int):
    assert encoded(20, str(number).encode()) == number


@given(st.floats())
def test_floats_are_numbers_and_the_rest_is_named(number: float):
    text = {math.inf: "Infinity", -math.inf: "-Infinity"}.get(number, repr(number))
    text = "NaN" if math.isnan(number) else text
    expected = number if math.isfinite(number) else text
    assert encoded(701, text.encode()) == expected


@pytest.mark.parametrize(
    ("oid", "text", "value"),
    [
        (16, b"t", True),
        (16, b"f", False),
        (17, b"\\xdeadbeef", "deadbeef"),
        (17, b"\\x", ""),
        (26, b"4294967295", 4294967295),
        (1700, b"12345678901234567890.12", "12345678901234567890.12"),
        (1700, b"NaN", "NaN"),
        (1184, b"2024-01-31 12:00:00.5+00", "2024-01-31 12:00:00.5+00"),
        (1184, b"infinity", "infinity"),
        (1114, b"0044-03-15 00:00:00 BC", "0044-03-15 00:00:00 BC"),
        (2950, b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (3802, b'{"a": "b\\n"}', '{"a": "b\\n"}'),
        (1007, b"{1,NULL,-3}", [1, None, -3]),
        (1007, b"[0:1]={1,2}", "[0:1]={1,2}"),
        (1007, b"{{1,2},{3,4}}", "{{1,2},{3,4}}"),
        (1009, b'[2:2]={"a\\"b"}', '[2:2]={"a\\"b"}'),
        (1007, b"{}", []),
        (1022, b"{1.5,NaN,NULL,-Infinity}", [1.5, "NaN", None, "-Infinity"]),
        (1000, b"{t,f,NULL}", [True, False, None]),
        (1001, b'{"\\\\x6162",NULL}', ["6162", None]),
        (1231, b"{1.50,NULL}", ["1.50", None]),
        (1020, b"{(1,1),(0,0);(2,2),(1,1)}", "{(1,1),(0,0);(2,2),(1,1)}"),
        (22, b"1 2", "1 2"),
    ],
)
def test_a_type_has_its_form(oid: int, text: bytes, value: object):
    assert encoded(oid, text) == value


@given(st.lists(st.none() | any_text))
def test_an_array_of_text_is_the_same_list(elements: list[str | None]):
    assert encoded(1009, array_text(elements).encode()) == elements


@given(st.lists(st.lists(any_text, min_size=1, max_size=3), min_size=1, max_size=3))
def test_an_array_of_arrays_is_its_text(elements: list[list[str]]):
    text = array_text(elements)

    assert encoded(1009, text.encode()) == text


def test_an_unchanged_value_is_marked_where_the_column_is_a_string():
    forms = {oid: value_encoding(builtin_type(oid, -1)).unavailable for oid in (23, 16, 25, 1009)}
    marked = b'"__debezium_unavailable_value"'
    assert forms == {23: b"null", 16: b"null", 25: marked, 1009: b"null"}


@pytest.mark.parametrize("name", ["int4", "bool", "inet", "bytea", "float8"])
@pytest.mark.parametrize("kind", ["b", "c", "e"])
def test_a_type_named_like_a_built_in_one_is_text(name: str, kind: str):
    lookalike = SourceType(99_999, -1, f"public.{name}", kind, name, None)
    encode = value_encoding(lookalike).encode
    assert encode is not None
    assert json.loads(encode(b'a"b')) == 'a"b'


def test_an_array_of_an_extensions_base_type_is_its_text():
    geometry = SourceType(99_999, -1, "public.geometry", "b", "geometry", None)
    array = SourceType(99_998, -1, "public.geometry[]", "b", "_geometry", geometry)
    encode = value_encoding(array).encode
    assert encode is not None
    assert json.loads(encode(b"{01:02}")) == "{01:02}"


@pytest.mark.parametrize("oid", [1007, 1009, 1022])
def test_an_array_that_is_declared_a_string_is_its_text(oid: int):
    source_type = builtin_type(oid, -1)
    assert source_type is not None
    encode = value_encoding(source_type, as_text=True).encode
    assert encode is not None
    assert json.loads(encode(b"{1,NULL}")) == "{1,NULL}"


def test_a_domain_over_an_integer_is_a_number():
    domain = SourceType(99_999, -1, "integer", "b", "int4", None)
    assert value_encoding(domain).encode is None
