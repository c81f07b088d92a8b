from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carbon_pipelines.errors import ExpectationsMisfitError
from carbon_pipelines.quality.outcome import Outcome
from carbon_pipelines_tests.quality.scoring import NOW, ScoredLake, reading

ALL = """\
  - {kind: not_null, column: tonnes, severity: critical}
  - {kind: unique, columns: [facility_id, read_at]}
  - {kind: references, columns: [facility_id], table: facility}
  - {kind: between, column: tonnes, min: 0, max: 100.5}
  - {kind: between, column: load, min: 0}
  - {kind: in_set, column: quality, values: [measured, estimated]}
  - {kind: matches, column: operator, pattern: "^person [0-9]+$"}
  - {kind: length, column: quality, min: 3, max: 9}
  - {kind: holds, name: plausible, condition: tonnes < 90 OR load > 0, columns: [tonnes]}
  - kind: query
    name: pairs
    sql: SELECT a.id FROM reading a JOIN reading b ON a.id = -b.id WHERE a.id <> 0
  - {kind: fresh, column: read_at, at_most: 2h}
  - {kind: row_count, min: 2, max: 1000}
  - kind: columns
    types: {id: long, tonnes: "decimal(9, 2)"}
"""
GOOD = [reading(number) for number in range(10)]


def outcomes(lake: ScoredLake, **more: object) -> dict[str, Outcome]:
    return {one.label: one for one in lake.score(**more).score.outcomes}


def test_a_table_that_meets_everything_has_100(tmp_path: Path) -> None:
    lake = ScoredLake(tmp_path, ALL)
    table = lake.fill(GOOD)

    scored = lake.score()

    assert [one.reason for one in scored.score.outcomes if one.status != "passed"] == []
    assert (scored.score.value, scored.score.passes, scored.rows) == (100.0, True, 10)
    assert scored.snapshot_id == table.current_snapshot().snapshot_id  # pyright: ignore[reportOptionalMemberAccess]
    assert {one.dimension: one.score for one in scored.score.dimensions} == {
        "completeness": 100.0,
        "uniqueness": 100.0,
        "validity": 100.0,
        "consistency": 100.0,
        "timeliness": 100.0,
        "accuracy": 100.0,
    }


@pytest.mark.parametrize(
    ("damage", "label", "unexpected", "reason", "sample"),
    [
        (
            {"tonnes": None},
            "not_null(tonnes)",
            1,
            "1 of 11 rows are null (9.1 %)",
            {"id": "99", "tonnes": None},
        ),
        (
            {"facility_id": 1, "read_at": GOOD[0]["read_at"]},
            "unique(facility_id, read_at)",
            2,
            "2 of 11 rows are not the only ones with their values (18 %)",
            {"facility_id": "1", "read_at": "2026-03-01 11:00:00+00", "(rows)": "2"},
        ),
        (
            {"facility_id": 7},
            "references(facility_id)",
            1,
            "1 of 11 rows refer to no row of facility (9.1 %)",
            {"id": "99", "facility_id": "7"},
        ),
        (
            {"tonnes": "100.51"},
            "between(tonnes)",
            1,
            "1 of 11 rows are outside 0 to 100.5 (9.1 %)",
            {"id": "99", "tonnes": "100.51"},
        ),
        (
            {"load": float("nan")},
            "between(load)",
            1,
            "1 of 11 rows are below 0 (9.1 %)",
            {"id": "99", "load": "nan"},
        ),
        (
            {"quality": "guess"},
            "in_set(quality)",
            1,
            "1 of 11 rows are none of measured, estimated (9.1 %)",
            {"id": "99", "quality": "guess"},
        ),
        (
            {"operator": "nobody"},
            "matches(operator)",
            1,
            "1 of 11 rows do not match ^person [0-9]+$ (9.1 %)",
            {"id": "99", "operator": "nobody"},
        ),
        (
            {"tonnes": "95", "load": 0.0},
            "plausible",
            1,
            "1 of 11 rows do not meet the condition (9.1 %)",
            {"id": "99", "tonnes": "95.00"},
        ),
        (
            {"id": -1},
            "pairs",
            2,
            "2 of 11 rows were given by the query (18 %)",
            {"id": "1"},
        ),
    ],
)
def test_damage_is_counted_and_shown(
    tmp_path: Path,
    damage: dict[str, object],
    label: str,
    unexpected: int,
    reason: str,
    sample: dict[str, str | None],
) -> None:
    lake = ScoredLake(tmp_path, ALL)
    lake.fill([*GOOD, reading(99, **damage)])

    scored = lake.score()

    found = {one.label: one for one in scored.score.outcomes}
    assert [name for name, one in found.items() if one.status != "passed"] == [label]
    failed = found[label]
    assert (failed.status, failed.unexpected_rows, failed.reason) == ("failed", unexpected, reason)
    assert sample in failed.sample
    assert scored.score.value is not None
    assert scored.score.value < 100
    assert [loss.label for loss in scored.score.losses if loss.dimension] == [label]


def test_a_stale_table_fails_by_the_age_of_its_newest_value(tmp_path: Path) -> None:
    lake = ScoredLake(tmp_path, ALL)
    lake.fill([*GOOD, reading(99, read_at=datetime(9999, 12, 31, tzinfo=UTC))])

    stale = outcomes(lake, now=NOW + timedelta(hours=2))["fresh(read_at)"]

    assert stale.status == "failed"
    assert stale.reason == "the newest value 2026-03-01 11:09:00+00 is older than 2 h"


def test_too_few_rows_and_other_columns_fail(tmp_path: Path) -> None:
    lake = ScoredLake(
        tmp_path,
        "  - {kind: row_count, min: 11}\n"
        "  - {kind: columns, types: {tonnes: double, price: long}, more: refused}\n",
    )
    lake.fill(GOOD)

    found = outcomes(lake)

    assert found["row_count"].reason == "10 rows, at least 11 expected"
    assert found["columns"].reason == (
        "tonnes is decimal(9,2), not double; price is missing; id is not expected; "
        "facility_id is not expected; read_at is not expected; load is not expected; "
        "quality is not expected; operator is not expected"
    )
    assert {one.status for one in found.values()} == {"failed"}


def test_a_table_without_rows_is_unknown(tmp_path: Path) -> None:
    lake = ScoredLake(tmp_path, "  - {kind: not_null, column: tonnes}\n" + ALL.split("\n", 1)[1])
    lake.fill([])

    scored = lake.score()

    assert scored.score.value is None
    assert not scored.score.passes
    states = {one.label: one.status for one in scored.score.outcomes}
    assert states.pop("columns") == "passed"
    assert states.pop("row_count") == "failed"
    assert set(states.values()) == {"unknown"}


def test_an_expectation_that_throws_is_unknown_and_the_others_are_known(tmp_path: Path) -> None:
    lake = ScoredLake(
        tmp_path,
        "  - {kind: not_null, column: tonnes}\n"
        "  - {kind: holds, name: numbered, condition: CAST(operator AS INTEGER) > 0}\n"
        "  - {kind: query, name: cast, sql: FROM reading WHERE CAST(quality AS DATE) > now()}\n",
    )
    lake.fill([*GOOD, reading(99, tonnes=None)])

    found = outcomes(lake)

    assert [one.status for one in found.values()] == ["failed", "unknown", "unknown"]
    assert found["numbered"].reason.startswith(
        "could not be checked: Conversion Error: Could not convert string 'person"
    )
    assert lake.score().score.value is None


def test_a_share_of_the_rows_may_be_enough(tmp_path: Path) -> None:
    lake = ScoredLake(
        tmp_path,
        "  - {kind: not_null, column: tonnes, mostly: 0.9}\n"
        "  - {kind: not_null, column: tonnes, mostly: 0.91, name: strict}\n",
    )
    lake.fill([*GOOD[:9], reading(99, tonnes=None)])

    found = outcomes(lake)

    assert [(one.status, one.unexpected_rows) for one in found.values()] == [
        ("passed", 1),
        ("failed", 1),
    ]


def test_protected_values_are_never_shown(tmp_path: Path) -> None:
    lake = ScoredLake(
        tmp_path,
        "  - {kind: matches, column: operator, pattern: x}\n"
        "  - {kind: unique, columns: [operator]}\n"
        "  - {kind: holds, name: named, condition: CAST(operator AS INTEGER) > 0}\n"
        "  - {kind: query, name: all, sql: SELECT * FROM reading WHERE id = 1}\n"
        "  - {kind: query, name: alias, sql: 'SELECT id, operator AS quality FROM reading'}\n"
        "  - kind: query\n    name: place\n"
        "    sql: WITH c(a, b, c, d, e, f, id) AS (FROM reading) FROM c\n",
        more="columns:\n  operator: {classification: restricted}\n",
    )
    lake.fill([*GOOD, reading(10, operator="person 9")])

    found = outcomes(lake)

    assert [one.unexpected_rows for one in found.values()] == [11, 2, None, 1, 11, 11]
    assert found["matches(operator)"].sample[0] == {"id": "0", "operator": "(restricted)"}
    assert found["unique(operator)"].sample == ({"operator": "(restricted)", "(rows)": "2"},)
    assert found["named"].reason == (
        "could not be checked: a conversion error, whose words may hold protected values"
    )
    assert [sorted(one) for one in found["all"].sample] == [
        ["facility_id", "id", "load", "quality", "read_at", "tonnes"]
    ]
    assert (found["alias"].sample, found["place"].sample) == ((), ())
    assert "person" not in repr(found)


@pytest.mark.parametrize(
    ("expectation", "line", "reason"),
    [
        (
            "- kind: not_null\n    column: tones",
            7,
            'not_null(tones): the lake\'s table has no column "tones"; did you mean "tonnes"?',
        ),
        (
            "- kind: between\n    column: quality\n    min: 0",
            7,
            'between(quality): column "quality" is string, and this needs a number, date, time or '
            'timestamp; for a numeric without precision, declare "type: decimal(p,s)"',
        ),
        (
            "- kind: matches\n    column: tonnes\n    pattern: x",
            7,
            'matches(tonnes): column "tonnes" is decimal(9, 2), and this needs a text',
        ),
        (
            "- kind: between\n    column: tonnes\n    min: few",
            8,
            'between(tonnes): "few" is no decimal(9, 2)',
        ),
        (
            "- kind: between\n    column: tonnes\n    min: 10\n    max: 9.5",
            9,
            "between(tonnes): is below min, 10, so that nothing could meet it",
        ),
        (
            "- kind: in_set\n    column: id\n    values: [1, one]",
            8,
            'in_set(id): "one" is no long',
        ),
        (
            "- kind: fresh\n    column: id\n    at_most: 1h",
            7,
            'fresh(id): column "id" is long, and this needs a date or timestamp',
        ),
        (
            "- kind: references\n    columns: [quality]\n    table: facility",
            7,
            'references(quality): column "quality" is string and facility\'s "facility_id" int; '
            "they are never equal",
        ),
        (
            "- kind: references\n    columns: [id]\n    table: facility\n    to: [id]",
            9,
            'references(id): facility: the lake\'s table has no column "id"; the columns are '
            "facility_id, name",
        ),
        (
            "- kind: holds\n    name: x\n    condition: tones > 0",
            8,
            'x: Binder Error: Referenced column "tones" not found in FROM clause!',
        ),
        (
            "- kind: holds\n    name: x\n    condition: id) OR (true",
            8,
            "x: is not SQL: syntax",
        ),
        (
            "- kind: holds\n    name: x\n    condition: (SELECT true FROM reading)",
            8,
            'x: reads "reading"; it may read none, as it is about single rows',
        ),
        ("- kind: query\n    name: x\n    sql: DROP TABLE reading", 8, "x: is no query"),
        (
            "- kind: query\n    name: x\n    sql: SELECT 1; SELECT 2",
            8,
            "x: holds more than one",
        ),
        (
            "- kind: query\n    name: x\n    sql: FROM read_csv('/etc/passwd')",
            8,
            "x: reads read_csv(), which no expectation may",
        ),
        (
            "- kind: query\n    name: x\n    sql: SELECT * FROM '/etc/hosts.csv'",
            8,
            'x: reads "/etc/hosts.csv"; it may read reading',
        ),
        (
            "- kind: query\n    name: x\n    sql: SELECT * FROM facility",
            8,
            'x: reads "facility"; it may read reading',
        ),
        (
            "- kind: query\n    name: x\n    sql: SELECT * FROM shown.reading",
            8,
            'x: reads "shown.reading"; it may read reading',
        ),
    ],
)
def test_what_the_table_cannot_meet_names_file_and_line(
    tmp_path: Path, expectation: str, line: int, reason: str
) -> None:
    lake = ScoredLake(tmp_path, f"  {expectation}\n")
    lake.fill(GOOD)

    with pytest.raises(ExpectationsMisfitError) as error:
        lake.score()

    ((path, found, told),) = error.value.problems
    assert (path, found) == (lake.declaration, line)
    assert told.startswith(reason)
    assert f"{lake.declaration}:{line}: " in str(error.value)


def test_a_reference_to_a_table_that_is_not_copied_is_unknown(tmp_path: Path) -> None:
    lake = ScoredLake(tmp_path, "  - {kind: references, columns: [facility_id], table: facility}\n")
    lake.fill(GOOD)
    lake.catalog.drop_table(("market", "facility"))

    (found,) = outcomes(lake).values()

    assert (found.status, found.reason) == (
        "unknown",
        "could not be checked: market/facility has no copy in the lake yet",
    )
