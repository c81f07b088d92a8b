"""``carbon capture``, ``sync``, ``verify`` and ``recopy``: the pipeline without Dagster.

What belongs here: choosing tables, calling the domain, saying what came of it. What does not:
anything that decides.

Mistakes in declarations and addresses are told before the heavy imports, which take a second.
"""

import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

import click

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.errors import CarbonPipelinesError

if TYPE_CHECKING:
    from carbon_pipelines.lake.sync import TableSynced

Unit = TypeVar("Unit")
TABLES = click.argument("patterns", metavar="[TABLES]...", nargs=-1)


@cli.command()
@click.argument("database")
def capture(database: str) -> None:
    """Write DATABASE's changes to Kafka until stopped (Ctrl-C or SIGTERM).

    A service that does not answer is waited for; what cannot pass by itself ends the command.
    """
    declared, endpoints = surroundings.catalog().database(database), surroundings.endpoints()
    from carbon_pipelines.stream.capture import Capture

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    click.echo(f"Capturing {database}. Ctrl-C stops; nothing is lost by stopping.")
    Capture(declared, endpoints).run_forever(stop)
    click.echo(f"Stopped capturing {database}.")


@cli.command()
@TABLES
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait for Kafka.")
def sync(patterns: tuple[str, ...], timeout: float) -> None:
    """Bring Kafka and the lake up to now.

    TABLES are <database>/<table>, <database>/* or <database>; without any, everything declared.
    A table's first sync copies it. One table's error does not stop the others.
    """
    catalog, endpoints = surroundings.catalog(), surroundings.endpoints()
    chosen = chosen_tables(catalog, patterns)
    from carbon_pipelines.lake.sync import sync_table
    from carbon_pipelines.stream.drain import drain

    def drained(name: str) -> bool:
        facts = drain(catalog.database(name), endpoints, timeout=timedelta(seconds=timeout))
        click.echo(f"{name}: Kafka is current at {facts.position}, {facts.events:,} events new")
        for advice in facts.advice:
            click.echo(f"{name}: {advice}")
        for table, refusal in facts.refused.items():
            click.echo(f"{name}/{table} is not captured as declared: {refusal}", err=True)
        return True

    def synced(table: TableSpec) -> bool:
        database = catalog.database(table.database)
        click.echo(_sentence(table, sync_table(table, database, endpoints, report=click.echo)))
        return True

    failed = 0
    for name, tables in groupby(chosen, key=lambda table: table.database):
        if each([name], drained):
            failed += 1
        failed += each(tables, synced)
    end(failed)


@cli.command()
@TABLES
@click.option("--repair", is_flag=True, help="Show what would mend the keys that differ.")
@click.option("--yes", is_flag=True, help="With --repair: do it, then compare again.")
@click.option("--reason", help="With --repair --yes: why, for the table's history.")
def verify(patterns: tuple[str, ...], *, repair: bool, yes: bool, reason: str | None) -> None:
    """Compare source and lake at one consistent point; exit 1 if a row differs.

    TABLES are as in sync. Differing keys are named. A repair gives them the source's rows in one
    commit, also while changes go on; without --yes it is only shown.
    """
    if yes and not (repair and reason):
        message = '--yes belongs to --repair and needs --reason "why".'
        raise click.UsageError(message)
    catalog, endpoints = surroundings.catalog(), surroundings.endpoints()
    chosen = chosen_tables(catalog, patterns)
    from carbon_pipelines.quality.reconcile import verify_table
    from carbon_pipelines.quality.repair import REPAIR_LIMITS, plan_repair, repair_table

    def verified(table: TableSpec) -> bool:
        database = catalog.database(table.database)
        limits = REPAIR_LIMITS if repair else None
        facts = verify_table(table, database, endpoints, limits=limits)
        click.echo(f"{facts.sentence()} ({facts.seconds:.1f} s, {facts.cpu_seconds:.1f} CPU-s)")
        if not repair or not facts.differs:
            return facts.verified
        if not yes:
            click.echo(plan_repair(facts, endpoints).describe())
            click.echo('Nothing was changed. Add --yes --reason "why" to do it.')
            return False
        facts = repair_table(
            facts,
            database,
            endpoints,
            reason=reason or "",
            by=surroundings.user(),
            report=click.echo,
        )
        return facts.verified

    end(each(chosen, verified))


@cli.command()
@click.argument("table")
def recopy(table: str) -> None:
    """Copy TABLE (<database>/<table>) anew from the source, in place of what the lake holds."""
    name, _, logical = table.partition("/")
    database = surroundings.catalog().database(name)
    declared, endpoints = database.table(logical), surroundings.endpoints()
    from carbon_pipelines.lake.recopy import recopy_table

    facts = recopy_table(declared, database, endpoints, report=click.echo)
    click.echo(f"{declared.label}: {facts.rows:,} rows copied at {facts.progress.position}")


@cli.command("start-over")
@click.argument("database")
@click.option("--yes", is_flag=True, help="Do it without asking.")
def start_over(database: str, *, yes: bool) -> None:
    """Delete DATABASE's topics and copy its tables anew, after capture and Kafka came apart.

    Shows what it is going to do and asks. Readers keep the old rows until each copy is whole.
    """
    declared, endpoints = surroundings.catalog().database(database), surroundings.endpoints()
    from carbon_pipelines.lake.start_over import apply_start_over, plan_start_over

    plan = plan_start_over(declared)
    click.echo(plan.describe())
    if not yes:
        click.confirm("Go on?", abort=True)
    for copied in apply_start_over(plan, declared, endpoints, report=click.echo):
        click.echo(copied)


def chosen_tables(catalog: Catalog, patterns: Sequence[str]) -> tuple[TableSpec, ...]:
    """The tables to work on; none at all must not look like success."""
    chosen = catalog.select(patterns)
    if not chosen:
        message = 'No table is declared yet; "carbon tables add" declares one.'
        raise click.ClickException(message)
    return chosen


def each(units: Iterable[Unit], act: Callable[[Unit], bool]) -> int:
    """Act on every unit; an error of one is shown and the rest go on. How many went wrong."""
    failed = 0
    for unit in units:
        try:
            failed += not act(unit)
        except CarbonPipelinesError as error:
            click.echo(f"Error: {error}", err=True)
            failed += 1
    return failed


def end(failed: int) -> None:
    """Exit code 1 if anything went wrong."""
    if failed:
        raise SystemExit(1)


def _sentence(table: TableSpec, facts: "TableSynced") -> str:
    """What one sync did, as one line."""
    pending = len(facts.progress.dead_letters)
    lacks = f"; lacks {pending} events: carbon replay {table.label}" if pending else ""
    if not facts.committed:
        return f"{table.label}: nothing new, {facts.row_count:,} rows at {facts.position}{lacks}"
    seconds = sum(facts.seconds_by_step.values())
    return (
        f"{table.label}: {facts.row_count:,} rows at {facts.position} "
        f"({facts.copied_rows:,} copied, {facts.upserted_rows:,} written, "
        f"{facts.deleted_rows:,} deleted, {seconds:.1f} s){lacks}"
    )
