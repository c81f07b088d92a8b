"""Writing declarations for tests, as a person would."""

from pathlib import Path

PRICE_TICK = """\
source_table: price_tick
key: [instrument_id, traded_at]
partitioning:
  - {column: traded_at, transform: day}
freshness: 15m
description: Trades as they are reported.
columns:
  price: {type: "decimal(18,4)"}
  trader: {classification: confidential}
  tax_id: {classification: restricted, protect: drop}
"""


def declare(root: Path, database: str, **tables: str) -> Path:
    """Write a database's directory with one file per table; returns ``root``."""
    directory = root / database
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "_database.yaml").write_text("owner: team:market-data\n", encoding="utf-8")
    for name, text in tables.items():
        (directory / f"{name}.yaml").write_text(text, encoding="utf-8")
    return root


def minimal(table: str, *, freshness: str = "15m") -> str:
    """The shortest declaration of a keyed table."""
    return f"source_table: {table}\nkey: [id]\nfreshness: {freshness}\ndescription: Rows.\n"
