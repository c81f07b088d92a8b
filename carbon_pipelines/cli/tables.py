"""``carbon tables``: what is declared, and declaring more.

What belongs here: showing and asking. What does not: what a declaration holds
(``catalog/propose.py``).
"""

import click

from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli


@cli.group()
def tables() -> None:
    """Show and extend what is declared."""


@tables.command("list")
def list_tables() -> None:
    """Show every declared table."""
    for table in surroundings.catalog().tables:
        relation = f"{table.source_schema}.{table.source_table}"
        key = ", ".join(table.key) or ("whole rows" if table.is_bag else "no key")
        minutes = table.freshness.total_seconds() / 60
        click.echo(
            f"{table.label}  <-  {relation} ({key}; {table.mode}; within {minutes:g} min; "
            f"{table.owner})"
        )


@tables.command("add")
@click.argument("database")
@click.argument("relation", metavar="SCHEMA.TABLE")
@click.option(
    "--owner", default="team:data-platform", show_default=True, help="Who answers for it."
)
@click.option("--freshness", default="15m", show_default=True, help="The age readers may count on.")
@click.option("--name", default=None, help="Logical name, if not the one made from SCHEMA.TABLE.")
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
def add_table(
    database: str, relation: str, owner: str, freshness: str, name: str | None, *, dry_run: bool
) -> None:
    """Declare SCHEMA.TABLE of DATABASE after looking at it in the source.

    Writes one file under the declarations' directory, and never overwrites one.
    """
    from carbon_pipelines.catalog.propose import (
        Promise,
        apply_declaration,
        place_declaration,
        plan_declaration,
    )
    from carbon_pipelines.cli.introspection import load_facts, parse_relation

    declarations, parsed = surroundings.declarations(), parse_relation(relation)
    dsn = surroundings.endpoints().source_dsn(database)
    place_declaration(declarations, database, parsed, name)
    facts = load_facts(dsn, *parsed, click.echo)
    plan = plan_declaration(declarations, database, facts, Promise(owner, freshness, name))
    for path, text in plan.files:
        click.echo(f"\n{path}:\n")
        click.echo("".join(f"    {line}" for line in text.splitlines(keepends=True)))
    if dry_run:
        click.echo("Nothing was written.")
        return
    apply_declaration(plan)
    label = f"{database}/{plan.files[-1][0].stem}"
    click.echo(f'Written. Edit what you promise, then run "carbon sync {label}".')
