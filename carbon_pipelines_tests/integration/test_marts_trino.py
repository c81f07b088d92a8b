"""The same models on Trino, in the place of what another engine has published."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from trino.dbapi import Cursor

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.mart.build import build_marts
from carbon_pipelines.mart.lake_table import replace_rows
from carbon_pipelines.serving.freshness_reading import Asked, read_freshness
from carbon_pipelines.serving.trino_serving import TrinoServing
from carbon_pipelines.serving.trino_view import mart_as_it_is
from carbon_pipelines_tests.integration.mart_market import (
    BEYOND,
    MARTS,
    PROJECT,
    Market,
    open_market,
)
from carbon_pipelines_tests.integration.stage_times import STAGES, StageTimes
from carbon_pipelines_tests.oracle import differences

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

    serving = TrinoServing(market.endpoints.trino, market.endpoints.lake)
    for mart in MARTS:
        served = serving.serve(market.catalog, mart_as_it_is(mart))
        assert (served.name, served.rows.rows) == (f"lake.mart.{mart.name}", len(wanted[mart.name]))
        assert set(served.visible.sources) == {"/".join(source) for source in mart.sources}
    for fresh in read_freshness(load_catalog(), Asked(marts=MARTS), market.endpoints):
        stages = {stage.name: stage.behind_seconds or 0.0 for stage in fresh.stages}
        assert list(stages) == ["captured", "merged", "certified", "mart", "trino"]
        # what came beyond the certified state is in the lake and nowhere else
        assert stages["merged"] < stages["certified"] == stages["mart"] == stages["trino"]


def test_each_change_comes_to_where_people_look_stage_by_stage(market: Market) -> None:
    market.certify()
    times = StageTimes(market)

    ages = times.run(changes=6, pause=0.3)

    assert list(ages) == list(STAGES)
    halves = [float(np.quantile(one, 0.5)) for one in ages.values()]
    assert all(len(one) == 6 for one in ages.values())
    assert 0 < halves[0] < halves[1] < halves[2] < halves[4] <= halves[6]
    assert differences(market.endpoints, times.table) == 0
