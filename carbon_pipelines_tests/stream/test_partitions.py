"""Events of a partitioned table's leaves are those of the table."""

from dataclasses import replace

from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceColumn, SourceRelation, SourceType
from carbon_pipelines.stream.progress import NOTHING
from carbon_pipelines.stream.translate import Translator
from carbon_pipelines_tests.stream import wal
from carbon_pipelines_tests.stream.test_translate import (
    COLUMNS,
    HISTORY_RELATION,
    INT8,
    TARGETS,
    TEXT,
    Heard,
    history_row,
)

ROOT, FIRST, SECOND = 16_400, 16_401, 16_402
KNOWN = SourceRelation(
    oid=ROOT,
    schema="public",
    name="credit",
    kind="p",
    replica_identity="d",
    columns=(
        SourceColumn(
            1, "id", SourceType(INT8, -1, "bigint", "b", "int8"), nullable=False, key_position=0
        ),
        SourceColumn(2, "note", SourceType(TEXT, -1, "text", "b", "text"), nullable=True),
    ),
    version=41,
    leaves=frozenset({FIRST, SECOND}),
)
LEAVES = [
    wal.relation(FIRST, "public", "credit_1", COLUMNS),
    wal.relation(SECOND, "elsewhere", "credit_2", COLUMNS[::-1]),
]


def translate(
    *messages: bytes,
    known: SourceRelation = KNOWN,
    resume_after: Position = NOTHING,
    ancestors: dict[int, list[tuple[int, str, str]]] | None = None,
) -> Heard:
    heard = Heard()
    translator = Translator(
        "carbon_m",
        "m",
        TARGETS,
        [known],
        heard.produce,
        resume_after=resume_after,
        on_ignored=lambda names: heard.ignored.append(names[0][1]),
        load_ancestors=lambda oid: (ancestors or {}).get(oid, []),
    )
    for message in (wal.begin(900), *LEAVES, *messages, wal.commit(900)):
        translator.feed(message)
    return heard


def kinds(heard: Heard) -> list[tuple[str, int, int]]:
    return [(v["op"], v["source"]["ordinal"], v["source"]["schema_version"]) for v in heard.values]


def test_rows_of_a_leaf_are_the_tables_in_whatever_order_its_columns_are() -> None:
    heard = translate(wal.insert(FIRST, [b"1", b"a"]), wal.insert(SECOND, [b"b", b"2"]))

    assert [value["after"] for value in heard.values] == [
        {"id": 1, "note": "a"},
        {"note": "b", "id": 2},
    ]
    assert heard.topics == ["cdc.m.public.credit"] * 2
    assert heard.keys == [{"id": 1}, {"id": 2}]
    assert {value["source"]["table"] for value in heard.values} == {"credit"}
    assert kinds(heard) == [("c", 1, 41), ("c", 2, 41)]


def test_a_row_that_moves_to_another_leaf_is_a_delete_and_an_insert() -> None:
    heard = translate(wal.delete(FIRST, [b"1", None]), wal.insert(SECOND, [b"b", b"1"]))

    assert heard.changes == [("d", {"id": 1}, None), ("c", None, {"note": "b", "id": 1})]


def test_only_a_truncate_of_every_leaf_is_one_of_the_table() -> None:
    assert kinds(translate(wal.truncate([SECOND, FIRST]))) == [("t", 2, 41)]
    assert kinds(translate(wal.truncate([FIRST]))) == [("m", 1, -1)]
    one_leaf = replace(KNOWN, leaves=frozenset({FIRST}))
    assert kinds(translate(wal.truncate([FIRST]), known=one_leaf)) == [("t", 1, 41)]


def test_a_truncate_that_kafka_holds_is_not_sent_again() -> None:
    truncates = wal.truncate([FIRST, SECOND]), wal.truncate([FIRST])

    assert kinds(translate(*truncates, resume_after=Position(900, 2))) == [("m", 3, -1)]
    assert kinds(translate(*truncates, resume_after=Position(900, 3))) == []


def test_a_leaf_that_no_row_lists_is_looked_up_and_its_events_name_no_shape() -> None:
    unlisted = replace(KNOWN, leaves=frozenset({FIRST}))
    ancestors = {SECOND: [(ROOT, "public", "credit")]}
    stream = wal.insert(SECOND, [b"b", b"2"]), wal.truncate([FIRST])

    heard = translate(*stream, known=unlisted, ancestors=ancestors)
    assert kinds(heard) == [("c", 1, 0), ("m", 2, -1)]
    heard = translate(*stream, known=unlisted)
    assert (kinds(heard), heard.ignored) == ([("t", 2, 41)], ["credit_2"])


def test_a_leaf_whose_columns_are_not_the_recorded_ones_names_no_shape() -> None:
    added = [*COLUMNS, wal.Column("more", TEXT)]
    heard = translate(
        wal.relation(FIRST, "public", "credit_1", added),
        wal.insert(FIRST, [b"1", b"a", b"x"]),
        HISTORY_RELATION,
        history_row(42, ROOT, added, leaves=[FIRST, SECOND]),
        wal.insert(FIRST, [b"2", b"a", b"x"]),
        wal.insert(SECOND, [b"a", b"3"]),
    )

    rows = [
        one for topic, one in zip(heard.topics, kinds(heard), strict=True) if "ddl" not in topic
    ]
    assert rows == [("c", 1, 0), ("c", 3, 42), ("c", 4, 0)]


def test_a_leaf_that_was_dropped_is_not_waited_for() -> None:
    heard = translate(
        HISTORY_RELATION,
        history_row(42, SECOND, []),
        history_row(43, ROOT, COLUMNS, leaves=[FIRST]),
        wal.truncate([FIRST]),
    )

    assert kinds(heard)[-1] == ("t", 3, 43)
