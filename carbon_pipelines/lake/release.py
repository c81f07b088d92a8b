"""Releasing a parked table, and parking one by hand.

What belongs here: the plan of a release, which can be shown, and doing it. What does not: the mark
itself (``parking.py``) and the sync that then goes on (``sync.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import TableNotCopiedError, TableNotParkedError
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.lake.parking import Parked, park_table, unpark_table
from carbon_pipelines.lake.sync import observe_table


@dataclass(frozen=True, slots=True)
class Release:
    """One table to release: why it stands, and what its next sync will try.

    ``lag_offsets`` counts the offsets of its topic that wait, transaction markers included.
    """

    table: TableSpec
    parked: Parked
    lag_offsets: int

    def describe(self) -> str:
        """The plan in words."""
        return (
            f"{self.table.label} is parked since {self.parked.since_text} by {self.parked.by} "
            f"({self.parked.error}): {self.parked.reason}\n"
            f"  Its next sync goes on from {self.parked.stands}, with {self.lag_offsets:,} offsets "
            "to read. If the cause is still there, the table is parked again at the same place."
        )


def plan_release(tables: Sequence[TableSpec], endpoints: Endpoints) -> tuple[Release, ...]:
    """What releasing ``tables`` means; touches nothing.

    Raises:
        TableNotParkedError, TableNotCopiedError: One of them is not parked; none is released then.
    """
    plans: list[Release] = []
    for table in tables:
        state = observe_table(table, endpoints)
        if state is None:
            raise TableNotCopiedError(table.label)
        if state.parked is None:
            raise TableNotParkedError(table.label)
        plans.append(Release(table, state.parked, state.lag_offsets))
    return tuple(plans)


def apply_release(plan: Release, endpoints: Endpoints, *, reason: str, by: str) -> None:
    """Take the mark off; ``reason`` and ``by`` stay in the table's history.

    Raises:
        TableNotParkedError: It was released, or parked for something else, meanwhile.
    """
    with open_catalog(endpoints.lake) as catalog:
        unpark_table(catalog, plan.table, plan.parked, reason=reason, by=by)


def park_by_hand(table: TableSpec, endpoints: Endpoints, *, reason: str, by: str) -> Parked:
    """Park a table; one that is parked already keeps the mark it has.

    Raises:
        TableNotCopiedError: It has no copy that could stand still.
    """
    with open_catalog(endpoints.lake) as catalog:
        return park_table(catalog, table, reason, by=by)
