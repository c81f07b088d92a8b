"""Declaring a table and running its assets against real services, as the UI and the CLI do."""

from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.catalog.table import ColumnSpec
from carbon_pipelines.cli import cli
from carbon_pipelines.defs.automation.observe import observe_lag
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines_tests.conftest import SourceDatabase

pytestmark = pytest.mark.integration


@pytest.fixture
def declared(
    stack: Stack, source: SourceDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An empty directory of declarations, with every command pointed at the session's stack."""
    directory = tmp_path / "declared"
    directory.mkdir()
    monkeypatch.setenv("CARBON_HOME", str(stack.home))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(directory))
    return directory


def carbon(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def change(source: SourceDatabase, *statements: str) -> None:
    with psycopg.connect(source.dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]


def run_all(declared: Path, database: str) -> dict[str, dict[str, object]]:
    """Run the database's job in process; the metadata of each asset."""
    definitions = build_definitions({"CARBON_CATALOG_DIR": str(declared)})
    result = definitions.resolve_job_def(f"sync_{database}").execute_in_process()
    assert result.success
    return {
        event.asset_key.to_user_string(): {
            name: entry.value for name, entry in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }


def behind(declared: Path, stack: Stack, database: str) -> dict[str, int | None]:
    seen = observe_lag(load_catalog(declared).database(database), stack.endpoints())
    assert seen.errors == ()
    return {lag.asset: lag.behind for lag in seen.lags}


def test_a_table_is_declared_copied_followed_and_then_at_rest(
    declared: Path, stack: Stack, source: SourceDatabase
) -> None:
    name = source.name
    stream, lake = f"stream/{name}", f"lake/{name}/credit"
    change(
        source,
        "CREATE TABLE credit (credit_id int PRIMARY KEY, tonnes numeric)",
        "INSERT INTO credit SELECT n, n * 1.25 FROM generate_series(1, 1000) n",
    )
    carbon("tables", "add", name, "public.credit", "--owner", "team:registry")
    assert behind(declared, stack, name) == {stream: None, lake: None}

    copied = run_all(declared, name)
    again = run_all(declared, name)

    assert copied[lake]["dagster/row_count"] == copied[lake]["carbon/copied_rows"] == 1000
    assert again[lake]["carbon/committed"] is False
    assert again[lake]["carbon/snapshot_id"] == copied[lake]["carbon/snapshot_id"]
    assert behind(declared, stack, name) == {stream: 0, lake: 0}

    change(source, "DELETE FROM credit WHERE credit_id <= 10", "INSERT INTO credit VALUES (0, 7)")
    merged = run_all(declared, name)

    assert merged[lake]["dagster/row_count"] == 991
    assert merged[lake]["carbon/snapshot_id"] != copied[lake]["carbon/snapshot_id"]
    assert behind(declared, stack, name) == {stream: 0, lake: 0}
    assert "verified" in carbon("verify", name)


def test_a_proposed_decimal_comes_from_the_widest_finite_values(
    declared: Path, source: SourceDatabase
) -> None:
    change(
        source,
        """CREATE TABLE "Price List"
           (id int PRIMARY KEY, a numeric, b numeric, c numeric, d numeric)""",
        """INSERT INTO "Price List" VALUES
           (1, 12345.5, 'NaN', NULL, 1),
           (2, -0.0001, 1, NULL, '-Infinity'),
           (3, NULL, 2, NULL, 3)""",
    )

    carbon("tables", "add", source.name, "Price List")

    table = load_catalog(declared).database(source.name).table("price_list")
    assert table.columns == {"a": ColumnSpec(type="decimal(18,6)")}
    assert table.key == ("id",)
    text = (declared / source.name / "price_list.yaml").read_text()
    assert "#   b: numeric  (1 values are NaN or infinite, so it stays a string)" in text
    assert "#   c: numeric  (no value yet, so it stays a string)" in text
    assert "#   d: numeric  (1 values are NaN or infinite, so it stays a string)" in text


def test_one_tables_error_does_not_stop_the_others(declared: Path, source: SourceDatabase) -> None:
    change(source, "CREATE TABLE meter (meter_id int PRIMARY KEY)", "INSERT INTO meter VALUES (1)")
    carbon("tables", "add", source.name, "meter")
    carbon("sync", source.name)
    change(
        source,
        "CREATE TABLE public.shape (edge float8 PRIMARY KEY)",
        "INSERT INTO meter VALUES (2)",
    )
    carbon("tables", "add", source.name, "shape", "--name", "a_shape")

    result = CliRunner().invoke(cli, ["sync", source.name])

    assert result.exit_code == 1
    assert "a_shape" in result.output
    assert "edge" in result.output
    assert f"{source.name}/meter: 2 rows" in result.output
