"""What a round compares follows from the source's columns and the declaration."""

from datetime import timedelta

from carbon_pipelines.catalog.table import ColumnSpec, TableSpec
from carbon_pipelines.quality.canonical import ComparedColumn
from carbon_pipelines.quality.lake_scan import LakeSnapshot
from carbon_pipelines.quality.rounds import row_shape, schema_differences
from carbon_pipelines.quality.rowhash import RowShape
from carbon_pipelines.source.relation import SourceColumn, SourceRelation, SourceType


def column(attnum: int, name: str, base_name: str) -> SourceColumn:
    return SourceColumn(attnum, name, SourceType(0, -1, base_name, "b", base_name), nullable=True)


RELATION = SourceRelation(
    oid=1,
    schema="public",
    name="party",
    kind="r",
    replica_identity="d",
    columns=(
        column(1, "name", "text"),
        column(2, "secret", "text"),
        column(3, "exposure", "numeric"),
        column(4, "id", "int4"),
    ),
)
TABLE = TableSpec(
    database="market",
    name="party",
    source_table="party",
    key=("id", "name"),
    owner="team:tests",
    freshness=timedelta(hours=1),
    description="A test.",
    columns={"secret": ColumnSpec(protect="drop"), "exposure": ColumnSpec(type="decimal(18,4)")},
)
SHAPE = RowShape(
    columns=(
        ComparedColumn("name", "VARCHAR"),
        ComparedColumn("exposure", "DECIMAL(18,4)", declared_scale=4),
        ComparedColumn("id", "INTEGER"),
    ),
    key=(2, 0),
)


def test_dropped_columns_are_not_compared_and_the_key_keeps_its_declared_order() -> None:
    assert row_shape(RELATION, TABLE) == SHAPE


def test_a_column_of_another_type_in_the_lake_is_a_difference_and_a_missing_one_is_not() -> None:
    lake = LakeSnapshot("lake", {"name": "VARCHAR", "id": "BIGINT", "gone": "DATE"}, 1)

    assert schema_differences(SHAPE, lake) == (
        "id is BIGINT in the lake, where INTEGER holds the source's values",
    )
