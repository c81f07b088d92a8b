import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from carbon_pipelines.errors import MalformedEnvelopeError, UnrepresentableValueError
from carbon_pipelines.lake.change_batch import (
    CREATE,
    DELETE,
    TRUNCATE,
    UPDATE,
    ChangeBatch,
    EnvelopeReader,
    concat_batches,
)
from carbon_pipelines.stream.consumer import RawBatch

TOPIC = "cdc.market.public.t"
COLUMNS = {"id": pa.int64(), "price": pa.float64(), "prices": pa.list_(pa.float64())}
SOURCE = {"txId": 7, "commit_lsn": 100, "ordinal": 1, "schema_version": 1}


def event(op: str, **more: Any) -> dict[str, Any]:
    return {"op": op, "before": None, "after": None, "source": SOURCE, **more}


def read(
    *values: dict[str, Any] | bytes, key: tuple[str, ...] = ("id",), columns: Any = COLUMNS
) -> ChangeBatch:
    """Events at offsets 10, 11, ..."""
    raw = [v if isinstance(v, bytes) else json.dumps(v).encode() for v in values]
    offsets = list(range(10, 10 + len(raw)))
    batch = RawBatch(values=raw, offsets=offsets, first_offset=10, next_offset=10 + len(raw))
    return EnvelopeReader(TOPIC, columns, key).read(batch)


def test_events_become_columns_in_topic_order() -> None:
    batch = read(
        event("c", after={"id": 1, "price": 1.5, "prices": [1, None]}),
        event("u", before={"id": 1}, after={"id": 2, "ignored": "x"}),
        event("d", before={"id": 2}),
        event("t"),
    )

    assert batch.operation.tolist() == [CREATE, UPDATE, DELETE, TRUNCATE]
    assert batch.offset.tolist() == [10, 11, 12, 13]
    assert batch.before.to_pylist() == [{"id": None}, {"id": 1}, {"id": 2}, {"id": None}]
    assert batch.after.to_pylist()[:2] == [
        {"id": 1, "price": 1.5, "prices": [1.0, None]},
        {"id": 2, "price": None, "prices": None},
    ]


def test_numbers_that_json_cannot_spell_are_read_among_others() -> None:
    batch = read(
        event("c", after={"id": 1, "price": "-Infinity", "prices": ["Infinity", 2]}),
        event("c", after={"id": 2, "price": 0.5}),
    )

    assert batch.after.to_pylist() == [
        {"id": 1, "price": float("-inf"), "prices": [float("inf"), 2.0]},
        {"id": 2, "price": 0.5, "prices": None},
    ]


GOOD = event("c", after={"id": 1})
MALFORMED = {
    "not JSON": b"{",
    "not an object": b"7",
    "no operation that is known": event("x", after={"id": 1}),
    "no position": event("c", after={"id": 1}, source={**SOURCE, "commit_lsn": None}),
    "no row after an insert": event("c"),
    "no key in the row after an update": event("u", after={"price": 1.0}),
    "no row before a delete": event("d"),
    "no key in the row before a delete": event("d", before={"id": None}),
    "a value of another type": event("c", after={"id": "one"}),
}


@pytest.mark.parametrize("beside", [1.5, "NaN"])
def test_a_negative_zero_keeps_its_sign_whatever_stands_beside_it(beside: Any) -> None:
    zero = event("c", after={"id": 1, "price": None, "prices": []})
    negative = json.dumps(zero).replace('null, "prices": []', '-0, "prices": [-0, 0]').encode()

    batch = read(negative, event("c", after={"id": 2, "price": beside}))

    first = batch.after.to_pylist()[0]
    assert repr([first["price"], first["prices"]]) == "[-0.0, [-0.0, 0.0]]"


def test_an_array_that_came_as_text_has_no_place_in_a_list() -> None:
    with pytest.raises(UnrepresentableValueError, match=r"column prices: '\[0:1\]=\{1,2\}'"):
        read(
            event("c", after={"id": 1, "prices": [1]}),
            event("c", after={"id": 2, "prices": "[0:1]={1,2}"}),
        )


def test_a_list_that_was_captured_before_its_column_was_declared_a_string_is_named() -> None:
    columns = {"id": pa.int64(), "tags": pa.string()}

    with pytest.raises(MalformedEnvelopeError, match="@11 is not a change event: tags is declared"):
        read(
            event("c", after={"id": 1, "tags": "{a}"}),
            event("c", after={"id": 2, "tags": ["a"]}),
            columns=columns,
        )


@pytest.mark.parametrize("name", MALFORMED)
def test_a_message_that_is_no_change_event_is_named_by_its_offset(name: str) -> None:
    with pytest.raises(MalformedEnvelopeError) as caught:
        read(GOOD, MALFORMED[name], GOOD)

    assert caught.value.offset == 11


def test_events_of_a_table_without_a_key_can_be_left_out_and_cut() -> None:
    batch = read(*(event("c", after={"id": n}) for n in range(4)), key=())

    kept = batch.filter(np.array([True, False, True, True])).slice(1, 3)

    assert kept.offset.tolist() == [12, 13]
    assert kept.after.column("id").to_pylist() == [2, 3]


def test_batches_read_before_and_after_a_column_was_added_are_one() -> None:
    narrow = read(event("c", after={"id": 1}), columns={"id": pa.int64()})

    both = concat_batches([narrow, read(event("c", after={"id": 2, "price": 2.5}))])

    assert both.after.to_pylist() == [
        {"id": 1, "price": None, "prices": None},
        {"id": 2, "price": 2.5, "prices": None},
    ]


def test_places_are_read_without_knowing_any_column() -> None:
    batch = read(event("c", after={"id": 1}), event("d", before={"id": 1}), key=(), columns={})

    assert (batch.commit_lsn.tolist(), batch.offset.tolist()) == ([100, 100], [10, 11])
