"""``carbon up``, ``down``, ``status`` and ``demo``: the local services.

What belongs here: calling the stack and showing what it says. What does not: how a part runs
(``embedded``) or what the demo does (``demo``).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli

if TYPE_CHECKING:
    from carbon_pipelines.embedded.state import PartName
    from carbon_pipelines.embedded.status import PartStatus, StackStatus

MIB = 1024 * 1024


@cli.command()
@click.option(
    "--postgres-bin",
    envvar="CARBON_POSTGRES_BIN",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of another PostgreSQL's initdb and postgres (15 to 18).",
)
@click.option(
    "--with",
    "extras",
    multiple=True,
    type=click.Choice(["connect", "trino", "superset"]),
    help="Start this part too: connect is Kafka Connect with Debezium (0.4 GB of memory, a 60 MB "
    "download); trino needs another 0.6 to 2 GB and an 821 MB download; superset brings trino "
    "along and needs 0.4 GB more, and 700 MB of disk.",
)
def up(postgres_bin: Path | None, extras: "tuple[PartName, ...]") -> None:
    """Start PostgreSQL, Kafka and S3 here, or repair what has stopped.

    Everything listens on this machine only and lives under ./.carbon (CARBON_HOME).
    """
    _show(surroundings.stack(postgres_bin).up(click.echo, with_=frozenset(extras)))


@cli.command()
def down() -> None:
    """Stop exactly what "carbon up" started; the data stays."""
    surroundings.stack().down(click.echo)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="The same facts for programs.")
def status(*, as_json: bool) -> None:
    """Show what runs; exit 1 if a needed part does not."""
    found = surroundings.stack().status()
    if as_json:
        click.echo(json.dumps(found.document(), indent=2))
    else:
        _show(found)
    if not found.running:
        raise SystemExit(1)


@cli.command()
@click.option("--scale", default=1.0, show_default=True, help="Million rows to load, roughly.")
@click.option("--seconds", default=20.0, show_default=True, help="How long the workload runs.")
@click.option("--stop", is_flag=True, help="Stop the stack at the end; else it stays up.")
def demo(scale: float, seconds: float, *, stop: bool) -> None:
    """Run the whole pipeline on a sample energy and carbon market, and verify it.

    Exits 1 unless every table of the lake equals its source.
    """
    from carbon_pipelines.demo.run import DemoOptions, run_demo
    from carbon_pipelines.demo.summary import describe
    from carbon_pipelines.demo.workload import Pace

    options = DemoOptions(scale=scale, pace=Pace(seconds=seconds), stop=stop)
    done = run_demo(surroundings.stack(), options, click.echo)
    click.echo(describe(done))
    if not done.verified:
        raise SystemExit(1)


def _show(found: "StackStatus") -> None:
    state = "running" if found.running else 'not running; "carbon up" starts it'
    click.echo(f"{found.home}: {state}")
    for part in found.parts:
        click.echo(f"  {_line(part)}")


def _line(part: "PartStatus") -> str:
    if part.state == "stopped":
        return f"{part.name:<9} stopped"
    return (
        f"{part.name:<9} {part.state:<8} port {part.port}  pid {part.pid}  "
        f"{part.memory_bytes / MIB:.0f} MiB  up {part.uptime_seconds:.0f} s  log {part.log}"
    )
