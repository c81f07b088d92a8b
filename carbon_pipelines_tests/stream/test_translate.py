"""Which events follow from a stream, and which positions they have."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.errors import UndecodableChangeError
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceColumn, SourceRelation, SourceType
from carbon_pipelines.stream.envelope import Target
from carbon_pipelines.stream.progress import NOTHING
from carbon_pipelines.stream.translate import Translator
from carbon_pipelines_tests.stream import wal

OID, OTHER, HISTORY = 16_400, 16_500, 16_300
INT8, TEXT, JSONB = 20, 25, 3802
COLUMNS = [wal.Column("id", INT8, in_identity=True), wal.Column("note", TEXT)]
CREDIT = wal.relation(OID, "public", "credit", COLUMNS)
TARGETS = {
    ("public", "credit"): Target("cdc.m.public.credit", "m/credit", ("id",)),
    ("carbon", "ddl_history"): Target("cdc.m.carbon.ddl_history", "ddl", ("id",), is_history=True),
}


@dataclass
class Heard:
    """What a translator produced."""

    topics: list[str] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)
    keys: list[Any] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def produce(self, topic: str, value: bytes, key: bytes | None) -> None:
        self.topics.append(topic)
        self.values.append(json.loads(value))
        self.keys.append(None if key is None else json.loads(key))

    @property
    def positions(self) -> list[Position]:
        return [Position(v["source"]["commit_lsn"], v["source"]["ordinal"]) for v in self.values]

    @property
    def changes(self) -> list[tuple[str, Any, Any]]:
        return [(v["op"], v["before"], v["after"]) for v in self.values]


def translate(
    stream: Sequence[bytes],
    *,
    targets=TARGETS,
    resume_after: Position = NOTHING,
    history: Sequence[SourceRelation] = (),
) -> tuple[Heard, Translator]:
    heard = Heard()
    translator = Translator(
        "carbon_m",
        "m",
        targets,
        history,
        heard.produce,
        resume_after=resume_after,
        on_ignored=lambda names: heard.ignored.append(names[0][1]),
    )
    for message in stream:
        translator.feed(message)
    return heard, translator


def test_an_insert_is_a_whole_envelope():
    stream = [
        wal.begin(900, xid=77, committed_at_ms=1_700_000_000_123),
        CREDIT,
        wal.insert(OID, [b"1", b'say "hi"'], lsn=850),
        wal.commit(900),
    ]
    heard, _ = translate(stream)
    assert (heard.topics, heard.keys) == (["cdc.m.public.credit"], [{"id": 1}])
    assert heard.values == [
        {
            "before": None,
            "after": {"id": 1, "note": 'say "hi"'},
            "source": {
                "connector": "carbon",
                "db": "m",
                "schema": "public",
                "table": "credit",
                "txId": 77,
                "lsn": 850,
                "commit_lsn": 900,
                "ordinal": 1,
                "schema_version": 0,
            },
            "op": "c",
            "ts_ms": 1_700_000_000_123,
        }
    ]


def test_a_key_change_is_a_delete_and_an_update():
    stream = [
        wal.begin(900),
        CREDIT,
        wal.update(OID, [b"2", b"x"], old_key=[b"1", None]),
        wal.commit(900),
    ]
    heard, _ = translate(stream)
    assert heard.changes == [
        ("d", {"id": 1}, None),
        ("u", {"id": 1}, {"id": 2, "note": "x"}),
    ]
    assert heard.keys == [{"id": 1}, {"id": 2}]
    assert heard.positions == [Position(900, 1), Position(900, 2)]


def test_an_old_row_without_a_key_change_still_takes_two_ordinals():
    full = wal.relation(OID, "public", "credit", [c._replace(in_identity=True) for c in COLUMNS])
    stream = [
        wal.begin(900),
        full,
        wal.update(OID, [b"1", b"new"], old_row=[b"1", b"old"]),
        wal.delete(OID, [b"1", b"new"], whole=True),
        wal.commit(900),
    ]
    heard, _ = translate(stream)
    assert heard.changes == [
        ("u", {"id": 1}, {"id": 1, "note": "new"}),
        ("d", {"id": 1}, None),
    ]
    assert heard.positions == [Position(900, 2), Position(900, 3)]


def test_an_unchanged_toast_value_is_named_and_never_null_in_silence():
    columns = [*COLUMNS, wal.Column("odd\x1f,name", INT8), wal.Column("document", JSONB)]
    stream = [
        wal.begin(900),
        wal.relation(OID, "public", "credit", columns),
        wal.update(OID, [b"1", wal.UNCHANGED, wal.UNCHANGED, b"{}"]),
        wal.commit(900),
    ]
    heard, _ = translate(stream)
    marked = "__debezium_unavailable_value"
    after = {"id": 1, "note": marked, "odd\x1f,name": None, "document": "{}"}
    assert heard.values[0]["after"] == after
    assert heard.values[0]["source"]["unchanged"] == "note\x1fodd\x1f,name"


def test_an_unchanged_toast_value_is_taken_from_a_whole_old_row():
    full = wal.relation(OID, "public", "credit", [c._replace(in_identity=True) for c in COLUMNS])
    update = wal.update(OID, [b"1", wal.UNCHANGED], old_row=[b"1", b"kept"])
    heard, _ = translate([wal.begin(900), full, update, wal.commit(900)])
    assert heard.changes == [("u", {"id": 1}, {"id": 1, "note": "kept"})]
    assert "unchanged" not in heard.values[0]["source"]


def test_an_unchanged_toast_key_is_taken_from_the_old_key():
    columns = [wal.Column("id", TEXT, in_identity=True), wal.Column("note", TEXT)]
    update = wal.update(OID, [wal.UNCHANGED, b"new"], old_key=[b"long", None])
    stream = [
        wal.begin(900),
        wal.relation(OID, "public", "credit", columns),
        update,
        wal.commit(900),
    ]
    heard, _ = translate(stream)
    assert heard.changes == [("u", {"id": "long"}, {"id": "long", "note": "new"})]


def test_a_dropped_column_never_leaves():
    dropped = Target("t", "m/credit", ("id",), frozenset({"note"}))
    stream = [
        wal.begin(900),
        CREDIT,
        wal.insert(OID, [b"1", b"secret"]),
        wal.update(OID, [b"1", wal.UNCHANGED]),
        wal.commit(900),
    ]
    heard, _ = translate(stream, targets={("public", "credit"): dropped})
    assert heard.changes == [("c", None, {"id": 1}), ("u", None, {"id": 1})]
    assert "unchanged" not in heard.values[1]["source"]


def test_names_with_every_kind_of_character_are_kept():
    name = 'a"b%d\\c{}'
    columns = [wal.Column(name, INT8, in_identity=True)]
    target = Target("t", "l", (name,))
    stream = [
        wal.begin(900),
        wal.relation(OID, name, name, columns),
        wal.insert(OID, [b"1"]),
        wal.delete(OID, [b"1"]),
        wal.commit(900),
    ]
    heard, _ = translate(stream, targets={(name, name): target})
    assert heard.changes == [("c", None, {name: 1}), ("d", {name: 1}, None)]
    assert heard.keys == [{name: 1}, {name: 1}]
    assert heard.values[0]["source"]["table"] == name


def test_a_truncate_goes_to_each_table_that_is_captured():
    stream = [
        wal.begin(900),
        CREDIT,
        wal.relation(OTHER, "public", "undeclared", COLUMNS),
        wal.truncate([OTHER, OID]),
        wal.commit(900),
    ]
    heard, _ = translate(stream)
    assert heard.changes == [("t", None, None)]
    assert (heard.positions, heard.ignored) == ([Position(900, 2)], ["undeclared"])


def test_ignored_rows_and_messages_in_the_transaction_are_counted():
    stream = [
        wal.begin(900),
        wal.relation(OTHER, "public", "undeclared", COLUMNS),
        wal.insert(OTHER, [b"1", None]),
        wal.insert(OTHER, [b"2", None]),
        wal.message("carbon", b"marker", transactional=True),
        CREDIT,
        wal.insert(OID, [b"1", None]),
        wal.commit(900),
    ]
    heard, _ = translate(stream)
    assert (heard.positions, heard.ignored) == ([Position(900, 4)], ["undeclared"])


def test_a_message_outside_of_transactions_has_no_position():
    stream = [
        wal.begin(900),
        CREDIT,
        wal.insert(OID, [b"1", None]),
        wal.commit(900, end_lsn=950),
        wal.message("carbon", b"heartbeat", transactional=False, lsn=960),
    ]
    _, translator = translate(stream)
    assert translator.position == Position(900, 1)


def test_a_transaction_with_only_a_marker_moves_the_position():
    marker = wal.message("carbon", b"", transactional=True)
    _, translator = translate([wal.begin(900), marker, wal.commit(900, end_lsn=950)])
    assert (translator.position, translator.end_lsn) == (Position(900, 1), 950)


def history_row(
    version: int, oid: int, columns: Sequence[wal.Column], *, leaves: Sequence[int] = ()
) -> bytes:
    described = [
        {
            "attnum": number,
            "name": column.name,
            "nullable": not column.in_identity,
            "default": None,
            "missing_value": None,
            "key_position": 0 if column.in_identity else None,
            "generated": "",
            "published": True,
            "type": [
                {"oid": column.type_oid, "typmod": -1, "name": "x", "kind": "b", "base_name": "x"}
            ],
        }
        for number, column in enumerate(columns, start=1)
    ]
    fields = [str(version), "1", str(oid), "public", "credit", "r", "d", json.dumps(described)]
    fields.append(json.dumps(leaves))
    return wal.insert(HISTORY, [value.encode() for value in fields])


HISTORY_RELATION = wal.relation(
    HISTORY,
    "carbon",
    "ddl_history",
    [
        wal.Column("id", INT8, in_identity=True),
        wal.Column("format_version", 23),
        wal.Column("oid", INT8),
        wal.Column("schema", TEXT),
        wal.Column("name", TEXT),
        wal.Column("kind", TEXT),
        wal.Column("replica_identity", TEXT),
        wal.Column("columns", JSONB),
        wal.Column("leaves", JSONB),
    ],
)


def test_events_carry_a_new_schema_version_from_its_row_on():
    stream = [
        wal.begin(900),
        CREDIT,
        wal.insert(OID, [b"1", None]),
        HISTORY_RELATION,
        history_row(41, OID, COLUMNS),
        wal.insert(OID, [b"2", None]),
        wal.commit(900),
    ]
    heard, _ = translate(stream)
    assert [v["source"]["schema_version"] for v in heard.values] == [0, 0, 41]


@pytest.mark.parametrize(
    "columns",
    [
        [*COLUMNS, wal.Column("more", TEXT)],
        COLUMNS[:1],
        [COLUMNS[0], wal.Column("remark", TEXT)],
        [COLUMNS[0], wal.Column("note", JSONB)],
    ],
)
def test_rows_of_a_shape_that_was_not_recorded_have_no_schema_version(
    columns: Sequence[wal.Column],
):
    stream = [
        wal.begin(900),
        HISTORY_RELATION,
        history_row(41, OID, COLUMNS),
        CREDIT,
        wal.insert(OID, [b"1", b"x"]),
        wal.relation(OID, "public", "credit", columns),
        wal.insert(OID, [b"2", b"x", b"y"][: len(columns)]),
        history_row(42, OID, columns),
        wal.insert(OID, [b"3", b"x", b"y"][: len(columns)]),
        wal.commit(900),
    ]
    heard, _ = translate(stream)
    assert [v["source"]["schema_version"] for v in heard.values] == [0, 41, 0, 0, 42]


def test_no_value_leaves_while_no_column_has_the_protected_name():
    dropped = Target("t", "m/credit", ("id",), frozenset({"note"}))
    renamed = [COLUMNS[0], wal.Column("secret", TEXT)]
    stream = [
        wal.begin(900),
        HISTORY_RELATION,
        history_row(41, OID, renamed),
        wal.relation(OID, "public", "credit", renamed),
        wal.insert(OID, [b"1", b"secret"]),
        wal.update(OID, [b"2", wal.UNCHANGED], old_key=[b"1", None]),
        wal.update(OID, [b"2", b"secret"], old_row=[b"2", b"secret"]),
        wal.delete(OID, [b"2", None]),
        wal.commit(900),
    ]
    heard, _ = translate(stream, targets={**TARGETS, ("public", "credit"): dropped})
    assert heard.changes[1:] == [("c", None, {}), ("u", {}, {}), ("u", {}, {}), ("d", {}, None)]
    assert [v["source"]["schema_version"] for v in heard.values[1:]] == [0, 0, 0, 0]
    assert heard.keys[1:] == [{}, {}, {}, {}]
    assert not any("unchanged" in v["source"] for v in heard.values)


def test_a_protected_column_that_is_never_sent_seals_nothing():
    text = SourceType(TEXT, -1, "text", "b", "text")
    shape = SourceRelation(
        OID, "public", "credit", "r", "d",
        (SourceColumn(1, "id", SourceType(INT8, -1, "bigint", "b", "int8"), nullable=False),),
        version=41,
        unsent=(SourceColumn(2, "note", text, nullable=True, generated=True),),
    )  # fmt: skip
    dropped = Target("t", "m/credit", ("id",), frozenset({"note"}))
    stream = [
        wal.begin(900),
        wal.relation(OID, "public", "credit", COLUMNS[:1]),
        wal.insert(OID, [b"1"]),
        wal.commit(900),
    ]
    targets = {("public", "credit"): dropped}
    known, _ = translate(stream, targets=targets, history=[shape])
    unknown, _ = translate(stream, targets=targets)
    assert (known.values[0]["after"], unknown.values[0]["after"]) == ({"id": 1}, {})


def test_a_type_that_only_the_history_knows_decides_the_form():
    domain = SourceType(99_999, -1, "integer", "b", "int4", None)
    shape = SourceRelation(
        OID, "public", "credit", "r", "d", (SourceColumn(1, "id", domain, nullable=False),)
    )
    columns = [wal.Column("id", 99_999, in_identity=True)]
    stream = [
        wal.begin(900),
        wal.relation(OID, "public", "credit", columns),
        wal.insert(OID, [b"1"]),
        wal.commit(900),
    ]
    known, _ = translate(stream, history=[shape])
    unknown, _ = translate(stream)
    assert (known.values[0]["after"], unknown.values[0]["after"]) == ({"id": 1}, {"id": "1"})


@given(st.data())
def test_a_restart_anywhere_goes_on_with_the_next_event(data: st.DataObject):
    stream = data.draw(streams())
    whole, _ = translate(stream)
    cut = data.draw(st.integers(0, len(stream)))
    before, translator = translate(stream[:cut])
    resume_after = translator.position
    after, resumed = translate(stream, resume_after=resume_after)
    assert before.values + after.values == whole.values
    assert whole.positions == sorted(set(whole.positions))
    if cut == len(stream):
        assert (after.values, resumed.position) == ([], resume_after)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Transactions of every kind of message, in the order of their commits."""
    change = st.sampled_from(
        [
            wal.insert(OID, [b"1", b"x"]),
            wal.update(OID, [b"1", wal.UNCHANGED]),
            wal.update(OID, [b"2", b"y"], old_key=[b"1", None]),
            wal.update(OID, [b"1", b"z"], old_key=[b"1", None]),
            wal.delete(OID, [b"1", None]),
            wal.insert(OTHER, [b"1", b"x"]),
            wal.update(OTHER, [b"2", b"y"], old_key=[b"1", None]),
            wal.truncate([OID, OTHER]),
            wal.message("carbon", b"marker", transactional=True),
        ]
    )
    other = wal.relation(OTHER, "public", "undeclared", COLUMNS)
    stream: list[bytes] = []
    for number in range(draw(st.integers(1, 4))):
        commit_lsn = 1000 * (number + 1)
        changes = draw(st.lists(change, min_size=1, max_size=6))
        stream += [wal.begin(commit_lsn), CREDIT, other, *changes, wal.commit(commit_lsn)]
        if draw(st.booleans()):
            stream.append(wal.message("carbon", b"heartbeat", transactional=False))
    return stream


def test_what_does_not_carry_the_declared_key_has_no_value_and_a_version_that_says_so():
    columns = [wal.Column("id", INT8), wal.Column("note", TEXT, in_identity=True)]
    stream = [
        wal.begin(900),
        wal.relation(OID, "public", "credit", columns),
        wal.insert(OID, [b"1", b"x"]),
        wal.update(OID, [b"2", b"x"]),
        wal.update(OID, [b"2", b"y"], old_key=[None, b"x"]),
        wal.delete(OID, [None, b"y"]),
        wal.relation(OID, "public", "credit", COLUMNS),
        wal.delete(OID, [b"3", None]),
        wal.commit(900),
    ]

    heard, _ = translate(stream)

    assert heard.changes == [
        ("c", None, {"id": 1, "note": "x"}),
        ("u", None, {}),
        ("u", None, {}),
        ("d", {}, None),
        ("d", {"id": 3}, None),
    ]
    assert heard.keys == [{"id": 1}, {}, {}, {}, {"id": 3}]
    assert [v["source"]["schema_version"] for v in heard.values] == [0, -2, -2, -2, 0]
    assert [position.ordinal for position in heard.positions] == [1, 2, 4, 5, 6]


def shape(oid: int, name: str, version: int, *, joined: bool = False) -> SourceRelation:
    columns = tuple(
        SourceColumn(
            number, column.name, SourceType(column.type_oid, -1, "", "b", ""), nullable=True
        )
        for number, column in enumerate(COLUMNS, 1)
    )
    return SourceRelation(oid, "public", name, "r", "d", columns, version, rewritten=joined)


WHEREABOUTS = {
    "a table that is called otherwise": ([], "old", ["cdc.m.public.credit"]),
    "one whose name another one took": (
        [shape(OTHER, "credit", 9, joined=True)],
        "old",
        [],
    ),
    "one that was seen to be another one": (
        [shape(OID, "old", 9, joined=True)],
        "old",
        [],
    ),
    "one that is back": (
        [shape(OID, "old", 8), shape(OID, "credit", 9)],
        "credit",
        ["cdc.m.public.credit"],
    ),
}


@pytest.mark.parametrize("case", WHEREABOUTS)
def test_a_relation_is_the_table_as_which_it_joined_until_another_one_is(case: str):
    later, name, topics = WHEREABOUTS[case]
    stream = [
        wal.begin(900),
        wal.relation(OID, "public", name, COLUMNS),
        wal.insert(OID, [b"1", b"x"]),
        wal.commit(900),
    ]

    heard, _ = translate(stream, history=[shape(OID, "credit", 7, joined=True), *later])

    assert heard.topics == topics
    assert heard.ignored == ([] if topics else [name])


BROKEN = {
    "a row that is cut": wal.insert(OID, [b"1", b"text"])[:-1],
    "a row with more behind it": wal.insert(OID, [b"1", b"text"]) + b"?",
    "a row with a column too many": wal.insert(OID, [b"1", b"text", b"more"]),
    "a value of an unknown kind": wal.wal(b"I" + OID.to_bytes(4, "big") + b"N\0\2xx"),
    "a row of a relation that was not announced": wal.insert(OTHER, [b"1", b"text"]),
    "a message of an unknown kind": wal.wal(b"?"),
    "nothing at all": b"w",
    "a begin that is cut": wal.begin(900)[:-1],
}


@pytest.mark.parametrize("message", BROKEN.values(), ids=BROKEN.keys())
def test_what_cannot_be_decoded_stops_capture(message: bytes):
    with pytest.raises(UndecodableChangeError, match="cannot be decoded"):
        translate([wal.begin(900), CREDIT, message])


WHOLE = {("public", "credit"): Target("t", "m/credit", whole_rows=True)}
ROWS = wal.relation(OID, "public", "credit", COLUMNS, identity="f")


def test_a_table_of_whole_rows_says_what_each_row_was_and_is_in_one_event():
    stream = [
        wal.begin(900),
        ROWS,
        wal.update(OID, [b"1", wal.UNCHANGED], old_row=[b"2", b"long"]),
        wal.update(OID, [b"1", None], old_row=[b"1", b"long"]),
        wal.delete(OID, [None, None], whole=True),
        wal.commit(900),
    ]

    heard, _ = translate(stream, targets=WHOLE)

    assert heard.changes == [
        ("u", {"id": 2, "note": "long"}, {"id": 1, "note": "long"}),
        ("u", {"id": 1, "note": "long"}, {"id": 1, "note": None}),
        ("d", {"id": None, "note": None}, None),
    ]
    assert heard.keys == [None, None, None]
    assert heard.positions == [Position(900, 2), Position(900, 4), Position(900, 5)]


def test_a_column_that_must_not_leave_is_in_no_old_row():
    target = Target("t", "m/credit", dropped=frozenset({"note"}), whole_rows=True)
    stream = [wal.begin(900), ROWS, wal.delete(OID, [b"1", b"secret"], whole=True)]

    heard, _ = translate(stream, targets={("public", "credit"): target})

    assert heard.changes == [("d", {"id": 1}, None)]


def test_what_comes_without_the_whole_old_row_is_told_as_it_is_and_stops_no_other_table():
    stream = [
        wal.begin(900),
        CREDIT,
        wal.update(OID, [b"1", b"a"]),
        wal.update(OID, [b"2", b"a"], old_key=[b"1", None]),
        wal.delete(OID, [b"2", None]),
        wal.commit(900),
    ]

    heard, _ = translate(stream, targets=WHOLE)

    assert heard.changes == [
        ("u", None, {"id": 1, "note": "a"}),
        ("u", None, {"id": 2, "note": "a"}),
        ("d", None, None),
    ]
    assert heard.positions == [Position(900, 1), Position(900, 3), Position(900, 4)]
