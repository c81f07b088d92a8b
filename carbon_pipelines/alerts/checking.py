"""Whether alerts would reach everybody, and a test that shows it.

What belongs here: what is missing, as sentences, and a test alert with its way. What does not:
printing (``cli/alerts.py``) and the mistakes that keep ``owners.yaml`` from being read.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from carbon_pipelines.alerts.alert import Alert
from carbon_pipelines.alerts.pages import Pages
from carbon_pipelines.alerts.payloads import alertmanager_body, mail, slack_body, webhook_body
from carbon_pipelines.alerts.routing import ALERTMANAGER, Receiver, Routing
from carbon_pipelines.alerts.telling import Message
from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.owners import SEVERITIES
from carbon_pipelines.errors import TeamUnknownError


@dataclass(frozen=True, slots=True)
class Reach:
    """What a check found. ``problems`` keep somebody from being told; ``notes`` do not."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]


def teams_of(catalog: Catalog) -> tuple[str, ...]:
    """Every team that owns a table or a database."""
    owners = {table.owner for table in catalog.tables}
    owners |= {database.owner for database in catalog.databases}
    return tuple(sorted(owners))


def check_reach(catalog: Catalog, routing: Routing) -> Reach:
    """Compare who owns something with who can be told; the catalog has owners' receivers."""
    problems: list[str] = []
    notes: list[str] = []
    declared = catalog.owners.teams if catalog.owners is not None else {}
    owning = teams_of(catalog)
    for team in owning:
        if team not in declared:
            tables = [table.label for table in catalog.tables if table.owner == team]
            owned = ", ".join(tables[:3]) + (", ..." if len(tables) > 3 else "") or "a database"
            problems.append(f"{team} owns {owned} and has no receivers; the default ones are told")
    for name, variables in sorted(routing.missing.items()):
        problems.append(f"{name} cannot be told: {', '.join(variables)} is not set")
    problems.extend(
        f"no default receiver for {severity} alerts can be told"
        for severity in SEVERITIES
        if not any(name in routing.receivers for name in routing.default.get(severity, ()))
    )
    notes.extend(f"{team} owns nothing here" for team in sorted(set(declared) - set(owning)))
    if ALERTMANAGER in routing.receivers:
        notes.append("Alertmanager is told of everything; receivers only if it does not answer")
    return Reach(tuple(problems), tuple(notes))


def plan_test(
    catalog: Catalog, routing: Routing, pages: Pages, *, team: str | None, now: float
) -> tuple[Message, ...]:
    """A test alert of each severity, for each receiver of a team (None: of all, and the default).

    Receivers that cannot be told are not among them.

    Raises:
        TeamUnknownError: The team owns nothing and has no receivers.
    """
    teams = sorted({*teams_of(catalog), *routing.teams})
    if team is not None and team not in teams:
        raise TeamUnknownError(team, teams)
    chosen: Iterable[str] = ("", *teams) if team is None else (team,)
    messages: dict[tuple[str, str], Message] = {}
    for one in chosen:
        for severity in SEVERITIES:
            alert = Alert(
                name="TestAlert",
                severity=severity,
                labels={"team": one} if one else {"team": "default"},
                summary="This is a test: nothing is wrong. Whoever reads it would be told.",
                since=now,
                link=pages.ui,
                runbook=pages.runbook("TestAlert", None),
            )
            for name in routing.routes(alert):
                messages.setdefault((name, severity), Message(name, alert))
    return tuple(messages.values())


def preview(receiver: Receiver, messages: Sequence[Message], pages: Pages, *, now: float) -> str:
    """What a receiver would be sent, as text; no address of it."""
    if receiver.kind == "email":
        assert receiver.mailbox is not None
        sender = receiver.mailbox.sender
        letter = mail(messages, sender=sender, recipient=receiver.address, now=now)
        return letter.as_string().replace("\r\n", "\n")
    if receiver.kind == "slack":
        return str(slack_body(messages)["text"])
    body: object = (
        alertmanager_body(messages, now=now)
        if receiver.kind == "alertmanager"
        else webhook_body(messages, receiver=receiver.name, pages=pages)
    )
    return json.dumps(body, indent=2)
