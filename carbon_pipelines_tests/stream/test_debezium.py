import json

import pytest

from carbon_pipelines.errors import MalformedEnvelopeError
from carbon_pipelines.errors.debezium import (
    ConnectorRecreatedError,
    ShapeUnknownError,
    UnreadableValueError,
    UntoldValueError,
)
from carbon_pipelines.source.position import Position
from carbon_pipelines_tests.stream.debezium import (
    UNAVAILABLE,
    decoded,
    decoder,
    message,
    relation,
)

T = relation(doc="text")


def test_inserts_updates_deletes_and_truncates_become_our_own_envelopes() -> None:
    made = decoder((0, T))

    found = decoded(
        made,
        message("c", (10, 20), after={"id": 1, "doc": "a"}),
        message("u", (30, 40), after={"id": 1, "doc": None}),
        message("d", (50, 60), before={"id": 1, "doc": None}),
        message("t", (70, 80)),
    )

    assert found == [
        {"op": "c", "before": None, "after": {"id": 1, "doc": "a"}},
        {"op": "u", "before": None, "after": {"id": 1, "doc": None}},
        {"op": "d", "before": {"id": 1}, "after": None},
        {"op": "t", "before": None, "after": None},
    ]


def test_an_envelope_says_where_it_stands_and_which_shape_it_has() -> None:
    made = decoder((0, T), (25, relation(2, doc="text", n="int4")))

    values = [
        message("c", (10, 20), after={"id": 1, "doc": "a"}),
        message("c", (30, 28), after={"id": 2, "doc": "b", "n": 3}, xid=701),
    ]

    sources = [json.loads(e)["source"] for n, v in enumerate(values) for e in made.decode(n, v)]
    assert [
        (s["commit_lsn"], s["ordinal"], s["txId"], s["lsn"], s["schema_version"]) for s in sources
    ] == [(10, 20 * 2048, 700, 20, 1), (30, 28 * 2048, 701, 28, 2)]


def test_a_changed_key_is_a_delete_and_an_update_that_names_the_old_key() -> None:
    found = decoded(
        decoder((0, T)),
        message("d", (10, 20), before={"id": 1, "doc": None}),
        b"",
        message("c", (10, 20), after={"id": 2, "doc": UNAVAILABLE}),
    )

    assert found == [
        {"op": "d", "before": {"id": 1}, "after": None},
        {"op": "u", "before": {"id": 1}, "after": {"id": 2, "doc": None}, "unchanged": "doc"},
    ]


def test_a_changed_key_in_one_update_is_taken_apart() -> None:
    full = relation(identity="f", doc="text")

    found = decoded(
        decoder((0, full)),
        message("u", (10, 20), before={"id": 1, "doc": "a"}, after={"id": 2, "doc": "a"}),
        message("u", (10, 20), before={"id": 1, "doc": "a"}, after={"id": 2, "doc": "a"}),
        message("u", (10, 30), before={"id": 2, "doc": "a"}, after={"id": 2, "doc": "b"}),
    )

    assert found == [
        {"op": "d", "before": {"id": 1}, "after": None},
        {"op": "u", "before": {"id": 1}, "after": {"id": 2, "doc": "a"}},
        {"op": "u", "before": None, "after": {"id": 2, "doc": "b"}},
    ]


def test_the_placeholder_means_an_unchanged_value_only_where_a_value_can_be_unchanged() -> None:
    found = decoded(
        decoder((0, T)),
        message("c", (10, 20), after={"id": 1, "doc": UNAVAILABLE}),
        message("u", (30, 40), after={"id": 1, "doc": UNAVAILABLE}),
    )

    assert found == [
        {"op": "c", "before": None, "after": {"id": 1, "doc": UNAVAILABLE}},
        {"op": "u", "before": None, "after": {"id": 1, "doc": None}, "unchanged": "doc"},
    ]


@pytest.mark.parametrize(
    ("kind", "placeholder"),
    [
        ("bytea", UNAVAILABLE),
        ("bytea", "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="),
        ("json", UNAVAILABLE),
        ("numeric", UNAVAILABLE),
        ("text[]", [UNAVAILABLE]),
        ("int4[]", list(UNAVAILABLE.encode())),
        ("uuid[]", ["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]),
    ],
)
def test_each_form_of_the_placeholder_is_known(kind: str, placeholder: object) -> None:
    made = decoder((0, relation(c=kind)))

    found = decoded(made, message("u", (10, 20), after={"id": 1, "c": placeholder}))

    assert found == [{"op": "u", "before": None, "after": {"id": 1, "c": None}, "unchanged": "c"}]


def test_a_null_that_may_be_an_unchanged_array_is_refused() -> None:
    made = decoder((0, relation(c="float8[]")))
    update = message("u", (10, 20), after={"id": 1, "c": None})

    with pytest.raises(UntoldValueError, match=r"Column c \(float8\[\]\).*REPLICA IDENTITY FULL"):
        made.decode(7, update)


def test_such_a_null_is_told_by_not_null_or_by_the_whole_old_row() -> None:
    update = message("u", (10, 20), after={"id": 1, "c": None})

    required = decoded(decoder((0, relation(c="float8[]!"))), update)
    whole = decoded(decoder((0, relation(identity="f", c="float8[]"))), update)

    row = {"op": "u", "before": None, "after": {"id": 1, "c": None}}
    assert (required, whole) == ([{**row, "unchanged": "c"}], [row])


def test_rows_of_an_incremental_snapshot_stand_where_they_were_read() -> None:
    row = {"id": 1, "doc": "a"}
    envelopes = decoder((0, T)).decode(
        0, message("r", (10, 10), after=row, snapshot="incremental", xid=None)
    )

    assert [
        (e["op"], e["after"], e["source"]["commit_lsn"], e["source"]["txId"])
        for e in map(json.loads, envelopes)
    ] == [("r", row, 10, -1)]


@pytest.mark.parametrize("snapshot", ["first", "true", "last", "last_in_data_collection"])
def test_rows_of_an_initial_snapshot_messages_and_tombstones_are_left_out(snapshot: str) -> None:
    row = {"id": 1, "doc": "a"}

    assert not decoded(
        decoder((0, T)),
        b"",
        message("r", (None, 9), after=row, snapshot=snapshot),
        message("m", (1, 2)),
    )


def test_the_schema_in_a_message_is_read_in_any_order_of_its_parts() -> None:
    made = decoder((0, relation(c="timestamp")))
    row = {"type": "struct", "field": "after", "fields": [{"type": "int64", "field": "id"}]}
    moment = {"type": "int64", "field": "c", "name": "io.debezium.time.Timestamp"}
    row["fields"].append(moment)  # pyright: ignore[reportAttributeAccessIssue]
    schema = {"type": "struct", "fields": [row]}
    payload = json.loads(message("c", (10, 20), after={"id": 1, "c": 1_709_210_097_000}))
    later = {**payload, "source": {**payload["source"], "sequence": '["10","30"]'}}

    found = decoded(
        made,
        json.dumps({"schema": schema, "payload": payload}, separators=(",", ":")).encode(),
        json.dumps({"payload": later, "schema": schema}).encode(),
    )

    row_read = {"op": "c", "before": None, "after": {"id": 1, "c": "2024-02-29 12:34:57"}}
    assert found == [row_read, row_read]


def test_dropped_columns_are_neither_asked_for_nor_passed_on() -> None:
    shape = relation(doc="text", secret="text")
    made = decoder((0, shape), columns={"secret": {"protect": "drop"}})

    found = decoded(
        made,
        message("c", (10, 20), after={"id": 1, "doc": "a"}),
        message("c", (10, 30), after={"id": 2, "doc": "b", "secret": "s"}),
    )

    assert [event["after"] for event in found] == [{"id": 1, "doc": "a"}, {"id": 2, "doc": "b"}]


def test_a_row_of_another_shape_is_refused_and_taken_once_its_shape_is_known() -> None:
    made = decoder((0, T))
    event = message("c", (30, 40), after={"id": 1, "doc": "a", "n": 7})

    with pytest.raises(ShapeUnknownError, match="has also n"):
        made.decode(3, event)
    with pytest.raises(ShapeUnknownError, match="lacks doc"):
        made.decode(3, message("c", (30, 40), after={"id": 1}))
    made.shapes = [*made.shapes, (Position(25, 0), relation(2, doc="text", n="int4"))]

    assert decoded(made, event) == [
        {"op": "c", "before": None, "after": {"id": 1, "doc": "a", "n": 7}}
    ]


def test_rows_changed_under_a_name_that_is_not_captured_are_left_out() -> None:
    made = decoder((0, T), (25, None), (55, relation(2, n="int4")))

    found = decoded(
        made,
        message("c", (10, 20), after={"id": 1, "doc": "a"}),
        message("u", (30, 40), before={"id": 1, "doc": "a"}, after={"id": 2, "other": "b"}),
        message("d", (30, 48), before={"id": 2}),
        message("u", (60, 70), after={"id": 1, "n": 7}),
    )

    assert [(event["op"], event["after"]) for event in found] == [
        ("c", {"id": 1, "doc": "a"}),
        ("u", {"id": 1, "n": 7}),
    ]


def test_an_event_of_a_connector_without_its_offsets_is_refused_unless_it_is_the_first() -> None:
    event = message("c", (None, 40), after={"id": 1, "doc": "a"})

    assert len(decoded(decoder((0, T)), event)) == 1
    with pytest.raises(ConnectorRecreatedError, match='Run "carbon recopy market/t"'):
        decoder((0, T), after=Position(10, 20 * 2048)).decode(9, event)


@pytest.mark.parametrize(
    "value",
    [
        b"not json",
        b"[]",
        b'{"op": "c"}',
        b'{"op": "x", "source": {}}',
        b'{"op": "c", "source": {"sequence": "[]"}, "after": {"id": 1}}',
        b'{"op": "c", "source": {"sequence": "[\\"1\\",\\"2\\"]"}, "after": null}',
    ],
)
def test_what_is_no_event_is_named(value: bytes) -> None:
    with pytest.raises(MalformedEnvelopeError, match=r"cdc\.market\.public\.t\[0\]@12 "):
        decoder((0, T)).decode(12, value)


def test_a_value_that_is_not_of_its_type_names_column_and_remedy() -> None:
    made = decoder((0, relation(c="bytea")))

    with pytest.raises(UnreadableValueError, match=r"Column c \(bytea\).*not hex.*carbon re"):
        made.decode(1, message("c", (10, 20), after={"id": 1, "c": "AP/+fg=="}))
