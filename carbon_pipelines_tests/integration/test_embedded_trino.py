"""Trino beside the other parts, reading what PyIceberg wrote."""

import psutil
import pyarrow as pa
import pytest
from trino.dbapi import Cursor

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.embedded.state import StackHome
from carbon_pipelines.lake.connection import open_catalog

pytestmark = [pytest.mark.integration, pytest.mark.trino]


def test_trino_reads_a_table_that_the_lake_catalog_made(stack: Stack, trino: Cursor) -> None:
    rows = pa.table({"id": [1, 2], "word": ["one", None]})
    with open_catalog(stack.endpoints().lake) as catalog:
        catalog.create_namespace("seen_by_trino")
        catalog.create_table("seen_by_trino.words", rows.schema).append(rows)
    read = trino.execute("SELECT id, word FROM lake.seen_by_trino.words ORDER BY id").fetchall()
    assert read == [[1, "one"], [2, None]]


def test_trino_listens_on_loopback_only_and_shows_no_password(stack: Stack, trino: Cursor) -> None:
    part = stack.status().part("trino")
    process = psutil.Process(part.pid)
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    drawn = StackHome(stack.home).load_secrets()
    assert drawn is not None
    shown = [" ".join(process.cmdline()), part.log.read_text(errors="replace")]
    hidden = (drawn.postgres_password, drawn.s3_secret_key)
    assert listening == {"127.0.0.1"}
    assert [secret for secret in hidden for text in shown if secret in text] == []
    assert oct((stack.home / "trino" / "catalog" / "lake.properties").stat().st_mode)[-3:] == "600"
