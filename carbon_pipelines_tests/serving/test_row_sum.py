"""The sum of rows that DuckDB makes is the one that Python makes of the same rows."""

import io
from pathlib import Path

import duckdb
import pyarrow as pa

from carbon_pipelines.mart.lake_table import replace_rows
from carbon_pipelines.serving.doris_rows import doris_columns, write_rows
from carbon_pipelines.serving.row_sum import RowSum, sum_select
from carbon_pipelines_tests.lake.local_lake import open_local
from carbon_pipelines_tests.serving.test_doris_mart import ROWS


def summed(rows: pa.Table, directory: Path) -> tuple[RowSum, RowSum]:
    """By Python, and by DuckDB."""
    catalog = open_local(directory)
    replace_rows(catalog, ("mart", "prices"), rows.to_reader, {})
    schema = catalog.load_table(("mart", "prices")).schema()
    columns = doris_columns("prices", schema)
    by_python = write_rows("prices", columns, rows.to_batches(), io.BytesIO()).sum
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'America/New_York'")
        engine.register("prices", rows)
        kinds = {field.name: field.field_type for field in schema.fields}
        [(count, total)] = engine.execute(
            f"SELECT {sum_select('duckdb', kinds)} FROM prices"
        ).fetchall()
    return by_python, RowSum(int(count), int(total))


def test_duckdb_and_python_make_the_same_sum_of_a_marts_rows(tmp_path: Path) -> None:
    # moments of before the year 1000 count for their side alone where engines differ
    rows = ROWS.filter(pa.array([True, True, False, True])).set_column(
        ROWS.schema.get_field_index("day"),
        "day",
        pa.array([None, ROWS["day"][0].as_py(), ROWS["day"][3].as_py()], pa.date32()),
    )
    by_python, by_duckdb = summed(rows, tmp_path)
    assert by_python == by_duckdb
    assert by_duckdb.rows == 3


def test_one_changed_value_makes_another_sum(tmp_path: Path) -> None:
    _, before = summed(pa.table({"a": ["x", None], "b": [1, 2]}), tmp_path / "one")
    _, moved = summed(pa.table({"a": [None, "x"], "b": [1, 2]}), tmp_path / "two")
    _, again = summed(pa.table({"a": [None, "x"], "b": [2, 1]}), tmp_path / "three")
    assert before == again
    assert before != moved
    assert before.rows == moved.rows


def test_no_rows_have_the_sum_nothing(tmp_path: Path) -> None:
    by_python, by_duckdb = summed(pa.table({"a": pa.array([], pa.string())}), tmp_path)
    assert by_python == by_duckdb == RowSum(0, 0)
