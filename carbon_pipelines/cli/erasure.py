"""``carbon erase``: a person's rows leave a table and all that belongs to it.

What belongs here: what is asked, showing the plan, doing it if told to. What does not: what goes
and when (``maintenance/erasure.py``).
"""

import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime

import click

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.cli.pipeline import chosen_tables, each, end

NOTHING_CHANGED = "Nothing was changed. Run it again with --apply."


@cli.command()
@click.argument("arguments", nargs=-1, metavar="TABLE [KEY] | --due [TABLES]...")
@click.option(
    "--key", "columns", multiple=True, metavar="NAME=VALUE", help="One column of the key."
)
@click.option("--by", type=click.DateTime(["%Y-%m-%d"]), help="When everything is gone (UTC).")
@click.option("--reason", help="Why; written down until all is done. Never the person's data.")
@click.option("--due", is_flag=True, help="Carry out what was asked for before; needs no key.")
@click.option("--apply", "do", is_flag=True, help="Do it; without it, only the plan is shown.")
def erase(
    arguments: tuple[str, ...],
    columns: tuple[str, ...],
    by: datetime | None,
    reason: str | None,
    *,
    due: bool,
    do: bool,
) -> None:
    """Erase the rows of KEY from TABLE, its past and its dead letters, by a date.

    The key has to be deleted in the source first. What may go goes at once, the rest at the date,
    by "carbon erase --due --apply": run that every day. KEY may be - to read it from standard
    input. A key of several columns, or of a table without one, is --key for each column.
    """
    if due:
        if columns or by or reason:
            message = "--due takes tables alone: what was asked for is written in them."
            raise click.UsageError(message)
        _carry_out_due(arguments, do=do)
        return
    if not 1 <= len(arguments) <= 2 or by is None or not reason:
        message = 'A TABLE, its KEY, --by and --reason "why" are needed.'
        raise click.UsageError(message)
    value = arguments[1] if len(arguments) == 2 else None
    if value == "-":
        value = sys.stdin.readline().rstrip("\n")
    _ask(arguments[0], value, _pairs(columns), by.date(), reason, do=do)


def _ask(
    label: str, value: str | None, columns: dict[str, str], by: date, reason: str, *, do: bool
) -> None:
    from carbon_pipelines.lake.connection import open_catalog
    from carbon_pipelines.maintenance.deletion_check import Where
    from carbon_pipelines.maintenance.erasure_asking import Asked, apply_erasure, plan_erasure

    table, endpoints = surroundings.table(label), surroundings.endpoints()
    database = surroundings.catalog().database(table.database)
    asked, now = Asked(value, columns, by, reason, surroundings.user()), datetime.now(UTC)
    with open_catalog(endpoints.lake) as lake:
        where = Where(lake, table, database, endpoints)
        if do:
            click.echo(apply_erasure(where, asked, now).sentence())
            return
        click.echo(plan_erasure(where, asked, now).describe())
    click.echo(NOTHING_CHANGED)


def _carry_out_due(patterns: Sequence[str], *, do: bool) -> None:
    from carbon_pipelines.lake.connection import open_catalog
    from carbon_pipelines.maintenance.deletion_check import Where
    from carbon_pipelines.maintenance.erasure import apply_pending
    from carbon_pipelines.maintenance.erasure_asking import plan_pending

    catalog, endpoints = surroundings.catalog(), surroundings.endpoints()
    chosen, now = chosen_tables(catalog, patterns), datetime.now(UTC)
    with open_catalog(endpoints.lake) as lake:

        def carried_out(table: TableSpec) -> bool:
            where = Where(lake, table, catalog.database(table.database), endpoints)
            if do:
                lines = [done.sentence() for done in apply_pending(where, now)]
            else:
                lines = [plan.describe() for plan in plan_pending(where, now)]
            click.echo("\n".join(lines) if lines else f"{table.label}: nothing is to be erased")
            return True

        failed = each(chosen, carried_out)
    if not do:
        click.echo(NOTHING_CHANGED)
    end(failed)


def _pairs(columns: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in columns:
        name, found, value = text.partition("=")
        if not (found and name):
            message = "--key is name=value."
            raise click.UsageError(message)
        pairs[name] = value
    return pairs
