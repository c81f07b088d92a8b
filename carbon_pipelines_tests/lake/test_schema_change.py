import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carbon_pipelines.errors import UnsupportedSchemaChangeError
from carbon_pipelines.lake.evolution import SOURCE_COLUMNS
from carbon_pipelines.lake.schema_change import plan_change
from carbon_pipelines.source.relation import SourceColumn, SourceRelation, SourceType
from carbon_pipelines_tests.lake.local_lake import TYPES, LocalLake, relation

COLUMNS = {"id": "int4", "name": "text", "mood": "mood", "real": "float4", "sum": "numeric(9,2)"}
BEFORE = relation(COLUMNS, ["id"])
CALM = SourceType(16500, -1, "mood", "e", "mood", labels=((1, "calm"), (2, "busy")))


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    made = LocalLake(tmp_path, COLUMNS, ["id"])
    made.load([{"id": n, "name": f"row {n}", "mood": "calm", "real": 0.1} for n in (1, 2)])
    return made


def after(*dropped: int, added: SourceColumn | None = None, **facts: Any) -> SourceRelation:
    """The shape after a DDL, without the columns of these numbers."""
    columns = [column for column in BEFORE.columns if column.attnum not in dropped]
    return replace(BEFORE, version=2, columns=(*columns, *([added] if added else [])), **facts)


def changed(number: int, *, shape: dict[str, Any] | None = None, **facts: Any) -> SourceRelation:
    """The shape with one column changed."""
    columns = [replace(c, **facts) if c.attnum == number else c for c in BEFORE.columns]
    return replace(BEFORE, version=2, columns=tuple(columns), **(shape or {}))


def fields(lake: LocalLake) -> list[tuple[int, str, str]]:
    return [(f.field_id, f.name, str(f.field_type)) for f in lake.fresh().schema().fields]


def test_a_renamed_column_keeps_its_field_and_its_values(lake: LocalLake) -> None:
    lake.evolve(changed(2, name="title"))

    assert fields(lake)[1] == (2, "title", "string")
    assert lake.rows("id, title") == [(1, "row 1"), (2, "row 2")]


def test_a_dropped_column_goes_and_a_new_one_of_its_name_gets_another_id(lake: LocalLake) -> None:
    last = lake.fresh().metadata.last_column_id
    both = after(2, added=SourceColumn(6, "name", TYPES["text"], nullable=True))

    lake.evolve(both)

    assert fields(lake)[-1] == (last + 1, "name", "string")
    assert lake.rows("id, name") == [(1, None), (2, None)]
    known = json.loads(lake.fresh().properties[SOURCE_COLUMNS])
    assert known == {"1": 1, "3": 3, "4": 4, "5": 5, "6": last + 1}


WIDENED = {
    "int4 to int8": (changed(1, type=TYPES["int8"]), "long"),
    "float4 to float8": (changed(4, type=TYPES["float8"]), "double"),
}


@pytest.mark.parametrize("change", WIDENED)
def test_a_cast_that_keeps_every_value_widens_the_field(lake: LocalLake, change: str) -> None:
    shape, kind = WIDENED[change]

    lake.evolve(replace(shape, rewritten=True, cast_only=True))

    assert kind in [kind for _, _, kind in fields(lake)]
    assert lake.rows("id, real") == [(1, pytest.approx(0.1)), (2, pytest.approx(0.1))]


def test_more_digits_before_the_point_widen_a_decimal(lake: LocalLake) -> None:
    lake.evolve(changed(5, type=TYPES["numeric(12,2)"]))

    assert fields(lake)[4] == (5, "sum", "decimal(12, 2)")


@pytest.mark.parametrize(
    ("number", "facts"),
    [
        (2, {"type": TYPES["varchar"]}),
        (2, {"nullable": False}),
        (3, {"type": replace(CALM, labels=(*CALM.labels, (3, "asleep")))}),
    ],
)
def test_what_changes_no_value_changes_nothing(
    lake: LocalLake, number: int, facts: dict[str, Any]
) -> None:
    before = changed(3, type=CALM) if number == 3 else BEFORE

    assert not plan_change(lake.fresh(), changed(number, **facts), lake.spec, before)


REFUSED = {
    "rewrites the table": after(rewritten=True),
    "takes id out of the replica identity": changed(1, key_position=None),
    "adds name to the replica identity": changed(2, key_position=1),
    "changes id from integer to bigint": changed(1, type=TYPES["int8"]),
    "changes id from integer to text": changed(
        1, type=TYPES["text"], shape={"rewritten": True, "cast_only": True}
    ),
    "changes name from text to character varying(20)": changed(
        2, type=TYPES["varchar"], shape={"rewritten": True, "cast_only": True}
    ),
    "changes name from text to jsonb": changed(2, type=TYPES["jsonb"]),
    "changes sum from decimal(9, 2) to string": changed(5, type=TYPES["numeric"]),
    "renames calm to quiet of an enum": changed(
        3, type=replace(CALM, labels=((1, "quiet"), (2, "busy")))
    ),
    "adds more with a value for existing rows": after(
        added=SourceColumn(6, "more", TYPES["int4"], nullable=True, generated=True)
    ),
    "adds also with a value for existing rows": after(
        added=SourceColumn(6, "also", TYPES["int4"], nullable=True),
        rewritten=True,
        cast_only=True,
    ),
}


@pytest.mark.parametrize("change", REFUSED)
def test_a_change_that_alters_what_rows_mean_is_refused(lake: LocalLake, change: str) -> None:
    before = changed(3, type=CALM)

    with pytest.raises(UnsupportedSchemaChangeError) as refused:
        plan_change(lake.fresh(), REFUSED[change], lake.spec, before)

    assert f"market/t: schema version 2 {change}" in str(refused.value)


def test_a_column_that_was_kept_back_has_values_that_only_a_copy_can_bring(
    lake: LocalLake,
) -> None:
    hidden = SourceColumn(6, "secret", TYPES["text"], nullable=True)

    with pytest.raises(UnsupportedSchemaChangeError, match="has secret, which was there before"):
        plan_change(lake.fresh(), after(added=hidden), lake.spec, after(added=hidden))


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("int4", "7", 7),
        ("text", "con'stant", "con'stant"),
        ("bool", "t", True),
        ("numeric(12,2)", "1.50", 1.5),
        ("text[]", '{a,"b,c"}', ["a", "b,c"]),
        ("int4[]", "{1,NULL}", [1, None]),
    ],
)
def test_a_new_column_is_filled_in_every_row_that_no_event_touches(
    lake: LocalLake, kind: str, text: str, expected: object
) -> None:
    lake.merge([{"op": "d", "before": {"id": 2}}, {"op": "c", "after": {"id": 3, "name": "three"}}])
    added = SourceColumn(6, "added", TYPES[kind], nullable=True, missing_value=text)

    lake.evolve(after(added=added))

    assert lake.rows("id, name, added") == [(1, "row 1", expected), (3, "three", expected)]
    files = lake.fresh().inspect.delete_files()
    assert files.num_rows == 0


def test_a_column_is_filled_once(lake: LocalLake) -> None:
    added = SourceColumn(6, "added", TYPES["int4"], nullable=True, missing_value="7")
    first = lake.evolve(after(added=added))

    assert lake.evolve(after(added=added)).metadata_location == first.metadata_location


def test_files_that_were_widened_and_renamed_before_are_filled_too(lake: LocalLake) -> None:
    wide = changed(4, name="twice", type=TYPES["float8"])
    lake.evolve(replace(wide, rewritten=True, cast_only=True))
    added = SourceColumn(6, "added", TYPES["int4"], nullable=True, missing_value="7")

    lake.evolve(replace(wide, columns=(*wide.columns, added), version=3), wide)

    assert lake.rows("id, twice::FLOAT, added") == [
        (1, pytest.approx(0.1), 7),
        (2, pytest.approx(0.1), 7),
    ]


def test_whole_rows_need_the_full_identity_whatever_key_there_is(lake: LocalLake) -> None:
    spec = lake.spec.model_copy(update={"key": (), "identity": "full"})

    with pytest.raises(UnsupportedSchemaChangeError, match="takes the replica identity away"):
        plan_change(lake.fresh(), BEFORE, spec, BEFORE)
    assert not plan_change(lake.fresh(), replace(BEFORE, replica_identity="f"), spec, BEFORE)
