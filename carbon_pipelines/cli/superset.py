"""``carbon superset``: dashboards in Superset without Dagster.

What belongs here: choosing dashboards, calling the domain, saying what came of it. What does not:
anything that decides.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.mart.project import load_marts, require_project
from carbon_pipelines.serving.superset_settings import (
    NOT_CONFIGURED,
    load_superset_settings,
)

if TYPE_CHECKING:
    from carbon_pipelines.serving.superset_http import SupersetApi
    from carbon_pipelines.serving.superset_serve import Lake

NAMES = click.argument("names", metavar="[DASHBOARDS]...", nargs=-1)


@cli.group()
def superset() -> None:
    """Superset: dashboards over certified marts, brought and read back."""


@superset.command("plan")
@NAMES
def show_plan(names: tuple[str, ...]) -> None:
    """Show what sync would change of DASHBOARDS, or all; nothing is changed."""
    from carbon_pipelines.serving.superset_open import select_dashboards
    from carbon_pipelines.serving.superset_serve import plan

    with _opened() as (api, lake):
        for code in select_dashboards(os.environ, names):
            for line in plan(api, code, lake).sentences():
                click.echo(f"{code.name}: {line}")


@superset.command()
@NAMES
def sync(names: tuple[str, ...]) -> None:
    """Bring DASHBOARDS, or all, and their newest marts; done when viewers see them.

    What somebody edited by hand stays as a copy beside ours.
    """
    from carbon_pipelines.serving.superset_open import select_dashboards
    from carbon_pipelines.serving.superset_serve import serve_dashboard

    with _opened() as (api, lake):
        for code in select_dashboards(os.environ, names):
            served = serve_dashboard(api, code, lake)
            for line in served.changed:
                click.echo(f"{code.name}: {line}")
            click.echo(served.sentence())


@contextmanager
def _opened() -> "Generator[tuple[SupersetApi, Lake]]":
    """Superset and the lake; a Superset that is not configured ends the command."""
    from carbon_pipelines.serving.superset_http import SupersetApi
    from carbon_pipelines.serving.superset_open import open_lake

    settings = load_superset_settings(os.environ)
    if settings is None:
        raise click.ClickException(f'{NOT_CONFIGURED}; "carbon up --with superset" starts one here')
    marts = load_marts(require_project(os.environ))
    endpoints, catalog = surroundings.endpoints(), surroundings.catalog()
    with open_lake(endpoints, marts, catalog, os.environ) as lake, SupersetApi(settings) as api:
        yield api, lake
