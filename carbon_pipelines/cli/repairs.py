"""``carbon park``, ``release`` and ``replay``: what people do about a table that cannot go on.

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


@cli.command()
@click.argument("tables", nargs=-1, required=True)
@REASON
@click.option(
    "--drop",
    "offsets",
    type=int,
    multiple=True,
    help="Instead, give up the message at this offset of one table, if it belongs to no row.",
)
@YES
def replay(tables: tuple[str, ...], reason: str, offsets: tuple[int, ...], *, yes: bool) -> None:
    """Put the dead letters of TABLES back, those whose cause is gone.

    TABLES are <database>/<table>, <database>/* or <database>. The plan tries every one of them.
    """
    chosen, endpoints = _chosen(tables), surroundings.endpoints()
    from carbon_pipelines.lake.replay import apply_replay, drop_dead_letters, plan_replay

    if offsets and len(chosen) != 1:
        message = "--drop takes one table: offsets are those of its topic."
        raise click.UsageError(message)
    plans = plan_replay(chosen, endpoints)
    for plan in plans:
        click.echo(plan.describe())
    if offsets:
        click.echo(f"To be given up: {', '.join(map(str, offsets))}")
    if not yes:
        click.echo("Nothing was changed. Run it again with --yes.")
        return
    by = surroundings.user()
    if offsets:
        dropped = drop_dead_letters(chosen[0], endpoints, offsets, reason=reason, by=by)
        click.echo(f"{chosen[0].label}: {dropped} dead letters given up")
        return
    for plan in plans:
        click.echo(apply_replay(plan, endpoints, reason=reason, by=by).sentence())


def _chosen(patterns: Sequence[str]) -> tuple[TableSpec, ...]:
    return surroundings.catalog().select(patterns)
