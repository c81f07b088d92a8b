"""Whatever an application does to its tables, and whatever dies meanwhile, the lake ends equal."""

import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import CarbonPipelinesError
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration import random_keyed, random_keyless, random_partitioned
from carbon_pipelines_tests.integration.connecting import DebeziumPipeline, KeptConnector
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.random_keyed import KEYED
from carbon_pipelines_tests.integration.random_keyless import BAG
from carbon_pipelines_tests.integration.random_partitioned import PARTED
from carbon_pipelines_tests.integration.random_source import RandomSource
from carbon_pipelines_tests.integration.supervised import VICTIMS, pipeline_processes, strike

pytestmark = pytest.mark.integration

USUAL_SECONDS, NIGHTLY_SECONDS = 120, 1800
RECOPIES = 9_999
IMPATIENT = {"retriable.restart.connector.wait.ms": "500", "slot.retry.delay.ms": "500"}


BY_CONNECTOR = pytest.param("debezium", marks=[pytest.mark.debezium, pytest.mark.nightly])


@pytest.fixture(params=["native", BY_CONNECTOR])
def pipeline(
    request: pytest.FixtureRequest, stack: Stack, source: SourceDatabase
) -> Iterator[Pipeline]:
    """Each way of capture; a connector comes back as soon as our own capture does."""
    if request.param == "native":
        made = Pipeline(stack, source)
    else:
        made = DebeziumPipeline(stack, source, settings=IMPATIENT)
    yield made
    made.close()


@pytest.mark.timeout(2 * NIGHTLY_SECONDS)
def test_random_dml_and_ddl_with_random_kills_ends_equal_on_every_table(
    stack: Stack, pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("CARBON_SEED", str(random.SystemRandom().randint(1, 10**6))))
    capture_mode = pipeline.database.capture
    nightly = os.environ.get("CARBON_NIGHTLY") == "1"
    usual = NIGHTLY_SECONDS if nightly else USUAL_SECONDS
    seconds = float(os.environ.get("CARBON_RANDOM_SECONDS", usual))
    chance = random.Random(seed)
    with capsys.disabled():
        sys.stderr.write(f"\n{capture_mode}: CARBON_SEED={seed} for {seconds:.0f} s\n")
    tables = KEYED
    pipeline.execute(random_keyed.SETUP)
    if capture_mode == "native":  # a connector captures neither
        tables = (*tables, PARTED, BAG)
        pipeline.execute(random_partitioned.SETUP, random_keyless.SETUP)
    for table in tables:
        pipeline.declare(table.name, table.key, recopies_per_hour=RECOPIES, **table.declared)
    connector: KeptConnector | None = None
    if isinstance(pipeline, DebeziumPipeline):
        pipeline.connect_debezium()
        connector = KeptConnector(pipeline)
    pipeline.drain()
    for table in tables:
        pipeline.sync(table.name)

    struck: Counter[str] = Counter()
    victims: list[str] = []
    ends_at = time.monotonic() + seconds
    with (
        pipeline_processes(stack, pipeline, tmp_path, connector=connector) as (capture, merge),
        RandomSource(pipeline.dsn, tables, seed=seed, by_name=connector is not None) as load,
    ):
        while time.monotonic() < ends_at:
            victims = victims or chance.sample(VICTIMS, len(VICTIMS))
            victim = victims.pop()
            strike(victim, pipeline, capture, merge, chance)
            struck[victim] += 1
            rest_until = time.monotonic() + chance.uniform(1.0, 8.0)
            while time.monotonic() < rest_until:
                capture.keep()
                merge.keep()
                time.sleep(0.2)

    lines = list[str]()
    for name in pipeline.tables:
        _settle(pipeline, name, lines.append, connector.keep if connector else lambda: None)
    for name, declared in pipeline.tables.items():
        verification = verify_table(declared, pipeline.database, pipeline.endpoints)
        assert verification.verified, f"CARBON_SEED={seed}: {verification.sentence()}"
        assert pipeline.differences(name) == 0, f"CARBON_SEED={seed}: {name}"
    lines = [*(tmp_path / "merge.log").read_text().splitlines(), *lines]
    commits = {name: len(pipeline.iceberg(name).snapshots()) for name in pipeline.tables}
    with capsys.disabled():
        sys.stderr.write(f"  committed {dict(sorted(load.committed.items()))}\n")
        sys.stderr.write(f"  refused {dict(load.refused)}\n  killed {dict(struck)}\n")
        sys.stderr.write(f"  commits to the lake {commits}\n{_told_by_merging(lines)}")
        if connector:
            sys.stderr.write(f"  the connector failed {dict(connector.failures)}\n")
    assert load.committed["update"] > seconds
    assert load.committed.total() - load.committed["update"] > seconds


def _told_by_merging(lines: Sequence[str]) -> str:
    """What was reported while tables were merged: errors by kind, copies by table and reason."""
    errors = Counter(line.split(":")[0] for line in lines if "Error: " in line)
    recopies: Counter[str] = Counter()
    for found in re.finditer(r"/(\w+): copying anew, because (.*)", "\n".join(lines)):
        reason = re.sub(r".*(schema version|at position) \S+ |,( and)? which.*", "", found[2])
        recopies[f"{found[1]}: {reason}"] += 1
    return (
        f"  merging reported {dict(errors)}\n"
        f"  {recopies.total()} copies made anew: {dict(sorted(recopies.items()))}\n"
    )


def _settle(
    pipeline: Pipeline, name: str, report: Callable[[str], None], keep_capture: Callable[[], None]
) -> None:
    """Bring one table up to now, as the merging process would have."""
    give_up_at = time.monotonic() + timedelta(minutes=3).total_seconds()
    while True:
        keep_capture()
        try:
            pipeline.follow(name, report=report)
        except CarbonPipelinesError as error:
            if not error.retryable or time.monotonic() > give_up_at:
                raise
            continue
        return
