"""Copying a table anew, in place of what the lake holds.

What belongs here: the decision in one place: the old table stays readable until the new copy is
whole, then ``main`` is set to it. What does not: copying (``first_copy.py``).

Capture is prepared first: the table may have left its publication since (its key was dropped), and
changes after the copy would go unseen; and the shape that is copied has to be a recorded one.
"""

from collections.abc import Callable

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.lake.connection import lake_errors, open_catalog
from carbon_pipelines.lake.first_copy import FirstCopied, FirstCopy
from carbon_pipelines.stream.capture import prepare


def recopy_table(
    table: TableSpec,
    database: DatabaseSpec,
    endpoints: Endpoints,
    *,
    report: Callable[[str], None] = lambda _: None,
) -> FirstCopied:
    """Copy ``table`` from the source again and publish it in place of the old rows.

    Raises:
        SourceError: The table cannot be captured as declared.
        CarbonPipelinesError: As the first copy; readers keep the old rows then.
    """
    refusal = prepare(database, endpoints).refused.get(table.name)
    if refusal is not None:
        raise refusal
    with open_catalog(endpoints.lake) as catalog, lake_errors(f"Iceberg table {table.label}"):
        return FirstCopy(catalog, table, database, endpoints, report=report).run()
