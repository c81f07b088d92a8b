"""Reading SQL that somebody wrote into a declaration, before any of it is run.

What belongs here: that it is one statement that only reads, of tables that it may name, that the
engine can bind it, and whether it depends on the rows alone. What does not: running it
(``engine_counts.py``).

DuckDB's own parser gives the tree of a text (``json_serialize_sql`` takes SELECT statements alone),
so that nothing here guesses at SQL: any table that is named must be one of those allowed or a WITH
of the text itself, and functions that give tables, which can read files or run text, are refused.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb

from carbon_pipelines.catalog.expectations import ExpectationSpec, Holds, Query
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.catalog.values import WORD
from carbon_pipelines.quality.fit import LakeColumns, Problem

_TABLE_FUNCTIONS = frozenset({"generate_series", "range", "unnest"})
_FORBIDDEN_FUNCTIONS = frozenset({"current_setting", "getenv", "nextval"})
_FORBIDDEN_SOURCES = frozenset({"COLUMN_DATA", "DELIM_GET", "PIVOT", "SHOW_REF"})


def custom_misfits(engine: duckdb.DuckDBPyConnection, table: TableSpec) -> Iterator[Problem]:
    """Every written condition and query that may not, or cannot, be run.

    The relations that they name stand in ``engine``'s present schema.
    """
    for expectation in table.expectations:
        if isinstance(expectation, Holds):
            field, reason = "condition", _condition_misfit(engine, expectation, table)
        elif isinstance(expectation, Query):
            field, reason = "sql", _query_misfit(engine, expectation, table)
        else:
            continue
        if reason is not None:
            place = expectation.place
            yield place.path, place.line_of(field), f"{expectation.label}: {reason}"


def steady_labels(
    engine: duckdb.DuckDBPyConnection,
    expectations: Sequence[ExpectationSpec],
    columns: LakeColumns,
) -> frozenset[str]:
    """Labels of expectations that say the same of a row whenever they are asked.

    A written condition does only if all that it names are columns and functions that depend on
    nothing but their arguments.
    """
    return frozenset(
        one.label
        for one in expectations
        if not isinstance(one, Holds) or _is_steady(engine, one.condition, columns)
    )


def _is_steady(engine: duckdb.DuckDBPyConnection, condition: str, columns: LakeColumns) -> bool:
    (answer,) = engine.execute(
        "SELECT json_serialize_sql(?)", [f"SELECT {condition}"]
    ).fetchone() or ("{}",)
    nodes = list(_nodes(json.loads(answer)))
    named = [node["column_names"][-1] for node in nodes if node.get("class") == "COLUMN_REF"]
    called = [node["function_name"] for node in nodes if node.get("class") == "FUNCTION"]
    unsteady = engine.execute(
        "SELECT count(*) FROM duckdb_functions() "
        "WHERE list_contains(?, function_name) AND stability IS DISTINCT FROM 'CONSISTENT'",
        [called],
    ).fetchone()
    known = {name.lower() for name in columns.types}
    return unsteady == (0,) and all(str(name).lower() in known for name in named)


def _condition_misfit(
    engine: duckdb.DuckDBPyConnection, holds: Holds, table: TableSpec
) -> str | None:
    """None: it may be run."""
    for text in (f"SELECT {holds.condition}", f"SELECT 1 WHERE NOT (\n{holds.condition}\n)"):
        reason = _refused(engine, text, frozenset())
        if reason is not None:
            return reason
    return _unbound(engine, f'SELECT 1 FROM "{table.name}" WHERE NOT (\n{holds.condition}\n)')


def _query_misfit(engine: duckdb.DuckDBPyConnection, query: Query, table: TableSpec) -> str | None:
    """None: it may be run."""
    reason = _refused(engine, query.sql, frozenset({table.name, *query.tables}))
    return reason or _unbound(engine, f"SELECT * FROM (\n{query.sql}\n) AS wrong")


def _refused(engine: duckdb.DuckDBPyConnection, text: str, allowed: frozenset[str]) -> str | None:
    (answer,) = engine.execute("SELECT json_serialize_sql(?)", [text]).fetchone() or ("{}",)
    tree: Mapping[str, Any] = json.loads(answer)
    if tree.get("error"):
        if tree.get("error_type") == "not implemented":
            return "is no query; only one SELECT that reads is run"
        return f"is not SQL: {tree.get('error_message', 'no detail')}"
    if len(tree["statements"]) != 1:
        return "holds more than one statement; only one SELECT is run"
    nodes = list(_nodes(tree))
    named = frozenset(
        entry["key"] for node in nodes for entry in node.get("cte_map", {}).get("map", ())
    )
    for name in sorted(named):
        if not WORD.fullmatch(name):
            return f'calls a WITH "{name}"; a plain word is needed'
    for node in nodes:
        reason = _refused_node(node, allowed | named)
        if reason is not None:
            return reason
    return None


def _refused_node(node: Mapping[str, Any], allowed: frozenset[str]) -> str | None:
    kind = str(node.get("type"))
    if kind == "BASE_TABLE":
        name = ".".join(
            part for part in (node["catalog_name"], node["schema_name"], node["table_name"]) if part
        )
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none, as it is about single rows"
            return f'reads "{name}"; it may read {known}'
    if kind == "TABLE_FUNCTION" and node["function"]["function_name"] not in _TABLE_FUNCTIONS:
        return f"reads {node['function']['function_name']}(), which no expectation may"
    if kind in _FORBIDDEN_SOURCES:
        return f"reads from {kind}, which no expectation may"
    if node.get("class") == "FUNCTION" and node.get("function_name") in _FORBIDDEN_FUNCTIONS:
        return f"calls {node['function_name']}(), which no expectation may"
    return None


def _unbound(engine: duckdb.DuckDBPyConnection, text: str) -> str | None:
    """Why the engine cannot bind the text: a column that does not exist, types that do not fit."""
    try:
        engine.execute(f"EXPLAIN {text}")
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
        return first_line(error)
    except duckdb.Error:
        return None  # a constant that cannot be computed: the run tells what of it is unknown
    return None


def first_line(error: Exception) -> str:
    """What an engine says, without the picture of the statement below it."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Every object of a tree."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)
