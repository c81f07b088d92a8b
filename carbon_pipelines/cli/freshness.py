"""``carbon freshness``: where the newest changes are, and what holds them up.

What belongs here: choosing tables and marts, and printing. What does not: anything that decides.
"""

import os

import click

from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.cli.pipeline import chosen_tables, end
from carbon_pipelines.mart.project import NAMESPACE, load_marts, project_directory, select_marts


@cli.command()
@click.argument("patterns", metavar="[TABLES]...", nargs=-1)
def freshness(patterns: tuple[str, ...]) -> None:
    """Show how fresh TABLES and marts are, stage by stage; exit 1 if one is later than promised.

    TABLES are as in sync, also spelled with a dot, and mart/<mart> or mart for all marts; without
    any, everything. "behind" is how long the oldest change has been waiting that a stage lacks.
    "arrived after" is how old the newest change was when the stage first had it.
    """
    catalog, endpoints = surroundings.catalog(), surroundings.endpoints()
    spelled = [pattern.replace(".", "/") for pattern in patterns]
    of_marts = [one for one in spelled if one.partition("/")[0] == NAMESPACE]
    of_tables = [one for one in spelled if one not in of_marts]
    tables = chosen_tables(catalog, tuple(of_tables)) if of_tables or not spelled else []
    directory = project_directory(os.environ)
    declared = {table.identifier for table in catalog.tables}
    marts = list(load_marts(directory)) if directory is not None else []
    marts = [mart for mart in marts if mart.sources and declared.issuperset(mart.sources)]
    names = [one.partition("/")[2] for one in of_marts]
    named = [name for name in names if name not in {"", "*"}]
    chosen = select_marts(marts, named) if of_marts or not spelled else ()
    from carbon_pipelines.serving.freshness_page import lines
    from carbon_pipelines.serving.freshness_reading import Asked, read_freshness

    found = read_freshness(catalog, Asked(tuple(tables), chosen), endpoints)
    for one in found:
        for line in lines(one):
            click.echo(line)
        click.echo()
    end(sum(one.held_by is not None for one in found))
