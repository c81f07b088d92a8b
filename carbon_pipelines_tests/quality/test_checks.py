from datetime import timedelta
from pathlib import Path

import pytest
import sqlglot
from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
)

from carbon_pipelines.quality.checks import Surroundings, aggregate_query, pass_query, plan_check
from carbon_pipelines.quality.fit import LakeColumns
from carbon_pipelines.quality.sql_text import DUCKDB, TRINO, Dialect
from carbon_pipelines_tests.quality.scoring import NOW, ScoredLake

COLUMNS = LakeColumns(
    {
        "id": LongType(),
        "facility_id": IntegerType(),
        "read_at": TimestamptzType(),
        "tonnes": DecimalType(9, 2),
        "load": DoubleType(),
        "quality": StringType(),
        'odd "name"': StringType(),
        "on_day": DateType(),
        "began": TimestampType(),
    }
)
EVERY_KIND = """\
  - {kind: not_null, column: tonnes}
  - {kind: not_null, column: 'odd "name"'}
  - {kind: unique, columns: [facility_id, read_at]}
  - {kind: references, columns: [facility_id], table: facility}
  - {kind: between, column: tonnes, min: 0, max: 100.5}
  - {kind: between, column: load, min: 0}
  - {kind: between, column: on_day, min: 2020-01-01}
  - {kind: between, column: began, max: "2026-01-01 00:00:00"}
  - {kind: between, column: read_at, max: "2026-01-01T01:00:00+01:00"}
  - {kind: in_set, column: quality, values: [measured, "it's"]}
  - {kind: matches, column: quality, pattern: "^m"}
  - {kind: length, column: quality, min: 3}
  - {kind: holds, name: plausible, condition: tonnes < 90 OR load > 0}
  - {kind: query, name: pairs, sql: SELECT id FROM reading WHERE tonnes IS NULL}
  - {kind: fresh, column: read_at, at_most: 2h}
  - {kind: fresh, column: on_day, at_most: 1d}
  - {kind: row_count, min: 2}
"""


def around(path: Path, dialect: Dialect) -> Surroundings:
    database = ScoredLake(path, EVERY_KIND).database
    others = {"facility": database.table("facility")}
    return Surroundings(database.table("reading"), COLUMNS, others, NOW, dialect)


def test_everything_that_single_rows_tell_is_counted_in_one_pass(tmp_path: Path) -> None:
    plan = around(tmp_path, DUCKDB)
    checks = [plan_check(one, plan) for one in plan.table.expectations[:6]]

    assert pass_query([check for check in checks if check.failing], plan, ["a'b"]) == (
        'SELECT carbon_file, count(*) FILTER (WHERE "tonnes" IS NULL), '
        'count(*) FILTER (WHERE "odd ""name""" IS NULL), '
        'count(*) FILTER (WHERE ("tonnes" < 0 OR "tonnes" > 100.5)), '
        'count(*) FILTER (WHERE (isnan("load") OR ("load" < 0))) FROM "reading" '
        "WHERE carbon_file IN ('a''b') GROUP BY carbon_file"
    )


def test_ages_are_compared_in_the_columns_own_type(tmp_path: Path) -> None:
    plan = around(tmp_path, DUCKDB)
    fresh, by_day = (plan_check(one, plan) for one in plan.table.expectations[14:16])

    assert plan.now - timedelta(hours=2) < plan.now
    assert (
        "CAST('2026-03-01 10:00:00.000000+00:00' AS TIMESTAMP WITH TIME ZONE)"
        in (fresh.aggregates[1])
    )
    assert by_day.aggregates[1].endswith(">= CAST('2026-02-28' AS DATE)")


@pytest.mark.parametrize("dialect", [DUCKDB, TRINO], ids=["duckdb", "trino"])
def test_another_parser_reads_the_text_for_both_engines(tmp_path: Path, dialect: Dialect) -> None:
    plan = around(tmp_path, dialect)
    checks = [plan_check(one, plan) for one in plan.table.expectations]
    texts = [pass_query([check for check in checks if check.failing], plan, ["a"])]
    texts += [aggregate_query(check, plan) for check in checks if check.aggregates]
    texts += [check.counting for check in checks if check.counting]
    texts += [check.recounting for check in checks if check.recounting]
    texts += [check.sampling for check in checks if check.sampling]

    for text in texts:
        (tree,) = sqlglot.parse(text, read=dialect.name, error_level=sqlglot.ErrorLevel.RAISE)
        assert isinstance(tree, sqlglot.exp.Select)
        tables = {table.name for table in tree.find_all(sqlglot.exp.Table)}
        assert tables <= {"reading", "facility"}
        assert not list(tree.find_all(sqlglot.exp.Anonymous)), text
    assert len(texts) > 12
