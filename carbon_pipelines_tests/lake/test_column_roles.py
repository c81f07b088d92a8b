import pytest

from carbon_pipelines.errors import ColumnRoleError
from carbon_pipelines.lake.column_roles import check_roles
from carbon_pipelines_tests.lake.local_lake import relation, table_spec


@pytest.mark.parametrize("kind", ["float4", "float8", "int4[]", "text[]"])
def test_a_type_that_no_key_can_have_is_refused_by_name(kind: str) -> None:
    with pytest.raises(ColumnRoleError, match=r"market/t\.k is declared in the key"):
        check_roles(relation({"k": kind}, ["k"]), table_spec(["k"]))


@pytest.mark.parametrize(
    "kind", ["int2", "oid", "bool", "numeric(9,2)", "numeric", "date", "uuid", "bytea", "mood"]
)
def test_every_other_type_can_be_a_key(kind: str) -> None:
    check_roles(relation({"k": kind}, ["k"]), table_spec(["k"]))


def test_a_list_that_is_declared_a_string_can_be_a_key() -> None:
    spec = table_spec(["k"], columns={"k": {"type": "string"}})

    check_roles(relation({"k": "int4[]"}, ["k"]), spec)


@pytest.mark.parametrize(
    ("kind", "transform"),
    [
        ("text", "day"),
        ("jsonb", "hour"),
        ("date", "hour"),
        ("time", "day"),
        ("bool", "bucket[4]"),
        ("float8", "truncate[2]"),
        ("timestamptz", "truncate[2]"),
        ("int4[]", "identity"),
        ("text[]", "bucket[4]"),
    ],
)
def test_a_transform_that_a_type_has_not_is_refused_by_name(kind: str, transform: str) -> None:
    spec = table_spec(["id"], partitioning=[{"column": "p", "transform": transform}])

    with pytest.raises(ColumnRoleError) as refused:
        check_roles(relation({"id": "int8", "p": kind}, ["id"]), spec)
    assert f"market/t.p is declared in the partitioning by {transform}" in str(refused.value)


def test_a_list_has_no_place_in_a_sort_order() -> None:
    spec = table_spec(["id"], sort_order=[{"column": "p"}])

    with pytest.raises(ColumnRoleError, match="in the sort order"):
        check_roles(relation({"id": "int8", "p": "int4[]"}, ["id"]), spec)
