import pickle
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from carbon_pipelines.catalog.database import LONGEST_NAME, DatabaseSpec
from carbon_pipelines.catalog.table import (
    WORD,
    ColumnSpec,
    PartitionField,
    SortField,
    TableSpec,
    default_name,
)


def table(**fields: object) -> TableSpec:
    told = {
        "database": "market",
        "name": "t",
        "source_table": "t",
        "key": ("id",),
        "owner": "team:a",
        "freshness": timedelta(hours=1),
        "description": "Rows.",
    }
    return TableSpec.model_validate({**told, **fields})


def database(name: str) -> DatabaseSpec:
    return DatabaseSpec(name=name, owner="team:a")


@pytest.mark.parametrize(
    ("schema", "name", "expected"),
    [
        ("public", "price_tick", "price_tick"),
        ("sales", "order", "sales_order"),
        ("public", "Price Tick", "price_tick"),
        ("Été", "Größe", "_t__gr__e"),
        ("public", "2024_prices", "t_2024_prices"),
    ],
)
def test_a_table_without_a_logical_name_gets_one_that_needs_no_quotes(
    schema: str, name: str, expected: str
) -> None:
    assert default_name(schema, name).endswith(expected)


@settings(deadline=None)
@given(st.text(min_size=1), st.text(min_size=1))
def test_any_name_in_postgresql_maps_to_a_word(schema: str, name: str) -> None:
    assert WORD.fullmatch(default_name(schema, name))


@pytest.mark.parametrize(
    ("written", "meant"),
    [("1m", timedelta(minutes=1)), ("36h", timedelta(hours=36)), ("7d", timedelta(days=7))],
)
def test_freshness_is_written_with_its_unit(written: str, meant: timedelta) -> None:
    assert table(freshness=written).freshness == meant


@pytest.mark.parametrize(
    "fields",
    [
        {"freshness": 15},
        {"freshness": "0m"},
        {"freshness": timedelta(seconds=59)},
        {"key": ()},
        {"identity": "full"},
        {"key": (), "identity": "full", "mode": "append"},
        {"key": (), "identity": "full", "dead_letters": {"at_most": 1}},
        {"key": (), "identity": "index"},
        {"key": ("id",), "mode": "append"},
        {"key": ("id", "id")},
        {"mode": "history", "key": ()},
        {"mode": "history", "key": (), "identity": "full"},
        {"mode": "history", "dead_letters": {"at_most": 1}},
        {"mode": "history", "debezium": {}},
        {"mode": "history", "on_rewrite": "recopy"},
        {"mode": "history", "recopies_per_hour": 5},
        {"mode": "history", "sort_order": (SortField(column="carbon_valid_from"),)},
        {"mode": "history", "columns": {"carbon_valid_to": ColumnSpec(type="string")}},
        {"owner": "somebody"},
        {"description": "  "},
        {"source_schema": "carbon"},
        {"partitioning": (PartitionField(column="at", transform="day"),) * 2},
        {
            "columns": {"at": ColumnSpec(protect="drop")},
            "sort_order": (SortField(column="at"),),
        },
        {"columns": {"price": ColumnSpec(protect="drop", type="decimal(9,2)")}},
    ],
    ids=str,
)
def test_a_table_that_contradicts_itself_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        table(**fields)


def test_a_history_needs_no_more_than_its_mode_and_a_key() -> None:
    assert table(mode="history").is_history
    assert table(mode="history", on_rewrite="park").is_history
    left_out = {"carbon_valid_to": ColumnSpec(protect="drop")}
    assert table(mode="history", columns=left_out).is_history


@pytest.mark.parametrize("transform", ["identity", "year", "hour", "bucket[16]", "truncate[3]"])
def test_the_transforms_of_the_iceberg_specification_are_accepted(transform: str) -> None:
    assert PartitionField(column="c", transform=transform).transform == transform


@pytest.mark.parametrize("transform", ["days", "bucket", "bucket[0]", "bucket(16)", "DAY", "void"])
def test_any_other_transform_is_not(transform: str) -> None:
    with pytest.raises(ValidationError):
        PartitionField(column="c", transform=transform)


def test_a_table_travels_to_another_process_and_is_the_same() -> None:
    sent = table(columns={"price": ColumnSpec(type="decimal(9,2)")})

    assert {pickle.loads(pickle.dumps(sent))} == {sent}


def test_a_table_knows_its_names() -> None:
    assert table().identifier == ("market", "t")
    assert table().label == "market/t"


def test_a_database_knows_the_names_of_its_objects_in_postgresql() -> None:
    names = database("market")

    assert names.slot_name == "carbon_market"
    assert names.publication_name == "carbon_market"
    assert names.keyless_publication_name == "carbon_market_keyless"


def test_the_longest_database_name_fits_into_postgresqls_limit() -> None:
    assert len(database("d" * LONGEST_NAME).keyless_publication_name) == 63
    with pytest.raises(ValidationError):
        database("d" * (LONGEST_NAME + 1))
