"""The sample market in the lake: certified at one state, and moved on beyond it.

What belongs here: loading, certifying and moving on, and what PostgreSQL itself says the marts of
the certified state are. What does not: building marts.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from pyiceberg.catalog import Catalog

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.demo.load import load_sample
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.lake.sync import sync_table
from carbon_pipelines.mart.project import load_marts, require_project
from carbon_pipelines.stream.drain import drain
from carbon_pipelines_tests.oracle import lake_rows, oracle

Rows = list[tuple[Any, ...]]
NAME = "market"
PROJECT = require_project({})
MARTS = load_marts(PROJECT)
SOURCES = sorted({source for mart in MARTS for source in mart.sources})

CHANGES = (
    # an hour of the day before in UTC, one without energy, and a meter that nobody knows
    """INSERT INTO emission_reading VALUES
        (1, '2025-08-31 23:59:59.999999+00', 3.5, NULL, 0, 'measured'),
        (2, '2025-09-01 02:00:01+02', 1.000001, 0.0001, 1e0 / 3, 'corrected'),
        (999999, '2025-09-02 10:20:30+00', 0.5, 0.25, 0.75, 'estimated')""",
    "UPDATE emission_reading SET co2_tonnes = co2_tonnes + 0.000001 WHERE meter_id = 3",
    "DELETE FROM emission_reading WHERE meter_id = 5 AND read_at < '2025-09-03'",
    """INSERT INTO carbon_price_tick VALUES
        ('EUA', '2025-12-31 23:59:59.999999+00', 9, 70.001, 70.002, true)""",
    """INSERT INTO fuel_price_tick VALUES
        (900001, 'gas', 'TTF', 0.0001, 'EUR', 3, '2025-09-01 00:00:00'),
        (900002, 'gas', 'TTF', 0.0002, 'EUR', 4, '2025-09-01 00:00:00')""",
    # a seller and a holder that nobody knows
    """INSERT INTO transfer (credit_id, from_id, to_id, tonnes, price, settles_on, signature)
       SELECT credit_id, 777, 1, 0.001, 0.0003, '2025-10-01', 'x' FROM credit LIMIT 1""",
    """UPDATE credit SET holder_id = 888, state = 'issued'
       WHERE credit_id = (SELECT min(credit_id::text)::uuid FROM credit)""",
    "DELETE FROM transfer WHERE transfer_id % 10 = 3",
    "UPDATE credit SET state = 'retired', tonnes = tonnes - 0.125 WHERE vintage = 2016",
)
"""Merged before the state is certified, so that its files have deletes."""
BEYOND = (
    "UPDATE emission_reading SET co2_tonnes = co2_tonnes + 1000",
    "DELETE FROM emission_reading WHERE meter_id = 1",
    "INSERT INTO carbon_price_tick VALUES ('EUA', '2026-01-01 00:00:00+00', 1, 900, 901, true)",
    "UPDATE fuel_price_tick SET price = price + 1",
    "UPDATE counterparty SET legal_name = legal_name || ' (renamed)' WHERE counterparty_id = 1",
    "INSERT INTO counterparty VALUES (5001, 'New', 1, 0, 'infinity', NULL, '{}', NULL, now())",
    "DELETE FROM credit WHERE vintage = 2017",
    "UPDATE transfer SET price = 1, settled_at = now()",
    "UPDATE meter SET facility_id = 1",
    # the certified snapshot still has it under its old name
    "ALTER TABLE facility RENAME COLUMN sector TO branch",
    "UPDATE facility SET name = 'Moved on'",
)
"""What readers of marts must not see."""


class Market:
    """The sample database, and its tables in the lake."""

    def __init__(self, stack: Stack, connection: psycopg.Connection) -> None:
        self.stack, self.connection = stack, connection
        self.database = load_catalog().database(NAME)
        self.catalog: Catalog = open_catalog(self.endpoints.lake)

    @property
    def endpoints(self) -> Endpoints:
        """Where the services are."""
        return self.stack.endpoints()

    def change(self, statements: Sequence[str]) -> None:
        """Run statements, then bring the lake up to them."""
        for statement in statements:
            self.connection.execute(statement.encode())
        drain(self.database, self.endpoints, timeout=timedelta(minutes=2))
        for _, name in SOURCES:
            sync_table(self.database.table(name), self.database, self.endpoints)

    def certify(self) -> Mapping[str, int]:
        """Set ``certified`` of every table to its newest snapshot."""
        found: dict[str, int] = {}
        for source in SOURCES:
            table = self.catalog.load_table(source)
            snapshot = table.current_snapshot()
            assert snapshot is not None
            manage = table.manage_snapshots()
            if "certified" in table.metadata.refs:
                manage = manage.remove_branch("certified")
                manage.commit()
                manage = table.refresh().manage_snapshots()
            manage.create_branch(snapshot.snapshot_id, "certified").commit()
            found[".".join(source)] = snapshot.snapshot_id
        return found

    def wanted(self) -> Mapping[str, Rows]:
        """The marts of this moment, as PostgreSQL makes them."""
        return {name: self._ask(query) for name, query in WANTED.items()}

    def wanted_beyond(self) -> Mapping[str, Rows]:
        """Those of this moment that do not show what ``BEYOND`` has renamed."""
        return {name: self._ask(WANTED[name]) for name in ("carbon_cost_exposure", "price_curve")}

    def _ask(self, query: str) -> Rows:
        return in_order(self.connection.execute(query.encode()).fetchall())

    def mart_metadata(self) -> Mapping[str, str]:
        """Where the metadata of each mart is; every commit writes it anew."""
        return {
            mart.name: self.catalog.load_table(("mart", mart.name)).metadata_location
            for mart in MARTS
        }

    def published(self) -> Mapping[str, Rows]:
        """The marts as DuckDB reads them from the lake."""
        with oracle(self.endpoints) as engine:
            return {name: read_mart(engine, self.endpoints, name) for name in WANTED}


def read_mart(engine: Any, endpoints: Endpoints, name: str) -> Rows:
    """The rows of a published mart."""
    rows = lake_rows(engine, endpoints, ("mart", name))
    return in_order(engine.execute(f"SELECT * FROM {rows}").fetchall())


def in_order(rows: Iterable[tuple[Any, ...]]) -> Rows:
    """Rows sorted by their values; a number counts, not with how many zeros it is written."""
    return sorted(rows, key=lambda row: [_order(value) for value in row])


def _order(value: object) -> tuple[bool, float, str]:
    number = float(value) if isinstance(value, int | Decimal) else 0.0
    return value is not None, number, "" if isinstance(value, int | Decimal) else str(value)


@contextmanager
def open_market(stack: Stack) -> Generator[Market]:
    """The sample, small, with some changes, in the lake; nothing of it is certified yet."""
    dsn = stack.create_source_database(NAME)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        load_sample(connection, 0.002, lambda _: None)
        market = Market(stack, connection)
        market.change(())
        market.change(CHANGES)
        yield market
        market.catalog.close()
    with psycopg.connect(stack.admin_dsn, autocommit=True) as admin:
        admin.execute(f"SELECT pg_drop_replication_slot('carbon_{NAME}')".encode())
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(NAME)))


SIDE = """
    coalesce(sum(tonnes), 0) AS tonnes,
    coalesce(sum(tonnes * price), 0) AS cost,
    coalesce(sum(tonnes) FILTER (WHERE settled_at IS NULL), 0) AS open_tonnes,
    coalesce(sum(tonnes * price) FILTER (WHERE settled_at IS NULL), 0) AS open_cost,
    count(*) FILTER (WHERE price IS NULL) AS unpriced"""
DAY = """
    count(*),
    count(*) FILTER (WHERE auction),
    (array_agg(price ORDER BY ticked_at, number))[1],
    max(price),
    min(price),
    (array_agg(price ORDER BY ticked_at DESC, number DESC))[1],
    round(avg(price), 6)"""
WANTED = {
    "emission_intensity": """
        SELECT m.facility_id, f.name, f.country::text, f.sector::text, hour, n, meters, estimated,
               corrected, co2, ch4, energy, round(co2 / nullif(energy, 0), 6)
        FROM (SELECT facility_id, hour, count(*) AS n, count(DISTINCT meter_id) AS meters,
                     count(*) FILTER (WHERE quality = 'estimated') AS estimated,
                     count(*) FILTER (WHERE quality = 'corrected') AS corrected,
                     sum(co2_tonnes) AS co2, sum(ch4_kg) AS ch4,
                     sum(round(energy_mwh::numeric, 6)) AS energy
              FROM emission_reading LEFT JOIN meter USING (meter_id)
                   CROSS JOIN LATERAL (SELECT date_trunc('hour', read_at, 'UTC') AS hour) h
              GROUP BY 1, 2) m
        LEFT JOIN facility f USING (facility_id)""",
    "carbon_cost_exposure": f"""
        SELECT p.id, c.legal_name, h.n, coalesce(h.tonnes, 0), b.tonnes, s.tonnes, b.cost, s.cost,
               b.open_tonnes, s.open_tonnes, b.open_cost, s.open_cost, b.unpriced + s.unpriced,
               b.open_cost - s.open_cost, last.mid, (b.open_tonnes - s.open_tonnes) * last.mid
        FROM (SELECT counterparty_id AS id FROM counterparty UNION SELECT from_id FROM transfer
              UNION SELECT to_id FROM transfer
              UNION SELECT holder_id FROM credit
                    WHERE state IN ('issued', 'listed', 'reserved')) p
        LEFT JOIN counterparty c ON c.counterparty_id = p.id
        CROSS JOIN LATERAL (SELECT count(*) AS n, sum(tonnes) AS tonnes FROM credit
                            WHERE holder_id = p.id AND state NOT IN ('retired', 'cancelled')) h
        CROSS JOIN LATERAL (SELECT {SIDE} FROM transfer WHERE to_id = p.id) b
        CROSS JOIN LATERAL (SELECT {SIDE} FROM transfer WHERE from_id = p.id) s
        CROSS JOIN (SELECT (bid + ask) / 2.0 AS mid FROM carbon_price_tick WHERE instrument = 'EUA'
                    ORDER BY (ticked_at, sequence) DESC LIMIT 1) last""",
    "credit_inventory": """
        SELECT vintage::int, country::text, sector::text, state::text, count(*),
               count(DISTINCT holder_id), sum(tonnes)
        FROM credit JOIN facility USING (facility_id) GROUP BY 1, 2, 3, 4""",
    "price_curve": f"""
        SELECT 'carbon', instrument::text, NULL, NULL, day, {DAY}, NULL, NULL
        FROM carbon_price_tick,
             LATERAL (SELECT (bid + ask) / 2.0 AS price, sequence AS number, is_auction AS auction,
                             (ticked_at AT TIME ZONE 'UTC')::date AS day) tick
        GROUP BY instrument, day
        UNION ALL
        SELECT 'fuel', fuel::text, hub, currency::text, day, {DAY},
               sum(volume)::bigint, round(sum(price * volume) / sum(volume), 6)
        FROM fuel_price_tick,
             LATERAL (SELECT tick_id AS number, false AS auction, ticked_at::date AS day) tick
        GROUP BY fuel, hub, currency, day""",
}
"""Each mart as a query on the source, written apart from the model."""
