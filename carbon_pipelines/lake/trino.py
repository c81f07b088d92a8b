"""A connection to Trino, for what it does to or reads of the lake.

What belongs here: opening one, also for SQLAlchemy, and naming a table in Trino's SQL. What does
not: statements, and which variables there are (``embedded/trino_endpoint.py``).

A token of an OAuth 2 server is asked for at each opening: connections are short, and a kept token
could end within one.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from requests import RequestException, Session, post
from trino.auth import Authentication, BasicAuthentication, JWTAuthentication
from trino.dbapi import Connection, connect

from carbon_pipelines.embedded.trino_endpoint import (
    OAUTH_CLIENT_VARIABLE,
    OAUTH_URI_VARIABLE,
    OAuthClient,
    TrinoEndpoint,
)
from carbon_pipelines.errors import TokenRefusedError, TokenUnavailableError

if TYPE_CHECKING:
    from sqlalchemy import Engine

SOURCE = "carbon_pipelines"
"""How Trino lists what we run."""
TOKEN_SECONDS = 30.0


@contextmanager
def open_trino(
    trino: TrinoEndpoint, *, session: Mapping[str, str] | None = None
) -> Generator[Connection]:
    """A connection; no secret shows in any text of it. ``session`` are properties of it.

    Raises:
        TokenUnavailableError: The OAuth 2 server does not answer (retryable).
        TokenRefusedError: It gives us no token.
    """
    with connect(**_arguments(trino), session_properties=dict(session or {})) as connection:
        yield connection


def make_engine(trino: TrinoEndpoint, schema: str | None = None) -> "Engine":
    """An engine of SQLAlchemy; neither its address nor any text of it holds a secret.

    A token of an OAuth 2 server is asked for now, and ends: such an engine is for at once.

    Raises:
        TokenUnavailableError, TokenRefusedError: As for `open_trino`.
    """
    from sqlalchemy import URL, create_engine
    from sqlalchemy.pool import NullPool

    database = trino.catalog if schema is None else f"{trino.catalog}/{schema}"
    url = URL.create("trino", trino.user, host=trino.host, port=trino.port, database=database)
    return create_engine(url, poolclass=NullPool, connect_args=_arguments(trino))


def _arguments(trino: TrinoEndpoint) -> dict[str, Any]:
    """What `trino.dbapi.connect` takes of an endpoint."""
    session = _Session()
    session.verify = trino.ca or True
    return {
        "host": trino.host,
        "port": trino.port,
        "user": trino.user,
        "http_scheme": trino.scheme,
        "auth": _authentication(trino),
        "verify": trino.ca or True,
        "http_session": session,
        "source": SOURCE,
    }


class _Session(Session):
    """Certificates that were named for Trino come before those of the environment.

    Sessions of requests have it the other way round (REQUESTS_CA_BUNDLE).
    """

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> Any:
        own = self.verify if verify is None and isinstance(self.verify, str) else verify
        return super().merge_environment_settings(url, proxies, stream, own, cert)


def request_token(client: OAuthClient, ca: str = "") -> str:
    """An access token for a client (RFC 6749, 4.4).

    Raises:
        TokenUnavailableError: The server does not answer (retryable).
        TokenRefusedError: It gives no token.
    """
    asked = {"grant_type": "client_credentials"}
    if client.scope:
        asked["scope"] = client.scope
    try:
        answer = post(
            client.token_uri,
            data=asked,
            auth=(client.client_id, client.secret),
            timeout=TOKEN_SECONDS,
            verify=ca or True,
            allow_redirects=False,
        )
    except RequestException as error:
        # The text of the error may hold the address with what was sent.
        raise TokenUnavailableError(OAUTH_URI_VARIABLE, type(error).__name__) from None
    if answer.status_code >= 500 or answer.status_code == 429:
        raise TokenUnavailableError(OAUTH_URI_VARIABLE, f"HTTP {answer.status_code}")
    try:
        token = answer.json()["access_token"] if answer.status_code == 200 else None
    except (ValueError, TypeError, KeyError):
        token = None
    if not isinstance(token, str) or not token:
        raise TokenRefusedError(OAUTH_CLIENT_VARIABLE, f"HTTP {answer.status_code} without a token")
    return token


def table_name(trino: TrinoEndpoint, identifier: tuple[str, str]) -> str:
    """A table of the lake in SQL."""
    return ".".join(map(quoted, (trino.catalog, *identifier)))


def quoted(name: str) -> str:
    """A name as Trino's SQL spells it, whatever characters it has."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _authentication(trino: TrinoEndpoint) -> Authentication | None:
    if trino.password:
        return BasicAuthentication(trino.user, trino.password)
    if trino.oauth is not None:
        return JWTAuthentication(request_token(trino.oauth, trino.ca))
    return JWTAuthentication(trino.token) if trino.token else None
