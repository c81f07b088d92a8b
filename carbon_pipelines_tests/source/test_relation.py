"""A row of DDL history says everything about a table's shape."""

import json

import pytest

from carbon_pipelines.source.look import may_have_rewritten
from carbon_pipelines.source.relation import (
    SourceColumn,
    SourceRelation,
    SourceType,
    relation_from_history,
)


def link(oid, name, kind="b", base_name=None, typmod=-1):
    return {
        "oid": oid,
        "typmod": typmod,
        "name": name,
        "kind": kind,
        "base_name": base_name or name,
    }


def column(attnum, name, *chain, **facts):
    return {
        "attnum": attnum,
        "name": name,
        "nullable": True,
        "default": None,
        "missing_value": None,
        "key_position": None,
        "generated": "",
        "published": True,
        "type": list(chain),
        **facts,
    }


INT4 = link(23, "integer", base_name="int4")
TEXT = link(25, "text")


def history(*columns, **facts):
    return {
        "id": 7,
        "format_version": 1,
        "oid": 16428,
        "schema": "public",
        "name": "trade",
        "kind": "r",
        "replica_identity": "d",
        "partition_parent": None,
        "columns": json.dumps(columns),
        "rewritten": False,
        "command_tag": "ALTER TABLE",
        **facts,
    }


def test_a_row_becomes_a_relation():
    key = column(1, "id", INT4, nullable=False, key_position=0)
    note = column(4, "note", TEXT, missing_value="none")
    assert relation_from_history(history(key, note, rewritten=True)) == SourceRelation(
        oid=16428,
        schema="public",
        name="trade",
        kind="r",
        replica_identity="d",
        columns=(
            SourceColumn(
                1, "id", SourceType(23, -1, "integer", "b", "int4"), nullable=False, key_position=0
            ),
            SourceColumn(
                4,
                "note",
                SourceType(25, -1, "text", "b", "text"),
                nullable=True,
                missing_value="none",
            ),
        ),
        version=7,
        rewritten=True,
    )


def test_domains_are_resolved_and_keep_the_oid_that_pgoutput_sends():
    chain = [
        link(16402, "public.price", "d", "price"),
        link(16401, "public.amount", "d", "amount", 655366),
        link(1700, "numeric(10,2)", base_name="numeric", typmod=655366),
    ]
    relation = relation_from_history(history(column(1, "price", *chain)))
    assert relation.columns[0].type == SourceType(16402, 655366, "numeric(10,2)", "b", "numeric")


def test_arrays_of_domains_over_arrays_are_nested():
    chain = [
        link(16411, "public.row[]", base_name="_row"),
        link(16410, "public.row", "d", "row"),
        link(1007, "integer[]", base_name="_int4"),
        INT4,
    ]
    relation = relation_from_history(history(column(1, "grid", *chain)))
    integer = SourceType(23, -1, "integer", "b", "int4")
    row = SourceType(16410, -1, "integer[]", "b", "_int4", integer)
    assert relation.columns[0].type == SourceType(16411, -1, "public.row[]", "b", "_row", row)


def test_columns_that_the_server_never_sends_are_left_out_and_named():
    hidden = column(2, "twice", INT4, generated="v", published=False)
    relation = relation_from_history(history(column(1, "id", INT4), hidden))
    assert [column.name for column in relation.columns] == ["id"]
    assert [column.name for column in relation.unsent] == ["twice"]
    assert relation.column_names == {"id", "twice"}


def mood(*labels, **more):
    return {**link(16500, "mood", "e"), "labels": [list(label) for label in labels], **more}


def test_labels_of_enums_are_known_by_oid_at_any_depth():
    moods = [link(16502, "moods", "d"), link(16501, "mood[]"), mood((1, "calm"), (2, "cross"))]
    relation = relation_from_history(history(column(1, "a", *moods), column(2, "b", INT4)))
    assert relation.enum_labels == {1: "calm", 2: "cross"}


@pytest.mark.parametrize(
    ("before", "now", "stale"),
    [
        (mood((1, "calm")), mood((1, "calm"), (2, "cross")), False),
        (mood((1, "calm")), mood((1, "quiet")), True),
        (link(16500, "mood", "e"), mood((1, "calm")), False),  # recorded by an older release
    ],
)
def test_polling_sees_that_a_label_was_renamed(before, now, stale):
    assert may_have_rewritten([column(1, "m", before)], [column(1, "m", now)]) == stale


def test_identity_columns_come_in_the_order_of_the_index():
    day, id_ = column(1, "day", INT4, key_position=1), column(2, "id", INT4, key_position=0)
    assert relation_from_history(history(day, id_)).identity_columns == ("id", "day")


def test_a_dropped_table_has_no_columns():
    assert relation_from_history(history()).dropped


def test_a_row_of_another_format_is_refused():
    with pytest.raises(ValueError, match="format version 2"):
        relation_from_history(history(format_version=2))


@pytest.mark.parametrize(
    ("now", "stale"),
    [
        ([column(1, "id", INT4)], False),
        ([column(1, "id", INT4, default="5", nullable=False, missing_value="5")], False),
        ([column(1, "renamed", INT4)], True),
        ([column(1, "id", TEXT)], True),
        ([column(1, "id", INT4, key_position=0)], True),
        ([column(1, "id", INT4), column(2, "n", INT4)], True),
        ([column(2, "id", INT4)], True),
        ([], True),
    ],
)
def test_polling_errs_on_the_side_of_a_copy(now, stale):
    assert may_have_rewritten([column(1, "id", INT4)], now) == stale
