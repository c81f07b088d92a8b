"""What is done about a table that merging cannot get past, and when a parked one goes on by itself.

What belongs here: choosing between a copy anew and parking, and asking the source again about a
table that is parked for what the source said of it. What does not: the order of a sync
(``sync.py``), the copy (``recopy.py``), counting copies (``automatic.py``), the mark
(``parking.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    CarbonPipelinesError,
    HistoryKeptError,
    SourceError,
    SourceTableAwayError,
    StateMissingError,
    StreamGapError,
    TableNotPublishedError,
)
from carbon_pipelines.lake.automatic import ANSWERED, count_recopy
from carbon_pipelines.lake.connection import load_table
from carbon_pipelines.lake.first_copy import FirstCopied
from carbon_pipelines.lake.mode import why_a_copy
from carbon_pipelines.lake.parking import (
    RESUMABLE,
    Parked,
    find_parked,
    park_table,
    parked_error,
    parks,
    unpark_table,
)
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.source.assessment import check_declared
from carbon_pipelines.source.connection import session
from carbon_pipelines.stream.capture import prepare

RESUMED = "PostgreSQL has the table as declared again"
"""The reason in the history of a mark that nobody had to take off."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answers for one table; ``report`` takes a line of progress."""

    catalog: Catalog
    table: TableSpec
    database: DatabaseSpec
    endpoints: Endpoints
    report: Callable[[str], None]

    def to(self, error: CarbonPipelinesError, begun: Table) -> FirstCopied:
        """Copy the table anew, or park it where a copy is no answer or not wanted.

        Args:
            error: What merging met.
            begun: The table as the sync found it; another copy that was published since is not
                parked for this one's trouble.

        Raises:
            CarbonPipelinesError: ``error``, or why the copy failed.
        """
        try:
            if isinstance(error, SourceTableAwayError):
                self._refuse_away()
                raise error
            if self.table.is_history and isinstance(error, (*ANSWERED, StreamGapError)):
                raise HistoryKeptError(self.table.label, why_a_copy(error)) from error
            if self.table.on_rewrite == "park" or not isinstance(error, ANSWERED):
                raise error
            present = load_table(self.catalog, self.table.identifier)
            count_recopy(present or begun, self.table, error)
            self.report(f"{self.table.label}: copying anew, because {error}")
            return recopy_table(self.table, self.database, self.endpoints, report=self.report)
        except CarbonPipelinesError as final:
            self._park(final, begun)
            raise

    def copy_anew(self, begun: Table | None) -> FirstCopied:
        """Copy the table anew; park it if the source does not have it as declared.

        Raises:
            CarbonPipelinesError: Why the copy failed.
        """
        try:
            return recopy_table(self.table, self.database, self.endpoints, report=self.report)
        except CarbonPipelinesError as final:
            if begun is not None:
                self._park(final, begun)
            raise

    def _refuse_away(self) -> None:
        """Raise what the source says of a table that has left its name, if it still has."""
        refusal = prepare(self.database, self.endpoints).refused.get(self.table.name)
        if refusal is not None:
            raise refusal

    def _park(self, final: CarbonPipelinesError, begun: Table) -> None:
        head = begun.current_snapshot()
        if parks(final, self.table):
            park_table(self.catalog, self.table, final, copy=head.snapshot_id if head else None)


def resume(
    catalog: Catalog, iceberg: Table, table: TableSpec, database: DatabaseSpec, endpoints: Endpoints
) -> Table:
    """Take the mark off a table that was parked for what the source said of it, once it is right.

    Returns:
        The table without a mark.

    Raises:
        TableParkedError: It is parked for something else, or the source says the same as before,
            or cannot be asked.
    """
    parked = find_parked(iceberg.metadata, table.label)
    if parked is None:
        return iceberg
    if parked.error not in RESUMABLE:
        raise parked_error(iceberg, table, parked)
    try:
        refusal = prepare(database, endpoints).refused.get(table.name)
    except CarbonPipelinesError as unasked:
        refusal = unasked
    if refusal is not None:
        raise parked_error(iceberg, table, parked) from refusal
    unpark_table(catalog, table, parked, reason=RESUMED, by="carbon")
    resumed = load_table(catalog, table.identifier)
    if resumed is None:
        raise StateMissingError(table.label)
    return resumed


def may_resume(
    parked: Parked, table: TableSpec, database: DatabaseSpec, endpoints: Endpoints
) -> bool:
    """Whether a sync would find that what a table is parked for is gone; asks the source alone."""
    if parked.error not in RESUMABLE:
        return False
    try:
        with session(endpoints.source_dsn(database.name)) as connection:
            check_declared(connection, database, table)
    except TableNotPublishedError:
        return True
    except SourceError:
        return False
    return True
