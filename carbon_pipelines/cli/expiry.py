"""``carbon expire``: taking snapshots and their files away.

What belongs here: choosing tables, showing the plan, doing it if told to. What does not: what goes
(``maintenance/expiry.py``).
"""

from datetime import UTC, datetime, timedelta

import click

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.cli.options import DURATION
from carbon_pipelines.cli.pipeline import TABLES, chosen_tables, each, end


@cli.command()
@TABLES
@click.option(
    "--older-than", type=DURATION, default="1d", show_default=True, help="Younger snapshots stay."
)
@click.option(
    "--keep",
    type=int,
    default=10,
    show_default=True,
    help="So many of the newest stay, however old.",
)
@click.option("--at-most", type=int, help="Only so many of the newest stay for their age.")
@click.option("--apply", "do", is_flag=True, help="Do it; without it, only the plan is shown.")
def expire(
    patterns: tuple[str, ...], older_than: timedelta, keep: int, at_most: int | None, *, do: bool
) -> None:
    """Take old snapshots of TABLES away, with the files that only they need.

    TABLES are as in sync. A table's properties history.expire.* come before the options. Branches,
    tags, certified and leases keep what they are at. Exit 1 if a table failed.
    """
    catalog, endpoints = surroundings.catalog(), surroundings.endpoints()
    chosen = chosen_tables(catalog, patterns)
    from carbon_pipelines.lake.connection import open_catalog
    from carbon_pipelines.maintenance.expiry_run import (
        expire_table,
        load_expiry_plan,
        preview_files,
    )
    from carbon_pipelines.maintenance.retention import Retention

    retention, now = Retention(older_than, keep, at_most), datetime.now(UTC)
    with open_catalog(endpoints.lake) as lake:

        def expired(table: TableSpec) -> bool:
            if do:
                click.echo(expire_table(lake, table.identifier, retention, now).sentence())
                return True
            loaded, plan = load_expiry_plan(lake, table.identifier, retention, now)
            click.echo(plan.describe())
            if plan.snapshots:
                click.echo(f"  files that go: {preview_files(loaded, plan).sentence()}")
            return True

        failed = each(chosen, expired)
    if not do:
        click.echo("Nothing was changed. Run it again with --apply.")
    end(failed)
