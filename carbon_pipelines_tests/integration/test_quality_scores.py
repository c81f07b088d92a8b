"""``carbon quality`` over a real stack: the demo's market is good, and damage is found and kept."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from click.testing import CliRunner
from trino.dbapi import Cursor

from carbon_pipelines.catalog.load import PACKAGED
from carbon_pipelines.cli import cli
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.demo.load import load_sample
from carbon_pipelines.embedded.endpoints import source_variable
from carbon_pipelines.quality.lake_scan import open_engine
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration

TABLES = ("facility", "meter", "carbon_price_tick", "counterparty", "credit")
Run = Callable[..., str]


@pytest.fixture
def run(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command over a small market, whose declarations are the packaged ones."""
    with psycopg.connect(pipeline.dsn, autocommit=True) as connection:
        load_sample(connection, 0.002, lambda _: None)
    directory = tmp_path / pipeline.name
    directory.mkdir()
    for name in ("_database", *TABLES):
        shutil.copy(PACKAGED / "market" / f"{name}.yaml", directory)
    monkeypatch.setenv("CARBON_HOME", str(pipeline.stack.home))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path))
    monkeypatch.setenv(source_variable(pipeline.name), pipeline.dsn)

    def ran(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    return ran


def test_a_good_market_passes_and_damage_is_scored_explained_and_kept_once(
    pipeline: Pipeline, run: Run
) -> None:
    run("sync")
    good = scores(run("quality", "--json", "--keep"))
    assert {label: facts["passes"] for label, facts in good.items()} == {
        f"{pipeline.name}/{name}": True for name in TABLES
    }
    assert good[f"{pipeline.name}/facility"]["score"] == 100

    pipeline.execute(
        "UPDATE facility SET latitude = 200 WHERE facility_id = 3",
        "UPDATE carbon_price_tick SET bid = ask + 1 WHERE instrument = 'UKA'",
        "UPDATE counterparty SET legal_name = 'The same', rating = 11 WHERE counterparty_id < 3",
    )
    run("sync")
    page = run("quality", "--keep", code=1)
    told = scores(run("quality", "--json", "--keep", code=1))

    assert f"# {pipeline.name}/facility: 98 of 100, threshold 90: passed" in page
    assert "between(latitude): 1 of 8 rows are outside -90 to 90 (12 %)" in page
    assert "| 3           | 200.0    |" in page
    counterparty = f"{pipeline.name}/counterparty"
    assert told[counterparty]["score"] < 90
    assert [
        (one["label"], one["unexpected_rows"], one["sample"][0])
        for one in told[counterparty]["expectations"]
        if one["status"] == "failed"
    ] == [
        ("unique(legal_name)", 2, {"legal_name": "The same", "(rows)": "2"}),
        ("between(rating)", 2, {"counterparty_id": "1", "rating": "(confidential)"}),
    ]

    kept = lake_rows(pipeline, "score", "table_name, snapshot_id, score, passes")
    expected = [
        (label, facts["snapshot_id"], round(facts["score"], 6), facts["passes"])
        for found in (good, {name: told[name] for name in told if told[name] != good[name]})
        for label, facts in found.items()
    ]
    assert sorted(kept) == sorted(set(expected))
    rows = lake_rows(pipeline, "violation", "expectation, row", f"table_name = '{counterparty}'")
    assert ("between(rating)", '{"counterparty_id": "2", "rating": "(confidential)"}') in rows


@pytest.mark.trino
def test_trino_counts_what_our_pass_counts(pipeline: Pipeline, run: Run, trino: Cursor) -> None:
    pipeline.execute(
        "ALTER TABLE meter DROP CONSTRAINT meter_facility_id_fkey",
        "ALTER TABLE facility ALTER name DROP NOT NULL",
        "UPDATE facility SET latitude = 'NaN', name = NULL WHERE facility_id IN (2, 3)",
        "UPDATE meter SET facility_id = 4711 WHERE meter_id < 4",
        "UPDATE counterparty SET legal_name = 'The same', rating = 11 WHERE counterparty_id < 3",
        "UPDATE carbon_price_tick SET bid = ask + 1 WHERE instrument = 'UKA'",
        "UPDATE credit SET vintage = 1990 WHERE tonnes > 500",
    )
    run("sync")

    ours = scores(run("quality", "--json", code=1))
    theirs = scores(run("quality", "--json", "--runner", "trino", code=1))

    failed = {
        one["label"]
        for facts in theirs.values()
        for one in facts["expectations"]
        if one["unexpected_rows"]
    }
    assert failed >= {
        "not_null(name)",
        "between(latitude)",
        "references(facility_id)",
        "unique(legal_name)",
        "between(vintage)",
        "bid_below_ask",
    }
    assert theirs == ours
    counted = trino.execute(
        "SELECT count(*) FROM system.runtime.queries WHERE source = 'carbon_pipelines'"
        f" AND state = 'FINISHED' AND query LIKE '%{pipeline.name}%'"
    ).fetchall()
    assert counted[0][0] >= 2 * len(TABLES)


def test_a_failed_gate_blocks_what_reads_that_table_and_nothing_else(
    pipeline: Pipeline, run: Run
) -> None:
    pipeline.execute(
        "UPDATE carbon_price_tick SET bid = ask + 1 WHERE instrument = 'UKA'",
        "ALTER TABLE credit RENAME COLUMN tonnes TO amount",
    )
    run("sync")
    looked_at = ("facility", "carbon_price_tick", "credit")

    readers = [reader(pipeline.name, name) for name in looked_at]
    definitions = dg.Definitions.merge(
        build_definitions(os.environ), dg.Definitions(assets=readers)
    )
    selected = [
        dg.AssetKey([stage, pipeline.name, name])
        for stage in ("quality", "mart")
        for name in looked_at
    ]
    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            instance=instance, asset_selection=selected, raise_on_error=False
        )

    events = result.get_asset_materialization_events()
    made = {"/".join(event.asset_key.path[::2]): event.materialization for event in events}
    assert not result.success
    assert sorted(made) == ["mart/facility", "quality/carbon_price_tick", "quality/facility"]
    metadata = made["quality/carbon_price_tick"].metadata
    assert metadata["carbon/score"].value == 83.9
    assert metadata["carbon/consistency"].value == 52.5
    page = " ".join(str(metadata["carbon/scorecard"].value).split())
    assert "| -11.3 | consistency | bid_below_ask: 55 of 220 rows do not meet" in page
    checks = {
        evaluation.asset_key.path[-1]: (evaluation.passed, evaluation.description or "")
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.check_name == "passes"
    }
    assert {name: passed for name, (passed, _) in checks.items()} == {
        "facility": True,
        "carbon_price_tick": False,
        "credit": False,
    }
    assert f"{pipeline.name}/credit was not scored: " in checks["credit"][1]
    assert (
        'credit.yaml:10: not_null(tonnes): the lake\'s table has no column "tonnes"'
        in (checks["credit"][1])
    )


def reader(database: str, name: str) -> dg.AssetsDefinition:
    """What reads a table that has passed its gate."""

    @dg.asset(
        key=dg.AssetKey(["mart", database, name]), deps=[dg.AssetKey(["quality", database, name])]
    )
    def read() -> None:
        pass

    return read


def test_a_source_proposes_what_it_promises(pipeline: Pipeline, run: Run, tmp_path: Path) -> None:
    pipeline.execute(
        "ALTER TABLE meter ADD CHECK (precision_class < 5 OR precision_class IS NULL) NOT VALID",
        "ALTER TABLE credit ADD CHECK (tonnes >= 0), ADD CHECK (vintage::text ~ '^2')",
    )
    path = tmp_path / pipeline.name / "credit.yaml"
    label = f"{pipeline.name}/credit"
    assert "already exists" in run("tables", "expect", label, "--write", code=1)
    declared, _, _ = path.read_text().partition("expectations:")
    path.write_text(declared)

    shown = run("tables", "expect", label)

    assert path.read_text() == declared
    for line in (
        "  - {kind: not_null, column: vintage, severity: critical}",
        "  - {kind: unique, columns: [credit_id], severity: critical}",
        "  - {kind: references, columns: [facility_id], table: facility}",
        "  - {kind: in_set, column: state, values: [issued, listed, reserved, retired, cancelled]}",
        "# no expectation can say CHECK credit_vintage_check: ((vintage)::text ~ '^2'::text)",
        "# seen, and no promise of the source: - {kind: between, column: vintage, min: ",
    ):
        assert line in shown
    assert "column: holder_id, min" not in shown

    run("tables", "expect", label, "--write")
    run("sync")
    facts = scores(run("quality", label, "--json"))[label]
    assert facts["score"] == 100
    assert "credit_tonnes_check" in {one["label"] for one in facts["expectations"]}


def scores(output: str) -> dict[str, dict[str, Any]]:
    """Each table's facts, without what changes from look to look."""
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {
        one["table"]: {name: value for name, value in one.items() if name != "scored_at"}
        for one in found
    }


def lake_rows(pipeline: Pipeline, name: str, columns: str, where: str = "true") -> list[Any]:
    """Rows of a table of scores about this pipeline, read by DuckDB."""
    location = pipeline.catalog.load_table(("quality", name)).metadata_location
    lake = pipeline.endpoints.lake
    with open_engine(lake, memory_bytes=100_000_000, threads=1) as engine:
        return engine.execute(
            f"SELECT {columns} FROM iceberg_scan('{location}') "
            f"WHERE table_name LIKE '{pipeline.name}/%' AND {where}"
        ).fetchall()
