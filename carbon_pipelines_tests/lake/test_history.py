"""Versions of rows: what batches make of a history is what its events make of it one at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_pipelines.errors import HistoryColumnError, MissingPriorValueError
from carbon_pipelines.lake.change_batch import ChangeBatch
from carbon_pipelines.lake.history import fold_history
from carbon_pipelines.lake.history_columns import HISTORY_COLUMNS, TO_LSN
from carbon_pipelines.lake.lookup import RowLookup
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines_tests.lake.changes import CHANGES, UNAVAILABLE, Change, Rows, replay
from carbon_pipelines_tests.lake.local_lake import LocalLake, read_events, relation, table_spec

COLUMNS = {"id": "int8", "n": "int8", "doc": "text"}
COPIED_AT = 100
Place = tuple[int, int]


@dataclass(frozen=True)
class Step:
    """A change; ``joins`` the transaction of the one before, or is the last of a batch."""

    change: Change
    joins: bool
    last: bool


STEPS = st.lists(
    st.builds(Step, st.one_of(CHANGES, st.just(Change("truncate"))), st.booleans(), st.booleans()),
    min_size=1,
    max_size=30,
)
START = st.dictionaries(
    st.integers(0, 5), st.tuples(st.integers(0, 99), st.sampled_from(["old", "older"]))
)


@dataclass
class Model:
    """A history, one event at a time: what is open by key, and what has ended."""

    open: dict[int, tuple[Place, int, str]]
    ended: list[tuple[int, int, str, Place, Place]] = field(default_factory=list)

    def close(self, key: int, place: Place) -> Place:
        """End the open version of ``key``; from where on one in its place is valid."""
        if key not in self.open:
            return place
        since, n, doc = self.open.pop(key)
        if since[0] == place[0]:
            return since
        self.ended.append((key, n, doc, since, place))
        return place

    def apply(self, event: dict[str, Any], rows: Rows, place: Place) -> None:
        """Apply one event; ``rows`` are the source's after it."""
        if event["op"] == "t":
            for key in list(self.open):
                self.close(key, place)
        elif event["op"] == "d":
            self.close(event["before"]["id"], place)
        else:
            key = event["after"]["id"]
            since = self.close(key, place)
            self.open[key] = (since, *rows[key])

    def versions(self) -> list[tuple[Any, ...]]:
        still = [(k, n, doc, since, None) for k, (since, n, doc) in self.open.items()]
        return sorted([*self.ended, *still], key=repr)


def run(rows: Rows, steps: Sequence[Step]) -> tuple[Model, list[list[dict[str, Any]]]]:
    """The history that PostgreSQL makes, and its events in batches."""
    model = Model({k: ((COPIED_AT, 0), *values) for k, values in rows.items()})
    batches: list[list[dict[str, Any]]] = [[]]
    commit, ordinal = 1000, 0
    for step in steps:
        commit += 0 if step.joins else 1
        rows, events = replay(rows, [step.change])
        for event in events:
            ordinal += 1
            model.apply(event, rows, (commit, ordinal))
            batches[-1].append({**event, "commit": commit})
        if step.last:
            batches.append([])
    return model, [batch for batch in batches if batch]


def made_lake(path: Path, rows: Rows) -> LocalLake:
    lake = LocalLake(path, COLUMNS, ["id"], mode="history")
    lake.load([version(key, n, doc) for key, (n, doc) in rows.items()])
    return lake


def version(key: int, n: int, doc: str) -> dict[str, Any]:
    values = (datetime.fromtimestamp(COPIED_AT / 1000, UTC), COPIED_AT, 0, None, None, None)
    return {"id": key, "n": n, "doc": doc, **dict(zip(HISTORY_COLUMNS, values, strict=True))}


def folded(model: Model, batch: ChangeBatch) -> None:
    """Apply the fold of ``batch`` to ``model``."""
    before, after = ([image.column("id").combine_chunks()] for image in (batch.before, batch.after))
    fold = fold_history(batch, before, after)
    places = list(zip(batch.commit_lsn.tolist(), batch.ordinal.tolist(), strict=True))
    keys = fold.values.keys.columns[0].to_pylist() if fold.values.keys is not None else []
    old, since = dict(model.open), dict[int, Place]()
    for number, event in enumerate(fold.ended.tolist()):
        if keys[number] in model.open:
            since[number] = model.close(keys[number], places[event])
    for key in list(model.open) if fold.truncated_at >= 0 else ():
        model.close(key, places[fold.truncated_at])
    copied, filled = fold.values.copied.get("doc"), fold.values.filled.get("doc")
    from_event = dict(zip(*(a.tolist() for a in copied), strict=True)) if copied else {}
    from_lake = dict(zip(filled.rows.tolist(), filled.keys.tolist(), strict=True)) if filled else {}
    for index, event in enumerate(fold.values.upserts.tolist()):
        row = batch.after.slice(from_event.get(index, event), 1).to_pylist()[0]
        values = batch.after.slice(event, 1).to_pylist()[0]
        doc = old[keys[from_lake[index]]][2] if index in from_lake else row["doc"]
        begun, until = int(fold.begun[index]), int(fold.until[index])
        place = places[begun]
        if fold.continues[index] >= 0 and since.get(int(fold.continues[index])) is not None:
            earlier = since[int(fold.continues[index])]
            place = earlier if earlier[0] == place[0] else place
        if until < 0:
            assert values["id"] not in model.open, "a row is shown twice"
            model.open[values["id"]] = (place, values["n"], doc)
        else:
            model.ended.append((values["id"], values["n"], doc, place, places[until]))


@given(START, STEPS)
@settings(deadline=None)
def test_folding_batches_gives_the_versions_that_their_events_give_one_at_a_time(
    rows: Rows, steps: list[Step]
) -> None:
    expected, batches = run(rows, steps)
    shape, spec = relation(COLUMNS, ["id"]), table_spec(["id"], mode="history")
    found = Model({k: ((COPIED_AT, 0), *values) for k, values in rows.items()})
    first = 0
    for batch in batches:
        folded(found, read_events(batch, shape, spec, first=first))
        first += len(batch)

    assert found.versions() == expected.versions()


def lake_versions(lake: LocalLake) -> list[tuple[Any, ...]]:
    """What DuckDB reads, as the model has it; times are those of the commits."""
    names = ("id", "n", "doc", *(f"{c}" for c in HISTORY_COLUMNS))
    found = []
    for key, n, doc, since, lsn, ordinal, to, to_lsn, to_ordinal in lake.rows(", ".join(names)):
        assert since == datetime.fromtimestamp(lsn / 1000, UTC)
        assert to == (None if to_lsn is None else datetime.fromtimestamp(to_lsn / 1000, UTC))
        until = None if to_lsn is None else (to_lsn, to_ordinal)
        found.append((key, n, doc, (lsn, ordinal), until))
    return sorted(found, key=repr)


@given(START, STEPS)
@settings(max_examples=15, deadline=None)
def test_merging_batches_leaves_the_versions_that_their_events_give_one_at_a_time(
    rows: Rows, steps: list[Step]
) -> None:
    expected, batches = run(rows, steps)
    with TemporaryDirectory() as directory:
        lake = made_lake(Path(directory), rows)
        for batch in batches:
            lake.merge(batch)

        assert lake_versions(lake) == expected.versions()


def test_a_transaction_in_two_batches_makes_one_version(tmp_path: Path) -> None:
    lake = made_lake(tmp_path, {1: (1, "one")})
    first = {"op": "u", "after": {"id": 1, "n": 2, "doc": "two"}, "commit": 2000}
    second = {"op": "u", "after": {"id": 1, "n": 3, "doc": UNAVAILABLE}, "unchanged": ["doc"]}

    lake.merge([first])
    lake.merge([{**second, "commit": 2000}])

    assert lake_versions(lake) == [
        (1, 1, "one", (COPIED_AT, 0), (2000, 1)),
        (1, 3, "two", (2000, 1), None),
    ]


def test_files_without_an_open_version_are_not_read_for_a_key(tmp_path: Path) -> None:
    lake = made_lake(tmp_path, dict.fromkeys(range(10), (0, "copied")))
    for n in range(3):
        lake.merge([{"op": "u", "after": {"id": k, "n": n, "doc": "x"}} for k in range(10)])

    table = lake.fresh()
    files = load_table_files(table.current_snapshot(), table.io)
    opened: list[str] = []

    class Counting:
        def new_input(self, path: str) -> Any:
            opened.append(path)
            return table.io.new_input(path)

    lookup = RowLookup(files, table.schema(), ["id"], Counting(), null_in=TO_LSN)
    batch = lake.batch([{"op": "u", "after": {"id": 3, "n": 9, "doc": "y"}}])
    ids = batch.after.column("id").combine_chunks()
    (found,) = lookup.find(fold_history(batch, [pa.nulls(1, pa.int64())], [ids]).keys)

    assert len(files.data) == 4
    assert opened == [found.data.file.file_path]
    assert len(found.positions) == 1


def test_an_unchanged_value_without_an_open_version_is_refused(tmp_path: Path) -> None:
    lake = made_lake(tmp_path, {1: (1, "one")})
    lake.merge([{"op": "d", "before": {"id": 1}}])
    kept = lake_versions(lake)

    with pytest.raises(MissingPriorValueError):
        lake.merge(
            [{"op": "u", "after": {"id": 1, "n": 2, "doc": UNAVAILABLE}, "unchanged": ["doc"]}]
        )
    assert lake_versions(lake) == kept


def test_a_source_column_with_the_name_of_an_added_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoryColumnError, match="carbon_valid_to"):
        LocalLake(tmp_path, {**COLUMNS, "carbon_valid_to": "text"}, ["id"], mode="history")

    lake = made_lake(tmp_path, {1: (1, "one")})
    with pytest.raises(HistoryColumnError, match="carbon_valid_to"):
        lake.evolve(relation({**COLUMNS, "carbon_valid_to": "text"}, ["id"], version=2))


def test_a_column_that_is_added_is_in_every_version(tmp_path: Path) -> None:
    lake = made_lake(tmp_path, {1: (1, "one"), 2: (2, "two")})
    lake.merge([{"op": "u", "after": {"id": 1, "n": 5, "doc": "five"}}])
    after = relation({**COLUMNS, "more": "int4"}, ["id"], version=2)
    lake.evolve(after)
    lake.relation = after
    lake.merge([{"op": "u", "after": {"id": 1, "n": 6, "doc": "six", "more": 7}}])

    found = lake.rows("id, n, more, carbon_valid_to_lsn IS NULL")
    assert found == [(1, 1, None, False), (1, 5, None, False), (1, 6, 7, True), (2, 2, None, True)]
