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


@tables.command("expect")
@click.argument("table")
@click.option("--write", is_flag=True, help="Write it into the declaration.")
def expect(table: str, *, write: bool) -> None:
    """Propose expectations for TABLE (<database>/<table>) from its source's own constraints.

    Not null, unique and foreign keys, enum labels and the checks that every engine reads alike.
    Ranges of numbers are looked at once and shown as comments: they are no promise. Without --write
    nothing is written; a declaration that has expectations is never changed.
    """
    from carbon_pipelines.catalog.propose_expectations import apply_proposal, propose_expectations
    from carbon_pipelines.cli.introspection import load_promised

    declared = surroundings.table(table)
    database = surroundings.catalog().database(declared.database)
    dsn = surroundings.endpoints().source_dsn(declared.database)
    columns, promised = load_promised(dsn, declared)
    text = propose_expectations(declared, promised, columns, database.tables)
    path = surroundings.declarations() / declared.database / f"{declared.name}.yaml"
    if not text:
        click.echo(f"{declared.label}: its source promises nothing that an expectation can say.")
        return
    click.echo(f"{path}:\n\n{text}")
    if not write:
        click.echo("Nothing was written. Choose what you expect, or add --write for all of it.")
        return
    apply_proposal(path, text, declared.owner)
    click.echo(f'Written. "carbon quality {declared.label}" scores the table.')
