"""Who is told when something of a team's tables is wrong: the fields of ``owners.yaml``.

What belongs here: teams, their receivers, and the rules between these fields. What does not: what
is told (``alerts/``) and any secret. A webhook's URL and the mail server's password are secrets; a
declaration names the environment variable that holds each, and nothing else of it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from carbon_pipelines.catalog.values import Declared, Name, Team, mistake

AlertSeverity = Literal["critical", "warning"]
SEVERITIES: tuple[AlertSeverity, ...] = ("critical", "warning")

_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[A-Za-z0-9.-]+")


def _variable(value: object) -> object:
    """Accept only what an environment variable may be called; a secret looks otherwise."""
    if isinstance(value, str) and re.fullmatch(r"[A-Z][A-Z0-9_]{0,127}", value):
        return value
    reason = (
        "must be the name of an environment variable, like CARBON_ALERTS_SLACK_SALES, never the "
        "secret itself"
    )
    raise mistake(reason)


def _address(value: object) -> object:
    """Accept a bare e-mail address."""
    if isinstance(value, str) and _ADDRESS.fullmatch(value):
        return value
    reason = "must be an e-mail address, like oncall@example.org"
    raise mistake(reason)


def _port(value: object) -> object:
    """Accept a TCP port."""
    if re.fullmatch("[1-9][0-9]{0,4}", str(value)) and int(str(value)) < 65_536:
        return int(str(value))
    reason = "must be a port, like 587"
    raise mistake(reason)


Variable = Annotated[str, BeforeValidator(_variable)]
Address = Annotated[str, BeforeValidator(_address)]


class ReceiverSpec(Declared):
    """One way to reach a team.

    ``slack`` posts to an incoming webhook and ``webhook`` posts what Alertmanager would; both read
    the URL from ``url_variable``, and a webhook may need a bearer token from ``token_variable``.
    ``email`` writes to each address in ``to``. It is told of alerts of its ``severities`` only.
    """

    kind: Literal["slack", "email", "webhook"]
    url_variable: Variable | None = None
    token_variable: Variable | None = None
    to: tuple[Address, ...] = ()
    severities: Annotated[tuple[AlertSeverity, ...], Field(min_length=1)] = SEVERITIES

    @model_validator(mode="after")
    def _as_its_kind_needs(self) -> Self:
        if self.kind == "email":
            if not self.to:
                reason = "who is written to is missing; give addresses, like [oncall@example.org]"
                raise mistake(reason, ("to",))
            for name in ("url_variable", "token_variable"):
                if getattr(self, name) is not None:
                    reason = "belongs to slack and webhook; remove it"
                    raise mistake(reason, (name,))
            return self
        if self.url_variable is None:
            reason = "is missing; it names the variable that holds the URL"
            raise mistake(reason, ("url_variable",))
        if self.to:
            reason = "belongs to email; remove it"
            raise mistake(reason, ("to",))
        if self.kind == "slack" and self.token_variable is not None:
            reason = "belongs to webhook; a Slack webhook's secret is its URL"
            raise mistake(reason, ("token_variable",))
        return self


class SmtpSpec(Declared):
    """The server that e-mail is given to, always under TLS.

    ``starttls`` begins in the clear and goes on only when TLS is agreed; ``tls`` is TLS from the
    first byte. Without ``user`` nobody logs in.
    """

    host: Name
    port: Annotated[int, BeforeValidator(_port)] = 587
    security: Literal["starttls", "tls"] = "starttls"
    sender: Address
    user: Name | None = None
    password_variable: Variable | None = None

    @model_validator(mode="after")
    def _logs_in_whole(self) -> Self:
        if (self.user is None) != (self.password_variable is None):
            reason = '"user" and "password_variable" come together; give both or neither'
            raise mistake(reason, ("password_variable" if self.user is None else "user",))
        return self


Receivers = Annotated[tuple[ReceiverSpec, ...], Field(min_length=1)]


class OwnersSpec(Declared):
    """``owners.yaml``: the receivers of each team, and of what no team of it answers for.

    ``default`` is told of everything that has no other receiver, of each severity.
    """

    default: Receivers
    teams: Mapping[Team, Receivers] = Field(default_factory=dict[str, tuple[ReceiverSpec, ...]])
    smtp: SmtpSpec | None = None

    @model_validator(mode="after")
    def _nothing_falls_between(self) -> Self:
        for severity in SEVERITIES:
            if not any(severity in one.severities for one in self.default):
                reason = f"nobody is told of {severity} alerts; one receiver here has to be"
                raise mistake(reason, ("default",))
        if self.smtp is None:
            for at, receiver in self.placed():
                if receiver.kind == "email":
                    reason = 'e-mail needs the server under "smtp"; declare it'
                    raise mistake(reason, (*at, "kind"))
        return self

    def placed(self) -> Iterator[tuple[tuple[str | int, ...], ReceiverSpec]]:
        """Every receiver, and its path in the file."""
        for index, receiver in enumerate(self.default):
            yield ("default", index), receiver
        for team, receivers in self.teams.items():
            for index, receiver in enumerate(receivers):
                yield ("teams", team, index), receiver

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that hold secrets, each once."""
        named = [
            name
            for _, receiver in self.placed()
            for name in (receiver.url_variable, receiver.token_variable)
        ]
        named.append(self.smtp.password_variable if self.smtp else None)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    def __hash__(self) -> int:
        return hash(self.default)
