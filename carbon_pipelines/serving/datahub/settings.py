"""Where DataHub is: CARBON_DATAHUB_* variables.

What belongs here: reading them. What does not: connecting.

    CARBON_DATAHUB_URL     of its metadata service, "http[s]://host[:port][/api/gms]"; without it
                           DataHub is not configured, which is no error
    CARBON_DATAHUB_TOKEN   a personal access token; without it none is sent
    CARBON_DATAHUB_ENV     what our datasets belong to there (default PROD)
    SSL_CERT_FILE          certificates to trust instead of the usual ones
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from carbon_pipelines.errors import SettingUnknownError

URL_VARIABLE = "CARBON_DATAHUB_URL"
TOKEN_VARIABLE = "CARBON_DATAHUB_TOKEN"
ENV_VARIABLE = "CARBON_DATAHUB_ENV"
NOT_CONFIGURED = f"DataHub is not configured: {URL_VARIABLE} is not set"
"""What is shown of DataHub then; it is neither well nor ill."""
ENVIRONMENTS = (
    *("DEV", "TEST", "QA", "UAT", "EI", "PRE", "STG", "NON_PROD", "PROD", "CORP", "RVW", "PRD"),
    *("TST", "SIT", "SBX", "SANDBOX"),
)
"""DataHub's enum FabricType."""
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class DataHubSettings:
    """A DataHub; ``url`` is without a slash at its end."""

    url: str
    token: str = field(default="", repr=False)
    env: str = "PROD"
    authorities: str | None = None

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"DataHub at {urlsplit(self.url).netloc}"


def load_datahub_settings(environ: Mapping[str, str]) -> DataHubSettings | None:
    """What the environment says of DataHub; None if it is not configured.

    Raises:
        SettingUnknownError: A variable has a value without meaning. A URL with a user is refused,
            and is not repeated: it may hold a password.
    """
    url = environ.get(URL_VARIABLE, "").rstrip("/")
    if not url:
        return None
    token = environ.get(TOKEN_VARIABLE, "")
    _check_url(url)
    if token and not _TOKEN.fullmatch(token):
        raise SettingUnknownError(TOKEN_VARIABLE, "something else", ("a token of one line",))
    return DataHubSettings(url, token, load_env(environ), environ.get("SSL_CERT_FILE") or None)


def load_env(environ: Mapping[str, str]) -> str:
    """The environment that our datasets belong to.

    Raises:
        SettingUnknownError: DataHub has no such one.
    """
    env = environ.get(ENV_VARIABLE) or "PROD"
    if env not in ENVIRONMENTS:
        raise SettingUnknownError(ENV_VARIABLE, env, ENVIRONMENTS)
    return env


def _check_url(url: str) -> None:
    form = ("http[s]://host[:port], or that of the frontend with /api/gms behind it",)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingUnknownError(URL_VARIABLE, "an address without meaning", form) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise SettingUnknownError(URL_VARIABLE, "an address without meaning", form)
    if parts.username is not None or parts.query or parts.fragment:
        raise SettingUnknownError(URL_VARIABLE, "an address with more than a place", form)
