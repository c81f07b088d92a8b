"""``carbon park`` and ``release``: what people do about a table that cannot go on.

What belongs here: choosing tables, showing the plan, doing it if told to. What does not: anything
that decides. Without ``--yes`` a command shows what it would do and changes nothing.
"""

from collections.abc import Sequence

import click

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli

REASON = click.option(
    "--reason", required=True, help="Why; it is written down in the table's history."
)
YES = click.option("--yes", is_flag=True, help="Do it; without it, only the plan is shown.")


@cli.command()
@click.argument("tables", nargs=-1, required=True)
@REASON
def park(tables: tuple[str, ...], reason: str) -> None:
    """Stop TABLES (<database>/<table>) where they stand until they are released.

    Kafka keeps their changes as long as it keeps anything; the other tables go on.
    """
    chosen, endpoints = _chosen(tables), surroundings.endpoints()
    from carbon_pipelines.lake.release import park_by_hand

    for table in chosen:
        parked = park_by_hand(table, endpoints, reason=reason, by=surroundings.user())
        click.echo(f"{table.label} is parked at {parked.stands}: {parked.reason}")


@cli.command()
@click.argument("tables", nargs=-1, required=True)
@REASON
@YES
def release(tables: tuple[str, ...], reason: str, *, yes: bool) -> None:
    """Let parked TABLES (<database>/<table>) go on from where they stand.

    If the cause is still there, the next sync parks the table again at the same place.
    """
    chosen, endpoints = _chosen(tables), surroundings.endpoints()
    from carbon_pipelines.lake.release import apply_release, plan_release

    plans = plan_release(chosen, endpoints)
    for plan in plans:
        click.echo(plan.describe())
    if not yes:
        click.echo("Nothing was changed. Run it again with --yes to release.")
        return
    for plan in plans:
        apply_release(plan, endpoints, reason=reason, by=surroundings.user())
        click.echo(f'{plan.table.label} is released; "carbon sync {plan.table.label}" goes on.')


def _chosen(patterns: Sequence[str]) -> tuple[TableSpec, ...]:
    return surroundings.catalog().select(patterns)
