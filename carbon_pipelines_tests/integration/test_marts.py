"""Marts on the embedded stack: DuckDB builds them from what is certified, and nothing else."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from carbon_pipelines.cli import cli
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.keys import mart_key
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import MartTestsFailedError, NotCertifiedError
from carbon_pipelines.mart.build import build_marts
from carbon_pipelines.mart.compiled import load_compiled
from carbon_pipelines.serving.datahub.picture import read_graph, told_lines
from carbon_pipelines_tests.integration.mart_market import (
    BEYOND,
    MARTS,
    PROJECT,
    Market,
    Rows,
    open_market,
)
from carbon_pipelines_tests.mart.compiled_models import sample_models, write_models
from carbon_pipelines_tests.serving.datahub.sink import running_sink
from carbon_pipelines_tests.serving.datahub.test_picture import LINES

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def market(stack: Stack) -> Iterator[Market]:
    with open_market(stack) as market:
        yield market


@pytest.fixture(scope="module")
def certified(market: Market) -> tuple[Mapping[str, int], Mapping[str, Rows]]:
    """Snapshots and marts of the certified state; ``main`` has moved on."""
    with pytest.raises(NotCertifiedError, match="carbon certify market/carbon_price_tick"):
        build_marts(MARTS, market.endpoints, target="embedded", project=PROJECT)
    snapshots, wanted = market.certify(), market.wanted()
    market.change(BEYOND)
    assert all(wanted[name] != now for name, now in market.wanted_beyond().items())
    return snapshots, wanted


@pytest.fixture(scope="module")
def materialized(
    market: Market, certified: tuple[Mapping[str, int], Mapping[str, Rows]]
) -> dg.ExecuteInProcessResult:
    """All marts, built by Dagster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARBON_HOME", str(market.stack.home))
        job = build_definitions({}).resolve_implicit_global_asset_job_def()
        return job.execute_in_process(asset_selection=[mart_key(mart.name) for mart in MARTS])


def test_marts_hold_what_the_certified_state_says_and_nothing_of_main(
    market: Market,
    certified: tuple[Mapping[str, int], Mapping[str, Rows]],
    materialized: dg.ExecuteInProcessResult,
) -> None:
    snapshots, wanted = certified
    published = market.published()

    assert {name: len(rows) > 5 for name, rows in wanted.items()} == dict.fromkeys(wanted, True)
    assert published == wanted
    for event in materialized.get_asset_materialization_events():
        mart = next(one for one in MARTS if mart_key(one.name) == event.asset_key)
        told = {name: value.value for name, value in event.materialization.metadata.items()}
        assert told["dagster/row_count"] == len(wanted[mart.name])
        assert told["carbon/certified"] == {
            ".".join(source): str(snapshots[".".join(source)]) for source in mart.sources
        }
        assert [column.name for column in told["dagster/column_schema"].columns] == list(
            mart.columns
        )
    checks = materialized.get_asset_check_evaluations()
    assert {check.check_name for check in checks} == {t.name for m in MARTS for t in m.tests}
    warned = [check.check_name for check in checks if not check.passed]
    assert warned == ["emission_intensity_knows_the_facility"]


def test_datahub_is_told_the_lineage_that_was_reviewed_and_nothing_twice(
    market: Market,
    materialized: dg.ExecuteInProcessResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From a real PostgreSQL, lake and dbt; ``facility.sector`` is called ``branch`` by now."""
    monkeypatch.setenv("CARBON_HOME", str(market.stack.home))
    monkeypatch.setenv("CARBON_CACHE_DIR", str(tmp_path))

    def told(command: str, *options: str) -> str:
        result = CliRunner().invoke(cli, ["datahub", command, *options])
        assert result.exit_code == 0, result.output
        return result.output

    with running_sink() as sink:
        monkeypatch.setenv("CARBON_DATAHUB_URL", sink.url)
        planned = told("plan")
        before = len(sink.proposals)
        first, second = told("emit"), told("emit")
        lines = told_lines(read_graph(sink.proposals))

    assert "market:" in planned
    assert "tell 4 x dataProcessInstanceProperties of dataProcessInstance" in planned
    assert (before, "0 aspects and 0 events told" in first) == (0, False)
    assert second.count("0 aspects and 0 events told") == 2
    assert {_before_renaming(line) for line in lines} == {
        line
        for line in LINES.read_text(encoding="utf-8").splitlines()
        if not re.search(r"trino|doris|-> iceberg market\.(audit_log|credit_state_change)", line)
    }
    assert set(told("draw", "--lines").splitlines()) == set(lines)
    if os.environ.get("CARBON_UPDATE_SNAPSHOT") == "1":
        write_models(load_compiled(PROJECT, tmp_path))
    assert sample_models() == load_compiled(PROJECT, tmp_path)


def _before_renaming(line: str) -> str:
    return re.sub(r"(facility (?:after\.|before\.)?)branch\b", r"\1sector", line)


def test_what_fails_a_test_is_not_published_and_what_is_the_same_is_no_commit(
    market: Market, materialized: dg.ExecuteInProcessResult, tmp_path: Path
) -> None:
    project = Path(shutil.copytree(PROJECT, tmp_path / "dbt"))
    model = project / "models" / "marts" / "credit_inventory.sql"
    model.write_text(model.read_text().replace("count(*) as credits", "1 + count(*) as credits"))
    before, rows = market.mart_metadata(), market.published()

    built = build_marts(MARTS, market.endpoints, target="embedded", project=project)

    failed = {mart.name: mart.error for mart in built if mart.error is not None}
    assert set(failed) == {"credit_inventory"}
    assert isinstance(failed["credit_inventory"], MartTestsFailedError)
    assert set(failed["credit_inventory"].failed) == {"every_credit_is_in_the_inventory"}
    assert [mart.name for mart in built if mart.changed] == []
    assert market.mart_metadata() == before
    assert market.published() == rows


def test_marts_follow_what_is_certified_and_one_that_cannot_stays_as_it_was(
    market: Market,
    certified: tuple[Mapping[str, int], Mapping[str, Rows]],
    materialized: dg.ExecuteInProcessResult,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The certified snapshot of ``facility`` has a column under another name now."""
    _, before = certified
    market.certify()
    monkeypatch.setenv("CARBON_HOME", str(market.stack.home))

    result = CliRunner().invoke(cli, ["marts", "build"])

    assert result.exit_code == 1, result.output
    for name in ("credit_inventory", "emission_intensity"):
        assert f"mart/{name} was not built" in result.output
    assert "sector" in result.output
    published, now = market.published(), market.wanted_beyond()
    assert published == {**before, **now}
    assert {name for name in now if now[name] != before[name]} == set(now)
