"""What the columns of the sample's marts are made of, and of queries that are hard to follow."""

import pytest

from carbon_pipelines.errors import MartLineageError
from carbon_pipelines.mart.lineage import ColumnLineage, mart_lineage
from carbon_pipelines_tests.mart.compiled_models import sample_models

SOURCES = {
    "carbon_price_tick": "instrument ticked_at sequence bid ask is_auction",
    "counterparty": "counterparty_id legal_name rating exposure",
    "credit": "credit_id facility_id holder_id vintage tonnes state",
    "emission_reading": "meter_id read_at co2_tonnes ch4_kg energy_mwh quality",
    "facility": "facility_id name country sector",
    "fuel_price_tick": "tick_id fuel hub price currency volume ticked_at",
    "meter": "meter_id facility_id serial_number",
    "transfer": "transfer_id credit_id from_id to_id tonnes price settles_on settled_at",
}
TABLES = {("market", name): columns.split() for name, columns in SOURCES.items()}


def told(mart: str) -> dict[str, list[str]]:
    """Column to ``table.column`` of what it is made of, and ``table.*`` of what it counts."""
    found = mart_lineage(f"mart_build.{mart}", sample_models(), TABLES)
    return {
        column: [
            *(f"{table}.{source}" for _, table, source in made.columns),
            *(f"{table}.*" for _, table in made.rows_of),
        ]
        for column, made in found.items()
    }


def test_columns_of_an_aggregate_over_joins() -> None:
    assert told("emission_intensity") == {
        "facility_id": ["meter.facility_id"],
        "facility_name": ["facility.name"],
        "country": ["facility.country"],
        "sector": ["facility.sector"],
        "hour_at": ["emission_reading.read_at"],
        "readings": ["emission_reading.*"],
        "meters": ["emission_reading.meter_id"],
        "estimated_readings": ["emission_reading.quality"],
        "corrected_readings": ["emission_reading.quality"],
        "co2_tonnes": ["emission_reading.co2_tonnes"],
        "ch4_kg": ["emission_reading.ch4_kg"],
        "energy_mwh": ["emission_reading.energy_mwh"],
        "tonnes_per_mwh": [
            "emission_reading.co2_tonnes",
            "emission_reading.energy_mwh",
            "emission_reading.*",
        ],
    }


def test_columns_through_common_tables_unions_and_a_star() -> None:
    traded = ["transfer.price", "transfer.settled_at", "transfer.tonnes"]
    price = ["carbon_price_tick.ask", "carbon_price_tick.bid"]
    assert told("carbon_cost_exposure") == {
        "counterparty_id": [
            "counterparty.counterparty_id",
            "credit.holder_id",
            "transfer.from_id",
            "transfer.to_id",
        ],
        "legal_name": ["counterparty.legal_name"],
        "held_credits": ["credit.*"],
        "held_tonnes": ["credit.tonnes"],
        "bought_tonnes": ["transfer.tonnes"],
        "sold_tonnes": ["transfer.tonnes"],
        "bought_cost": ["transfer.price", "transfer.tonnes"],
        "sold_proceeds": ["transfer.price", "transfer.tonnes"],
        "open_bought_tonnes": ["transfer.settled_at", "transfer.tonnes"],
        "open_sold_tonnes": ["transfer.settled_at", "transfer.tonnes"],
        "open_cost": traded,
        "open_proceeds": traded,
        "unpriced_transfers": ["transfer.price"],
        "open_net_cost": traded,
        "market_price": price,
        "open_net_cost_at_market": [*price, "transfer.settled_at", "transfer.tonnes"],
    }


def test_a_column_chosen_by_a_window_is_made_of_what_the_window_is_ordered_by() -> None:
    found = told("price_curve")
    carbon = [f"carbon_price_tick.{name}" for name in ("ask", "bid")]

    assert found["market"] == []
    assert found["high_price"] == [*carbon, "fuel_price_tick.price"]
    assert found["quotes"] == ["carbon_price_tick.*", "fuel_price_tick.*"]
    assert found["open_price"] == [
        *carbon,
        *(f"carbon_price_tick.{name}" for name in ("instrument", "sequence", "ticked_at")),
        *(f"fuel_price_tick.{name}" for name in ("currency", "fuel", "hub", "price")),
        *(f"fuel_price_tick.{name}" for name in ("tick_id", "ticked_at")),
    ]


def of(sql: str, **models: str) -> dict[str, ColumnLineage]:
    """A mart of one query."""
    relations = {f"staging.{name}": text for name, text in models.items()}
    return mart_lineage("mart.m", {"mart.m": sql, **relations}, TABLES)


CREDIT = ("market", "credit")


@pytest.mark.parametrize(
    ("sql", "columns", "rows_of"),
    [
        ("select tonnes as x from market.credit", ["tonnes"], []),
        ("select 1 as x from market.credit", [], []),
        ("select count(1) as x from market.credit", [], []),
        ("select (select max(tonnes) from market.credit) as x", ["tonnes"], []),
        ("select (select count(*) from market.credit) as x", [], [CREDIT]),
        ("select x from (select * from (select tonnes as x from market.credit))", ["tonnes"], []),
        ("select count(*) as x from (select * from market.credit) as inner_one", [], [CREDIT]),
        (
            "with t as (select tonnes from market.credit) select t.tonnes as x from t",
            ["tonnes"],
            [],
        ),
        (
            "with recursive t(x) as (select vintage from market.credit union all "
            "select x + 1 from t where x < 9) select x from t",
            ["vintage"],
            [],
        ),
        ('select "tonnes" as "x" from "memory"."market"."credit"', ["tonnes"], []),
        ("select a.x from (select tonnes as x, state from market.credit) a", ["tonnes"], []),
        (
            "select case when c.state = 'issued' then c.tonnes else f.facility_id end as x "
            "from market.credit c left join market.credit f on f.credit_id = c.credit_id "
            "where c.vintage > 3 group by all",
            ["facility_id", "state", "tonnes"],
            [],
        ),
    ],
)
def test_a_query_is_followed_to_its_columns(
    sql: str, columns: list[str], rows_of: list[tuple[str, str]]
) -> None:
    found = of(sql)

    made = ColumnLineage(tuple((*CREDIT, name) for name in columns), tuple(rows_of))
    assert found == {"x": made}


def test_a_model_reads_models() -> None:
    found = of(
        "select y from memory.staging.second",
        second="select x as y from staging.first",
        first="select coalesce(tonnes, vintage) as x from memory.market.credit",
    )

    assert found["y"].columns == ((*CREDIT, "tonnes"), (*CREDIT, "vintage"))


@pytest.mark.parametrize(
    "sql",
    ["select nothing from market.credit", "select from where", "select a.b from market.credit"],
)
def test_a_query_that_cannot_be_followed_is_named(sql: str) -> None:
    with pytest.raises(MartLineageError, match=r"mart\.m: .*cannot be told"):
        of(sql)
