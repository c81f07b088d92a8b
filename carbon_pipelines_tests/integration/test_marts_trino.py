"""The same models on Trino, in the place of what another engine has published."""

from collections.abc import Iterator

import pyarrow as pa
import pytest
from trino.dbapi import Cursor

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.mart.build import build_marts
from carbon_pipelines.mart.lake_table import replace_rows
from carbon_pipelines_tests.integration.mart_market import (
    BEYOND,
    MARTS,
    PROJECT,
    Market,
    open_market,
)

pytestmark = [pytest.mark.integration, pytest.mark.trino]

OLD = pa.table({"market": pa.array(["an old one"]), "gone": pa.array([1], pa.int64())})


@pytest.fixture(scope="module")
def market(stack: Stack) -> Iterator[Market]:
    with open_market(stack) as market:
        yield market


def test_trino_makes_the_same_marts_of_the_same_certified_snapshots(
    market: Market, trino: Cursor
) -> None:
    replace_rows(market.catalog, ("mart", "price_curve"), OLD.to_reader, {})
    snapshots, wanted = market.certify(), market.wanted()
    market.change(BEYOND)

    built = build_marts(MARTS, market.endpoints, target="cluster", project=PROJECT)

    assert [str(mart.error) for mart in built if mart.error is not None] == []
    assert market.published() == wanted
    for mart in built:
        assert mart.certified.items() <= snapshots.items()
        [[rows]] = trino.execute(f"SELECT count(*) FROM lake.mart.{mart.name}").fetchall()
        assert rows == mart.row_count == len(wanted[mart.name])
    left = trino.execute("SHOW TABLES FROM lake.mart_build").fetchall()
    assert left == []
