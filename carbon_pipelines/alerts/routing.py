"""Who there is to be told, and who is told of what.

What belongs here: receivers made of the declaration and the environment, and the way of an alert to
them. What does not: what they are sent (``payloads.py``).

Nothing ends nowhere. What a team has no receiver for, what no team owns, and what a team's receiver
cannot be told (its variable is not set, it refused, it does not answer) goes to the default ones.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from carbon_pipelines.alerts.alert import Alert
from carbon_pipelines.catalog.owners import SEVERITIES, AlertSeverity, OwnersSpec, ReceiverSpec
from carbon_pipelines.errors import SettingUnknownError

ALERTMANAGER_VARIABLE = "CARBON_ALERTS_ALERTMANAGER_URI"
ALERTMANAGER = "alertmanager"
OURS = frozenset({"ReceiverRefused"})
"""Alerts about the telling itself: always sent directly."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The mail server, and who logs in to it."""

    host: str
    port: int
    security: Literal["starttls", "tls"]
    sender: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Receiver:
    """One that can be told; ``name`` holds no secret and stays as long as it is the same."""

    name: str
    kind: Literal["slack", "email", "webhook", "alertmanager"]
    url: str = field(default="", repr=False)
    token: str | None = field(default=None, repr=False)
    basic: tuple[str, str] | None = field(default=None, repr=False)
    address: str = ""
    mailbox: Mailbox | None = None


@dataclass(frozen=True, slots=True)
class Routing:
    """Receivers by name, and the names for each team and severity.

    ``default`` and ``teams`` hold also receivers that are not there; ``missing`` says which
    variables they lack.
    """

    receivers: Mapping[str, Receiver]
    default: Mapping[AlertSeverity, tuple[str, ...]]
    teams: Mapping[str, Mapping[AlertSeverity, tuple[str, ...]]]
    missing: Mapping[str, tuple[str, ...]]
    out_of_order: frozenset[str] = frozenset()

    def routes(self, alert: Alert) -> Collection[str]:
        """Whom an alert is for."""
        default = [
            name
            for name in self.default.get(alert.severity, ())
            if name in self.receivers and name != alert.labels.get("receiver")
        ]
        if alert.name in OURS:
            return tuple(dict.fromkeys(default))
        if ALERTMANAGER in self.receivers:
            wanted: tuple[str, ...] = (ALERTMANAGER,)
        else:
            wanted = self.teams.get(alert.labels.get("team", ""), {}).get(alert.severity, ())
        there = [name for name in wanted if name in self.receivers]
        fails = any(name not in self.receivers or name in self.out_of_order for name in wanted)
        return tuple(dict.fromkeys([*there, *(default if fails or not wanted else ())]))


def make_routing(owners: OwnersSpec | None, environ: Mapping[str, str]) -> Routing:
    """The receivers that the environment has secrets for, and Alertmanager if it is named.

    Raises:
        SettingUnknownError: The variable of Alertmanager holds no address, or one that would send
            a password in the clear.
    """
    receivers: dict[str, Receiver] = {}
    missing: dict[str, tuple[str, ...]] = {}
    uri = environ.get(ALERTMANAGER_VARIABLE)
    if uri:
        receivers[ALERTMANAGER] = _alertmanager(uri)
    if owners is None:
        return Routing(receivers, {}, {}, missing)
    mailbox, lacking = _mailbox(owners, environ)

    def named(specs: tuple[ReceiverSpec, ...]) -> Mapping[AlertSeverity, tuple[str, ...]]:
        by_severity: dict[AlertSeverity, list[str]] = {severity: [] for severity in SEVERITIES}
        for spec in specs:
            needs = lacking if spec.kind == "email" else ()
            variables = (spec.url_variable, spec.token_variable)
            needs = (*needs, *(name for name in variables if name and not environ.get(name)))
            for receiver in _receivers(spec, environ, mailbox):
                if needs:
                    missing[receiver.name] = needs
                else:
                    receivers[receiver.name] = receiver
                for severity in spec.severities:
                    by_severity[severity].append(receiver.name)
        return {severity: tuple(names) for severity, names in by_severity.items()}

    default = named(owners.default)
    teams = {team: named(specs) for team, specs in owners.teams.items()}
    return Routing(receivers, default, teams, missing)


def _receivers(
    spec: ReceiverSpec, environ: Mapping[str, str], mailbox: Mailbox | None
) -> list[Receiver]:
    """One for each mail address, so that one that is refused does not hold up another."""
    if spec.kind == "email":
        return [
            Receiver(f"email:{address}", "email", address=address, mailbox=mailbox)
            for address in spec.to
        ]
    variable = spec.url_variable or ""
    token = environ.get(spec.token_variable) if spec.token_variable else None
    url = environ.get(variable, "")
    return [Receiver(f"{spec.kind}:{variable}", spec.kind, url=url, token=token)]


def _mailbox(
    owners: OwnersSpec, environ: Mapping[str, str]
) -> tuple[Mailbox | None, tuple[str, ...]]:
    smtp = owners.smtp
    if smtp is None:
        return None, ()
    password = environ.get(smtp.password_variable) if smtp.password_variable else None
    lacking = (smtp.password_variable,) if smtp.password_variable and not password else ()
    mailbox = Mailbox(smtp.host, smtp.port, smtp.security, smtp.sender, smtp.user, password)
    return mailbox, lacking


def _alertmanager(uri: str) -> Receiver:
    form = ("http[s]://[user:password@]host[:port][/path]",)
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise SettingUnknownError(ALERTMANAGER_VARIABLE, "no address", form) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingUnknownError(ALERTMANAGER_VARIABLE, "no address", form)
    if parts.password and parts.scheme == "http":
        raise SettingUnknownError(ALERTMANAGER_VARIABLE, "a password in the clear", ("https://…",))
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = host if port is None else f"{host}:{port}"
    base = f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return Receiver(ALERTMANAGER, "alertmanager", url=f"{base}/api/v2/alerts", basic=login)
