"""``carbon datahub``: what DataHub would be told, telling it, and drawing it.

What belongs here: choosing scopes, calling the domain, printing plans. What does not: anything that
decides.
"""

import os
from typing import TYPE_CHECKING

import click

from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.errors import SettingMissingError
from carbon_pipelines.mart.project import load_marts, project_directory
from carbon_pipelines.serving.datahub.settings import (
    URL_VARIABLE,
    DataHubSettings,
    load_datahub_settings,
    load_env,
)

if TYPE_CHECKING:
    from carbon_pipelines.serving.datahub.scope import Wanted

SCOPES = click.argument("scopes", metavar="[SCOPES]...", nargs=-1)


@cli.group()
def datahub() -> None:
    """DataHub: tables, lineage column by column, scores and runs.

    SCOPES are names of databases, and "mart" for all marts; without any it is all of them.
    """


@datahub.command()
@SCOPES
def plan(scopes: tuple[str, ...]) -> None:
    """Show what DataHub lacks, and what it shows that is declared no more; nothing is told."""
    from carbon_pipelines.serving.datahub.emit import load_plan
    from carbon_pipelines.serving.datahub.server import DataHubServer

    settings = _settings()
    server = DataHubServer(settings)
    server.check()
    for scope in scopes or _all_scopes():
        found = load_plan(server, scope, _wanted(scope, settings.env).proposals)
        click.echo(f"{settings.label}, {scope}:")
        for sentence in found.sentences():
            click.echo(f"  {sentence}")


@datahub.command()
@SCOPES
@click.option("--remove", is_flag=True, help="Hide there what is declared no more; see plan.")
def emit(scopes: tuple[str, ...], *, remove: bool) -> None:
    """Tell DataHub what it lacks.

    What is declared no more is only named, unless --remove is given: then it is hidden there, and
    nothing of it is deleted.
    """
    from carbon_pipelines.serving.datahub.emit import emit as tell
    from carbon_pipelines.serving.datahub.server import DataHubServer

    settings = _settings()
    for scope in scopes or _all_scopes():
        wanted = _wanted(scope, settings.env)
        told = tell(DataHubServer(settings), scope, wanted.proposals, remove=remove)
        click.echo(told.sentence())
        wanted.require_whole()


@datahub.command()
@SCOPES
@click.option("--lines", is_flag=True, help="One line of text for each line of the picture.")
def draw(scopes: tuple[str, ...], *, lines: bool) -> None:
    """Draw lineage, from what DataHub would be told, in Graphviz's language (dot -Tsvg).

    DataHub itself is not needed for that.
    """
    from carbon_pipelines.serving.datahub import picture

    chosen = scopes or _all_scopes()
    env = load_env(os.environ)
    events = [one.to_wire() for scope in chosen for one in _wanted(scope, env).proposals]
    graph = picture.read_graph(events)
    if lines:
        click.echo("\n".join(picture.told_lines(graph)))
    else:
        click.echo(picture.draw(graph, title=f"Lineage of {', '.join(chosen)}"), nl=False)


def _settings() -> DataHubSettings:
    settings = load_datahub_settings(os.environ)
    if settings is None:
        raise SettingMissingError(URL_VARIABLE, "the address of DataHub's metadata service")
    return settings


def _all_scopes() -> tuple[str, ...]:
    from carbon_pipelines.serving.datahub.describe import MARTS

    databases = tuple(one.name for one in surroundings.catalog().databases)
    return (*databases, MARTS) if project_directory(os.environ) else databases


def _wanted(scope: str, env: str) -> "Wanted":
    from carbon_pipelines.serving.datahub.scope import load_wanted

    directory = project_directory(os.environ)
    marts = load_marts(directory) if directory else ()
    return load_wanted(
        scope, surroundings.catalog(), marts, surroundings.endpoints(), env=env, environ=os.environ
    )
