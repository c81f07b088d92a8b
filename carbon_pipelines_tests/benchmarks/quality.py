"""What scoring a large table costs: in full, after some changes, and with Great Expectations.

``python -m carbon_pipelines_tests.benchmarks.quality [--rows 5000000]``

A table of six columns in ten local files, ten expectations of which one fails. Figures of one kind
are from a process of their own, without opening the engine, which a run does once for all tables;
the memory is the process's peak, imports included. What belongs here: making the table and
measuring.
"""

import argparse
import multiprocessing
import resource
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.keys import number_keys
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.row_swap import swap_rows
from carbon_pipelines.lake.table_creation import create_table
from carbon_pipelines.quality.increment import Sums
from carbon_pipelines.quality.lake_scan import open_engine
from carbon_pipelines.quality.lake_scores import ENGINE_BYTES, ENGINE_THREADS
from carbon_pipelines.quality.scoring import Runner, ScoredTable, score_table
from carbon_pipelines_tests.catalog.declarations import declare
from carbon_pipelines_tests.lake.local_lake import START, relation

CHANGES = 10_000
FILES = 10
HUBS = np.array(["TTF", "ARA", "NBP", "PSV"])
NOW = datetime(2026, 3, 1, tzinfo=UTC)
COLUMNS = {
    "id": "int8",
    "hub": "text",
    "price": "numeric(12,2)",
    "load": "float8",
    "quoted_at": "timestamptz",
    "trader": "text",
}
DECLARATION = """\
source_table: tick
key: [id]
freshness: 15m
description: Rows.
expectations:
  - {kind: not_null, column: price}
  - {kind: not_null, column: hub}
  - {kind: not_null, column: quoted_at}
  - {kind: between, column: price, min: 0, max: 1000}
  - {kind: between, column: load, min: 0, max: 1}
  - {kind: in_set, column: hub, values: [TTF, ARA, NBP, PSV]}
  - {kind: matches, column: trader, pattern: "^person [0-9]+$"}
  - {kind: length, column: trader, min: 5, max: 30}
  - {kind: unique, columns: [id]}
  - {kind: row_count, min: 1000}
"""


class Bench:
    """One table in a directory."""

    def __init__(self, root: Path) -> None:
        uri = f"sqlite:///{root}/catalog.db"
        self.catalog = SqlCatalog("bench", uri=uri, warehouse=f"file://{root}/warehouse")
        self.database: DatabaseSpec = load_catalog(root / "declared").database("market")
        self.spec = self.database.table("tick")
        self._opened = ExitStack()
        self._engine: duckdb.DuckDBPyConnection | None = None

    def fill(self, rows: int) -> None:
        """Copy ``rows`` rows; five of the first file are wrong."""
        table = create_table(self.catalog, self.spec, relation(COLUMNS, ("id",)))
        files = []
        for part in np.array_split(np.arange(rows), FILES):
            writer = PartitionedWriter(file_target(table))
            writer.write(_rows(table, part, wrong=5 if part[0] == 0 else 0))
            files += writer.close()
        snapshot = table.current_snapshot()
        manifests = snapshot.manifests(table.io) if snapshot else ()
        changes = FileChanges(added_data=files, manifests=manifests)
        assert commit_files(table, changes, START.to_properties()) is not None

    def change(self, ids: np.ndarray) -> None:
        """Give some rows new values, as a merge does."""
        table = self.catalog.load_table(self.spec.identifier)
        rows = _rows(table, np.sort(ids))
        keys, _ = number_keys([rows.column("id").combine_chunks()])
        assert swap_rows(table, ["id"], keys, rows, START.to_properties()) is not None

    def score(self, runner: Runner = "pass", sums: Sums | None = None) -> ScoredTable:
        """Score it once."""
        how = {"now": NOW, "runner": runner, "sums": sums}
        return score_table(self.catalog, self.engine, self.database, self.spec, **how)

    @property
    def engine(self) -> duckdb.DuckDBPyConnection:
        """DuckDB, opened once."""
        if self._engine is None:
            opening = open_engine(None, memory_bytes=ENGINE_BYTES, threads=ENGINE_THREADS)
            self._engine = self._opened.enter_context(opening)
        return self._engine


def _rows(table: Table, ids: np.ndarray, *, wrong: int = 0) -> pa.Table:
    random = np.random.default_rng(int(ids[0]) + len(ids))
    cents = pa.array(random.integers(0, 100_000, len(ids))).cast(pa.decimal128(19, 0))
    traders = np.array([f"person {number % 5000}" for number in ids])
    traders[:wrong] = "nobody"
    at = np.datetime64("2026-03-01T00:00:00") + ids.astype("timedelta64[ms]")
    columns = [
        pa.array(ids),
        pa.array(HUBS[random.integers(0, 4, len(ids))]),
        pc.multiply(cents, pa.scalar(Decimal("0.01"))).cast(pa.decimal128(12, 2)),
        pa.array(random.random(len(ids))),
        pa.array(at).cast(pa.timestamp("us", "UTC")),
        pa.array(traders),
    ]
    return pa.Table.from_arrays(columns, names=list(COLUMNS)).cast(arrow_schema(table.schema()))


def _alone(work: Callable[..., str], *arguments: object) -> None:
    """Print what ``work`` tells, from a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        print(pool.submit(work, *arguments).result(), flush=True)  # noqa: T201


def _measured(name: str, before: float, score: ScoredTable) -> str:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = usage.ru_utime + usage.ru_stime - before
    peak = usage.ru_maxrss / 1024
    return f"{name}: {spent:.2f} CPU-s, {peak:.0f} MB, score {score.score.value}"


def _spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def full(root: Path, runner: Runner) -> str:
    """One score that reads everything; of a runner the second one too, without its import."""
    bench = Bench(root)
    assert bench.engine is not None
    told = []
    for name in ("first", "second"):
        before = _spent()
        told.append(_measured(f"{runner}, {name}", before, bench.score(runner)))
    return "\n".join(told)


def partly(root: Path, *, scattered: bool) -> str:
    """A score after some changes."""
    bench = Bench(root)
    sums = bench.score().sums
    table = bench.catalog.load_table(bench.spec.identifier)
    last = int(table.scan().count())
    random = np.random.default_rng(1)
    ids = random.choice(last, CHANGES, replace=False) if scattered else np.arange(CHANGES)
    bench.change(ids if scattered else ids + last - CHANGES)
    before = _spent()
    changed = bench.score(sums=sums)
    where = "all over" if scattered else "of the newest rows"
    told = _measured(f"after {CHANGES:,} changes {where}", before, changed)
    before = _spent()
    whole = bench.score()
    assert whole.score == changed.score
    return f"{told}\n{_measured('the same in full', before, whole)}"


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="carbon-quality-") as directory:
        root = Path(directory) / "bench"
        declare(root / "declared", "market", tick=DECLARATION)
        Bench(root).fill(rows)
        _alone(full, root, "pass")
        try:
            _alone(full, root, "great_expectations")
        except Exception as error:  # noqa: BLE001 (whatever it lacks, the rest is measured)
            print(f"great_expectations: {error}")  # noqa: T201
        for scattered in (False, True):
            _alone(_partly_of, root, scattered)


def _partly_of(root: Path, scattered: bool) -> str:  # noqa: FBT001 (pools pass by position)
    copy = root.parent / f"copy_{scattered}"
    shutil.copytree(root / "declared", copy / "declared")
    bench = Bench(copy)
    bench.fill(Bench(root).catalog.load_table(("market", "tick")).scan().count())
    return partly(copy, scattered=scattered)


if __name__ == "__main__":
    main()
