"""Merging random batches gives what PostgreSQL has after the same changes one at a time."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.lake.changes import WITH_TRUNCATES, Change, Rows, replay
from carbon_pipelines_tests.lake.local_lake import LocalLake

pytestmark = pytest.mark.integration

STATEMENTS = {
    "insert": "INSERT INTO t VALUES (%(key)s, %(n)s, %(doc)s) ON CONFLICT DO NOTHING",
    "update": "UPDATE t SET n = %(n)s, doc = coalesce(%(doc)s, doc) WHERE id = %(key)s",
    "move": "UPDATE t SET id = %(to)s, n = %(n)s, doc = coalesce(%(doc)s, doc) WHERE id = %(key)s"
    " AND NOT EXISTS (SELECT 1 FROM t WHERE id = %(to)s)",
    "delete": "DELETE FROM t WHERE id = %(key)s",
    "truncate": "TRUNCATE t",
}


def replayed_by_postgres(connection: psycopg.Connection, changes: Sequence[Change]) -> Rows:
    """The rows of table ``t`` after ``changes``, each in a transaction of its own."""
    connection.execute("CREATE TEMP TABLE t (id int PRIMARY KEY, n int, doc text)")
    for change in changes:
        values = {"key": change.key, "to": change.to, "n": change.n, "doc": change.doc}
        connection.execute(STATEMENTS[change.kind].encode(), values)
    rows = connection.execute("SELECT id, n, doc FROM t").fetchall()
    connection.execute("DROP TABLE t")
    return {key: (n, doc) for key, n, doc in rows}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=WITH_TRUNCATES, cut=st.integers(0, 30))
def test_merging_batches_gives_what_postgresql_gives_one_change_at_a_time(
    source: SourceDatabase, changes: list[Change], cut: int
) -> None:
    with psycopg.connect(source.dsn, autocommit=True) as connection:
        expected = replayed_by_postgres(connection, changes)
    _, events = replay({}, changes)

    with tempfile.TemporaryDirectory() as directory:
        lake = LocalLake(Path(directory), {"id": "int4", "n": "int4", "doc": "text"}, ["id"])
        lake.load([])
        for batch in (events[:cut], events[cut:]):
            if batch:
                lake.merge(batch)
        found = lake.rows()

    assert {key: (n, doc) for key, n, doc in found} == expected
    assert len(found) == len(expected)
