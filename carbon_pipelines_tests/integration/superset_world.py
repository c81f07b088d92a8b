"""A real Superset over the sample market: loaded, certified, built into marts, and served.

What belongs here: the world that tests of Superset begin with, and reading it as a viewer does.
What does not: tests.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql

from carbon_pipelines.demo.load import load_sample
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.lake.sync import sync_table
from carbon_pipelines.mart.build import build_marts
from carbon_pipelines.quality.certification import certify_table
from carbon_pipelines.quality.lake_scores import open_scores
from carbon_pipelines.serving.superset_charts import ask_chart
from carbon_pipelines.serving.superset_code import (
    CodeObject,
    DashboardCode,
    dashboards_directory,
    load_dashboards,
)
from carbon_pipelines.serving.superset_http import SupersetApi
from carbon_pipelines.serving.superset_serve import Lake, ServedDashboard, serve_dashboard
from carbon_pipelines.serving.superset_settings import SupersetSettings, load_superset_settings
from carbon_pipelines.stream.drain import drain
from carbon_pipelines_tests.integration.mart_market import MARTS, NAME, PROJECT, SOURCES, Market


class World:
    """The market, and a Superset that shows its marts."""

    def __init__(self, stack: Stack, market: Market) -> None:
        self.stack, self.market = stack, market
        [self.code] = load_dashboards(dashboards_directory({}))
        found = load_superset_settings({"CARBON_HOME": str(stack.home)})
        assert found is not None
        self.settings: SupersetSettings = found
        self.api = SupersetApi(found)

    @property
    def lake(self) -> Lake:
        """Where marts are."""
        trino = self.market.endpoints.trino
        return Lake(self.market.catalog, trino, MARTS, {"team:registry": "registry@example.org"})

    def change(self, name: str, *statements: str) -> None:
        """Change a table of the source, and bring the lake's main up to it."""
        for statement in statements:
            self.market.connection.execute(statement.encode())
        database, endpoints = self.market.database, self.market.endpoints
        drain(database, endpoints, timeout=timedelta(minutes=2))
        sync_table(database.table(name), database, endpoints)

    def certify(self, *names: str) -> None:
        """Compare, score and certify tables as ``carbon certify`` does."""
        database, endpoints = self.market.database, self.market.endpoints
        with open_scores(endpoints.lake) as scores:
            for name in names:
                table = database.table(name)
                done = certify_table(table, database, endpoints, scores, by="tests", full=False)
                assert done.is_certified, done.sentence()

    def build(self, *names: str) -> Mapping[str, bool]:
        """Build marts; whether each one changed."""
        chosen = [mart for mart in MARTS if not names or mart.name in names]
        endpoints = self.market.endpoints
        built = build_marts(chosen, endpoints, target="embedded", project=PROJECT)
        assert [str(mart.error) for mart in built if mart.error is not None] == []
        return {mart.name: mart.changed for mart in built}

    def serve(self, code: DashboardCode | None = None) -> ServedDashboard:
        """Bring the dashboard, and read it back."""
        return serve_dashboard(self.api, code or self.code, self.lake)

    def chart(self, title: str) -> CodeObject:
        """A chart's file."""
        return next(chart for chart in self.code.charts if chart.title == title)

    def shown(self, title: str, api: SupersetApi | None = None) -> Sequence[Mapping[str, Any]]:
        """What a viewer of a chart gets."""
        return ask_chart(api or self.api, self.chart(title), force=False).rows

    def everything(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """What a viewer of the dashboard gets."""
        return {chart.title: self.shown(chart.title) for chart in self.code.charts}

    def ask(self, query: str) -> Any:
        """The one value of a query on the source."""
        found = self.market.connection.execute(query.encode()).fetchone()
        assert found is not None
        return found[0]


@contextmanager
def open_world(stack: Stack) -> Generator[World]:
    """The sample, small, certified and built; nothing is in Superset yet."""
    stack.up(lambda _: None, with_=frozenset({"superset"}))
    dsn = stack.create_source_database(NAME)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        load_sample(connection, 0.002, lambda _: None)
        market = Market(stack, connection)
        market.change(())
        world = World(stack, market)
        world.certify(*(name for _, name in SOURCES))
        world.build()
        yield world
        market.catalog.close()
    with psycopg.connect(stack.admin_dsn, autocommit=True) as admin:
        admin.execute(f"SELECT pg_drop_replication_slot('carbon_{NAME}')".encode())
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(NAME)))
