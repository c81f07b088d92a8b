import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carbon_pipelines.errors import (
    ProtectedColumnMissingError,
    UnsupportedSchemaChangeError,
    UnsupportedTypeError,
)
from carbon_pipelines.lake.evolution import (
    SOURCE_COLUMNS,
    plan_renewed_schema,
    plan_schema,
    source_columns_property,
)
from carbon_pipelines.lake.schema_change import plan_change
from carbon_pipelines.lake.table_creation import create_table
from carbon_pipelines.source.relation import SourceColumn, SourceRelation, SourceType
from carbon_pipelines_tests.lake.local_lake import (
    TYPES,
    LocalLake,
    open_local,
    relation,
    table_spec,
)

COLUMNS = {"id": "int8", "name": "text", "tags": "text[]"}


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    made = LocalLake(tmp_path, COLUMNS, ["id"])
    made.load([{"id": 1, "name": "one", "tags": ["a"]}])
    return made


def shape(*, version: int = 2, **more: str) -> SourceRelation:
    return relation({**COLUMNS, **more}, ["id"], version=version)


def with_column(number: int, **facts: Any) -> SourceRelation:
    """The shape with one column changed."""
    made = shape()
    columns = list(made.columns)
    columns[number] = replace(columns[number], **facts)
    return replace(made, columns=tuple(columns))


def test_a_new_table_has_the_sources_columns_its_key_and_ids_for_elements() -> None:
    schema = plan_schema(shape(), table_spec(["id"]))

    assert str(schema).split("\n")[1:-1] == [
        "  1: id: required long",
        "  2: name: optional string",
        "  3: tags: optional list<string>",
    ]
    assert schema.identifier_field_ids == [1]
    assert schema.highest_field_id == 6
    assert json.loads(source_columns_property(shape(), schema)) == {"1": 1, "2": 2, "3": 3}


def test_a_protected_column_has_no_place_in_the_table() -> None:
    spec = table_spec(["id"], columns={"name": {"protect": "drop"}})

    assert [f.name for f in plan_schema(shape(), spec).fields] == ["id", "tags"]


def test_a_type_that_cannot_be_held_names_its_table_and_column() -> None:
    odd = with_column(1, type=SourceType(2249, -1, "record", "p", "record"))

    with pytest.raises(UnsupportedTypeError, match=r"market/t\.name has type record"):
        plan_schema(odd, table_spec(["id"]))


def test_added_columns_of_any_type_and_name_are_shown_as_nulls_to_old_rows(
    lake: LocalLake,
) -> None:
    wider = shape(**{"more.tags": "uuid[]", "at": "timestamptz"})

    lake.evolve(wider)

    lake.relation = wider
    lake.merge([{"op": "c", "after": {"id": 2, "at": "infinity", "more.tags": [None]}}])
    assert lake.rows('id, name, tags, "more.tags", "at"::VARCHAR') == [
        (1, "one", ["a"], None, None),
        (2, None, None, [None], "infinity"),
    ]


def test_an_added_column_is_known_by_its_attnum(lake: LocalLake) -> None:
    table = lake.evolve(shape(n="int4"))

    known = json.loads(table.properties[SOURCE_COLUMNS])
    assert known == {"1": 1, "2": 2, "3": 3, "4": table.schema().find_field("n").field_id}


def test_following_the_same_shape_twice_changes_nothing(lake: LocalLake) -> None:
    table = lake.evolve(shape(n="int4"))

    again = lake.evolve(shape(n="int4"))

    assert again.metadata_location == table.metadata_location


def test_any_column_may_identify_rows_of_a_table_with_full_identity(lake: LocalLake) -> None:
    columns = tuple(replace(column, key_position=None) for column in shape().columns)
    full = replace(shape(), columns=columns, replica_identity="f")

    assert not plan_change(lake.fresh(), full, lake.spec, lake.relation)


@pytest.fixture
def protected(tmp_path: Path) -> LocalLake:
    made = LocalLake(tmp_path / "open", COLUMNS, ["id"])
    made.spec = table_spec(["id"], columns={"name": {"protect": "drop"}})
    made.catalog = open_local(tmp_path / "protected")
    made.table = create_table(made.catalog, made.spec, made.relation)
    return made


def test_a_protected_column_under_another_name_goes_nowhere(protected: LocalLake) -> None:
    renamed = with_column(1, name="title")

    for plan in (
        lambda: plan_change(protected.fresh(), renamed, protected.spec, protected.relation),
        lambda: plan_renewed_schema(protected.fresh(), renamed, protected.spec),
        lambda: plan_schema(renamed, protected.spec),
    ):
        with pytest.raises(ProtectedColumnMissingError, match=r"market/t declares .* for name"):
            plan()


def test_a_protected_column_may_be_one_that_is_never_sent(protected: LocalLake) -> None:
    id_, name, tags = shape().columns
    generated = replace(shape(), columns=(id_, tags), unsent=(replace(name, generated=True),))

    assert [f.name for f in plan_schema(generated, protected.spec).fields] == ["id", "tags"]


@pytest.mark.parametrize("sent", [True, False])
def test_a_column_that_was_there_before_is_not_taken_for_a_new_one(
    protected: LocalLake, *, sent: bool
) -> None:
    """As after a renaming, a ``protect: drop`` that was removed, or a DROP EXPRESSION."""
    open_spec = protected.spec.model_copy(update={"columns": {}})
    before, (id_, name, tags) = shape(), shape().columns
    if not sent:
        before = replace(before, columns=(id_, tags), unsent=(name,))

    with pytest.raises(UnsupportedSchemaChangeError, match="has name, which was there before"):
        plan_change(protected.fresh(), replace(shape(), version=3), open_spec, before)


def test_a_renamed_label_of_an_enum_is_refused_and_a_new_one_is_not(lake: LocalLake) -> None:
    def labelled(*labels: tuple[int, str]) -> SourceRelation:
        mood = replace(TYPES["mood"], labels=labels)
        moods = SourceType(16501, -1, "mood[]", "b", "_mood", mood)
        return replace(with_column(1, type=mood), columns=(*shape().columns[:2], moods_in(moods)))

    def moods_in(kind: SourceType) -> SourceColumn:
        return replace(shape().columns[2], type=kind)

    before = labelled((1, "calm"), (2, "cross"))

    grown = labelled((1, "calm"), (2, "cross"), (3, "calmer"))
    assert not plan_change(lake.fresh(), grown, lake.spec, before)
    with pytest.raises(UnsupportedSchemaChangeError, match="renames cross to angry of an enum"):
        plan_change(lake.fresh(), labelled((1, "calm"), (2, "angry")), lake.spec, before)


def test_nothing_is_followed_without_the_shape_before(lake: LocalLake) -> None:
    with pytest.raises(UnsupportedSchemaChangeError, match="does not hold"):
        plan_change(lake.fresh(), shape(n="int4"), lake.spec, None)


def test_a_column_renamed_before_a_copy_keeps_its_field(lake: LocalLake) -> None:
    schema = plan_renewed_schema(lake.fresh(), with_column(1, name="title"), lake.spec)

    assert [(f.field_id, f.name) for f in schema.fields] == [(1, "id"), (2, "title"), (3, "tags")]


def test_a_column_of_another_type_or_attnum_gets_a_field_that_was_never_used(
    lake: LocalLake,
) -> None:
    columns = shape().columns
    anew = replace(
        shape(),
        columns=(
            columns[0],
            replace(columns[1], type=TYPES["text[]"]),
            replace(columns[2], attnum=9),
        ),
    )
    last = lake.fresh().metadata.last_column_id

    schema = plan_renewed_schema(lake.fresh(), anew, lake.spec)

    ids = [f.field_id for f in schema.fields]
    elements = [f.field_type.element_id for f in schema.fields[1:]]
    assert ids[0] == 1
    assert min(ids[1:]) > last
    assert len({*ids, *elements}) == 5
