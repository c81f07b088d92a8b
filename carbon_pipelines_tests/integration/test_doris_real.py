"""A real Doris, if one is named; without it these say that they were not run.

CARBON_TEST_DORIS_DSN: ``mysql://user:password@host:9030/database?http_port=8030&backends=a,b``.
The database is made if it is not there; in it only what is called ``carbon_test_...`` is touched.
One replica is asked for.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from carbon_pipelines.mart.lake_table import replace_rows
from carbon_pipelines.mart.project import Mart
from carbon_pipelines.serving import doris_statements as statements
from carbon_pipelines.serving.doris_mart import Doris, open_doris, serve_mart
from carbon_pipelines.serving.doris_settings import DorisSettings
from carbon_pipelines.serving.doris_view import refresh_view
from carbon_pipelines_tests.lake.local_lake import open_local
from carbon_pipelines_tests.serving.test_doris_mart import ROWS

DSN = os.environ.get("CARBON_TEST_DORIS_DSN", "")
NAME, VIEW = "carbon_test_prices", "carbon_test_view"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not DSN, reason="no real Doris was tried: CARBON_TEST_DORIS_DSN is not set"),
]


def settings(dsn: str) -> DorisSettings:
    parts = urlsplit(dsn)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    return DorisSettings(
        host=parts.hostname or "",
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        sql_port=parts.port or 9030,
        http_port=int(query.get("http_port", "8030")),
        backends=frozenset(filter(None, query.get("backends", "").lower().split(","))),
        database=parts.path.strip("/") or "carbon_test",
        replicas=1,
    )


@pytest.fixture
def doris() -> Iterator[Doris]:
    found = open_doris(settings(DSN))
    database = found.settings.database
    found.sql.run(statements.create_database(database))
    yield found
    found.sql.run(f"DROP MATERIALIZED VIEW IF EXISTS `{database}`.`{VIEW}`")
    found.sql.run(statements.drop_table(database, NAME))


def test_a_mart_is_shown_and_replaced_and_a_view_of_it_is_fresh(
    doris: Doris, tmp_path: Path
) -> None:
    catalog, database = open_local(tmp_path), doris.settings.database
    mart = Mart(NAME, "", "team:a", {}, frozenset(), (), ())

    def publish(start: int) -> None:
        replace_rows(catalog, ("mart", NAME), lambda: ROWS.slice(start).to_reader(), {})

    publish(0)
    first = serve_mart(doris, catalog, mart)
    again = serve_mart(doris, catalog, mart)
    doris.sql.run(
        f"CREATE MATERIALIZED VIEW `{database}`.`{VIEW}` BUILD DEFERRED REFRESH AUTO ON MANUAL "
        "DISTRIBUTED BY RANDOM BUCKETS 1 PROPERTIES ('replication_num' = '1') "
        f"AS SELECT `market`, `cost` FROM `{database}`.`{NAME}`"
    )
    refresh_view(doris.sql, database, VIEW, doris.clock.deadline(120), mode="AUTO")
    publish(1)
    second = serve_mart(doris, catalog, mart)

    assert (first.changed, again.changed, second.changed) == (True, False, True)
    assert second.rows.rows == ROWS.num_rows - 1
