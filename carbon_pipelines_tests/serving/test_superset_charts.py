"""What a chart shows against what its mart has: rows, series and limits."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from carbon_pipelines.errors import DashboardFilesError
from carbon_pipelines.lake.certificate import Certificate
from carbon_pipelines.serving.superset_charts import ChartData, difference
from carbon_pipelines.serving.superset_code import CodeObject
from carbon_pipelines.serving.superset_proven import Proof, Proven, score_of

DAY = date(2025, 9, 1)
MILLISECONDS = datetime(2025, 9, 1, tzinfo=UTC).timestamp() * 1000
MART = pa.table(
    {
        "day": pa.array([DAY, DAY, DAY], pa.date32()),
        "fuel": pa.array(["gas", "gas", None]),
        "price": pa.array([Decimal("1.10"), Decimal("2.20"), Decimal("0.30")], pa.decimal128(9, 2)),
    }
)
SUM = {"label": "Price"}
PIVOT = [
    {
        "operation": "pivot",
        "options": {"index": ["day"], "columns": ["fuel"], "aggregates": {"Price": {}}},
    },
    {"operation": "rename", "options": {"columns": {"Price": None}}},
    {"operation": "flatten"},
]
BY_FUEL = 'SELECT fuel, sum(price) AS "Price__"\nFROM lake.mart.prices GROUP BY fuel\nLIMIT {};\n'


def chart(columns: Sequence[str], **query: Any) -> CodeObject:
    context = {"queries": [{"columns": list(columns), "metrics": [SUM], **query}]}
    return CodeObject("chart", "u", "Prices", {"query_context": json.dumps(context)})


def told(
    of: CodeObject, statement: str, *rows: Mapping[str, Any], mart: pa.Table = MART
) -> str | None:
    return difference(of, ChartData(rows, statement, from_cache=True), "prices", lambda: mart)


def test_a_metric_is_known_by_its_place_and_a_decimal_as_a_double() -> None:
    shown = ({"fuel": "gas", "Price": 3.3}, {"fuel": None, "Price": 0.3})

    assert told(chart(["fuel"]), BY_FUEL.format(50), *shown) is None


def test_one_foreign_number_is_told() -> None:
    shown = ({"fuel": "gas", "Price": 3.31}, {"fuel": None, "Price": 0.3})

    assert told(chart(["fuel"]), BY_FUEL.format(50), *shown) == (
        'the chart "Prices" has 2 rows, of which 1 are not the mart\'s, and lacks 1 that it has'
    )


def test_a_row_shown_twice_is_told() -> None:
    row = {"fuel": "gas", "Price": 3.3}
    shown = (row, row, {"fuel": None, "Price": 0.3})

    assert told(chart(["fuel"]), BY_FUEL.format(50), *shown) is not None


def test_beyond_its_limit_a_chart_shows_rows_of_the_mart_and_as_many_as_it_may() -> None:
    limited = BY_FUEL.format(1)

    assert told(chart(["fuel"]), limited, {"fuel": None, "Price": 0.3}) is None
    assert told(chart(["fuel"]), limited, {"fuel": None, "Price": 0.4}) is not None
    assert told(chart(["fuel"]), limited) is not None


def test_series_are_columns_and_moments_are_milliseconds() -> None:
    statement = (
        "SELECT date_trunc('day', CAST(day AS TIMESTAMP)) AS day, fuel, sum(price) AS \"Price\" "
        "FROM mart.prices GROUP BY 1, fuel LIMIT 50"
    )
    pivoted = chart(["day", "fuel"], post_processing=PIVOT)

    assert told(pivoted, statement, {"day": MILLISECONDS, "gas": 3.3, "<NULL>": 0.3}) is None
    assert told(pivoted, statement, {"day": MILLISECONDS, "gas": 3.3}) is not None
    with pytest.raises(DashboardFilesError, match="has more than its 1 rows"):
        told(pivoted, statement.replace("50", "1"), {"day": MILLISECONDS, "gas": 3.3})


def test_what_cannot_be_compared_is_never_called_equal() -> None:
    rolled = chart(["fuel"], post_processing=[{"operation": "rolling"}])

    with pytest.raises(DashboardFilesError, match="reshapes its data by rolling"):
        told(rolled, BY_FUEL.format(50))
    with pytest.raises(DashboardFilesError, match="cannot be compared with the mart"):
        told(chart(["fuel"]), "SELECT approx_set(fuel), 1 FROM mart.prices")
    with pytest.raises(DashboardFilesError, match="selects 1 columns, and asks for 2"):
        told(chart(["fuel"]), "SELECT fuel FROM mart.prices")


def certificate(score: float, minutes: int) -> Certificate:
    at = datetime(2025, 9, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    return Certificate(1, "0/1", 1, score, "0/1", at, at, at, "tests")


def test_a_dashboard_is_proven_as_far_as_its_oldest_table_and_as_good_as_its_worst() -> None:
    proofs = (Proof("market.a", certificate(99.5, 9)), Proof("market.b", certificate(100.0, 3)))

    assert Proven(proofs).headline() == "2025-09-01 00:03:00 UTC, score 99.5 of 100"
    assert score_of(proofs) == 99.5
    unknown = (*proofs, Proof("market.c", None))
    assert Proven(unknown).headline().startswith("unknown")
    assert Proven(()).headline().startswith("unknown")
    assert score_of(unknown) is None
