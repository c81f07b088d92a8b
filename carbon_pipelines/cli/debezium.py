"""``carbon debezium``: what a Debezium connector needs to be told.

What belongs here: printing it. What does not: making it (``stream/debezium_config.py``).
"""

import json

import click

from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli


@cli.group()
def debezium() -> None:
    """Databases that a Debezium connector captures."""


@debezium.command()
@click.argument("database")
@click.option(
    "--password", help="Reference to the password, as the worker's config provider reads."
)
def config(database: str, password: str | None) -> None:
    """Print the connector configuration for DATABASE as JSON.

    The password is a reference and never the password itself: "${env:CARBON_SOURCE_<DATABASE>_
    PASSWORD}" unless --password names another.
    """
    declared, endpoints = surroundings.catalog().database(database), surroundings.endpoints()
    from carbon_pipelines.embedded.names import EMBEDDED_PASSWORD_VARIABLE
    from carbon_pipelines.stream.debezium_config import connector_config

    if declared.connector is None:
        message = f'Database {database} is declared with "capture: native"; a connector reads none.'
        raise click.ClickException(message)
    own = endpoints.names_source(database)
    variable = f"CARBON_SOURCE_{database.upper()}_PASSWORD" if own else EMBEDDED_PASSWORD_VARIABLE
    printed = connector_config(
        declared, endpoints.source_dsn(database), password=password or f"${{env:{variable}}}"
    )
    click.echo(json.dumps(printed, indent=2))
