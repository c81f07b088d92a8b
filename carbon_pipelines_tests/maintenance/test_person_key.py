"""Which rows carry a person's key, by the key and by its hash alone."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    DateType,
    DecimalType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    UUIDType,
)

from carbon_pipelines.errors import ErasureKeyError
from carbon_pipelines.lake.types import arrow_type
from carbon_pipelines.maintenance.person_key import PersonKey, person_key

SALT = bytes(range(16))


def schema_of(*kinds: IcebergType) -> Schema:
    return Schema(
        *(NestedField(n, f"c{n}", kind, required=False) for n, kind in enumerate(kinds, start=1))
    )


def key_of(schema: Schema, *texts: str) -> PersonKey:
    written = {f"c{n}": text for n, text in enumerate(texts, start=1)}
    return person_key(schema, written, SALT, label="shop/customers")


def by_hash(key: PersonKey) -> PersonKey:
    return replace(key, values=(), texts=())


def array_of(kind: IcebergType, values: Sequence[Any]) -> pa.Array:
    arrow = arrow_type(kind)
    if isinstance(arrow, pa.UuidType):
        stored = [None if v is None else v.bytes for v in values]
        return pa.ExtensionArray.from_storage(arrow, pa.array(stored, pa.binary(16)))
    return pa.array(values, arrow)


ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
MOMENT = datetime.fromisoformat("2024-02-29T01:02:03.500")
KINDS = [
    (IntegerType(), "42", 42, [41, -42]),
    (LongType(), "-9000000000", -9_000_000_000, [9_000_000_000]),
    (StringType(), "ann@shop", "ann@shop", ["ann@shop ", "Ann@shop", ""]),
    (DecimalType(9, 2), "4.20", Decimal("4.20"), [Decimal("42.00"), Decimal("4.21")]),
    (UUIDType(), str(ID), ID, [uuid.UUID(int=1)]),
    (DateType(), "2024-02-29", date(2024, 2, 29), [date(2024, 2, 28)]),
    (TimestampType(), "2024-02-29 01:02:03.5", MOMENT, []),
    (BinaryType(), "\\x00ff", b"\x00\xff", [b"\x00", b"00ff"]),
    (FloatType(), "0.1", 0.1, [0.2]),
]


@pytest.mark.parametrize(("kind", "text", "value", "others"), KINDS, ids=lambda x: str(x))
def test_a_key_of_any_type_is_told_from_others_by_itself_and_by_its_hash(
    kind: IcebergType, text: str, value: object, others: list[object]
) -> None:
    key = key_of(schema_of(kind), text)
    rows = array_of(kind, [*others, value, None, value])
    expected = [*([False] * len(others)), True, False, True]

    assert key.match([rows]).tolist() == expected
    assert by_hash(key).match([rows]).tolist() == expected


@given(
    st.lists(
        st.tuples(st.integers(-5, 5) | st.none(), st.sampled_from(["", "a", "ab", "b"]) | st.none())
    )
)
def test_a_key_of_two_columns_is_the_same_by_hash_as_by_values(rows: list[tuple]) -> None:
    key = key_of(schema_of(LongType(), StringType()), "3", "ab")
    columns = [
        pa.array([r[0] for r in rows], pa.int64()),
        pa.array([r[1] for r in rows], pa.string()),
    ]
    expected = np.array([row == (3, "ab") for row in rows], dtype=bool)

    assert np.array_equal(key.match(columns), expected)
    assert np.array_equal(by_hash(key).match(columns), expected)


def test_the_parts_of_a_key_are_not_run_together() -> None:
    key = key_of(schema_of(StringType(), StringType()), "ab", "c")
    columns = [pa.array(["a", "ab"]), pa.array(["bc", "c"])]

    assert by_hash(key).match(columns).tolist() == [False, True]


def test_a_key_is_found_in_files_from_before_and_after_its_column_was_widened() -> None:
    narrow, wide = key_of(schema_of(IntegerType()), "42"), key_of(schema_of(LongType()), "42")

    assert narrow.digest == wide.digest
    for key in (narrow, wide):
        assert by_hash(key).match([pa.array([42], pa.int64())]).tolist() == [True]
        assert key.match([pa.array([42], pa.int32())]).tolist() == [True]


def test_another_salt_makes_another_hash() -> None:
    schema = schema_of(LongType())
    other = person_key(schema, {"c1": "42"}, bytes(16), label="t")

    assert key_of(schema, "42").digest != other.digest


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        (LongType(), "4711x", "the value for c1 is no int64"),
        (ListType(2, StringType(), element_required=False), "{a}", "holds lists"),
    ],
)
def test_what_is_no_key_is_refused_without_being_told(
    kind: IcebergType, text: str, why: str
) -> None:
    with pytest.raises(ErasureKeyError, match=why) as error:
        key_of(schema_of(kind), text)
    assert "4711" not in str(error.value)


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ErasureKeyError, match="it has no column mail"):
        person_key(schema_of(LongType()), {"mail": "x"}, SALT, label="shop/customers")
