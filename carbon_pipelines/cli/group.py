"""The ``carbon`` group itself, and how an error ends a command.

What belongs here: turning an error of ours into its one sentence and exit code 1. What does not:
the commands, which add themselves to ``cli``.
"""

from typing import Any

import click

from carbon_pipelines.errors import CarbonPipelinesError


class _OneMessage(click.Group):
    """A group whose commands end an error of ours with its sentence, never with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except CarbonPipelinesError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_OneMessage, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Keep Iceberg tables an exact, fresh and proven copy of PostgreSQL."""
