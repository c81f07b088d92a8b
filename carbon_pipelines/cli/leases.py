"""``carbon lease``: keeping a table snapshot for a reader.

What belongs here: taking, showing and giving back. What does not: what a lease is
(``maintenance/leases.py``).
"""

from datetime import UTC, datetime, timedelta

import click

from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.cli.options import DURATION
from carbon_pipelines.cli.pipeline import TABLES, chosen_tables


@cli.group()
def lease() -> None:
    """Keep table snapshots for readers until a moment."""


@lease.command("take")
@click.argument("table")
@click.option("--owner", required=True, help="Who reads: doris, superset, dbt, a person.")
@click.option("--for", "lasts", type=DURATION, required=True, help="How long: 30m, 6h, 2d.")
@click.option(
    "--snapshot", default="main", show_default=True, help="An id, or a branch or tag that is at it."
)
def take(table: str, owner: str, lasts: timedelta, snapshot: str) -> None:
    """Keep a snapshot of TABLE (<database>/<table>), and print the lease's name.

    Expiry keeps the snapshot with all its files until then; it can be read by its id meanwhile.
    """
    declared, endpoints = surroundings.table(table), surroundings.endpoints()
    from carbon_pipelines.lake.connection import open_catalog
    from carbon_pipelines.maintenance.leases import LeaseRequest, take_lease

    wanted = int(snapshot) if snapshot.isdecimal() else snapshot
    request = LeaseRequest(owner, lasts, wanted)
    with open_catalog(endpoints.lake) as catalog:
        granted = take_lease(catalog, declared.identifier, request, datetime.now(UTC))
    click.echo(f"{declared.label}: {granted.sentence()}")


@lease.command("list")
@TABLES
def list_(patterns: tuple[str, ...]) -> None:
    """Show the leases of TABLES, expired ones too that no expiry has removed yet."""
    chosen, endpoints = chosen_tables(surroundings.catalog(), patterns), surroundings.endpoints()
    from carbon_pipelines.lake.connection import load_table, open_catalog
    from carbon_pipelines.maintenance.leases import list_leases

    now, shown = datetime.now(UTC), 0
    with open_catalog(endpoints.lake) as catalog:
        for table in chosen:
            loaded = load_table(catalog, table.identifier)
            for one in list_leases(loaded.metadata) if loaded is not None else ():
                ended = "" if one.holds(now) else " (expired)"
                click.echo(f"{table.label}: {one.sentence()}{ended}")
                shown += 1
    if not shown:
        click.echo("There are no leases.")


@lease.command("drop")
@click.argument("table")
@click.argument("name")
def drop(table: str, name: str) -> None:
    """Give the lease NAME of TABLE back before it ends."""
    declared, endpoints = surroundings.table(table), surroundings.endpoints()
    from carbon_pipelines.lake.connection import open_catalog
    from carbon_pipelines.maintenance.leases import drop_lease

    with open_catalog(endpoints.lake) as catalog:
        drop_lease(catalog, declared.identifier, name)
    click.echo(f"{declared.label}: {name} is dropped; its snapshot goes when nothing else keeps it")
