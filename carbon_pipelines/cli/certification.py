"""``carbon certify``, ``certified``, ``rollback`` and ``resume``: what audited readers see.

What belongs here: choosing tables, printing plans and what came of them. What does not: anything
that decides.
"""

from datetime import UTC, datetime

import click

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.cli.pipeline import TABLES, chosen_tables, each, end


@cli.command()
@TABLES
@click.option("--full", is_flag=True, help="Compare and score all rows, whatever is known.")
def certify(patterns: tuple[str, ...], *, full: bool) -> None:
    """Compare TABLES with their source, score them, and certify them if both are good.

    TABLES are as in sync. The branch certified moves to exactly the snapshot that was looked at;
    otherwise it stays, and the command exits with 1.
    """
    catalog, endpoints = surroundings.catalog(), surroundings.endpoints()
    chosen = chosen_tables(catalog, patterns)
    from carbon_pipelines.quality.certification import certify_table
    from carbon_pipelines.quality.lake_scores import open_scores

    with open_scores(endpoints.lake) as scores:

        def certified(table: TableSpec) -> bool:
            done = certify_table(
                table,
                catalog.database(table.database),
                endpoints,
                scores,
                by=surroundings.user(),
                full=full,
            )
            click.echo(done.proof())
            click.echo(f"{table.label}: score {done.scored.score.verdict()}")
            click.echo(done.sentence())
            return done.is_certified

        failed = each(chosen, certified)
    end(failed)


@cli.command()
@TABLES
def certified(patterns: tuple[str, ...]) -> None:
    """Show what audited readers see of TABLES, and what they saw before."""
    chosen, endpoints = chosen_tables(surroundings.catalog(), patterns), surroundings.endpoints()
    from carbon_pipelines.lake.certificate import (
        find_certified,
        past_certificates,
        shown_standing,
    )
    from carbon_pipelines.lake.connection import load_table, open_catalog

    with open_catalog(endpoints.lake) as catalog:
        for table in chosen:
            loaded = load_table(catalog, table.identifier)
            if loaded is None:
                click.echo(f"{table.label}: nothing is copied yet")
                continue
            standing = find_certified(loaded.metadata, table.label)
            click.echo(f"{table.label}: {shown_standing(standing)}")
            for one in past_certificates(loaded.metadata, table.label):
                if standing is not None and one.snapshot_id != standing.snapshot_id:
                    click.echo(f"  before: {one.sentence()}")


@cli.command()
@click.argument("table")
@click.option("--to", type=int, help="A snapshot that they saw before; without it, the last one.")
@click.option("--reason", help="With --yes: why, for the table's history.")
@click.option("--yes", is_flag=True, help="Do it; without this it is only shown.")
def rollback(table: str, to: int | None, reason: str | None, *, yes: bool) -> None:
    """Show readers of TABLE (<database>/<table>) an earlier certified snapshot again.

    They stay there, whatever becomes of newer snapshots, until "carbon resume".
    """
    if yes and not reason:
        message = '--yes needs --reason "why"; it is written to the table. Nothing was changed.'
        raise click.UsageError(message)
    declared, endpoints = surroundings.table(table), surroundings.endpoints()
    from carbon_pipelines.lake.connection import open_catalog
    from carbon_pipelines.quality.rollback import apply_rollback, plan_rollback

    with open_catalog(endpoints.lake) as catalog:
        plan = plan_rollback(catalog, declared, to)
        click.echo(plan.describe())
        if not (yes and reason):
            click.echo('Nothing was changed. Add --yes --reason "why" to do it.')
            return
        by, now = surroundings.user(), datetime.now(UTC)
        standing = apply_rollback(catalog, plan, by=by, reason=reason, now=now)
    click.echo(f"{declared.label}: set back to table snapshot {standing.snapshot_id}")


@cli.command()
@click.argument("table")
@click.option("--reason", required=True, help="Why, for the table's history.")
def resume(table: str, reason: str) -> None:
    """Let readers of TABLE who were set back go on with the next snapshot that is good."""
    declared, endpoints = surroundings.table(table), surroundings.endpoints()
    from carbon_pipelines.lake.connection import open_catalog
    from carbon_pipelines.quality.rollback import apply_resume, plan_resume

    with open_catalog(endpoints.lake) as catalog:
        plan = plan_resume(catalog, declared)
        apply_resume(catalog, plan, by=surroundings.user(), reason=reason)
    click.echo(f'{declared.label}: goes on; "carbon certify {declared.label}" looks at once')
