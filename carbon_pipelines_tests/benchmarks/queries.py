"""What a compaction is worth to readers: queries before and after, by DuckDB and by Trino.

    python -m carbon_pipelines_tests.benchmarks.queries [--files N] [--rows N]

Two equal tables of small files, each with a delete file that takes every tenth row (the leg
``deleted`` of ``compaction.py``). One is compacted by ``carbon compact``, the other by Trino's
``optimize``; both engines then have to find the same numbers. Times are the best of five. What
belongs here: asking, and measuring. The stack is a temporary one with Trino (821 MB to download).
"""

import argparse
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trino.dbapi import Cursor, connect

from carbon_pipelines.embedded.endpoints import Endpoints, cache_directory
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.lake.connection import load_table, open_catalog
from carbon_pipelines.maintenance.compact import apply_compaction
from carbon_pipelines.maintenance.compaction import plan_compaction
from carbon_pipelines.maintenance.table_facts import load_facts
from carbon_pipelines_tests.benchmarks.compaction import prepare
from carbon_pipelines_tests.oracle import oracle

LEG = "deleted"
ROUNDS = 5
QUERIES = {
    "count": "SELECT count(*) FROM {}",
    "sum of two columns": "SELECT sum(qty), max(d1) FROM {}",
    "groups": "SELECT status, count(*), sum(qty) FROM {} GROUP BY status ORDER BY status",
    "1 % of the keys": "SELECT count(*), sum(qty) FROM {} WHERE id BETWEEN 1000 AND {last}",
    "one key": "SELECT id, qty FROM {} WHERE id = 4711",
}


def main() -> None:
    """Prepare both tables, query, compact and query again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--rows", type=int, default=10_000)
    arguments = parser.parse_args()
    arguments.leg = LEG
    with tempfile.TemporaryDirectory(prefix="carbon-benchmark-") as home:
        stack = Stack(Path(home), cache_directory(os.environ))
        try:
            port = stack.up(lambda _: None, with_=frozenset({"trino"})).part("trino").port
            connection = connect(host="127.0.0.1", port=port, user="bench", catalog="lake")
            _run(stack.endpoints(), connection.cursor(), arguments)
        finally:
            stack.down(lambda _: None)


def _run(endpoints: Endpoints, trino: Cursor, arguments: argparse.Namespace) -> None:
    last = 1000 + arguments.files * arguments.rows // 100
    ours, theirs = (f"bench_{uuid.uuid4().hex[:8]}" for _ in range(2))
    for arguments.database in (ours, theirs):
        prepare(endpoints, arguments)
    before = _measure(endpoints, trino, ours, last)
    catalog = open_catalog(endpoints.lake)
    table = load_table(catalog, (ours, LEG))
    assert table is not None
    cpu, wall = time.process_time(), time.perf_counter()
    done = apply_compaction(plan_compaction(load_facts(table)), catalog)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    _say(f"carbon compact: {cpu:.1f} CPU-s, {wall:.1f} s: {done.sentence()}")
    wall = time.perf_counter()
    trino.execute(f"ALTER TABLE lake.{theirs}.{LEG} EXECUTE optimize").fetchall()
    wall, stats = time.perf_counter() - wall, trino.stats or {}
    _say(f"Trino optimize: {stats.get('cpuTimeMillis', 0) / 1000:.1f} CPU-s, {wall:.1f} s")
    after = _measure(endpoints, trino, ours, last)
    optimized = _measure(endpoints, trino, theirs, last)
    _say("query | DuckDB before, after, after optimize | Trino before, after, after optimize")
    for name in QUERIES:
        results = {times[name][1] for times in (before, after, optimized)}
        assert len(results) == 1, f"{name}: {results}"
        times = [times[name][0] for times in (before, after, optimized)]
        duck, other = ([f"{1000 * one[i]:.0f} ms" for one in times] for i in (0, 1))
        _say(f"{name} | {', '.join(duck)} | {', '.join(other)}")


Timed = tuple[tuple[float, float], str]


def _measure(endpoints: Endpoints, trino: Cursor, database: str, last: int) -> dict[str, Timed]:
    """For each query: (DuckDB's seconds, Trino's), and what both of them found."""
    table = load_table(open_catalog(endpoints.lake), (database, LEG))
    assert table is not None
    found: dict[str, Timed] = {}
    with oracle(endpoints) as engine:
        for name, query in QUERIES.items():
            scan = query.format(f"iceberg_scan('{table.metadata_location}')", last=last)
            duck, rows = _best(lambda scan=scan: engine.execute(scan).fetchall())
            asked = query.format(f"lake.{database}.{LEG}", last=last)
            other, others = _best(lambda asked=asked: trino.execute(asked).fetchall())
            assert _plain(rows) == _plain(others), f"{name}: {rows} and {others}"
            found[name] = ((duck, other), _plain(rows))
    return found


def _best(ask: Callable[[], Any]) -> tuple[float, Any]:
    times: list[float] = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        rows = ask()
        times.append(time.perf_counter() - start)
    return min(times), rows  # pyright: ignore[reportPossiblyUnboundVariable]


def _plain(rows: Any) -> str:
    return repr([tuple(str(value) for value in row) for row in rows])


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
