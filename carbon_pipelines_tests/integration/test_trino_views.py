"""What people see in Trino is what was certified, read back from Trino itself."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from click.testing import CliRunner
from trino.dbapi import Cursor
from trino.exceptions import TrinoUserError

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.cli import cli
from carbon_pipelines.defs.automation.in_time import CHECK, in_time_sensor, subjects_of
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.embedded.endpoints import source_variable
from carbon_pipelines.errors import (
    NotCertifiedError,
    ServiceUnavailableError,
    StatementRefusedError,
)
from carbon_pipelines.lake.reached import VISIBLE, read_reached
from carbon_pipelines.serving.freshness import Freshness
from carbon_pipelines.serving.freshness_reading import Asked, read_freshness
from carbon_pipelines.serving.trino_serving import ServedRelation, TrinoServing
from carbon_pipelines.serving.trino_view import view_of
from carbon_pipelines_tests.integration.certified_shop import (
    NAME,
    ROWS,
    certify,
    copy_readings,
    declared,
)
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = [pytest.mark.integration, pytest.mark.trino]

Rows = list[tuple]
CHANGES = (
    f"UPDATE {NAME} SET mw = mw + 1000 WHERE id <= 5",
    f"DELETE FROM {NAME} WHERE id = 7",
    f"INSERT INTO {NAME} VALUES (1001, 'it''s \"new\" é', NULL, '1960-01-01 00:00:00.000001+00')",
)


class Shop:
    """The table, Trino over it, and the source that says what is right."""

    def __init__(self, pipeline: Pipeline, trino: Cursor) -> None:
        self.pipeline, self.trino = pipeline, trino
        self.view = f'lake.certified_{pipeline.name}."{NAME}"'

    @property
    def serving(self) -> TrinoServing:
        endpoints = self.pipeline.stack.endpoints()
        return TrinoServing(endpoints.trino, endpoints.lake)

    def serve(self, *, full: bool = False) -> ServedRelation:
        view = view_of(self.pipeline.tables[NAME])
        return self.serving.serve(self.pipeline.catalog, view, full=full)

    def seen(self, columns: str = "*") -> Rows:
        """What people who query the view see."""
        rows = self.trino.execute(f"SELECT {columns} FROM {self.view} ORDER BY id").fetchall()
        return [tuple(row) for row in rows]

    def wanted(self, columns: str = "*") -> Rows:
        """What the source has now."""
        with psycopg.connect(self.pipeline.dsn) as connection:
            query = f"SELECT {columns} FROM {NAME} ORDER BY id"
            return connection.execute(query.encode()).fetchall()

    def move_on(self, *statements: str) -> None:
        """Change the source, and bring ``main`` up to it."""
        self.pipeline.execute(*statements)
        self.pipeline.follow(NAME)


@pytest.fixture
def shop(pipeline: Pipeline, trino: Cursor) -> Iterator[Shop]:
    copy_readings(pipeline)
    made = Shop(pipeline, trino)
    yield made
    trino.execute(f"DROP VIEW IF EXISTS {made.view}").fetchall()


def test_people_see_what_was_certified_though_main_moves_on_and_then_what_is_certified_next(
    shop: Shop,
) -> None:
    with pytest.raises(NotCertifiedError):
        shop.serve()
    first = certify(shop.pipeline)
    wanted = shop.wanted()
    served = shop.serve()
    assert (served.changed, served.snapshot_id) == (True, first.scored.snapshot_id)
    assert (served.rows.rows, served.left_out, len(served.summed)) == (ROWS, (), 4)
    assert served.cost.statements >= 4
    assert served.cost.rows >= ROWS
    assert shop.seen() == wanted

    shop.move_on(*CHANGES)

    assert shop.wanted() != wanted == shop.seen()
    again, in_full = shop.serve(), shop.serve(full=True)
    assert again.changed == in_full.changed is False
    for one in (again, in_full):
        assert (one.rows, one.summed, one.visible) == (served.rows, served.summed, served.visible)

    certify(shop.pipeline)

    assert shop.seen() == shop.wanted()  # nobody touched the view
    after = shop.serve()
    assert (after.changed, after.rows.rows) == (False, ROWS)
    assert after.rows != served.rows
    known = read_reached(shop.pipeline.iceberg(NAME).metadata, VISIBLE + "trino", NAME)
    assert known == after.visible
    [place] = after.visible.sources.values()
    assert place.position == str(shop.pipeline.progress(NAME).position)
    assert shop.pipeline.differences(NAME) == 0


def test_a_view_follows_columns_that_are_renamed_added_and_widened(shop: Shop) -> None:
    certify(shop.pipeline)
    shop.serve()
    shop.move_on(
        f"ALTER TABLE {NAME} RENAME COLUMN name TO title",
        f"ALTER TABLE {NAME} ADD COLUMN \"Note ''x\" text DEFAULT 'none'",
        f"ALTER TABLE {NAME} ALTER COLUMN mw TYPE numeric(12,3)",
        *(statement.replace("VALUES (1001", "VALUES (1002") for statement in CHANGES),
    )
    assert len(shop.seen("name")) == ROWS

    certify(shop.pipeline)

    with pytest.raises(TrinoUserError, match="name"):
        shop.seen()
    served = shop.serve()
    assert served.changed
    assert len(served.summed) == 5
    assert shop.seen() == shop.wanted()
    assert not shop.serve().changed


def test_a_column_that_trino_cannot_read_is_left_out_until_it_can(shop: Shop) -> None:
    shop.move_on(f"UPDATE {NAME} SET at = 'infinity' WHERE id = 3")
    certify(shop.pipeline)
    served = shop.serve()
    assert served.left_out == ("at",)
    assert "without at" in served.sentence()
    assert shop.seen() == shop.wanted("id, name, mw")

    shop.move_on(f"UPDATE {NAME} SET at = now() WHERE id = 3")
    certify(shop.pipeline)
    assert shop.serve().left_out == ()
    assert shop.seen() == shop.wanted()


def test_a_view_that_somebody_changed_is_put_right_and_what_is_in_its_place_is_told(
    shop: Shop,
) -> None:
    certify(shop.pipeline)
    shop.serve()
    inner = f"lake.{shop.pipeline.name}.{NAME}"
    shop.trino.execute(
        f"CREATE OR REPLACE VIEW {shop.view} AS SELECT id, name, mw, at FROM {inner} WHERE id < 9"
    ).fetchall()
    assert shop.serve().changed
    assert shop.seen() == shop.wanted()

    shop.trino.execute(f"DROP VIEW {shop.view}").fetchall()
    shop.trino.execute(f"CREATE TABLE {shop.view} AS SELECT 1 AS id").fetchall()
    try:
        with pytest.raises(StatementRefusedError, match="Trino at http"):
            shop.serve()
    finally:
        shop.trino.execute(f"DROP TABLE {shop.view}").fetchall()
    serving = shop.serving
    away = replace(serving, trino=replace(serving.trino, port=1))
    with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:1"):
        away.serve(shop.pipeline.catalog, view_of(shop.pipeline.tables[NAME]))


def test_it_is_known_which_stage_holds_a_change_up_and_people_are_told(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = shop.pipeline
    catalog = declared(pipeline, tmp_path)
    monkeypatch.setenv("CARBON_HOME", str(pipeline.stack.home))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path / "catalog"))
    monkeypatch.setenv(source_variable(pipeline.name), pipeline.dsn)
    certify(pipeline)
    key = dg.AssetKey(["serving", "trino", pipeline.name, NAME])
    definitions = build_definitions({"CARBON_CATALOG_DIR": str(tmp_path / "catalog")})
    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, asset_selection=[key])
    [event] = result.get_asset_materialization_events()
    told = {name: value.value for name, value in event.materialization.metadata.items()}
    assert told["dagster/table_name"] == f"lake.certified_{pipeline.name}.{NAME}"
    assert (told["dagster/row_count"], told["carbon/left_out"]) == (ROWS, [])
    [check] = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == (CHECK, True)

    [fresh] = read(shop, catalog)
    assert [stage.name for stage in fresh.stages] == ["captured", "merged", "certified", "trino"]
    assert all((stage.behind_seconds or 0.0) < 60 for stage in fresh.stages)

    shop.move_on(f"UPDATE {NAME} SET mw = 1 WHERE id = 1")
    [stalled] = read(shop, catalog)
    captured, merged, certified, trino = stalled.stages
    assert merged.behind_seconds == captured.behind_seconds
    assert (certified.behind_seconds or 0.0) > (merged.behind_seconds or 0.0) >= 0
    assert trino.behind_seconds == certified.behind_seconds
    assert merged.committed_at is not None
    assert merged.since is not None
    assert certified.committed_at != merged.committed_at
    assert timedelta(0) < merged.since - merged.committed_at < timedelta(minutes=1)

    shown = CliRunner().invoke(cli, ["freshness", f"{pipeline.name}.{NAME}"])
    assert shown.exit_code == 0, shown.output
    assert "at most" in shown.output
    assert "  trino      " in shown.output

    with dg.DagsterInstance.ephemeral() as instance:
        first = look(instance, catalog, None)
        assert [(one.asset_key, one.passed) for one in first.asset_events] == [(key, True)]
        assert look(instance, catalog, first.cursor).asset_events == []

        promise = timedelta(seconds=certified.behind_seconds or 0.0)
        [database] = catalog.databases
        strict = database.model_copy(update={"visible_within": promise})
        pipeline.drain()
        found = look(instance, replace(catalog, databases=(strict,)), first.cursor)
    [late] = found.asset_events
    assert isinstance(late, dg.AssetCheckEvaluation)
    assert not late.passed
    assert late.metadata["carbon/held_by"].value == "certified"
    assert 'held up by stage "certified"' in str(late.description)


def look(instance: dg.DagsterInstance, catalog: Catalog, cursor: str | None) -> dg.SensorResult:
    """One evaluation of the sensor."""
    sensor = in_time_sensor(catalog, subjects_of(catalog, ()), running=True)
    resources = {"endpoints": EndpointsResource()}
    context = dg.build_sensor_context(instance=instance, resources=resources, cursor=cursor)
    found = sensor(context)
    assert isinstance(found, dg.SensorResult)
    return found


def read(shop: Shop, catalog: Catalog) -> tuple[Freshness, ...]:
    asked = Asked(tables=catalog.tables)
    return read_freshness(catalog, asked, shop.pipeline.endpoints)
