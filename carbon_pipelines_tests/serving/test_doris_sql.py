"""Statements over MySQL's protocol, against a server that speaks it and is no Doris."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from mysql_mimic import IdentityProvider, MysqlServer, NativePasswordAuthPlugin, Session, User
from mysql_mimic.errors import MysqlError

from carbon_pipelines.errors import (
    ServiceAuthenticationError,
    ServiceUnavailableError,
    StatementRefusedError,
)
from carbon_pipelines.serving import doris_statements as statements
from carbon_pipelines.serving.doris_settings import DorisSettings
from carbon_pipelines.serving.doris_sql import DorisSql
from carbon_pipelines.serving.doris_statements import DorisColumn

USER, PASSWORD = "carbon", "s3cret"
REFUSAL = "errCode = 2, detailMessage = mismatched input\n== SQL ==\nCREATE CATALOG 'hidden'"


class Users(IdentityProvider):
    async def get_user(self, username: str) -> User | None:
        if username != USER:
            return None
        secret = NativePasswordAuthPlugin.create_auth_string(PASSWORD)
        return User(username, auth_string=secret, auth_plugin=NativePasswordAuthPlugin.name)


class Server:
    """What was asked, and what is answered to it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.port = 0

    async def answer(self, sql: str) -> Any:
        self.asked.append(sql)
        if sql.startswith("CREATE CATALOG"):
            raise MysqlError(REFUSAL, code=1105)
        return [("2025-09-01", 7)], ["day", "row_count"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found, loop = Server(), asyncio.new_event_loop()

    class Answers(Session):
        async def handle_query(self, sql: str, attrs: dict[str, str]) -> Any:
            if sql.startswith(("SELECT COUNT", "CREATE")):
                return await found.answer(sql)
            found.asked.append(sql)
            return await super().handle_query(sql, attrs)

    mimic = MysqlServer(session_factory=Answers, identity_provider=Users())
    loop.run_until_complete(mimic.start_server(host="127.0.0.1", port=0))
    found.port = mimic.sockets()[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield found
    mimic.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def sql(server: Server, *, user: str = USER, password: str = PASSWORD) -> DorisSql:
    return DorisSql(DorisSettings("127.0.0.1", user, password, sql_port=server.port))


def test_a_statement_arrives_as_it_is_in_a_session_of_utc(server: Server) -> None:
    server.asked.clear()
    statement = statements.check_rows("`t`", [DorisColumn("hour_at", "DATETIME(6)")])

    assert sql(server).run(statement) == [{"day": "2025-09-01", "row_count": 7}]

    assert server.asked.count(statement) == 1
    assert server.asked.index("SET time_zone = '+00:00'") < server.asked.index(statement)
    assert "%H:%i:%s.%f" in statement


def test_a_wrong_password_is_told_and_stands_in_no_message(server: Server) -> None:
    with pytest.raises(ServiceAuthenticationError, match='refuses the user "carbon"') as refused:
        sql(server, password="wr0ng").run("SELECT COUNT(*)")
    assert not refused.value.retryable
    assert "wr0ng" not in str(refused.value)


def test_a_refusal_shows_neither_the_properties_nor_what_doris_quotes(server: Server) -> None:
    statement = statements.create_catalog("lake", {"s3.secret_key": "hidden"})

    with pytest.raises(StatementRefusedError, match="mismatched input") as refused:
        sql(server).run(statement)

    shown = [str(refused.value), repr(refused.value.__context__), repr(refused.value.__cause__)]
    assert "hidden" not in " ".join(shown)
    assert refused.value.statement == "CREATE CATALOG IF NOT EXISTS `lake`"


def test_a_server_that_is_away_is_told_as_such() -> None:
    away = DorisSql(DorisSettings("127.0.0.1", USER, PASSWORD, sql_port=1))

    with pytest.raises(ServiceUnavailableError) as told:
        away.run("SELECT COUNT(*)")
    assert told.value.retryable
