import datetime as dt
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_pipelines.lake import data_file, deltas
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.keys import KeySet, number_keys
from carbon_pipelines.lake.lookup import FoundRows, RowLookup
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines_tests.lake.local_lake import LocalLake, relation

DAY = dt.date(2024, 2, 28)
NOON = dt.datetime(2024, 2, 28, 12, tzinfo=dt.UTC)
MAKE: dict[str, Any] = {
    "int4": lambda n: n - 20,
    "date": lambda n: DAY + dt.timedelta(days=n - 20),
    "timestamptz": lambda n: NOON + dt.timedelta(microseconds=n - 20),
    "text": lambda n: f"{'é' * 16}{n}",
    "numeric(30,4)": lambda n: Decimal(n - 20) / 4,
    "uuid": lambda n: uuid.UUID(int=(n + 2) * 2**122),
}
TEXT_FORM: dict[str, Any] = {"date": str, "timestamptz": str, "numeric(30,4)": str, "uuid": str}


def key(number: int, kind: str) -> tuple[Any, str]:
    return MAKE[kind](number // 2), "left" if number % 2 else "right"


@pytest.fixture(scope="module", params=MAKE)
def lake(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Sixty rows in four files of several row groups; some are deleted by both sorts of files."""
    kind: str = request.param
    made = LocalLake(
        tmp_path_factory.mktemp("lake"), {"v": "int4", "k": kind, "side": "text"}, ["k", "side"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_file, "ROW_GROUP_ROWS", 4)
        for first in range(4):
            numbers = range(first, 60, 4) if first % 2 else range(first * 15, first * 15 + 15)
            rows = [(n, *key(n, kind)) for n in numbers]
            made.load([dict(zip(("v", "k", "side"), row, strict=True)) for row in rows])
        spell = TEXT_FORM.get(kind, lambda value: value)
        for own_deletes, gone in ((64, (3, 30)), (0, (5, 33, 41))):
            patch.setattr(deltas, "FILES_WITH_OWN_DELETES", own_deletes)
            keys = [key(n, kind) for n in gone]
            made.merge([{"op": "d", "before": {"k": spell(k), "side": side}} for k, side in keys])
    files = load_table_files(made.fresh().current_snapshot(), made.table.io)
    lookup = RowLookup(files, made.fresh().schema(), ["k", "side"], made.table.io)
    return kind, made, lookup, dict(live_keys(made))


def key_set(made: LocalLake, keys: list[tuple[Any, str]]) -> KeySet:
    schema = arrow_schema(made.table.schema())
    columns = [
        pa.array([k[i] for k in keys], schema.field(name).type)
        for i, name in enumerate(("k", "side"))
    ]
    return number_keys(columns)[0]


def places(found: list[FoundRows]) -> set[tuple[str, int, int]]:
    return {
        (rows.data.file.file_path, int(position), int(number))
        for rows in found
        for position, number in zip(rows.positions, rows.keys, strict=True)
    }


def live_keys(made: LocalLake) -> Iterator[tuple[tuple[str, int], tuple[Any, str]]]:
    """By reading everything: file and position of each live row, and its key."""
    tasks = list(made.fresh().scan().plan_files())
    gone = {
        (row["file_path"], row["pos"])
        for path in {delete.file_path for task in tasks for delete in task.delete_files}
        for row in pq.read_table(path.removeprefix("file://")).to_pylist()
    }
    for path in (task.file.file_path for task in tasks):
        rows = pq.read_table(path.removeprefix("file://"), columns=["k", "side"]).to_pylist()
        for position, row in enumerate(rows):
            if (path, position) not in gone:
                yield (path, position), (row["k"], row["side"])


@settings(max_examples=8, deadline=None)
@given(numbers=st.lists(st.integers(-4, 66), min_size=1, max_size=8, unique=True))
def test_no_row_hides_from_its_key_behind_bounds_row_groups_or_deletes(
    lake: Any, numbers: list[int]
) -> None:
    kind, made, lookup, live = lake
    keys = [key(number, kind) for number in numbers]

    found = lookup.find(key_set(made, keys))

    assert places(found) == {
        (*place, keys.index(carried)) for place, carried in live.items() if carried in keys
    }


def test_old_values_are_read_in_the_order_of_their_positions(lake: Any) -> None:
    kind, made, lookup, _ = lake
    keys = [key(number, kind) for number in range(60)]
    found = lookup.find(key_set(made, keys))

    for rows in found:
        wanted = np.arange(0, len(rows.positions), 2)
        values = lookup.read_values(rows, "v", wanted)
        assert [key(v.as_py(), kind) for v in values] == [keys[n] for n in rows.keys[wanted]]


def test_files_whose_bounds_exclude_the_key_are_not_opened(tmp_path: Path) -> None:
    made = LocalLake(tmp_path, {"id": "int8", "name": "text"}, ["id"])
    for first in (0, 100):
        made.load([{"id": first + n, "name": "x"} for n in range(3)])
    files = load_table_files(made.fresh().current_snapshot(), made.table.io)
    (other,) = [f for f in files.data if f.file.lower_bounds[1] == (100).to_bytes(8, "little")]
    Path(other.file.file_path.removeprefix("file://")).unlink()

    lookup = RowLookup(files, made.fresh().schema(), ["id"], made.table.io)
    found = lookup.find(number_keys([pa.array([1])])[0])

    assert [rows.positions.tolist() for rows in found] == [[1]]


def test_a_column_is_told_from_one_whose_name_begins_with_its_own_and_a_dot(
    tmp_path: Path,
) -> None:
    made = LocalLake(tmp_path, {"a.b": "int8", "a": "int8", "doc.x": "text", "doc": "text"}, ["a"])
    made.load([{"a.b": 7, "a": 1, "doc.x": "other", "doc": "kept"}])

    made.merge(
        [
            {"op": "u", "after": {"a.b": 8, "a": 1, "doc.x": "new"}, "unchanged": ["doc"]},
            {"op": "c", "after": {"a.b": 1, "a": 7, "doc.x": "x", "doc": "y"}},
        ]
    )

    assert made.rows() == [(1, 7, "x", "y"), (8, 1, "new", "kept")]


def foreign_file(made: LocalLake, rows: pa.Table) -> None:
    """Put a file of another tool, with other Arrow types and no field ids, into the table."""
    table = made.fresh()
    path = Path(table.location().removeprefix("file://")) / "data" / "foreign.parquet"
    pq.write_table(rows, path)
    table.add_files([f"file://{path}"])


def test_rows_in_a_file_of_another_tool_are_found_by_name_and_value(tmp_path: Path) -> None:
    made = LocalLake(tmp_path, {"id": "int8", "side": "text", "doc": "text"}, ["id", "side"])
    made.load([{"id": 1, "side": "a", "doc": "ours"}])
    foreign_file(
        made,
        pa.table(
            [
                pa.array([2, 3], pa.int64()),
                pa.array(["a", "b"], pa.large_string()),
                pa.array(["theirs", "kept"], pa.large_string()),
            ],
            schema=pa.schema(
                [
                    pa.field("id", pa.int64(), nullable=False),
                    pa.field("side", pa.large_string(), nullable=False),
                    pa.field("doc", pa.large_string()),
                ]
            ),
        ),
    )

    made.merge(
        [
            {"op": "d", "before": {"id": 2, "side": "a"}},
            {"op": "u", "after": {"id": 3, "side": "b"}, "unchanged": ["doc"]},
        ]
    )

    assert made.rows() == [(1, "a", "ours"), (3, "b", "kept")]


ADDED = {
    "u": "uuid",
    "list": "text[]",
    "amount": "numeric(30,4)",
    "flag": "bool",
    "raw": "bytea",
    "seen": "timestamptz",
}


def test_an_unchanged_value_of_a_file_older_than_its_column_is_a_null_of_its_type(
    tmp_path: Path,
) -> None:
    made = LocalLake(tmp_path, {"id": "int8", "doc": "text"}, ["id"])
    made.load([{"id": 1, "doc": "kept"}, {"id": 2, "doc": "kept"}])
    wider = relation({"id": "int8", "doc": "text", **ADDED}, ["id"], version=2)
    made.evolve(wider)
    made.relation = wider
    shown = {"u": str(uuid.UUID(int=1)), "list": ["x"], "amount": "1.5000", "flag": True}

    made.merge(
        [
            {"op": "u", "after": {"id": 1}, "unchanged": ["doc", *ADDED]},
            {"op": "u", "after": {"id": 2, **shown}, "unchanged": ["doc"]},
        ]
    )
    made.merge([{"op": "u", "after": {"id": 2, "raw": "ff"}, "unchanged": ["doc", *shown]}])

    assert made.rows("id, doc, u, list, amount, flag, raw, seen") == [
        (1, "kept", *[None] * len(ADDED)),
        (2, "kept", uuid.UUID(int=1), ["x"], Decimal("1.5000"), True, b"\xff", None),
    ]


def test_a_snapshot_without_files_holds_no_key(tmp_path: Path) -> None:
    made = LocalLake(tmp_path, {"id": "int8"}, ["id"])
    committed = commit_files(made.fresh(), FileChanges(), made.progress.to_properties())
    assert committed is not None
    files = load_table_files(committed.table.current_snapshot(), made.table.io)

    lookup = RowLookup(files, made.table.schema(), ["id"], made.table.io)

    assert lookup.find(number_keys([pa.array([1])])[0]) == []
