"""Where Doris is: CARBON_DORIS_* variables.

What belongs here: reading them. What does not: connecting.

    CARBON_DORIS_HOST        host of the FE; without it Doris is not configured, which is no error
    CARBON_DORIS_USER        who we are there, with CARBON_DORIS_PASSWORD
    CARBON_DORIS_SQL_PORT    of MySQL's protocol (default 9030)
    CARBON_DORIS_HTTP_PORT   of the FE's HTTP (default 8030, with TLS 8050)
    CARBON_DORIS_TLS         "on" or "off" (default): for SQL and HTTP alike
    CARBON_DORIS_BACKENDS    hosts, "a,b", that the FE may redirect a load to, beside its own
    CARBON_DORIS_DATABASE    where marts go (default "mart")
    CARBON_DORIS_CATALOG     what the lake is called in Doris (default "lake")
    CARBON_DORIS_REPLICAS    of each table (default 3)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from carbon_pipelines.errors import SettingMissingError, SettingUnknownError

HOST_VARIABLE = "CARBON_DORIS_HOST"
NOT_CONFIGURED = f"Doris is not configured: {HOST_VARIABLE} is not set"
"""What is shown of Doris then; it is neither well nor ill."""
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class DorisSettings:
    """A Doris, and where in it our tables are."""

    host: str
    user: str
    password: str = field(default="", repr=False)
    sql_port: int = 9030
    http_port: int = 8030
    tls: bool = False
    backends: frozenset[str] = frozenset()
    database: str = "mart"
    catalog: str = "lake"
    replicas: int = 3

    @property
    def scheme(self) -> str:
        """Of its HTTP."""
        return "https" if self.tls else "http"

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"Doris at {self.host}"

    def trusts(self, host: str) -> bool:
        """Whether the password may go to a host."""
        return host.lower() in {self.host.lower(), *self.backends}


def load_doris_settings(environ: Mapping[str, str]) -> DorisSettings | None:
    """What the environment says of Doris; None if it is not configured.

    Raises:
        SettingMissingError: There is a host and no user.
        SettingUnknownError: A variable has a value without meaning.
    """
    host = environ.get(HOST_VARIABLE, "")
    if not host:
        return None
    user = environ.get("CARBON_DORIS_USER", "")
    if not user:
        raise SettingMissingError("CARBON_DORIS_USER", "who we are in Doris")
    tls = environ.get("CARBON_DORIS_TLS") or "off"
    if tls not in ("on", "off"):
        raise SettingUnknownError("CARBON_DORIS_TLS", tls, ("on", "off"))
    backends = [one.strip() for one in environ.get("CARBON_DORIS_BACKENDS", "").split(",")]
    named = frozenset(_host("CARBON_DORIS_BACKENDS", one).lower() for one in backends if one)
    return DorisSettings(
        host=_host(HOST_VARIABLE, host),
        user=user,
        password=environ.get("CARBON_DORIS_PASSWORD", ""),
        sql_port=_number(environ, "CARBON_DORIS_SQL_PORT", 9030, 65535),
        http_port=_number(environ, "CARBON_DORIS_HTTP_PORT", 8050 if tls == "on" else 8030, 65535),
        tls=tls == "on",
        backends=named,
        database=_word(environ, "CARBON_DORIS_DATABASE", "mart"),
        catalog=_word(environ, "CARBON_DORIS_CATALOG", "lake"),
        replicas=_number(environ, "CARBON_DORIS_REPLICAS", 3, 32),
    )


def _host(variable: str, value: str) -> str:
    if not _HOST.fullmatch(value):
        raise SettingUnknownError(variable, value, ("a host's name or address, without a port",))
    return value


def _number(environ: Mapping[str, str], variable: str, default: int, most: int) -> int:
    text = environ.get(variable) or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise SettingUnknownError(variable, text, (f"a whole number from 1 to {most}",))
    return int(text)


def _word(environ: Mapping[str, str], variable: str, default: str) -> str:
    text = environ.get(variable) or default
    if not _WORD.fullmatch(text):
        raise SettingUnknownError(variable, text, ("a word of a-z, 0-9 and _",))
    return text
