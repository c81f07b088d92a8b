"""``dagster asset materialize`` as CI runs it: from an empty lake to marts, and to a shut gate."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from carbon_pipelines.demo.load import load_sample
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines_tests.conftest import make_stack
from carbon_pipelines_tests.oracle import lake_rows, oracle

pytestmark = pytest.mark.end_to_end

EVERYTHING = 'key:"lake/*" or key:"quality/*" or key:"mart/*"'
MARTS = ("carbon_cost_exposure", "credit_inventory", "emission_intensity", "price_curve")


def materialize(stack: Stack, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the command, over a market that is the packaged one."""
    command = (sys.executable, "-m", "dagster", "asset", "materialize")
    directory.mkdir(exist_ok=True)
    return subprocess.run(
        [*command, "-m", "carbon_pipelines.definitions", "--select", EVERYTHING],
        env={**os.environ, "CARBON_HOME": str(stack.home), "DAGSTER_HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def rows_of_marts(stack: Stack) -> dict[str, list[tuple[object, ...]]]:
    """What DuckDB reads of each mart."""
    endpoints = stack.endpoints()
    with oracle(endpoints) as engine:
        return {
            mart: engine.execute(
                f"SELECT * FROM {lake_rows(engine, endpoints, ('mart', mart))} ORDER BY ALL"
            ).fetchall()
            for mart in MARTS
        }


def test_marts_are_built_from_an_empty_lake_and_stay_while_a_gate_is_shut(
    stack_directory: Path,
) -> None:
    stack = make_stack(stack_directory / "materialize")
    try:
        stack.up(lambda _: None)
        dsn = stack.create_source_database("market")
        with psycopg.connect(dsn, autocommit=True) as connection:
            load_sample(connection, 0.01, lambda _: None)
        done = materialize(stack, stack.home / "dagster")
        assert done.returncode == 0, done.stdout + done.stderr
        built = rows_of_marts(stack)
        assert all(built.values())

        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("UPDATE carbon_price_tick SET bid = -1, ask = -2")
            connection.execute("UPDATE fuel_price_tick SET price = price + 1")
        blocked = materialize(stack, stack.home / "dagster")
        assert blocked.returncode != 0
        assert "quality/market/carbon_price_tick: passes" in blocked.stdout + blocked.stderr
        assert rows_of_marts(stack) == built
    finally:
        stack.down(lambda _: None)
