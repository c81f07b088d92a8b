"""Killing every part of the pipeline under load loses, invents and doubles nothing."""

import json
import os
import random
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import topic_of
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.leftovers import unreferenced_files
from carbon_pipelines_tests.integration.market_load import KEYS, SETUP, Load
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.supervised import (
    VICTIMS,
    Supervised,
    pipeline_processes,
    strike,
)

pytestmark = pytest.mark.integration

ROUNDS = 30 if os.environ.get("CARBON_NIGHTLY") else len(VICTIMS)


@pytest.mark.timeout(1800)
def test_killing_any_part_at_any_moment_loses_invents_and_doubles_nothing(
    stack: Stack,
    source: SourceDatabase,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = int(os.environ.get("CARBON_SEED", "7"))
    chance = random.Random(seed)
    pipeline = Pipeline(stack, source)
    pipeline.execute(*SETUP)
    for name, key in KEYS.items():
        pipeline.declare(name, key)
    pipeline.drain()
    for name in KEYS:
        pipeline.sync(name)
    victims = [VICTIMS[i % len(VICTIMS)] for i in range(ROUNDS)]
    chance.shuffle(victims)

    with (
        pipeline_processes(stack, pipeline, tmp_path) as (capture, merge),
        Load(pipeline.dsn, seed=seed) as load,
    ):
        for victim in victims:
            strike(victim, pipeline, capture, merge, chance)
            for process in (capture, merge):
                process.keep()
            _wait_for_commit(pipeline, (capture, merge))
        assert load.transactions > 20 * len(victims)

    pipeline.drain()
    for name in KEYS:
        pipeline.sync(name)
    for name, table in pipeline.tables.items():
        verification = verify_table(table, pipeline.database, pipeline.endpoints)
        assert verification.verified, f"seed {seed}, {victims}: {verification}"
        assert pipeline.differences(name) == 0, f"seed {seed}, {victims}"
        progresses = [s.summary.additional_properties for s in pipeline.iceberg(name).snapshots()]
        assert all("carbon.position" in properties for properties in progresses)
    assert _topic_changes(pipeline) == _audited_changes(pipeline)
    with capsys.disabled():
        for name in KEYS:
            left = unreferenced_files(pipeline.iceberg(name))
            sys.stderr.write(f"\n{name}: {len(left)} files left by killed writers\n")
            sys.stderr.writelines(f"  {path}\n" for path in left)
    pipeline.close()


def _wait_for_commit(pipeline: Pipeline, processes: tuple[Supervised, ...]) -> None:
    """Until the pipeline has moved again; its processes are kept up meanwhile."""
    before = pipeline.progress("credit").position
    give_up_at = time.monotonic() + timedelta(minutes=2).total_seconds()
    while pipeline.progress("credit").position <= before:
        assert time.monotonic() < give_up_at, "nothing was merged for two minutes"
        for process in processes:
            process.keep()
        time.sleep(0.2)


def _audited_changes(pipeline: Pipeline) -> Counter[tuple[str, str, str, int]]:
    with psycopg.connect(pipeline.dsn) as connection:
        return Counter(connection.execute("SELECT relation, op, key, xid FROM audit").fetchall())


def _topic_changes(pipeline: Pipeline) -> Counter[tuple[str, str, str, int]]:
    """Every committed message of the topics, read by a plain consumer."""
    changes: Counter[tuple[str, str, str, int]] = Counter()
    bootstrap = pipeline.endpoints.stream_bootstrap
    for name, table in pipeline.tables.items():
        state = load_topic_state(bootstrap, topic_of(table))
        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "audit",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        consumer.assign([TopicPartition(state.topic, 0, 0)])
        while (message := consumer.poll(30)) is not None and message.error() is None:
            envelope = json.loads(message.value())
            image = envelope["after"] or envelope["before"]
            key = " ".join(str(image[column]) for column in KEYS[name])
            changes[(name, envelope["op"], key, envelope["source"]["txId"])] += 1
        consumer.close()
    return changes
