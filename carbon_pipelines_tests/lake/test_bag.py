"""Tables without a key: what a batch adds up to, and rows that equal one another in the lake."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_pipelines.errors import MalformedEnvelopeError, RowsMissingError
from carbon_pipelines.lake.bag import comparable, fold_bag
from carbon_pipelines.lake.change_batch import ChangeBatch, EnvelopeReader
from carbon_pipelines.stream.consumer import RawBatch
from carbon_pipelines_tests.lake.local_lake import LocalLake

COLUMNS = {"n": pa.int32(), "x": pa.float64(), "word": pa.string(), "many": pa.list_(pa.float32())}
SCHEMA = pa.schema(list(COLUMNS.items()))
Row = tuple[int | None, str | None, str | None, tuple[str | None, ...] | None]
"""Values of a row; floats as texts, for Python takes 0.0 and -0.0 for equal."""

FLOATS = st.sampled_from(["NaN", "Infinity", "0.0", "-0.0", "1.5", None])
ROWS = st.tuples(
    st.sampled_from([None, 0, 1]),
    FLOATS,
    st.sampled_from([None, "", "a", "1:a"]),
    st.none() | st.lists(FLOATS, max_size=2).map(tuple),
)


def image(row: Row) -> dict[str, Any]:
    """As an envelope has it: NaN and infinities are text, other floats numbers."""

    def spelled(text: str | None) -> str | float | None:
        return text if text in ("NaN", "Infinity", None) else float(text)

    n, x, word, many = row
    floats = many if many is None else [spelled(item) for item in many]
    return {"n": n, "x": spelled(x), "word": word, "many": floats}


def known(row: Any) -> str:
    """One text for each row that PostgreSQL would write the same way."""
    return repr([row[name] for name in COLUMNS])


def number(row: Row) -> str:
    n, x, word, many = row
    floats = many if many is None else [item if item is None else float(item) for item in many]
    return repr([n, x if x is None else float(x), word, floats])


@st.composite
def histories(draw: st.DrawFn) -> tuple[Counter[Row], list[dict[str, Any]], Counter[str]]:
    """Rows, what happens to them, and how often each row is there afterwards."""
    rows = Counter(draw(st.lists(ROWS, max_size=6)))
    now, events = rows.copy(), list[dict[str, Any]]()
    for kind in draw(st.lists(st.sampled_from("iiuudut"), max_size=15)):
        present = sorted(now.elements(), key=repr)
        if kind == "t":
            now.clear()
            events.append({"op": "t"})
        elif kind == "i" or not present:
            row = draw(ROWS)
            now[row] += 1
            events.append({"op": "c", "after": image(row)})
        else:
            old = draw(st.sampled_from(present))
            now -= Counter([old])
            event = {"op": "d", "before": image(old)}
            if kind == "u":
                new = draw(ROWS)
                now[new] += 1
                event = {"op": "u", "before": image(old), "after": image(new)}
            events.append(event)
    return rows, events, Counter(number(row) for row in now.elements())


def read(events: Sequence[dict[str, Any]]) -> ChangeBatch:
    source = {"txId": 1, "commit_lsn": 1, "ordinal": 1, "schema_version": 1}
    values = [
        json.dumps({"before": None, "after": None, **e, "source": source}).encode() for e in events
    ]
    raw = RawBatch(
        values=values, offsets=list(range(len(values))), first_offset=0, next_offset=len(values)
    )
    return EnvelopeReader("t", COLUMNS, (), whole_rows=True).read(raw)


@given(histories())
def test_the_fold_of_any_events_leaves_each_row_as_often_as_they_do(
    history: tuple[Counter[Row], list[dict[str, Any]], Counter[str]],
) -> None:
    rows, events, expected = history
    fold = fold_bag(read(events), SCHEMA)

    now = Counter(number(row) for row in rows.elements()) if fold.truncated_at < 0 else Counter()
    removed = [known(row) for row in fold.removed.rows.to_pylist()]
    added = [known(row) for row in fold.added.to_pylist()]
    assert len(set(removed)) == len(removed)
    assert not set(added) & set(removed)
    for row, count in zip(removed, fold.removed.counts.tolist(), strict=True):
        assert now[row] >= count > 0
        now[row] -= count
    assert +(now + Counter(added)) == expected


@settings(max_examples=6, deadline=None)
@given(histories())
def test_merging_any_events_leaves_each_row_as_often_as_they_do(
    tmp_path_factory: pytest.TempPathFactory,
    history: tuple[Counter[Row], list[dict[str, Any]], Counter[str]],
) -> None:
    rows, events, expected = history
    columns = {"n": "int4", "x": "float8", "word": "text", "many": "float4[]"}
    lake = LocalLake(tmp_path_factory.mktemp("bag"), columns, (), identity="full")
    lake.load([])
    inserts = [{"op": "c", "after": image(row)} for row in rows.elements()]
    middle = len(events) // 2
    for batch in (inserts, events[:middle], events[middle:]):
        if batch:
            lake.merge(batch)
    assert counted(lake) == expected


def counted(lake: LocalLake) -> Counter[str]:
    """Rows as DuckDB reads them; it writes floats of either width as we do."""
    return Counter(
        known(dict(zip(COLUMNS, row, strict=True))) for row in lake.rows("n, x, word, many")
    )


def row(n: int | None, word: str | None = "a") -> dict[str, Any]:
    return {"n": n, "word": word}


def bag(path: Path, rows: Sequence[dict[str, Any]], **more: Any) -> LocalLake:
    lake = LocalLake(path, {"n": "int4", "word": "text"}, (), identity="full", **more)
    lake.load(rows)
    return lake


def test_one_of_several_equal_rows_goes_whichever_file_it_is_in(tmp_path: Path) -> None:
    lake = bag(tmp_path, [row(1), row(1), row(2), row(None, None)])
    lake.merge([{"op": "c", "after": row(1)}, {"op": "c", "after": row(None, None)}])

    merged = lake.merge(
        [{"op": "d", "before": row(1)}, {"op": "u", "before": row(None, None), "after": row(3)}]
    )

    assert lake.rows() == [(1, "a"), (1, "a"), (2, "a"), (3, "a"), (None, None)]
    assert (merged.deleted_rows, merged.upserted_rows) == (2, 1)
    lake.merge([{"op": "d", "before": row(1)}] * 2)
    assert lake.rows() == [(2, "a"), (3, "a"), (None, None)]


def test_a_row_that_is_not_there_as_often_as_it_goes_is_told_and_nothing_is_merged(
    tmp_path: Path,
) -> None:
    lake = bag(tmp_path, [row(1), row(2)])

    with pytest.raises(RowsMissingError) as missing:
        lake.merge([{"op": "d", "before": row(2)}, *[{"op": "d", "before": row(1)}] * 3])

    assert (missing.value.rows, missing.value.offset) == (2, 3)
    assert lake.rows() == [(1, "a"), (2, "a")]


def test_a_row_from_before_a_truncate_is_not_there_any_more(tmp_path: Path) -> None:
    lake = bag(tmp_path, [row(1)])
    with pytest.raises(RowsMissingError):
        lake.merge([{"op": "t"}, {"op": "d", "before": row(1)}])

    lake.merge([{"op": "d", "before": row(9)}, {"op": "t"}, {"op": "c", "after": row(2)}])

    assert lake.rows() == [(2, "a")]


def test_an_old_row_that_did_not_come_whole_is_no_change_of_a_table_without_a_key() -> None:
    for event in ({"op": "d"}, {"op": "u", "after": {"n": 1}}):
        with pytest.raises(MalformedEnvelopeError, match="REPLICA IDENTITY was not FULL"):
            read([event])
    assert len(read([{"op": "c", "after": {"n": 1}}, {"op": "t"}])) == 2


def test_lists_are_the_same_only_with_the_same_elements_in_the_same_places() -> None:
    lists = [None, [], [None], ["-"], ["a", "b"], ["ab"], ["a:b"], ["1:a"], ["a", None], ["a"]]

    texts = comparable(pa.array(lists, pa.list_(pa.string()))).to_pylist()

    assert len(set(texts)) == len(lists)
    assert texts[0] is None


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.float64(), [0.0, -0.0, float("nan"), None]),
        (pa.list_(pa.float32()), [[0.0], [-0.0], [float("nan")], [None], None]),
        (pa.list_(pa.timestamp("us")), [[0], [1], []]),
        (pa.list_(pa.date32()), [[0], [1], []]),
        (pa.list_(pa.time64("us")), [[0], [1], []]),
        (pa.list_(pa.decimal128(9, 2)), [[None], [], None]),
        (pa.list_(pa.bool_()), [[True], [False], [None]]),
        (pa.list_(pa.binary()), [[b""], [b"\x00"], [b"\x00\x00"], [None]]),
    ],
)
def test_every_type_has_a_form_to_be_compared_in(kind: pa.DataType, values: list[Any]) -> None:
    found = comparable(pa.array(values, kind))

    assert len(found.unique()) == len(values)
    assert comparable(pa.array(values, kind)).equals(found)


def test_rows_are_looked_for_only_where_the_bounds_of_every_column_allow(tmp_path: Path) -> None:
    lake = bag(tmp_path, [row(n) for n in range(5)])
    lake.merge([{"op": "c", "after": row(100)}])
    lake.merge([{"op": "c", "after": row(None)}])
    (excluded,) = (
        Path(file["file_path"].removeprefix("file://"))
        for file in lake.fresh().inspect.data_files().to_pylist()
        if file["record_count"] == 5
    )
    away = excluded.rename(tmp_path / "away")

    merged = lake.merge([{"op": "d", "before": row(100)}, {"op": "d", "before": row(None)}])

    assert merged.deleted_rows == 2
    away.rename(excluded)
    assert lake.rows() == [(n, "a") for n in range(5)]
