"""Where Superset is: CARBON_SUPERSET_* variables, else the embedded one.

What belongs here: reading them. What does not: asking Superset anything.

    CARBON_SUPERSET_URL         "http[s]://host[:port][/path]"; without it, and without an embedded
                                Superset, it is not configured, which is no error
    CARBON_SUPERSET_USER        who we are there, with CARBON_SUPERSET_PASSWORD
    CARBON_SUPERSET_PROVIDER    "db" (default) or "ldap"
    CARBON_SUPERSET_TRINO_URI   how Superset itself reaches Trino, as CARBON_TRINO_URI is written;
                                without it as we do
    CARBON_SUPERSET_DIR         dashboards as code (default: the sample's)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from carbon_pipelines.embedded.endpoints import home_directory, load_embedded
from carbon_pipelines.embedded.names import LOOPBACK, SUPERSET_USER
from carbon_pipelines.errors import SettingMissingError, SettingUnknownError

URL_VARIABLE = "CARBON_SUPERSET_URL"
NOT_CONFIGURED = f"Superset is not configured: {URL_VARIABLE} is not set"
"""What is shown of Superset then; it is neither well nor ill."""
PROVIDERS = ("db", "ldap")


@dataclass(frozen=True, slots=True)
class SupersetSettings:
    """A Superset, and who we are in it."""

    url: str
    user: str
    password: str = field(repr=False)
    provider: str = "db"

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"Superset at {urlsplit(self.url).netloc}"


def is_configured(environ: Mapping[str, str]) -> bool:
    """Whether there is a Superset to serve."""
    if environ.get(URL_VARIABLE):
        return True
    embedded = load_embedded(home_directory(environ))
    return embedded is not None and embedded.superset_port is not None


def load_superset_settings(environ: Mapping[str, str]) -> SupersetSettings | None:
    """What the environment says of Superset, else the embedded one; None if there is none.

    Raises:
        SettingMissingError: There is an address and no user or password.
        SettingUnknownError: A variable has a value without meaning.
    """
    url = environ.get(URL_VARIABLE, "").rstrip("/")
    if not url:
        embedded = load_embedded(home_directory(environ))
        if embedded is None or embedded.superset_port is None:
            return None
        address = f"http://{LOOPBACK}:{embedded.superset_port}"
        return SupersetSettings(address, SUPERSET_USER, embedded.superset_password)
    _check(url)
    for name, what in (("USER", "who we are in Superset"), ("PASSWORD", "the user's password")):
        if not environ.get(f"CARBON_SUPERSET_{name}"):
            raise SettingMissingError(f"CARBON_SUPERSET_{name}", what)
    provider = environ.get("CARBON_SUPERSET_PROVIDER") or PROVIDERS[0]
    if provider not in PROVIDERS:
        raise SettingUnknownError("CARBON_SUPERSET_PROVIDER", provider, PROVIDERS)
    user, password = environ["CARBON_SUPERSET_USER"], environ["CARBON_SUPERSET_PASSWORD"]
    return SupersetSettings(url, user, password, provider)


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        odd = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        odd = True
    if odd or "@" in url or "?" in url:
        # The value stays unsaid: it may hold a password.
        known = ("http[s]://host[:port][/path], without a user",)
        raise SettingUnknownError(URL_VARIABLE, "an address without meaning", known)
