"""Whose turn it is to commit: a merge never loses two attempts in a row to a compaction.

What belongs here: telling from a table's snapshots when a compaction may commit again, pure. What
does not: waiting (``compact.py``).

A merge that was planning when a compaction committed loses its attempt and plans again. It takes
about as long as merges of this table take, which is no longer than they lie apart where they follow
one another. So after a commit of ours the next one waits until somebody else has committed, or
``SHARE`` times the usual distance of the last commits of others has passed.
"""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from statistics import median

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot, ancestors_of

LOOKED_AT = 24
"""Snapshots that are looked back at."""
SHARE = 3
LEAST = timedelta(seconds=2)
MOST = timedelta(minutes=2)
POLL_SECONDS = 0.25


def turn_at(metadata: TableMetadata) -> datetime | None:
    """When a compaction may commit; None for at once."""
    head = metadata.current_snapshot()
    if head is None or not _is_replace(head):
        return None
    recent = list(islice(ancestors_of(head, metadata), LOOKED_AT))
    others = [snapshot.timestamp_ms for snapshot in recent if not _is_replace(snapshot)]
    distances = [later - earlier for later, earlier in pairwise(others)]
    usual = timedelta(milliseconds=median(distances)) if distances else LEAST
    wait = min(MOST, max(LEAST, SHARE * usual))
    return datetime.fromtimestamp(head.timestamp_ms / 1000, UTC) + wait


def _is_replace(snapshot: Snapshot) -> bool:
    return snapshot.summary is not None and snapshot.summary.operation == Operation.REPLACE
