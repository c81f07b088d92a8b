"""From Kafka to committed: 500,000 mixed changes into 5,000,000 rows on S3; `table.upsert` beside.

    python -m carbon_pipelines_tests.benchmarks.merge [--rows N] [--changes N] [--peer]

Each leg is a process of its own. CPU-seconds are of that process, after imports, threads included
(librdkafka's too). What belongs here: making the table and the topic, and measuring. The stack is
the one in CARBON_HOME if that is set, else a temporary one.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Producer

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.lake.catch_up import CatchUp
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.connection import load_table, open_catalog
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.state import TableProgress, load_progress
from carbon_pipelines.lake.table_creation import create_table
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import relation_from_history
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import ddl_topic, ensure_topics, topic_of
from carbon_pipelines_tests.benchmarks.stack import benchmark_endpoints
from carbon_pipelines_tests.lake.local_lake import TYPES, table_spec

COLUMNS = {
    "id": "int8",
    "name": "text",
    "amount": "numeric(12,2)",
    "ts": "timestamptz",
    "payload": "text",
    "active": "bool",
    "d1": "float8",
    "d2": "float8",
    "qty": "int4",
    "status": "text",
}
FILES = 5
TRANSACTION_EVENTS = 50_000


def main() -> None:
    """Prepare, run the legs in turn and print a row for each."""
    arguments = _arguments()
    if arguments.leg:
        with benchmark_endpoints() as endpoints:
            {"merge": merge_leg, "upsert": upsert_leg}[arguments.leg](endpoints, arguments)
        return
    with benchmark_endpoints() as endpoints:
        arguments.database = f"bench_{uuid.uuid4().hex[:8]}"
        prepare(endpoints, arguments)
        legs = ["merge", "upsert"] if arguments.peer else ["merge"]
        for leg in legs:
            command = [sys.executable, "-m", __spec__.name, "--leg", leg]
            for name in ("database", "rows", "changes"):
                command += [f"--{name}", str(getattr(arguments, name))]
            subprocess.run(command, check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--changes", type=int, default=500_000)
    parser.add_argument("--peer", action="store_true", help="also run table.upsert (slow)")
    parser.add_argument("--leg", choices=["merge", "upsert"])
    parser.add_argument("--database", default="")
    return parser.parse_args()


def spec(database: str, name: str = "t"):
    """The declaration of the benchmark's table."""
    return table_spec(["id"]).model_copy(update={"database": database, "name": name})


def prepare(endpoints: Endpoints, arguments: argparse.Namespace) -> None:
    """Make the table and its copy for the peer, and put the changes on the topic."""
    catalog = open_catalog(endpoints.lake)
    relation = relation_from_history(history_document())
    database = DatabaseSpec(
        name=arguments.database, owner="team:tests", tables=(spec(arguments.database),)
    )
    ensure_topics(endpoints.stream_bootstrap, database)
    produce(endpoints.stream_bootstrap, spec(arguments.database), arguments)
    state = load_topic_state(endpoints.stream_bootstrap, topic_of(spec(arguments.database)))
    progress = TableProgress(
        Position(0, 0), state.low, 1, state.cluster_id, state.topic_id, "1", 1, relation.oid
    )
    names = ["t", "peer"] if arguments.peer else ["t"]
    for name in names:
        table = create_table(catalog, spec(arguments.database, name), relation)
        files = []
        for part in range(FILES):
            writer = PartitionedWriter(file_target(table))
            size = arguments.rows // FILES
            writer.write(rows(np.arange(part * size, (part + 1) * size), part, table))
            files += writer.close()
        assert commit_files(table, FileChanges(added_data=files), progress.to_properties())


def rows(ids: np.ndarray, seed: int, table) -> pa.Table:
    """Rows with these ids; other values are random."""
    r, n = np.random.default_rng(seed), len(ids)
    text = lambda values: pa.array(values).cast(pa.string())  # noqa: E731
    return pa.table(
        {
            "id": pa.array(ids),
            "name": pc.binary_join_element_wise("customer", text(r.integers(0, 10**9, n)), "-"),
            "amount": text(r.integers(0, 10**6, n)).cast(pa.decimal128(12, 2)),
            "ts": pa.array(r.integers(1.6e15, 1.7e15, n)).view(pa.timestamp("us", tz="UTC")),
            "payload": pc.binary_join_element_wise(
                '{"k":"', text(r.integers(0, 10**12, n)), '"}', ""
            ),
            "active": pa.array(r.random(n) > 0.5),
            "d1": r.random(n),
            "d2": r.random(n),
            "qty": pa.array(r.integers(0, 100, n), pa.int32()),
            "status": pa.array(np.array(["new", "paid", "shipped"])[r.integers(0, 3, n)]),
        },
        schema=None,
    ).cast(arrow_schema(table.schema()))


def history_document() -> dict:
    """Schema version 1 as a row of the DDL history."""
    columns = [
        {
            "attnum": number,
            "name": name,
            "nullable": name != "id",
            "default": None,
            "missing_value": None,
            "key_position": 0 if name == "id" else None,
            "generated": "",
            "published": True,
            "type": [
                {
                    "oid": TYPES[kind].oid,
                    "typmod": TYPES[kind].typmod,
                    "name": TYPES[kind].name,
                    "kind": "b",
                    "base_name": TYPES[kind].base_name,
                }
            ],
        }
        for number, (name, kind) in enumerate(COLUMNS.items(), start=1)
    ]
    return {
        "id": 1,
        "format_version": 1,
        "oid": 16384,
        "schema": "public",
        "name": "t",
        "kind": "r",
        "replica_identity": "d",
        "partition_parent": None,
        "columns": columns,
        "rewritten": False,
        "command": "CREATE TABLE",
    }


def produce(bootstrap: str, table, arguments: argparse.Namespace) -> None:
    """Put 70 % updates, 20 % inserts and 10 % deletes on the topic, as capture would."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": table.database,
            "linger.ms": 50,
            "compression.type": "lz4",
            "batch.size": 1 << 20,
            "queue.buffering.max.messages": 2_000_000,
        }
    )
    producer.init_transactions()
    producer.begin_transaction()
    source = {"commit_lsn": 1, "ordinal": 1, "txId": 1, "schema_version": 1, "lsn": 1}
    body = {"before": None, "after": history_document(), "source": source, "op": "c"}
    producer.produce(ddl_topic(table.database), json.dumps(body).encode(), b"{}")
    for index, value in enumerate(envelopes(arguments)):
        producer.produce(topic_of(table), value, b'{"id":0}')
        if index % TRANSACTION_EVENTS == TRANSACTION_EVENTS - 1:
            producer.commit_transaction()
            producer.begin_transaction()
        elif index % 10_000 == 0:
            producer.poll(0)
    producer.commit_transaction()


def envelopes(arguments: argparse.Namespace) -> Iterator[bytes]:
    """The changes, each key once, in random order."""
    r = np.random.default_rng(1)
    old = r.choice(arguments.rows, int(arguments.changes * 0.8), replace=False)
    new = arguments.rows + np.arange(arguments.changes - len(old))
    order = r.permutation(arguments.changes)
    ids = np.concatenate([old, new])[order]
    kinds = np.concatenate([np.arange(len(old)) < arguments.changes // 10, np.full(len(new), 2)])[
        order
    ]
    for number, (key, kind) in enumerate(zip(ids.tolist(), kinds.tolist(), strict=True)):
        source = {
            "connector": "carbon",
            "db": "bench",
            "schema": "public",
            "table": "t",
            "txId": 700 + number,
            "lsn": 10_000 + number,
            "commit_lsn": 10_000 + number,
            "ordinal": 1,
            "schema_version": 1,
        }
        row = {
            "id": key,
            "name": f"customer-{number}",
            "amount": f"{key % 9999}.{number % 100:02d}",
            "ts": f"2024-03-{1 + key % 28:02d} 10:00:00.5+00",
            "payload": f'{{"k":"{key}"}}',
            "active": True,
            "d1": 0.5123,
            "d2": number + 0.25,
            "qty": key % 100,
            "status": "paid",
        }
        body = {
            "before": {"id": key} if kind == 1 else None,
            "after": None if kind == 1 else row,
            "source": source,
            "op": {0: "u", 1: "d", 2: "c"}[kind],
            "ts_ms": 1_700_000_000_000,
        }
        yield json.dumps(body, separators=(",", ":")).encode()


def merge_leg(endpoints: Endpoints, arguments: argparse.Namespace) -> None:
    """Merge the topic and print what it took."""
    table_spec_ = spec(arguments.database)
    marks: list[tuple[str, float, float]] = []

    def mark(name: str):
        return lambda: marks.append((name, time.process_time(), time.perf_counter()))

    start, began = time.process_time(), time.perf_counter()
    catalog = open_catalog(endpoints.lake)
    table = load_table(catalog, table_spec_.identifier)
    hooks = MergeHooks(mark("before_write"), mark("after_write"), mark("after_commit"))
    catch_up = CatchUp(catalog, table_spec_, endpoints.stream_bootstrap, hooks=hooks)
    progress = load_progress(table.metadata, "bench/t")
    done = catch_up.run(table, progress)
    cpu, wall = time.process_time() - start, time.perf_counter() - began
    commits = [marks[i : i + 3] for i in range(0, len(marks), 3)]
    write = sum(c[2][1] - c[0][1] for c in commits)
    _print("merge", cpu, wall, f"lookup+write+commit {write:.2f} CPU-s, {done.commits} commits, "
           f"{done.upserted_rows:,} upserted, {done.deleted_rows:,} old rows deleted")  # fmt: skip


def upsert_leg(endpoints: Endpoints, arguments: argparse.Namespace) -> None:
    """PyIceberg's own upsert of the same number of rows; it has no deletes."""
    catalog = open_catalog(endpoints.lake)
    table = catalog.load_table((arguments.database, "peer"))
    r = np.random.default_rng(1)
    ids = r.choice(arguments.rows, arguments.changes, replace=False)
    changed = rows(ids, 7, table)
    start, began = time.process_time(), time.perf_counter()
    table.upsert(changed, join_cols=["id"])
    _print("table.upsert", time.process_time() - start, time.perf_counter() - began, "no deletes")


def _print(leg: str, cpu: float, wall: float, note: str) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(f"{leg:<14} {cpu:6.2f} CPU-s {wall:6.2f} s {peak:5d} MB   {note}\n")


if __name__ == "__main__":
    main()
