"""Trino, which shares no code with our writer, reads every type as PostgreSQL holds it.

Values are compared in forms that neither driver can change: floats as their bits, dates as days,
timestamps as seconds and digits behind them, all else as text.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import psycopg
import pytest
from trino.dbapi import Cursor
from trino.exceptions import TrinoQueryError

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines_tests.integration.conftest import debian_source
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.type_matrix import (
    OF_DEBIAN,
    OF_THE_WHEEL,
    Group,
    Type,
    change_groups,
    copy_groups,
)

pytestmark = [pytest.mark.integration, pytest.mark.trino]

Rows = list[tuple[object, ...]]
TEXT_FORM = (
    "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1"
    " -c lc_monetary=C -c search_path=pg_catalog"
)


@dataclass(frozen=True, slots=True)
class Form:
    """How a Trino type is read: SQL over a value ``{}`` in Trino and in PostgreSQL."""

    trino: str
    postgres: str


SECONDS = "date_diff('second', TIMESTAMP '1970-01-01 00:00:00', date_trunc('second', {0}))"
# Trino overflows where it rounds the least moment down
MOMENT = (
    "CASE WHEN year({0}) < -200000 THEN 'least' ELSE"
    f" CAST({SECONDS} AS varchar) || substr(CAST({{0}} AS varchar), -7) END"
)
POSTGRES_MOMENT = (
    "CASE {0} WHEN '-infinity' THEN 'least' WHEN 'infinity' THEN '9223372036854.775807'"
    " ELSE floor(extract(epoch from {0}))::bigint || '.' || to_char({0}, 'US') END"
)
FORMS = {
    "integer": Form("CAST({0} AS varchar)", "{0}::text"),
    "bigint": Form("CAST({0} AS varchar)", "{0}::text"),
    "boolean": Form("CAST({0} AS varchar)", "{0}::text"),
    "decimal": Form("CAST({0} AS varchar)", "{0}::text"),
    "uuid": Form("CAST({0} AS varchar)", "{0}::text"),
    "real": Form("lower(to_hex(to_ieee754_32({0})))", "encode(float4send({0}), 'hex')"),
    "double": Form("lower(to_hex(to_ieee754_64({0})))", "encode(float8send({0}), 'hex')"),
    "varbinary": Form("lower(to_hex({0}))", "encode({0}, 'hex')"),
    "date": Form(
        "CAST(date_diff('day', DATE '1970-01-01', {0}) AS varchar)",
        "CASE {0} WHEN 'infinity' THEN '2147483647' WHEN '-infinity' THEN '-2147483647'"
        " ELSE ({0} - date '1970-01-01')::text END",
    ),
    "time": Form("CAST({0} AS varchar)", "to_char({0}, 'HH24:MI:SS.US')"),
    "timestamp": Form(MOMENT, POSTGRES_MOMENT),
    "zoned": Form(
        MOMENT.replace("{0}", "CAST({0} AT TIME ZONE 'UTC' AS timestamp(6))"), POSTGRES_MOMENT
    ),
    "varchar": Form("{0}", "CASE WHEN {0} IS DISTINCT FROM NULL THEN format('%s', {0}) END"),
}


def form_of(trino_type: str) -> Form:
    """Of an element's type, like ``decimal(12,2)``."""
    if trino_type.endswith("with time zone"):
        return FORMS["zoned"]
    return FORMS[trino_type.split("(")[0]]


def read_both(pipeline: Pipeline, trino: Cursor, table: str) -> tuple[Rows, Rows]:
    """The rows of both ends, as texts and lists of texts, in the order of ids."""
    name = f"lake.{pipeline.name}.{table}"
    types = {str(row[0]): str(row[1]) for row in trino.execute(f"DESCRIBE {name}").fetchall()}
    in_trino, in_postgres = [], []
    for column, kind in types.items():
        if kind.startswith("array("):
            form = form_of(kind.removeprefix("array(").removesuffix(")"))
            in_trino.append(f"transform({column}, e -> {form.trino.format('e')})")
            item = form.postgres.format(f"{column}[i]")
            items = f"ARRAY(SELECT {item} FROM generate_subscripts({column}, 1) i ORDER BY i)"
            in_postgres.append(f"CASE WHEN {column} IS NOT NULL THEN {items} END")
        else:
            form = form_of(kind)
            in_trino.append(form.trino.format(column))
            in_postgres.append(form.postgres.format(column))
    rows = trino.execute(f"SELECT {', '.join(in_trino)} FROM {name} ORDER BY id").fetchall()
    query = f"SELECT {', '.join(in_postgres)} FROM public.{table} ORDER BY {table}.id"
    with psycopg.connect(pipeline.dsn, options=TEXT_FORM) as connection:
        expected = connection.execute(query.encode()).fetchall()
    return [tuple(row) for row in rows], expected


def without_far_moments(groups: Mapping[str, Group]) -> dict[str, Group]:
    """Without the moments that Trino cannot read (see the documented differences)."""

    def near(kind: Type) -> Type:
        values = tuple(v for v in kind.values if "infinity" not in v and "294247" not in v)
        is_zoned = kind.name in {"timestamptz", "timestamptz[]"}
        return replace(kind, values=values) if is_zoned else kind

    return {n: replace(group, types=tuple(map(near, group.types))) for n, group in groups.items()}


def test_trino_reads_every_value_of_every_type_after_copy_and_stream(
    pipeline: Pipeline, trino: Cursor
) -> None:
    assert differing_after_copy_and_stream(pipeline, trino, OF_THE_WHEEL) == ([], [])


def test_trino_reads_every_value_of_xml_and_of_contribs_types(stack: Stack, trino: Cursor) -> None:
    with debian_source() as database:
        pipeline = Pipeline(stack, database)
        assert differing_after_copy_and_stream(pipeline, trino, OF_DEBIAN) == ([], [])
        pipeline.close()


def differing_after_copy_and_stream(
    pipeline: Pipeline, trino: Cursor, groups: Mapping[str, Group]
) -> tuple[Rows, Rows]:
    """What ``differing`` finds after each of the two."""
    readable = without_far_moments(groups)
    copy_groups(pipeline, readable)
    after_copy = differing(pipeline, trino, readable)
    change_groups(pipeline, readable)
    return after_copy, differing(pipeline, trino, readable)


def differing(pipeline: Pipeline, trino: Cursor, tables: Iterable[str]) -> Rows:
    """(table, column's place, Trino's value, PostgreSQL's value) wherever the two differ."""
    found: Rows = []
    for table in tables:
        in_trino, in_postgres = read_both(pipeline, trino, table)
        assert len(in_trino) == len(in_postgres) > 0
        for left, right in zip(in_trino, in_postgres, strict=True):
            pairs = enumerate(zip(left, right, strict=True))
            found += [(table, place, *pair) for place, pair in pairs if pair[0] != pair[1]]
    return found


def test_trino_refuses_a_far_moment_unless_its_column_is_declared_a_string(
    pipeline: Pipeline, trino: Cursor
) -> None:
    pipeline.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v timestamptz, s timestamptz)",
        "INSERT INTO t VALUES (1, now(), 'infinity')",
    )
    pipeline.declare("t", columns={"s": {"type": "string"}})
    pipeline.follow("t")
    found, expected = read_both(pipeline, trino, "t")
    assert found == [(*expected[0][:2], "infinity")]

    pipeline.execute("UPDATE t SET v = 'infinity'")
    pipeline.follow("t")

    with pytest.raises(TrinoQueryError):
        read_both(pipeline, trino, "t")
