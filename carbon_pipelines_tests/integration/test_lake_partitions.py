"""Every partition transform at its edges, as other engines see it: DuckDB's rows, Trino's values.

What belongs here: one table with a partition field for every transform and type, every row in a
partition of its own. What does not: single partition values (``lake/test_partition_values.py``).
"""

from uuid import UUID

import psycopg
import pytest
from trino.dbapi import Cursor

from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.oracle import lake_rows, oracle

pytestmark = pytest.mark.integration

_INTEGERS = ["-11", "-10", "-1", "0", "1", "9", "10", "2147483647", "-2147483640", "NULL"]
_TEXTS = ["''", "'a'", "'ab'", "'abc'", "'é'", "'éxy'", "'🐘🐘é'", "'%/ '", "'AB'", "NULL"]
_DECIMALS = ["-0.01", "0.01", "-0.50", "0.49", "0.50", "-9999999.50", "9999999.99", "0", "-0.51"]
_DATES = [
    *("1969-12-31", "1970-01-01", "1969-01-01", "1968-12-31", "1970-02-01", "0001-01-01"),
    *("9999-12-31", "2024-02-29", "1900-03-01"),
]
_MOMENTS = [
    *("1969-12-31 23:59:59.999999", "1970-01-01 00:00:00", "1969-12-31 23:00:00"),
    *("1969-12-31 22:59:59.999999", "1970-01-01 00:59:59.999999", "1970-01-01 01:00:00"),
    *("0001-01-03 00:00:00", "9999-12-31 23:59:59.999999", "1969-01-01 00:00:00"),
]


def _of(kind: str, values: list[str]) -> list[str]:
    return [*(f"{kind} '{value}'" for value in values), "NULL"]


_DAYS, _TIMES = _of("date", _DATES), _of("timestamp", _MOMENTS)
_ZONED = _of("timestamptz", [f"{moment}+00" for moment in _MOMENTS])
_UUIDS = [f"uuid '{UUID(int=n * 3**75 + n)}'" for n in range(9)]
COLUMNS: dict[str, tuple[str, str, list[str]]] = {
    "i_t": ("int", "truncate[10]", _INTEGERS),
    "i_b": ("int", "bucket[7]", _INTEGERS),
    "l_t": ("bigint", "truncate[1000]", [*_INTEGERS[:-1], "NULL"]),
    "l_b": ("bigint", "bucket[16]", ["-9223372036854775808", *_INTEGERS[1:]]),
    "s_t": ("text", "truncate[2]", _TEXTS),
    "s_b": ("text", "bucket[5]", _TEXTS),
    "s_i": ("text", "identity", _TEXTS),
    "n_t": ("numeric(9,2)", "truncate[50]", [*_DECIMALS, "NULL"]),
    "n_b": ("numeric(30,4)", "bucket[8]", [*_DECIMALS, "NULL"]),
    "n_i": ("numeric(9,2)", "identity", [*_DECIMALS, "NULL"]),
    "d_y": ("date", "year", _DAYS),
    "d_m": ("date", "month", _DAYS),
    "d_d": ("date", "day", _DAYS),
    "d_b": ("date", "bucket[6]", _DAYS),
    "t_y": ("timestamp", "year", _TIMES),
    "t_m": ("timestamp", "month", _TIMES),
    "t_d": ("timestamp", "day", _TIMES),
    "t_h": ("timestamp", "hour", _TIMES),
    "z_y": ("timestamptz", "year", _ZONED),
    "z_m": ("timestamptz", "month", _ZONED),
    "z_d": ("timestamptz", "day", _ZONED),
    "z_h": ("timestamptz", "hour", _ZONED),
    "z_b": ("timestamptz", "bucket[9]", _ZONED),
    "u_b": ("uuid", "bucket[4]", [*_UUIDS, "NULL"]),
    "b_b": ("bytea", "bucket[3]", [f"decode('{'ff' * n}', 'hex')" for n in range(9)] + ["NULL"]),
    "f_i": ("bool", "identity", ["true", "false"] * 4 + ["true", "NULL"]),
}
PARTITIONING = [{"column": name, "transform": how} for name, (_, how, _) in COLUMNS.items()]
ROWS = 10


def _row(number: int) -> str:
    values = ", ".join(values[number % ROWS] for _, _, values in COLUMNS.values())
    return f"({number}, {number}, {values})"


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    columns = ", ".join(f"{name} {kind}" for name, (kind, _, _) in COLUMNS.items())
    pipeline.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, n int, {columns})",
        f"INSERT INTO t VALUES {', '.join(_row(n) for n in range(2 * ROWS))}",
    )
    pipeline.declare("t", partitioning=PARTITIONING)
    return pipeline


def move(pipeline: Pipeline, rows: str) -> None:
    """Give rows the values of the next one: each leaves its partition for that one's."""
    pipeline.execute(
        f"WITH next AS (SELECT (id + 19) % 20 AS id, {', '.join(COLUMNS)} FROM t)"
        f" UPDATE t SET n = t.n + 1, {', '.join(f'{c} = next.{c}' for c in COLUMNS)}"
        f" FROM next WHERE next.id = t.id AND ({rows})"
    )
    pipeline.follow("t")


def edges_of(name: str, *, duckdb: bool) -> list[str]:
    """Some values of a column, as literals of PostgreSQL.

    DuckDB's reader (1.5) looks for moments before 1970 by month and day, for truncated negative
    decimals and for uuids by bucket in partitions where the specification does not put them: those
    are left to Trino.
    """
    edges = [value for value in COLUMNS[name][2] if value != "NULL"][::3]
    if duckdb and name in {"t_m", "t_d", "z_m", "z_d", "d_m"}:
        return [value for value in edges if "'19" not in value and "'00" not in value]
    if duckdb and name == "u_b":
        return []
    if duckdb and name == "n_t":
        return [value for value in edges if not value.startswith("-")]
    return edges


def check_filters(pipeline: Pipeline) -> None:
    """Each filter that prunes finds the rows that PostgreSQL finds, by DuckDB."""
    with oracle(pipeline.endpoints) as engine, psycopg.connect(pipeline.dsn) as source:
        source.execute("SET timezone = 'UTC'")
        table = lake_rows(engine, pipeline.endpoints, pipeline.tables["t"].identifier)
        wrong: list[str] = []
        for name, (kind, _, _) in COLUMNS.items():
            edges = edges_of(name, duckdb=True)
            filters = [f"{name} IS NULL", *(f"{name} = {value}" for value in edges)]
            if kind not in {"uuid", "bool", "bytea", "text"}:
                filters += [f"{name} < {value}" for value in edges]
            for where in filters:
                query = f"SELECT id FROM {{}} WHERE {where} ORDER BY id"
                expected = source.execute(query.format("t").encode()).fetchall()
                spelled = query.format(table).replace("decode(", "unhex(").replace(", 'hex')", ")")
                if engine.execute(spelled).fetchall() != expected:
                    wrong.append(where)
    assert "\n".join(wrong) == ""


def test_filters_that_prune_partitions_find_every_row_before_and_after_it_moved(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    check_filters(pipeline)

    move(pipeline, "t.id < 10")
    move(pipeline, "true")

    assert pipeline.differences("t") == 0
    check_filters(pipeline)


@pytest.mark.trino
def test_partition_values_are_those_that_trino_computes(pipeline: Pipeline, trino: Cursor) -> None:
    pipeline.follow("t")
    move(pipeline, "true")
    ours, own = (f"lake.{pipeline.name}.{name}" for name in ("t", "own"))
    fields = ", ".join(f"'{_trino(name, how)}'" for name, (_, how, _) in COLUMNS.items())
    trino.execute(
        f"CREATE TABLE {own} WITH (partitioning = ARRAY[{fields}]) AS SELECT * FROM {ours}"
    ).fetchall()

    def partitions(table: str) -> list[tuple[object, ...]]:
        named = f'lake.{pipeline.name}."{table}$partitions"'
        found = trino.execute(f"SELECT partition, record_count FROM {named}").fetchall()
        return sorted(((repr(tuple(row)), count) for row, count in found))

    assert len(partitions("t")) == ROWS
    assert partitions("t") == partitions("own")
    trino.execute(f"DROP TABLE {own}").fetchall()
    with psycopg.connect(pipeline.dsn) as source:
        source.execute("SET timezone = 'UTC'")
        for name in ("t_m", "t_d", "z_m", "z_d", "d_m", "n_t", "u_b"):
            for value in edges_of(name, duckdb=False):
                query = f"SELECT id FROM {{}} WHERE {name} {{}} {value} ORDER BY id"
                for sign in ("=",) if name == "u_b" else ("=", "<"):
                    expected = source.execute(query.format("t", sign).encode()).fetchall()
                    spelled = query.format(ours, sign)
                    spelled = spelled.replace("timestamptz", "timestamp").replace("+00'", " UTC'")
                    found = trino.execute(spelled).fetchall()
                    assert list(map(tuple, found)) == expected, spelled


def _trino(name: str, transform: str) -> str:
    """A partition field as Trino spells it."""
    kind, _, width = transform.rstrip("]").partition("[")
    if kind == "identity":
        return name
    return f"{kind}({name}, {width})" if width else f"{kind}({name})"
