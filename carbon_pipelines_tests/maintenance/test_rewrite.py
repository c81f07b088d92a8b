"""What files look like that were written again: columns, order, partitions, sizes, statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table
from pyiceberg.types import LongType

from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines.maintenance.compact import (
    CompactionHooks,
    CompactionSettings,
    apply_compaction,
)
from carbon_pipelines.maintenance.compaction import CompactionPolicy
from carbon_pipelines.maintenance.table_facts import load_facts
from carbon_pipelines_tests.lake.local_lake import LocalLake, duckdb_rows, relation
from carbon_pipelines_tests.maintenance.compacting import (
    ANY,
    compact,
    delete,
    insert,
    load_each,
    plan,
    update,
)

COLUMNS = {"id": "int8", "note": "text"}
COUNTED = pa.proxy_memory_pool(pa.default_memory_pool())
"""Arrow's memory with a peak of its own; lives as long as whatever was allocated in it."""


def read_files(table: Table) -> list[pa.Table]:
    """What each live data file holds, read by Arrow alone."""
    found = load_table_files(table.current_snapshot(), table.io).data
    return [pq.read_table(one.file.file_path.removeprefix("file://")) for one in found]


def test_columns_are_upgraded_by_their_ids_and_statistics_are_those_of_the_new_files(
    tmp_path: Path,
) -> None:
    lake = LocalLake(tmp_path, {"id": "int8", "note": "text", "n": "int4"}, ["id"])
    load_each(lake, [[{"id": n, "note": f"a{n}", "n": n}] for n in range(3)])
    old = lake.relation
    lake.relation = relation(
        {"id": "int8", "remark": "text", "n": "int4", "added": "date"}, ["id"], version=2
    )
    lake.evolve(lake.relation, old)
    with lake.fresh().update_schema() as widened:  # as another engine does
        widened.update_column("n", LongType())
    lake.merge([insert(id=9, remark="new", n=5, added="2024-01-01")])
    before = lake.rows()
    assert [one.older_schema for one in load_facts(lake.fresh()).files].count(True) == 3

    compact(lake)

    assert lake.rows() == before
    table = lake.fresh()
    (held,) = read_files(table)
    assert held.column_names == ["id", "remark", "n", "added"]
    assert held.schema.field("n").type == pa.int64()
    assert [f.metadata[b"PARQUET:field_id"] for f in held.schema] == [
        str(f.field_id).encode() for f in table.schema().fields
    ]
    (one,) = load_table_files(table.current_snapshot(), table.io).data
    ids = {f.name: f.field_id for f in table.schema().fields}
    assert one.file.null_value_counts[ids["added"]] == 3
    assert one.file.upper_bounds[ids["n"]] == (5).to_bytes(8, "little")
    assert load_facts(table).files[0].older_schema is False


def test_a_sorted_table_gets_sorted_files_that_say_so(tmp_path: Path) -> None:
    order = [{"column": "note", "direction": "desc"}, {"column": "id"}]
    lake = LocalLake(tmp_path, COLUMNS, ["id"], sort_order=order)
    r = np.random.default_rng(1)
    notes = [None, "", "a", "b", "zz"]
    load_each(
        lake,
        [[{"id": int(n), "note": notes[n % 5]} for n in r.permutation(1000)[:50] + 1000 * k]
         for k in range(8)],
    )  # fmt: skip
    lake.merge([delete(id=int(lake.rows()[0][0]))])
    before = lake.rows()

    compact(lake)

    assert lake.rows() == before
    (held,) = read_files(lake.fresh())
    found = list(zip(held["note"].to_pylist(), held["id"].to_pylist(), strict=True))
    rank = {None: 0, "zz": 1, "b": 2, "a": 3, "": 4}
    assert found == sorted(found, key=lambda row: (rank[row[0]], row[1]))
    assert load_facts(lake.fresh()).files[0].sort_order_id == 1


@pytest.mark.parametrize("run_bytes", [2_000, 10_000_000])
def test_deletes_that_arrive_meanwhile_find_their_rows_in_sorted_files(
    tmp_path: Path, run_bytes: int
) -> None:
    lake = LocalLake(tmp_path, COLUMNS, ["id"], sort_order=[{"column": "note"}])
    r = np.random.default_rng(2)
    load_each(
        lake,
        [[{"id": int(n), "note": str(r.integers(0, 1000))} for n in range(k * 200, k * 200 + 200)]
         for k in range(6)],
    )  # fmt: skip
    gone = r.choice(1200, 100, replace=False).tolist()

    def meanwhile() -> None:
        lake.merge([delete(id=n) for n in gone[50:]])

    lake.merge([delete(id=n) for n in gone[:50]])
    expected = sorted(set(range(1200)) - set(gone))
    done = compact(
        lake,
        CompactionPolicy(min_files=2, target_bytes=4_000),
        hooks=CompactionHooks(after_write=meanwhile),
        run_bytes=run_bytes,
    )

    assert sorted(n for n, _ in lake.rows()) == expected
    assert (done.moved_deletes, done.left) == (50, ())
    assert done.added_files > 1
    for held in read_files(lake.fresh()):
        assert held["note"].to_pylist() == sorted(held["note"].to_pylist())


def test_files_of_an_older_spec_move_to_the_partitions_of_the_present_one(tmp_path: Path) -> None:
    lake = LocalLake(tmp_path, COLUMNS, ["id"])
    load_each(lake, [[{"id": n, "note": "ab"[n % 2]} for n in range(k, k + 10)] for k in (0, 10)])
    with lake.fresh().update_spec() as spec:
        spec.add_identity("note")
    lake.merge([insert(id=50, note="a"), delete(id=3)])
    before = lake.rows()

    done = compact(
        lake,
        CompactionPolicy(min_files=5),
        hooks=CompactionHooks(after_write=lambda: lake.merge([delete(id=4), delete(id=5)])),
    )

    assert (done.moved_deletes, done.left) == (2, ())
    facts = load_facts(lake.fresh())
    assert sorted(one.partition for one in facts.files) == ["note=a", "note=a", "note=b"]
    assert {one.spec_id for one in facts.files} == {1}
    assert lake.rows() == [row for row in before if row[0] not in (4, 5)]
    assert lake.rows(where="note = 'b'") == [row for row in lake.rows() if row[1] == "b"]


def test_partitions_stay_apart(tmp_path: Path) -> None:
    field = {"column": "id", "transform": "truncate[100]"}
    lake = LocalLake(tmp_path, COLUMNS, ["id"], partitioning=[field])
    load_each(lake, [[{"id": n, "note": "x"} for n in range(k, 300, 5)] for k in range(5)])
    before = lake.rows()
    assert len(load_facts(lake.fresh()).files) == 15

    compact(lake)

    facts = load_facts(lake.fresh())
    assert [(one.partition, one.rows) for one in facts.files] == [
        (f"id_truncate={start}", 100) for start in (0, 100, 200)
    ]
    assert lake.rows() == before


def test_a_target_size_makes_several_files_of_about_that_size(tmp_path: Path) -> None:
    lake = LocalLake(tmp_path, COLUMNS, ["id"])
    r = np.random.default_rng(3)
    load_each(
        lake,
        [[{"id": n, "note": r.bytes(100).hex()} for n in range(k * 500, k * 500 + 500)]
         for k in range(8)],
    )  # fmt: skip
    before = lake.rows()
    target = 150_000

    compact(lake, CompactionPolicy(min_files=2, target_bytes=target))

    sizes = [one.size_bytes for one in load_facts(lake.fresh()).files]
    assert len(sizes) == 3
    assert all(0.75 * target <= size <= 1.8 * target for size in sizes)
    assert lake.rows() == before
    assert not plan(lake.fresh(), CompactionPolicy(min_files=2, target_bytes=target))


def test_columns_with_few_values_get_a_dictionary_and_others_do_not(tmp_path: Path) -> None:
    lake = LocalLake(tmp_path, {"id": "int8", "note": "text", "kind": "text"}, ["id"])
    load_each(
        lake,
        [[{"id": n, "note": f"n{n}", "kind": "ab"[n % 2]} for n in range(k, k + 500)]
         for k in (0, 500)],
    )  # fmt: skip

    compact(lake)

    (one,) = load_table_files(lake.fresh().current_snapshot(), lake.table.io).data
    group = pq.read_metadata(one.file.file_path.removeprefix("file://")).row_group(0)
    encoded = ["RLE_DICTIONARY" in group.column(i).encodings for i in range(3)]
    assert encoded == [False, False, True]


def test_only_numbers_that_compression_leaves_as_they_are_stay_uncompressed(
    tmp_path: Path,
) -> None:
    columns = {"id": "int8", "noise": "float8", "even": "float8", "many": "int4[]"}
    lake = LocalLake(tmp_path, columns, ["id"])
    r = np.random.default_rng(4)
    load_each(
        lake,
        [[{"id": n, "noise": r.normal(), "even": n / 2, "many": [n]} for n in range(k, k + 2000)]
         for k in (0, 2000)],
    )  # fmt: skip
    before = lake.rows()

    compact(lake)

    (one,) = load_table_files(lake.fresh().current_snapshot(), lake.table.io).data
    group = pq.read_metadata(one.file.file_path.removeprefix("file://")).row_group(0)
    found = [group.column(i).compression for i in range(4)]
    assert found == ["ZSTD", "UNCOMPRESSED", "ZSTD", "ZSTD"]
    assert lake.rows() == before


TYPED = {
    "id": "uuid",
    "i2": "int2",
    "big": "numeric(30,4)",
    "amount": "numeric(9,2)",
    "free": "numeric",
    "at": "timestamptz",
    "local": "timestamp",
    "day": "date",
    "clock": "time",
    "f4": "float4",
    "f8": "float8",
    "yes": "bool",
    "raw": "bytea",
    "many": "int4[]",
    "days": "date[]",
    "uuids": "uuid[]",
    "texts": "text[]",
}


def typed(number: int) -> dict[str, Any]:
    key = f"00000000-0000-0000-0000-{number:012d}"
    if number % 3 == 0:
        return {"id": key}
    return {
        "id": key,
        "i2": -number,
        "big": "99999999999999999999999999.9999",
        "amount": f"-{number}.25",
        "free": "1e3",
        "at": "infinity" if number % 2 else "2024-01-01 00:00:00+00",
        "local": "-infinity",
        "day": "infinity",
        "clock": "23:59:59.999999",
        "f4": "NaN" if number % 2 else 1.5,
        "f8": "-Infinity",
        "yes": True,
        "raw": "\\x00ff",
        "many": [1, None, 3],
        "days": ["2024-01-01", None],
        "uuids": [key],
        "texts": [],
    }


@pytest.mark.parametrize(
    "more",
    [{}, {"key": ()}, {"sort": True}, {"sort": True, "run_bytes": 1}],
    ids=["keyed", "bag", "sorted", "spilled"],
)
def test_values_of_every_type_stay_what_they_are(tmp_path: Path, more: dict[str, Any]) -> None:
    key = more.get("key", ("id",))
    declared: dict[str, Any] = {} if key else {"identity": "full"}
    if "sort" in more:
        declared["sort_order"] = [{"column": "f4", "direction": "desc"}, {"column": "id"}]
    lake = LocalLake(tmp_path, TYPED, key, **declared)
    lake.load([])
    for start in range(0, 30, 5):
        lake.merge([insert(**typed(n)) for n in range(start, start + 5)])
    before = sorted(map(repr, duckdb_rows(lake.fresh())))

    done = compact(lake, run_bytes=more.get("run_bytes", 10_000))

    assert done.added_files == 1
    assert sorted(map(repr, duckdb_rows(lake.fresh()))) == before


def test_open_and_ended_versions_of_a_history_stay_in_files_of_their_own(tmp_path: Path) -> None:
    lake = LocalLake(tmp_path, COLUMNS, ["id"], mode="history")
    lake.load([])
    lake.merge([insert(id=n, note="0") for n in range(10)])
    for turn in range(1, 6):
        lake.merge([update(id=n, note=str(turn)) for n in range(10)])
    before = lake.rows()

    compact(lake, ANY)

    assert lake.rows() == before
    facts = load_facts(lake.fresh())
    assert sorted((one.rows_kind, one.rows) for one in facts.files) == [("", 10), ("ended", 50)]
    lake.merge([delete(id=3)])
    assert len(lake.rows(where="carbon_valid_to_lsn IS NULL")) == 9


@pytest.mark.integration
def test_memory_is_bounded_whatever_the_input(tmp_path: Path) -> None:
    """200 MB of rows in their worst order, sorted with runs of 8 MB."""
    lake = LocalLake(tmp_path, COLUMNS, ["id"], sort_order=[{"column": "id"}])
    r = np.random.default_rng(5)
    ids = r.permutation(200_000)
    schema = arrow_schema(lake.table.schema())
    for part in range(20):
        chosen = ids[part * 10_000 : part * 10_000 + 10_000]
        notes = [r.bytes(500).hex() for _ in chosen]
        lake.load_table(pa.table({"id": chosen, "note": notes}).cast(schema))
    table = lake.fresh()
    planned = plan(table)
    assert len(planned.groups) == 1
    usual = pa.default_memory_pool()
    pa.set_memory_pool(COUNTED)
    try:
        done = apply_compaction(
            planned, lake.catalog, settings=CompactionSettings(run_bytes=8_000_000)
        )
    finally:
        pa.set_memory_pool(usual)

    assert COUNTED.max_memory() < 120_000_000
    assert done.read_bytes > 100_000_000
    held = pa.concat_tables(read_files(lake.fresh()))
    assert held["id"].to_pylist() == sorted(held["id"].to_pylist())
    found = duckdb_rows(lake.fresh(), "count(*), count(DISTINCT id), min(length(note))")
    assert found == [(200_000, 200_000, 1000)]
