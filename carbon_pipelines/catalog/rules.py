"""The rules between the fields of one table's declaration.

What belongs here: every rule that needs more than one field, with the path of the field to change.
What does not: the fields and the values that each may take (``table.py``).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from carbon_pipelines.catalog.expectation_rules import expectation_contradictions

if TYPE_CHECKING:
    from carbon_pipelines.catalog.table import TableSpec

RESERVED_SCHEMAS = frozenset({"carbon", "information_schema", "pg_catalog", "pg_toast"})
RESERVED_TABLES = frozenset({"carbon_dead_letters"})
HISTORY_COLUMNS = tuple(
    f"carbon_valid_{side}{part}" for side in ("from", "to") for part in ("", "_lsn", "_ordinal")
)
"""Columns that ``mode: history`` adds in the lake."""


class Contradiction(NamedTuple):
    """Two fields that cannot both hold; ``at`` is the path of the one to change."""

    at: tuple[str | int, ...]
    reason: str


def contradictions(table: "TableSpec") -> Iterator[Contradiction]:
    """Every rule that needs more than one field."""
    if table.source_schema in RESERVED_SCHEMAS:
        reason = f"schema {table.source_schema} belongs to the system and cannot be captured"
        yield Contradiction(("source_schema",), reason)
    if table.name in RESERVED_TABLES:
        reason = f'"{table.name}" is the name of a table of our own; give it another "name"'
        yield Contradiction(("name",), reason)
    yield from _key_contradictions(table)
    if table.debezium is not None and not table.key:
        reason = (
            "tables without a key are not captured by a Debezium connector here; "
            'give the table a key, or its database "capture: native"'
        )
        yield Contradiction(("mode",), reason)
    fields = (("partitioning", table.partitioning), ("sort_order", table.sort_order))
    for place, declared in fields:
        for index, field in enumerate(declared):
            if field.column in table.dropped_columns:
                reason = (
                    f'column "{field.column}" is dropped before it reaches the lake; '
                    f'remove it here or remove its "protect: drop"'
                )
                yield Contradiction((place, index, "column"), reason)
            if field in declared[:index]:
                yield Contradiction((place, index), f'repeats column "{field.column}"')
    if table.is_history:
        yield from _history_contradictions(table)
    if table.on_rewrite == "park" and "recopies_per_hour" in table.model_fields_set:
        reason = 'counts copies that "on_rewrite: park" never makes; remove one of the two'
        yield Contradiction(("recopies_per_hour",), reason)
    for name, column in table.columns.items():
        if column.protect == "drop" and column.type is not None:
            reason = f'column "{name}" is dropped, so its type is never used; remove one of the two'
            yield Contradiction(("columns", name, "type"), reason)
    for at, reason in expectation_contradictions(table):
        yield Contradiction(at, reason)


def _key_contradictions(table: "TableSpec") -> Iterator[Contradiction]:
    if table.is_history and not table.key:
        reason = "a history is that of the rows of a key; name its columns, like [id]"
        yield Contradiction(("key",), reason)
    if table.mode == "mirror" and not table.key and not table.is_bag:
        reason = (
            "a mirrored table needs its key columns, like [id]; for a table that has none, declare "
            '"identity: full" if its REPLICA IDENTITY is FULL, or "mode: append"'
        )
        yield Contradiction(("key",), reason)
    if table.is_bag:
        yield from _bag_contradictions(table)
    if table.mode == "append" and table.key:
        reason = (
            "an appended table has no key, because its updates and deletes are not seen; "
            'remove the key or "mode: append"'
        )
        yield Contradiction(("mode",), reason)
    for index, name in enumerate(table.key):
        if name in table.key[:index]:
            yield Contradiction(("key", index), f'names column "{name}" twice')
        if name in table.dropped_columns:
            reason = (
                f'column "{name}" is part of the key, so it cannot be dropped; '
                'remove its "protect: drop" or leave it out of the key'
            )
            yield Contradiction(("columns", name, "protect"), reason)


def _bag_contradictions(table: "TableSpec") -> Iterator[Contradiction]:
    """What a table whose rows are known by all of their values cannot have."""
    if table.key:
        reason = (
            "a table with a key is mirrored by it, whatever its REPLICA IDENTITY is; "
            'remove the key or "identity: full"'
        )
        yield Contradiction(("identity",), reason)
    if table.mode != "mirror":
        reason = f'belongs to mode mirror; remove "mode: {table.mode}" or "identity: full"'
        yield Contradiction(("identity",), reason)
    if table.dead_letters.at_most:
        reason = (
            "a table without a key cannot go on without an event: nothing tells which later ones "
            "are of the same row; let it be 0"
        )
        yield Contradiction(("dead_letters", "at_most"), reason)


def _history_contradictions(table: "TableSpec") -> Iterator[Contradiction]:
    """What a table that keeps every version of its rows cannot have."""
    if table.debezium is not None:
        reason = (
            "a connector may send a row again as read, which would be a version that never was; "
            'let the database have "capture: native", or remove "mode: history"'
        )
        yield Contradiction(("mode",), reason)
    if table.dead_letters.at_most:
        reason = (
            "a history cannot go on without an event, which is a version of its row; let it be 0"
        )
        yield Contradiction(("dead_letters", "at_most"), reason)
    for name in ("on_rewrite", "recopies_per_hour"):
        copies = name == "recopies_per_hour" or table.on_rewrite == "recopy"
        if copies and name in table.model_fields_set:
            reason = 'means copies anew, which would drop what "mode: history" keeps; remove it'
            yield Contradiction((name,), reason)
    for name, column in table.columns.items():
        if name in HISTORY_COLUMNS and column.protect != "drop":
            reason = (
                f'"{name}" is the name of a column that "mode: history" adds; one of the source '
                'can only be left out, with "protect: drop"'
            )
            yield Contradiction(("columns", name), reason)
    for place, fields in (("partitioning", table.partitioning), ("sort_order", table.sort_order)):
        for index, field in enumerate(fields):
            if field.column in HISTORY_COLUMNS:
                reason = f'"{field.column}" is no column of the source; name one that is'
                yield Contradiction((place, index, "column"), reason)
