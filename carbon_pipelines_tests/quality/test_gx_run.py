from datetime import UTC, datetime
from pathlib import Path

import pytest

from carbon_pipelines.errors import RunnerMissingError
from carbon_pipelines_tests.quality.scoring import ScoredLake, reading

EXPECTATIONS = """\
  - {kind: not_null, column: tonnes}
  - {kind: unique, columns: [id]}
  - {kind: unique, columns: [facility_id, read_at]}
  - {kind: unique, columns: [quality]}
  - {kind: between, column: tonnes, min: 0, max: 100.5}
  - {kind: between, column: facility_id, max: 5}
  - {kind: between, column: load, min: 0}
  - {kind: in_set, column: quality, values: [measured, "it's"]}
  - {kind: in_set, column: facility_id, values: [1, 2], mostly: 0.5}
  - {kind: length, column: operator, min: 3, max: 9}
  - {kind: matches, column: operator, pattern: "^person"}
  - {kind: row_count, min: 3}
"""
DAMAGED = [
    *(reading(number) for number in range(5)),
    reading(5, tonnes=None, quality=None, operator=None),
    reading(6, tonnes="100.51", facility_id=None),
    reading(7, facility_id=9, load=float("nan")),
    reading(8, facility_id=1, read_at=datetime(2026, 3, 1, 11, 0, tzinfo=UTC)),
    reading(9, quality="it's", operator="somebody else"),
]


@pytest.mark.integration
def test_great_expectations_and_our_pass_count_alike(tmp_path: Path) -> None:
    lake = ScoredLake(tmp_path, EXPECTATIONS)
    lake.fill(DAMAGED)

    ours = lake.score()
    theirs = lake.score(runner="great_expectations")

    assert theirs.score == ours.score
    assert {one.label: one.unexpected_rows for one in ours.score.outcomes} == {
        "not_null(tonnes)": 1,
        "unique(id)": 0,
        "unique(facility_id, read_at)": 2,
        "unique(quality)": 8,
        "between(tonnes)": 1,
        "between(facility_id)": 1,
        "between(load)": 1,
        "in_set(quality)": 0,
        "in_set(facility_id)": 1,
        "length(operator)": 1,
        "matches(operator)": 1,
        "row_count": None,
    }


@pytest.mark.integration
def test_what_great_expectations_runs_is_a_suite_of_its_own(tmp_path: Path) -> None:
    from carbon_pipelines.quality import gx_run

    lake = ScoredLake(tmp_path, EXPECTATIONS)
    lake.fill(DAMAGED)
    runs: list[gx_run.GxRun] = []
    run = gx_run.run_great_expectations
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            gx_run,
            "run_great_expectations",
            lambda *arguments: runs.append(run(*arguments)) or runs[-1],
        )
        lake.score(runner="great_expectations")

    ((counted),) = runs
    assert sorted(counted.counts) == sorted(
        {one.label for one in lake.reading.expectations} - {"between(load)", "matches(operator)"}
    )
    assert {one["type"] for one in counted.suite["expectations"]} == {
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_be_unique",
        "expect_compound_columns_to_be_unique",
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_in_set",
        "expect_column_value_lengths_to_be_between",
        "expect_table_row_count_to_be_between",
    }


def test_a_runner_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = ScoredLake(tmp_path, EXPECTATIONS)
    lake.fill(DAMAGED)
    monkeypatch.setitem(__import__("sys").modules, "great_expectations", None)

    with pytest.raises(RunnerMissingError, match="great_expectations, which cannot be imported"):
        lake.score(runner="great_expectations")
