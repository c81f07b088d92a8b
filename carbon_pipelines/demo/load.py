"""Filling the sample database: the same rows every time, made by PostgreSQL itself.

What belongs here: creating the schema (``schema.sql``) and running the set-based statements that
fill it (``fill.sql``). What does not: later changes (``workload.py``). Rows come from hashes of
numbers of ``generate_series``: nothing is random and only statements cross the connection.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

_HERE = Path(__file__).parent
READINGS_PER_METER = 240
"""Ten days of hourly readings."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows each table gets; at scale 1 about a million in all."""

    facilities: int
    meters: int
    fuel_ticks: int
    carbon_ticks: int
    counterparties: int
    credits: int
    transfers: int
    audit_entries: int

    @classmethod
    def at_scale(cls, scale: float) -> "Sizes":
        """Sizes for ``scale`` million rows; every table keeps at least a few."""

        def rows(at_one: int) -> int:
            return max(int(at_one * scale), 8)

        return cls(
            facilities=rows(400),
            meters=rows(2_500),
            fuel_ticks=rows(120_000),
            carbon_ticks=rows(110_000),
            counterparties=rows(2_000),
            credits=rows(40_000),
            transfers=rows(40_000),
            audit_entries=rows(20_000),
        )


def is_loaded(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Whether the sample is there; its tables are filled in the transaction that makes them."""
    found = connection.execute("SELECT to_regclass('public.audit_log') IS NOT NULL").fetchone()
    return found is not None and bool(found[0])


def load_sample(
    connection: psycopg.Connection[tuple[object, ...]], scale: float, report: Callable[[str], None]
) -> int:
    """Create and fill every table in one transaction; returns the rows loaded.

    Args:
        connection: To an empty database, in autocommit.
        scale: Million rows, roughly.
        report: Told about each table.
    """
    sizes = Sizes.at_scale(scale)
    total = 0
    with connection.transaction():
        connection.execute("SET LOCAL TimeZone = 'UTC'")
        connection.execute((_HERE / "schema.sql").read_bytes())
        for table, statement in fill_statements(sizes).items():
            rows = connection.execute(statement).rowcount
            total += rows
            report(f"loaded {rows:,} rows into {table}")
    connection.execute("ANALYZE")
    return total


def fill_statements(sizes: Sizes) -> dict[str, sql.Composed]:
    """One INSERT for each table, in an order that foreign keys allow."""
    numbers = {name: sql.Literal(getattr(sizes, name)) for name in Sizes.__slots__}
    numbers["readings"] = sql.Literal(READINGS_PER_METER)
    _, *sections = (_HERE / "fill.sql").read_text("utf-8").split("-- rows of ")
    named = (section.partition("\n") for section in sections)
    return {
        table.strip(): sql.SQL(text).format(**numbers)  # pyright: ignore[reportArgumentType]
        for table, _, text in named
    }
