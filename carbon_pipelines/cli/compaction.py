"""``carbon health`` and ``compact``: how tables lie, and writing their files again.

What belongs here: choosing tables, printing facts and plans, and carrying a plan out if told to.
What does not: anything that decides. Without ``--apply`` nothing is changed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from carbon_pipelines.catalog.table import Engine, TableSpec
from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.cli.pipeline import TABLES, chosen_tables, each, end

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table


@cli.command()
@TABLES
def health(patterns: tuple[str, ...]) -> None:
    """Score how TABLES lie, from their metadata alone, and what a compaction would gain.

    TABLES are <database>/<table>, <database>/* or <database>; without any, everything declared.
    """

    def told(_spec: TableSpec, _catalog: "Catalog", table: "Table") -> None:
        from carbon_pipelines.maintenance.health import judge_health
        from carbon_pipelines.maintenance.table_facts import load_facts

        found = judge_health(load_facts(table))
        click.echo(found.sentence())
        for part in found.partitions:
            click.echo(
                f"  {part.partition or 'all rows'}: {part.files:,} files of "
                f"{part.median_bytes / 1_000_000:.1f} MB (median), {part.small_files:,} small, "
                f"{part.rows:,} rows, {part.delete_ratio:.0%} deleted"
            )

    _each(patterns, told)


@cli.command()
@TABLES
@click.option("--apply", "apply_", is_flag=True, help="Do it; without it, the plan is shown.")
@click.option(
    "--thorough",
    is_flag=True,
    help="Also bring every file to the present columns and sort order, and split large ones.",
)
@click.option("--min-files", default=5, show_default=True, help="Small files worth a rewrite.")
@click.option(
    "--delete-ratio",
    default=0.2,
    show_default=True,
    help="Share of deleted rows from which on a file is written again.",
)
@click.option(
    "--engine",
    type=click.Choice(["native", "trino"]),
    help="Who writes: this process, or Trino by its optimize (CARBON_TRINO_URI); without it, each "
    "table's declared engine.",
)
@click.option("--max-groups", type=int, help="Groups of files in one run; the coldest come first.")
def compact(
    patterns: tuple[str, ...],
    *,
    apply_: bool,
    thorough: bool,
    min_files: int,
    delete_ratio: float,
    max_groups: int | None,
    engine: Engine | None,
) -> None:
    """Write small files of TABLES, and those with deletes, again as large sorted ones.

    TABLES are as in health. Merges may go on meanwhile: their changes are kept. Where Trino is the
    engine, its optimize goes by sizes and deletes alone: the other options are not for it, and the
    plan is only near to what it does.
    """
    if min_files < 2 or not 0 < delete_ratio <= 1 or (max_groups is not None and max_groups < 1):
        message = "--min-files is 2 or more, --delete-ratio above 0 to 1, --max-groups 1 or more."
        raise click.UsageError(message)

    def compacted(spec: TableSpec, catalog: "Catalog", table: "Table") -> None:
        from carbon_pipelines.maintenance.compaction import CompactionPolicy, plan_compaction
        from carbon_pipelines.maintenance.engines import choose_engine, compact_table
        from carbon_pipelines.maintenance.table_facts import load_facts

        policy = CompactionPolicy(
            min_files=min_files,
            delete_ratio=delete_ratio,
            max_groups=max_groups,
            thorough=thorough,
        )
        plan, choice = plan_compaction(load_facts(table), policy), choose_engine(spec, engine)
        if apply_:
            done = compact_table(spec, choice, plan, catalog, surroundings.endpoints())
            click.echo(done.sentence())
        else:
            click.echo("\n".join(filter(None, (plan.describe(), choice.sentence()))))

    _each(patterns, compacted)
    if not apply_:
        click.echo("Nothing was changed. Run it again with --apply.")


def _each(patterns: tuple[str, ...], act: Callable[[TableSpec, "Catalog", "Table"], None]) -> None:
    """Act on the lake's table of every chosen declaration that has one."""
    chosen, endpoints = chosen_tables(surroundings.catalog(), patterns), surroundings.endpoints()
    from carbon_pipelines.lake.connection import lake_errors, load_table, open_catalog

    with open_catalog(endpoints.lake) as catalog:

        def acted(spec: TableSpec) -> bool:
            table = load_table(catalog, spec.identifier)
            if table is None:
                click.echo(f"{spec.label}: not copied yet")
                return True
            with lake_errors(f"Iceberg table {spec.label}"):
                act(spec, catalog, table)
            return True

        failed = each(chosen, acted)
    end(failed)
