"""A real Trino behind TLS, that knows us by a password, a token, or a token that it is given."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from trino.dbapi import Cursor

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.embedded.trino_endpoint import TrinoEndpoint, load_trino
from carbon_pipelines.errors import (
    ServiceUnavailableError,
    TokenRefusedError,
    TokenUnavailableError,
    TrinoAccessError,
)
from carbon_pipelines.lake.trino import make_engine
from carbon_pipelines.serving.trino_sql import open_sql
from carbon_pipelines_tests.alerts.certificates import make_certificate
from carbon_pipelines_tests.integration.tls_proxy import (
    CLIENT,
    CLIENT_SECRET,
    PASSWORD,
    SCOPE,
    TOKEN,
    USER,
    tls_before,
)

pytestmark = [pytest.mark.integration, pytest.mark.trino]

ASKED = "SELECT current_user, 0"


class Secured:
    """Variables of the secured Trino."""

    def __init__(self, port: int, ca: Path) -> None:
        self.port = port
        self.ca = {"CARBON_TRINO_CA": str(ca)}
        self.bare = {"CARBON_TRINO_URI": f"https://{USER}@localhost:{port}/lake", **self.ca}
        self.password = self.with_password(PASSWORD)
        self.token = {**self.bare, "CARBON_TRINO_TOKEN": TOKEN}
        self.oauth = self.with_client(f"{CLIENT}:{CLIENT_SECRET}", port)

    def with_password(self, password: str) -> dict[str, str]:
        return {
            "CARBON_TRINO_URI": f"https://{USER}:{password}@localhost:{self.port}/lake",
            **self.ca,
        }

    def with_client(self, client: str, port: int) -> dict[str, str]:
        return {
            **self.bare,
            "CARBON_TRINO_OAUTH_URI": f"https://localhost:{port}/token",
            "CARBON_TRINO_OAUTH_CLIENT": client,
            "CARBON_TRINO_OAUTH_SCOPE": SCOPE,
        }


@pytest.fixture(scope="module")
def secured(
    stack: Stack, trino: Cursor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    certificate, key = make_certificate(tmp_path_factory.mktemp("tls"))
    port = stack.endpoints().trino.port
    with tls_before(port, certificate, key) as secure:
        yield Secured(secure, certificate)


def named(environ: dict[str, str]) -> TrinoEndpoint:
    trino = load_trino(environ)
    assert trino is not None
    return trino


def ask(environ: dict[str, str]) -> list:
    with open_sql(named(environ)) as sql:
        return [tuple(row) for row in sql.run(ASKED)]


@pytest.mark.parametrize("way", ["password", "token", "oauth"])
def test_trino_answers_whom_it_knows_also_through_sqlalchemy(secured: Secured, way: str) -> None:
    environ = getattr(secured, way)

    assert ask(environ) == [(USER, 0)]

    engine = make_engine(named(environ), schema="information_schema")
    for secret in (PASSWORD, TOKEN):
        assert secret not in f"{engine} {engine.url.render_as_string(hide_password=False)}"
    try:
        with engine.connect() as connection:
            found = connection.execute(text("SELECT current_user, current_schema")).one()
    finally:
        engine.dispose()
    assert tuple(found) == (USER, "information_schema")


@pytest.mark.parametrize("way", ["bare", "other password", "other token"])
def test_whom_trino_does_not_know_is_refused_and_no_secret_is_told(
    secured: Secured, way: str
) -> None:
    environ = {
        "bare": secured.bare,
        "other password": secured.with_password("wr0ng"),
        "other token": {**secured.bare, "CARBON_TRINO_TOKEN": "wr0ng"},
    }[way]
    with pytest.raises(TrinoAccessError, match="refuses the user") as refused:
        ask(environ)
    assert not refused.value.retryable
    assert "wr0ng" not in str(refused.value)


def test_a_certificate_that_nobody_vouches_for_gets_no_password(secured: Secured) -> None:
    with pytest.raises(ServiceUnavailableError, match=r"(?i)certificate") as refused:
        ask({name: value for name, value in secured.password.items() if name != "CARBON_TRINO_CA"})
    assert PASSWORD not in str(refused.value)


def test_a_client_that_is_given_no_token_asks_trino_nothing(secured: Secured) -> None:
    with pytest.raises(TokenRefusedError, match="CARBON_TRINO_OAUTH_CLIENT") as refused:
        ask(secured.with_client(f"{CLIENT}:wr0ng", secured.port))
    assert not refused.value.retryable
    assert "wr0ng" not in str(refused.value)
    with pytest.raises(TokenUnavailableError, match="CARBON_TRINO_OAUTH_URI") as away:
        ask(secured.with_client(f"{CLIENT}:{CLIENT_SECRET}", 1))
    assert away.value.retryable
    assert CLIENT_SECRET not in str(away.value)
