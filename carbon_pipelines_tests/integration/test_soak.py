"""Following and upkeep beside each other, everything killed now and then: nothing is lost."""

import os
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from pyiceberg.table import Table
from pyiceberg.table.snapshots import ancestors_of

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import CarbonPipelinesError
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.lake.delete_file import count_rows
from carbon_pipelines.maintenance.health import judge_health
from carbon_pipelines.maintenance.leases import LeaseRequest, drop_lease, take_lease
from carbon_pipelines.maintenance.table_facts import load_facts
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration import tending
from carbon_pipelines_tests.integration.market_load import KEYS, SETUP, Load
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.supervised import Supervised, write_catalog
from carbon_pipelines_tests.integration.upkeep import needed_by, objects_of
from carbon_pipelines_tests.oracle import oracle

pytestmark = pytest.mark.integration

SECONDS = float(os.environ.get("CARBON_SOAK_SECONDS", "0")) or (
    1800.0 if os.environ.get("CARBON_NIGHTLY") else 120.0
)
ORPHANS_AFTER = 60.0
"""Longer than any commit here is under way, a store that is started again included."""
VICTIMS = ("upkeep", "follow", "capture", "s3", "kafka", "postgres")


@pytest.mark.timeout(int(SECONDS) + 900)
def test_following_and_upkeep_go_on_beside_each_other_whatever_is_killed(
    stack: Stack, source: SourceDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("CARBON_SEED", "7"))
    chance = random.Random(seed)
    pipeline = Pipeline(stack, source)
    pipeline.execute(*SETUP)
    for name, key in KEYS.items():
        pipeline.declare(name, key)
    pipeline.follow_all()
    services = _services(stack, pipeline, tmp_path)
    killed, read = Counter[str](), Counter[str]()
    try:
        ends_at = time.monotonic() + SECONDS
        with Load(pipeline.dsn, seed=seed) as load:
            while time.monotonic() < ends_at:
                _pass(chance.uniform(2.0, 8.0), services)
                victim = chance.choice(VICTIMS)
                _strike(victim, stack, services)
                killed[victim] += 1
                _read_a_snapshot(pipeline, chance, read)
            assert load.transactions > 5 * SECONDS
    finally:
        for one in services.values():
            one.kill()
    log = (tmp_path / "upkeep.log").read_text()

    pipeline.follow_all()
    for name, table in pipeline.tables.items():
        verification = verify_table(table, pipeline.database, pipeline.endpoints)
        assert verification.verified, f"seed {seed}: {verification}"
        assert pipeline.differences(name) == 0, f"seed {seed}"
        iceberg = pipeline.iceberg(name)
        assert needed_by(iceberg) <= objects_of(iceberg), f"seed {seed}: files are missing"
        with oracle(pipeline.endpoints) as engine:
            for snapshot in iceberg.metadata.snapshots:
                _read(engine, iceberg, snapshot.snapshot_id)
    _comes_to_rest(pipeline, seed)
    with capsys.disabled():
        sys.stderr.write(f"\nsoak: seed {seed}, {SECONDS:.0f} s, {load.transactions} transactions,")
        sys.stderr.write(f" killed {dict(killed)}, {sum(read.values())} snapshots read by lease;")
        done = [
            log.count(word) for word in ("delete files are gone", "snapshots expired", "orphans")
        ]
        sys.stderr.write(f" lines of upkeep: {log.count(chr(10))} {done}\n")
    pipeline.close()


def _services(stack: Stack, pipeline: Pipeline, directory: Path) -> dict[str, Supervised]:
    environ = {
        **{name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"},
        "CARBON_HOME": str(stack.home),
        "CARBON_CATALOG_DIR": str(write_catalog(pipeline, directory)),
    }
    cli, name = [sys.executable, "-m", "carbon_pipelines.cli"], pipeline.name
    tend = [sys.executable, "-m", tending.__name__, name, f"--orphans-after={ORPHANS_AFTER}"]
    commands = {
        "capture": [*cli, "capture", name],
        "follow": [*cli, "follow", name, "--interval=0.5"],
        "upkeep": tend,
    }
    return {
        name: Supervised(command, environ, directory / f"{name}.log")
        for name, command in commands.items()
    }


def _pass(seconds: float, services: dict[str, Supervised]) -> None:
    """Let time pass; what has ended is started again."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for one in services.values():
            one.keep()
        time.sleep(0.2)


def _strike(victim: str, stack: Stack, services: dict[str, Supervised]) -> None:
    if victim in services:
        services[victim].kill()
    else:
        stack.kill(victim)
        stack.up(lambda _: None)


def _read_a_snapshot(pipeline: Pipeline, chance: random.Random, read: Counter[str]) -> None:
    """Any snapshot that is in retention can be leased, and read while others expire."""
    name = chance.choice(sorted(pipeline.tables))
    snapshot = chance.choice(pipeline.iceberg(name).metadata.snapshots)
    identifier, now = pipeline.tables[name].identifier, datetime.now(UTC)
    request = LeaseRequest("soak", timedelta(minutes=5), snapshot.snapshot_id)
    with open_catalog(pipeline.endpoints.lake) as catalog:
        try:
            lease = take_lease(catalog, identifier, request, now)
        except CarbonPipelinesError:
            return  # it has expired meanwhile, or others committed all the time
        with oracle(pipeline.endpoints) as engine:
            _read(engine, pipeline.iceberg(name), lease.snapshot_id)
        with suppress(CarbonPipelinesError):  # it ends by itself
            drop_lease(catalog, identifier, lease.name)
    read[name] += 1


def _read(engine: duckdb.DuckDBPyConnection, table: Table, snapshot_id: int) -> None:
    """Every value of a snapshot by DuckDB, which finds as many rows as the metadata says."""
    scan = f"iceberg_scan('{table.metadata_location}', snapshot_from_id={snapshot_id}::UBIGINT)"
    query = f"SELECT count(*), bit_xor(hash(t)) FROM {scan} t"
    rows, _ = engine.execute(query).fetchall()[0]
    assert rows == count_rows(table.snapshot_by_id(snapshot_id), table.io)


def _comes_to_rest(pipeline: Pipeline, seed: int) -> None:
    """With the writers gone, upkeep leaves what a table needs, in good order, and nothing else."""
    time.sleep(1.5)
    for name, table in pipeline.tables.items():
        for _ in range(3):
            with open_catalog(pipeline.endpoints.lake) as catalog:
                list(tending.tend(catalog, table, timedelta(seconds=1)))
            time.sleep(1.0)
        iceberg = pipeline.iceberg(name)
        facts = load_facts(iceberg)
        health = judge_health(facts, tending.POLICY)
        assert not health.plan.groups, f"seed {seed}: {health.plan.describe()}"
        assert max(part.delete_ratio for part in health.partitions) <= 0.2, f"seed {seed}"
        # one that was leased, and whose successors expired, is on no branch and stays for its age
        assert len(list(ancestors_of(iceberg.current_snapshot(), iceberg.metadata))) <= 15
        aside = {path for path in objects_of(iceberg) if "/_carbon_quarantine/" in path}
        left = objects_of(iceberg) - needed_by(iceberg) - aside
        assert not left, f"seed {seed}: {sorted(left)[:5]}"
        assert pipeline.differences(name) == 0, f"seed {seed}"
