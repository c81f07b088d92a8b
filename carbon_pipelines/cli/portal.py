"""``carbon portal``: the page that leads to every application.

What belongs here: the command. What does not: the page (``cluster/portal.py``).
"""

from pathlib import Path

import click

from carbon_pipelines.cli.group import cli


@cli.command("portal")
@click.argument("applications", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--tables",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="A JSON list of {table, score, verified_through}; read again for each page.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=int, default=8080, show_default=True, help="The port to listen on.")
def portal(applications: Path, tables: Path | None, host: str, port: int) -> None:
    """Serve the portal's page; APPLICATIONS is the portal.json made from the service graph."""
    from carbon_pipelines.cluster.portal_server import Health, load_portal, make_server

    listed = load_portal(applications)
    server = make_server((host, port), listed, Health(listed), tables)
    click.echo(f"The portal of {len(listed)} applications is at http://{host}:{port}/.")
    with server:
        server.serve_forever()
