"""Runs are forgotten when they are old, and never what an asset shows as its newest."""

import runpy
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from carbon_pipelines_tests.deploy.rendered import DEPLOY

SCRIPT = DEPLOY / "base/dagster/forget_runs.py"
Forget = Callable[[dg.DagsterInstance, datetime], int]


@pytest.fixture
def forget() -> Forget:
    script = runpy.run_path(str(SCRIPT))
    script["forget"].__globals__["AT_ONCE"] = 2  # several pages of few runs
    return script["forget"]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


@dg.asset
def busy() -> None:
    """Materialized again and again."""


@dg.asset
def quiet() -> None:
    """Materialized once."""


def test_old_runs_go_but_for_the_newest_of_an_asset(
    forget: Forget, instance: dg.DagsterInstance
) -> None:
    once = dg.materialize([quiet], instance=instance).run_id
    runs = [dg.materialize([busy], instance=instance).run_id for _ in range(5)]
    assert forget(instance, datetime.now(UTC) - timedelta(hours=1)) == 0
    assert forget(instance, datetime.now(UTC) + timedelta(hours=1)) == 4
    assert {run.run_id for run in instance.get_runs()} == {once, runs[-1]}
    assert instance.get_latest_materialization_event(quiet.key) is not None
    assert forget(instance, datetime.now(UTC) + timedelta(hours=1)) == 0
