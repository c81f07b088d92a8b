"""``carbon quality``: how good tables are, and why.

What belongs here: choosing tables, printing scorecards, and keeping scores if told to. What does
not: anything that decides.
"""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.cli.pipeline import TABLES, chosen_tables, each, end

if TYPE_CHECKING:
    from carbon_pipelines.quality.scoring import Runner


@cli.command()
@TABLES
@click.option("--json", "as_json", is_flag=True, help="One JSON object a table, one a line.")
@click.option("--keep", is_flag=True, help="Keep the score in the lake, in quality.score.")
@click.option("--full", is_flag=True, help="Read everything, whatever the last kept score knows.")
@click.option(
    "--runner",
    type=click.Choice(["pass", "great_expectations", "trino"]),
    default="pass",
    show_default=True,
    help="Who counts the standard kinds: one pass of ours, Great Expectations, or Trino.",
)
def quality(
    patterns: tuple[str, ...], *, as_json: bool, keep: bool, full: bool, runner: "Runner"
) -> None:
    """Score TABLES against their expectations; exit 1 if one does not pass.

    TABLES are as in sync. The newest table snapshot is scored, and the page says why each point is
    lost. A table of which nothing is known is not passed.
    """
    catalog, endpoints = surroundings.catalog(), surroundings.endpoints()
    chosen = chosen_tables(catalog, patterns)
    from carbon_pipelines.maintenance.thinning import thin_table
    from carbon_pipelines.quality.history import KEPT_SNAPSHOTS
    from carbon_pipelines.quality.history import TABLES as KEPT_IN
    from carbon_pipelines.quality.lake_scores import open_scores
    from carbon_pipelines.quality.scorecard import score_facts, scorecard

    trino = endpoints.trino if runner == "trino" else None
    with open_scores(endpoints.lake, trino) as scores:

        def scored(table: TableSpec) -> bool:
            database = catalog.database(table.database)
            now = datetime.now(UTC)
            found = scores.score(database, table, now=now, runner=runner, keep=keep, full=full)
            click.echo(json.dumps(score_facts(found)) if as_json else scorecard(found))
            return found.score.passes

        failed = each(chosen, scored)
        for identifier in KEPT_IN if keep else ():
            thin_table(scores.catalog, identifier, KEPT_SNAPSHOTS, datetime.now(UTC))
    end(failed)
