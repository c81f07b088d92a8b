"""Where Trino is, and how it knows us: CARBON_TRINO_* variables.

What belongs here: reading them. What does not: connecting (``lake/trino.py``).

    CARBON_TRINO_URI            "http[s]://user[:password]@host[:port]/catalog"
    CARBON_TRINO_CA             file of the certificates that are trusted, instead of the machine's
    CARBON_TRINO_TOKEN          an access token (JWT) instead of a password
    CARBON_TRINO_OAUTH_URI      token endpoint of an OAuth 2 server that gives such tokens to
    CARBON_TRINO_OAUTH_CLIENT   this client, "id:secret",
    CARBON_TRINO_OAUTH_SCOPE    with this scope, if it wants one
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from carbon_pipelines.errors import SettingMissingError, SettingUnknownError

TRINO_VARIABLE = "CARBON_TRINO_URI"
CA_VARIABLE, TOKEN_VARIABLE = "CARBON_TRINO_CA", "CARBON_TRINO_TOKEN"
OAUTH_URI_VARIABLE, OAUTH_CLIENT_VARIABLE = "CARBON_TRINO_OAUTH_URI", "CARBON_TRINO_OAUTH_CLIENT"


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """A client of an OAuth 2 server, which gives it tokens (RFC 6749, 4.4)."""

    token_uri: str
    client_id: str
    secret: str = field(repr=False)
    scope: str = ""


@dataclass(frozen=True, slots=True)
class TrinoEndpoint:
    """A Trino, and its catalog that has the lake's tables.

    At most one of ``password``, ``token`` and ``oauth`` is there, and only over https.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    catalog: str
    user: str
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    oauth: OAuthClient | None = None
    ca: str = ""
    """File of trusted certificates; empty: those of the machine."""

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"Trino at {self.scheme}://{self.host}:{self.port}"


def load_trino(environ: Mapping[str, str], variable: str = TRINO_VARIABLE) -> TrinoEndpoint | None:
    """What the environment says of Trino; None if ``variable``, its address, is not set.

    Raises:
        SettingMissingError: A variable is there without one that it needs.
        SettingUnknownError: A variable has a value without meaning, or would send a secret in
            plain text.
    """
    uri = environ.get(variable, "")
    if not uri:
        return None
    form = ("http[s]://user[:password]@host[:port]/catalog",)
    try:
        parts = urlsplit(uri)
        port = parts.port or {"http": 8080, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        raise SettingUnknownError(variable, "an address without meaning", form) from None
    catalog = parts.path.strip("/")
    if not (port and parts.hostname and parts.username and catalog) or "/" in catalog:
        raise SettingUnknownError(variable, "an address without meaning", form)
    password, token = unquote(parts.password or ""), environ.get(TOKEN_VARIABLE, "")
    oauth = _load_oauth(environ)
    given = [name for name, told in _secrets(password, token, oauth).items() if told]
    if given and parts.scheme == "http":
        raise SettingUnknownError(variable, f"{given[0]} over plain http", ("https://...",))
    if len(given) > 1:
        known = ("only one of them",)
        raise SettingUnknownError(variable, f"used with {' and '.join(given)}", known)
    return TrinoEndpoint(
        scheme="https" if parts.scheme == "https" else "http",
        host=parts.hostname,
        port=port,
        catalog=catalog,
        user=unquote(parts.username),
        password=password,
        token=token,
        oauth=oauth,
        ca=environ.get(CA_VARIABLE, ""),
    )


def _secrets(password: str, token: str, oauth: OAuthClient | None) -> Mapping[str, bool]:
    return {"a password": bool(password), "a token": bool(token), "OAuth 2": oauth is not None}


def _load_oauth(environ: Mapping[str, str]) -> OAuthClient | None:
    uri, client = environ.get(OAUTH_URI_VARIABLE, ""), environ.get(OAUTH_CLIENT_VARIABLE, "")
    if not uri and not client:
        return None
    if not uri or not client:
        missing = OAUTH_CLIENT_VARIABLE if uri else OAUTH_URI_VARIABLE
        raise SettingMissingError(missing, "part of how Trino is to know us")
    if not uri.startswith("https://"):
        raise SettingUnknownError(OAUTH_URI_VARIABLE, "no https address", ("https://...",))
    client_id, _, secret = client.partition(":")
    if not client_id or not secret:
        raise SettingUnknownError(OAUTH_CLIENT_VARIABLE, "another form", ("id:secret",))
    return OAuthClient(uri, client_id, secret, environ.get("CARBON_TRINO_OAUTH_SCOPE", ""))
