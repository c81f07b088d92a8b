from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.maintenance import bounded_sort
from carbon_pipelines.maintenance.bounded_sort import BoundedSort, SortKey

NUMBERS = st.none() | st.integers(-3, 3).map(float) | st.just(float("nan"))


def rank(value: float | None, key: SortKey) -> tuple[int, float]:
    """NULL where the order has it; NaN larger than every number."""
    if value is None:
        return (-1 if key.nulls_first else 1, 0.0)
    number = 1e9 if value != value else value
    return (0, -number if key.descending else number)


@given(
    st.lists(st.tuples(NUMBERS, st.sampled_from("abc")), max_size=200),
    st.builds(SortKey, st.just("x"), st.booleans(), st.booleans()),
    st.integers(1, 2_000),
)
def test_rows_come_in_order_however_many_runs_there_are(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[float | None, str]],
    first: SortKey,
    run_bytes: int,
) -> None:
    directory = tmp_path_factory.mktemp("runs")
    second = SortKey("y", descending=False, nulls_first=False)
    sort = BoundedSort([first, second], directory, run_bytes)
    for start in range(0, len(rows), 7):
        part = rows[start : start + 7]
        sort.add(
            pa.table({"x": pa.array([x for x, _ in part], pa.float64()), "y": [y for _, y in part]})
        )

    found = [(r["x"], r["y"]) for portion in sort.sorted() for r in portion.to_pylist()]

    wanted = sorted(rows, key=lambda row: (rank(row[0], first), row[1]))
    assert [(rank(x, first), y) for x, y in found] == [(rank(x, first), y) for x, y in wanted]


def test_many_runs_are_merged_in_portions(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(bounded_sort, "BATCH_BYTES", 1_000)
    monkeypatch.setattr(bounded_sort, "PORTION_BATCHES", 4)
    r = np.random.default_rng(0)
    values = r.integers(0, 3_000, 20_000)
    sort = BoundedSort([SortKey("x", descending=False, nulls_first=False)], tmp_path, 16_000)
    for start in range(0, len(values), 500):
        sort.add(pa.table({"x": values[start : start + 500], "n": np.arange(start, start + 500)}))

    portions = list(sort.sorted())

    merged = pa.concat_tables(portions)
    assert merged["x"].to_pylist() == sorted(values.tolist())
    assert sorted(merged["n"].to_pylist()) == list(range(20_000))
    assert len(portions) > 10
    assert max(len(portion) for portion in portions) < 4_000
