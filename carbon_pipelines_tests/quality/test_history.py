import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.maintenance.thinning import thin_table
from carbon_pipelines.quality import history, history_table
from carbon_pipelines.quality.history import TABLES, load_sums, record_score, record_scores
from carbon_pipelines.quality.scoring import ScoredTable
from carbon_pipelines_tests.lake.local_lake import duckdb_rows, open_local
from carbon_pipelines_tests.quality.scoring import NOW, ScoredLake, reading

EXPECTATIONS = """\
  - {kind: not_null, column: tonnes, severity: critical}
  - {kind: between, column: load, min: 0, max: 1}
  - {kind: fresh, column: read_at, at_most: 2h}
"""
DAMAGED = [reading(0), reading(1, tonnes=None), reading(2, load=2.0), reading(3, load=3.0)]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> ScoredTable:
    """A table with damage, scored once for all tests, which keep it in lakes of their own."""
    lake = ScoredLake(tmp_path_factory.mktemp("scored"), EXPECTATIONS)
    lake.fill(DAMAGED)
    return lake.score()


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_local(tmp_path)


def kept(catalog: Catalog, name: str, columns: str = "*", where: str = "") -> list[Any]:
    return sorted(duckdb_rows(table(catalog, name), columns, where), key=repr)


def table(catalog: Catalog, name: str) -> Table:
    return catalog.load_table(("quality", name))


def at(scored: ScoredTable, snapshot_id: int) -> ScoredTable:
    return replace(scored, snapshot_id=snapshot_id, scored_at=NOW + timedelta(minutes=snapshot_id))


def test_a_score_and_its_violations_are_kept_as_they_are(
    catalog: Catalog, scored: ScoredTable
) -> None:
    assert record_score(catalog, scored)

    columns = "table_name, snapshot_id, rows, score, passes, completeness, uniqueness, reasons"
    ((label, snapshot_id, rows, score, passes, completeness, uniqueness, reasons),) = kept(
        catalog, "score", columns
    )
    assert (label, snapshot_id, rows) == ("market/reading", scored.snapshot_id, 4)
    assert (score, passes, completeness, uniqueness) == (scored.score.value, False, 30.0, None)
    assert reasons.splitlines() == [loss.sentence() for loss in scored.score.losses]

    columns = "expectation, severity, unexpected_rows, row_number, row"
    found = [(*rest, json.loads(row)) for *rest, row in kept(catalog, "violation", columns)]
    assert found == [
        ("between(load)", "warning", 2, 1, {"id": "2", "load": "2.0"}),
        ("between(load)", "warning", 2, 2, {"id": "3", "load": "3.0"}),
        ("not_null(tonnes)", "critical", 1, 1, {"id": "1", "tonnes": None}),
    ]
    ids = kept(catalog, "violation", "DISTINCT score_id")
    assert ids == kept(catalog, "score", "score_id")


def test_a_score_is_kept_once_until_something_of_it_changes(
    catalog: Catalog, scored: ScoredTable
) -> None:
    later = replace(scored, scored_at=NOW + timedelta(hours=1))
    stale = replace(
        later,
        score=replace(
            scored.score,
            outcomes=(
                *scored.score.outcomes[:2],
                replace(scored.score.outcomes[2], status="failed"),
            ),
        ),
    )
    told = [record_score(catalog, one) for one in (scored, later, stale, stale, scored)]

    assert told == [True, False, True, False, True]
    ids = [row[0] for row in kept(catalog, "score", "score_id")]
    assert len(set(ids)) == 3
    assert {row[0] for row in kept(catalog, "violation", "score_id")} == set(ids)


def test_a_score_leaves_its_sums_for_the_next_one_against_the_same_expectations(
    catalog: Catalog, scored: ScoredTable
) -> None:
    assert load_sums(catalog, scored.label, scored.version) is None
    record_score(catalog, scored)

    assert scored.sums is not None
    assert scored.sums.counts["not_null(tonnes)"]
    assert load_sums(catalog, scored.label, scored.version) == scored.sums
    assert load_sums(catalog, scored.label, "other") is None
    assert load_sums(catalog, "market/other", scored.version) is None


def test_other_expectations_make_another_score(catalog: Catalog, scored: ScoredTable) -> None:
    record_score(catalog, scored)

    assert record_score(catalog, replace(scored, version="other"))


def test_a_process_that_dies_before_the_score_leaves_nothing_that_counts_twice(
    catalog: Catalog, scored: ScoredTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(history, "_score_row", dies)
        with pytest.raises(InterruptedError):
            record_score(catalog, scored)
    assert len(kept(catalog, "violation")) == 3

    assert record_score(catalog, replace(scored, scored_at=NOW + timedelta(minutes=1)))

    assert len(kept(catalog, "violation")) == 3
    assert kept(catalog, "score", "score_id") == sorted(set(kept(catalog, "violation", "score_id")))


def dies(*_: object) -> Mapping[str, Any]:
    raise InterruptedError


def test_of_two_processes_that_keep_the_same_score_one_does(
    catalog: Catalog, scored: ScoredTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_score(catalog, at(scored, 1))
    other = at(scored, 2)
    commit = history_table.commit_files
    raced: list[bool] = []

    def comes_second(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(history_table, "commit_files", commit)
        raced.append(record_score(catalog, other))
        return commit(*arguments, **more)

    monkeypatch.setattr(history_table, "commit_files", comes_second)
    told = record_score(catalog, other)

    assert (told, raced) == (False, [True])
    assert len(kept(catalog, "score")) == 2
    assert len(kept(catalog, "violation")) == 6


def test_many_tables_are_kept_in_one_commit(catalog: Catalog, scored: ScoredTable) -> None:
    tables = [replace(scored, label=f"market/t{number}") for number in range(5)]

    assert record_scores(catalog, tables) == [one.label for one in tables]
    assert record_scores(catalog, [*tables, scored]) == ["market/reading"]
    assert len(table(catalog, "score").metadata.snapshots) == 2
    assert len(kept(catalog, "score")) == 6


def test_the_thousandth_score_costs_what_the_tenth_did(
    catalog: Catalog, scored: ScoredTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_table, "MERGED_FILES", 4)
    for number in range(1, 13):
        record_score(catalog, at(scored, number))

    snapshot = table(catalog, "score").current_snapshot()
    assert snapshot is not None
    live = table(catalog, "score").inspect.files().num_rows
    assert live <= 4
    assert kept(catalog, "score", "snapshot_id") == [
        (number,) for number in sorted(range(1, 13), key=lambda number: repr((number,)))
    ]
    assert len(kept(catalog, "violation")) == 36


def test_the_last_score_is_found_when_no_snapshot_tells_of_it(
    catalog: Catalog, scored: ScoredTable
) -> None:
    record_score(catalog, scored)
    for number in range(3):
        record_score(catalog, replace(scored, label=f"market/t{number}"))
    current = table(catalog, "score")
    spared = timedelta(0)
    thin_table(catalog, TABLES[0], 1, datetime.now(UTC) + timedelta(days=1), spared=spared)
    assert len(current.refresh().metadata.snapshots) == 1

    assert not record_score(catalog, scored)
    assert len(kept(catalog, "score")) == 4
