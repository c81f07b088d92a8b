"""Few snapshots for tables that get one every few seconds.

What belongs here: when a followed table has so many that it is worth an expiry, and how many stay.
What does not: what expiry keeps in any case (``expiry.py``) and following (``lake/follow.py``).

Table metadata names every snapshot and is written anew by every commit: a day of commits four
seconds apart would make it 25 MB. Old snapshots are of use to readers that began on one: none goes
within five minutes, and those that take longer hold theirs by a lease (``leases.py``).
"""

import logging
from datetime import UTC, datetime, timedelta

from pyiceberg.catalog import Catalog

from carbon_pipelines.embedded.endpoints import LakeEndpoint
from carbon_pipelines.lake.connection import load_table, open_catalog
from carbon_pipelines.lake.sync import TableSynced
from carbon_pipelines.maintenance.expiry_run import expire_table
from carbon_pipelines.maintenance.retention import AGE, Retention

SPARED = timedelta(minutes=5)
"""No younger snapshot goes."""
SHARE = 0.5
"""An expiry is worth it from so many more than stay, as a part of those."""

_LOG = logging.getLogger(__name__)


class Thinning:
    """Expires the oldest snapshots of tables beyond a number.

    Args:
        lake: Where tables are.
        keep: So many of the newest stay; 0 leaves them to expiry.
        spared: No younger one goes.
    """

    def __init__(self, lake: LakeEndpoint, keep: int, *, spared: timedelta = SPARED) -> None:
        self._lake, self._keep, self._spared = lake, keep, spared

    def is_due(self, synced: TableSynced) -> bool:
        """Whether the table has so many more that it is worth a commit."""
        return bool(self._keep) and synced.snapshots > self._keep * (1 + SHARE)

    def tend(self, synced: TableSynced) -> None:
        """Expire what is too much of a table, if it is due.

        Raises:
            CarbonPipelinesError: As ``expire_table``; the next call does what is left.
        """
        if not self.is_due(synced):
            return
        with open_catalog(self._lake) as catalog:
            now = datetime.now(UTC)
            thin_table(catalog, synced.identifier, self._keep, now, spared=self._spared)


def thin_table(
    catalog: Catalog,
    identifier: tuple[str, str],
    keep: int,
    now: datetime,
    *,
    spared: timedelta = SPARED,
) -> None:
    """Expire the oldest snapshots of a table if it has so many more than ``keep``.

    One that says itself how long its snapshots stay is left alone.

    Raises:
        CarbonPipelinesError: As ``expire_table``; the next call does what is left.
    """
    table = load_table(catalog, identifier)
    if table is None or AGE in table.metadata.properties:
        return
    if len(table.metadata.snapshots) <= keep * (1 + SHARE):
        return
    retention = Retention(at_least=min(10, keep), at_most=keep, spared=spared)
    _LOG.info("%s", expire_table(catalog, identifier, retention, now).sentence())
