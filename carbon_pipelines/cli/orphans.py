"""``carbon orphans``: objects that nothing refers to.

What belongs here: choosing tables, showing the plan, doing it if told to. What does not: what an
orphan is (``maintenance/orphans.py``) and moving it (``maintenance/quarantine.py``).
"""

from datetime import UTC, datetime
from typing import Any

import click

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.cli.options import DURATION
from carbon_pipelines.cli.pipeline import TABLES, chosen_tables, each, end


class _Find(click.Group):
    """``carbon orphans`` without a command of its own finds them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``find`` in front of what names no command."""
        if not args or args[0] not in {*self.commands, "-h", "--help"}:
            args = ["find", *args]
        return super().parse_args(ctx, args)


@cli.group(cls=_Find)
def orphans() -> None:
    """Find objects that nothing refers to, move them aside, bring them back.

    "carbon orphans [TABLES]... [--apply]" is "carbon orphans find".
    """


@orphans.command("find")
@TABLES
@click.option(
    "--older-than", type=DURATION, default="3d", show_default=True, help="Younger objects stay."
)
@click.option(
    "--may-take-files-of-running-writers",
    "running",
    is_flag=True,
    help="Allow an age below 3d: files of a commit under way may go, and the table breaks.",
)
@click.option("--quarantine-for", type=DURATION, default="7d", show_default=True)
@click.option("--apply", "do", is_flag=True, help="Do it; without it, only the plan is shown.")
def find(patterns: tuple[str, ...], *, do: bool, **options: Any) -> None:
    """Move the orphans of TABLES into quarantine, and remove what has been there long enough.

    TABLES are as in sync. "carbon orphans restore" brings back what is in quarantine.
    """
    catalog, endpoints = surroundings.catalog(), surroundings.endpoints()
    chosen = chosen_tables(catalog, patterns)
    from carbon_pipelines.lake.connection import load_lake_table, open_catalog
    from carbon_pipelines.maintenance.neighbours import load_neighbours
    from carbon_pipelines.maintenance.orphans import OrphanRules, plan_orphans
    from carbon_pipelines.maintenance.quarantine import apply_orphans, apply_removal, plan_removal
    from carbon_pipelines.maintenance.quarantine_record import load_quarantines

    rules = OrphanRules(options["older_than"], may_take_running=options["running"])
    now = datetime.now(UTC)
    with open_catalog(endpoints.lake) as lake:
        neighbours = load_neighbours(lake)

        def looked_through(table: TableSpec) -> bool:
            plan = plan_orphans(lake, table.identifier, rules, now, neighbours=neighbours)
            click.echo(plan.describe())
            loaded = load_lake_table(lake, table.identifier)
            due = plan_removal(load_quarantines(loaded), options["quarantine_for"], now)
            for one in due:
                click.echo(f"  to be removed for good: {one.sentence()}")
            if do:
                click.echo(apply_orphans(lake, table.identifier, plan, now).sentence())
                apply_removal(loaded, due)
            return True

        failed = each(chosen, looked_through)
    if not do:
        click.echo("Nothing was changed. Run it again with --apply.")
    end(failed)


@orphans.command("restore")
@click.argument("table")
@click.option("--run", default="", help="Only this quarantine; without it, all of them.")
@click.option("--apply", "do", is_flag=True, help="Do it; without it, only the plan is shown.")
def restore(table: str, run: str, *, do: bool) -> None:
    """Bring files of TABLE (<database>/<table>) back from quarantine to where they were."""
    declared, endpoints = surroundings.table(table), surroundings.endpoints()
    from carbon_pipelines.lake.connection import load_lake_table, open_catalog
    from carbon_pipelines.maintenance.quarantine import apply_restore, plan_restore

    with open_catalog(endpoints.lake) as lake:
        loaded = load_lake_table(lake, declared.identifier)
        plan = plan_restore(loaded, run)
        for one in plan:
            click.echo(one.sentence())
        if not do:
            click.echo("Nothing was changed. Run it again with --apply.")
            return
        click.echo(apply_restore(loaded, plan).sentence())
