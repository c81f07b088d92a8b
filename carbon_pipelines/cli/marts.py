"""``carbon marts``: building marts without Dagster.

What belongs here: choosing marts, calling the domain, saying what came of it. What does not:
anything that decides.
"""

import os

import click

from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.cli.pipeline import end
from carbon_pipelines.mart.project import load_marts, mart_target, require_project, select_marts


@cli.group()
def marts() -> None:
    """Marts: dbt models over certified snapshots, published to the lake."""


@marts.command("list")
def list_marts() -> None:
    """Show every mart and the tables that it reads."""
    for mart in load_marts(require_project(os.environ)):
        click.echo(f"{mart.name}: {', '.join('/'.join(source) for source in mart.sources)}")


@marts.command()
@click.argument("names", metavar="[MARTS]...", nargs=-1)
def build(names: tuple[str, ...]) -> None:
    """Build MARTS, or all, from what is certified now; exit 1 if one was not published.

    What fails a test of its own is not published: readers keep what was there before.
    """
    project = require_project(os.environ)
    chosen = select_marts(load_marts(project), names)
    target, endpoints = mart_target(os.environ), surroundings.endpoints()
    from carbon_pipelines.mart.build import build_marts

    built = build_marts(chosen, endpoints, target=target, project=project)
    for mart in built:
        click.echo(mart.sentence(), err=mart.error is not None)
    end(sum(mart.error is not None for mart in built))
