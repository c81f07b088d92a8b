"""``carbon alerts``: who is told, and whether it works.

What belongs here: printing, and sending a test if told to. What does not: what is wrong (the sensor
``alerts`` looks for that) and who is told of what (``alerts/routing.py``).
"""

import os
import time
from itertools import groupby

import click

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.errors import OwnersIncompleteError, OwnersMissingError, TestNotSentError


@cli.group()
def alerts() -> None:
    """Show who is told of what is wrong, and try it."""


def _declared() -> Catalog:
    catalog = surroundings.catalog()
    if catalog.owners is None:
        raise OwnersMissingError(str(surroundings.declarations()))
    return catalog


@alerts.command("check")
def check() -> None:
    """Check owners.yaml and its variables; exit 1 if somebody would not be told."""
    from carbon_pipelines.alerts.checking import check_reach, teams_of
    from carbon_pipelines.alerts.pages import pages_of
    from carbon_pipelines.alerts.routing import make_routing
    from carbon_pipelines.catalog.owners import SEVERITIES

    catalog = _declared()
    routing = make_routing(catalog.owners, os.environ)
    pages_of(os.environ)
    owning = {team: routing.teams.get(team, {}) for team in teams_of(catalog)}
    for team, by_severity in {"default": routing.default, **owning}.items():
        for severity in SEVERITIES:
            names = by_severity.get(severity, ())
            shown = [name + (" (not set)" if name in routing.missing else "") for name in names]
            click.echo(f"{team}  {severity}  ->  {', '.join(shown) or 'the default receivers'}")
    reach = check_reach(catalog, routing)
    for note in reach.notes:
        click.echo(f"{note}.")
    if reach.problems:
        raise OwnersIncompleteError(reach.problems)


@alerts.command("render")
@click.option(
    "--secrets",
    default="/etc/alertmanager/secrets",
    show_default=True,
    help="Where Alertmanager finds a file for each variable, called like it.",
)
def render(secrets: str) -> None:
    """Print Alertmanager's configuration: the receivers and ways of owners.yaml."""
    from carbon_pipelines.alerts.alertmanager_config import render_config

    owners = _declared().owners
    assert owners is not None
    click.echo(render_config(owners, secrets=secrets), nl=False)


@alerts.command("test")
@click.option("--team", default=None, help="Only the receivers of this team, like team:sales.")
@click.option("--send", "really", is_flag=True, help="Send it. Without, it is only shown.")
def test(team: str | None, *, really: bool) -> None:
    """Show a test alert for each receiver, or send it; exit 1 if one does not accept it."""
    from carbon_pipelines.alerts.checking import plan_test, preview
    from carbon_pipelines.alerts.delivery import make_deliver
    from carbon_pipelines.alerts.pages import pages_of
    from carbon_pipelines.alerts.routing import make_routing
    from carbon_pipelines.alerts.sending import send

    catalog, now = _declared(), time.time()
    routing, pages = make_routing(catalog.owners, os.environ), pages_of(os.environ)
    messages = sorted(
        plan_test(catalog, routing, pages, team=team, now=now), key=lambda one: one.receiver
    )
    if not messages:
        lacking = sorted({name for names in routing.missing.values() for name in names})
        click.echo(f"Not configured: no receiver has its variable ({', '.join(lacking)}).")
        return
    if not really:
        for name, group in groupby(messages, key=lambda one: one.receiver):
            click.echo(f"{name}:\n")
            text = preview(routing.receivers[name], list(group), pages, now=now)
            click.echo("".join(f"    {line}\n" for line in text.splitlines()))
        click.echo("Nothing was sent. Add --send to send it.")
        return
    sent = send(messages, make_deliver(routing.receivers, pages, clock=time.time))
    for name in dict.fromkeys(message.receiver for message in sent.accepted):
        click.echo(f"{name} accepted it.")
    if sent.refused:
        raise TestNotSentError(
            [f"{name}: {refusal.reason}" for name, refusal in sent.refused.items()]
        )
