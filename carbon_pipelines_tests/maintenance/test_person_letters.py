"""Which dead letters are about a person."""

import json

import pyarrow as pa
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType

from carbon_pipelines.maintenance.person_key import PersonKey, person_key
from carbon_pipelines.maintenance.person_letters import PersonLetters

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=True), NestedField(2, "name", StringType())
)


def letters_of(*, by_hash: bool) -> PersonLetters:
    key = person_key(SCHEMA, {"id": "4711"}, bytes(16), label="shop/customers")
    bare = PersonKey(key.field_ids, key.salt, key.digest)
    chosen = bare if by_hash else key
    return PersonLetters("customers", chosen, [("id", pa.int64())], chosen.texts)


def message(**fields: object) -> bytes:
    return json.dumps(fields).encode()


ABOUT = [
    (message(id=4711), None),
    (message(id=4711), message(op="u", after={"id": 4711, "name": "x"})),
    (None, message(op="d", before={"id": 4711})),
    (message(id=5), message(op="u", before={"id": 4711}, after={"id": 5})),
    (message(number=4711), message(op="d")),
    (message(schema={}, payload={"id": 4711}), message(payload={"op": "c", "after": {"id": 4711}})),
]
NOT_ABOUT = [
    (message(id=47110), message(op="c", after={"id": 47110, "name": "4711"})),
    (message(id=1), b"not json 4711"),
    (None, None),
    (message(id=None), message(op="c", after=None)),
]


@pytest.mark.parametrize("by_hash", [False, True])
def test_a_letter_is_about_whoever_its_key_or_an_image_names(*, by_hash: bool) -> None:
    letters = letters_of(by_hash=by_hash)

    assert [letters.is_about(*one) for one in ABOUT] == [True] * len(ABOUT)
    assert [letters.is_about(*one) for one in NOT_ABOUT] == [False] * len(NOT_ABOUT)


def test_a_letter_that_names_nobody_is_the_persons_if_it_has_the_text_of_a_known_key() -> None:
    damaged = (None, b"not json 4711")

    assert not letters_of(by_hash=False).names_a_row(*damaged)
    assert letters_of(by_hash=False).is_about(*damaged)
    assert not letters_of(by_hash=True).is_about(*damaged)


def test_letters_of_other_tables_are_nobodys() -> None:
    columns = [
        pa.array(["customers", "orders", "customers"]),
        pa.array([message(id=4711), message(id=4711), None]),
        pa.array([None, None, None], pa.binary()),
    ]

    assert letters_of(by_hash=True).match(columns).tolist() == [True, False, False]
