"""Keys that changed since a table snapshot that was proven equal.

What belongs here: telling whether merges alone lie between two snapshots, and then which keys their
events name. What does not: comparing them (``reconcile.py``).

If all rows were equal at one snapshot and merges alone came after it, rows that no event names are
what they were at both ends: only keys that events name need be compared. This trusts that capture
has missed no change and that files hold what was written, so all rows are compared again now and
then. Whatever else was committed in between (a compaction, a repair, a copy, another engine's
commit) has to be proven as a whole, as do a truncated table and one whose columns changed.
"""

import json
from collections.abc import Iterable, Sequence

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot, ancestors_of

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.lake.state import CREATED, TableProgress, read_progress
from carbon_pipelines.quality.canonical import ComparedColumn
from carbon_pipelines.quality.touched_keys import Key, keys_of
from carbon_pipelines.stream.changes import read_changes
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import topic_of

MOST_EVENTS = 200_000
"""Past so many events since the proof, reading all rows costs less."""


def merged_since(
    metadata: TableMetadata, label: str, proven: int, snapshot_id: int
) -> tuple[TableProgress, TableProgress] | None:
    """Where both snapshots stand, if nothing but merges made the second of the first.

    A merge is known by its offset: nothing else moves that on.
    """
    newer: TableProgress | None = None
    newest: TableProgress | None = None
    for snapshot in ancestors_of(metadata.snapshot_by_id(snapshot_id), metadata):
        here = _progress(snapshot, label)
        if here is None or (newer is not None and not _follows(newer, here)):
            return None
        newest = newest or here
        if snapshot.snapshot_id == proven:
            return here, newest
        newer = here
    return None


def load_changed_keys(
    bootstrap: str,
    table: TableSpec,
    since: TableProgress,
    until: TableProgress,
    key: Sequence[ComparedColumn],
) -> tuple[Key, ...] | None:
    """The keys, as text, that events between two positions of one table name.

    Returns:
        None if they do not tell which rows changed, or are too many or gone.

    Raises:
        StreamError: The topic cannot be read.
    """
    start, end = since.next_offset, until.next_offset
    if start == end:
        return ()
    state = load_topic_state(bootstrap, topic_of(table))
    if end - start > MOST_EVENTS or start < state.low:
        return None
    batches = read_changes(bootstrap, table, start, end, after=since.position)
    return _keys((value for batch in batches for value in batch.values), key)


def _keys(envelopes: Iterable[bytes], key: Sequence[ComparedColumn]) -> tuple[Key, ...] | None:
    found: dict[Key, None] = {}
    for envelope in envelopes:
        event = json.loads(envelope, parse_float=str)
        if event["op"] == "t":
            return None
        found.update(dict.fromkeys(keys_of(event, key)))
    return tuple(found)


def _progress(snapshot: Snapshot, label: str) -> TableProgress | None:
    told = snapshot.summary.additional_properties if snapshot.summary is not None else {}
    if "carbon.position" not in told or CREATED in told:
        return None
    return read_progress(told, label)


def _follows(newer: TableProgress, older: TableProgress) -> bool:
    """Whether a merge of the same copy, over the same columns, leads from one to the other."""
    same = all(
        getattr(newer, name) == getattr(older, name)
        for name in (
            "schema_version",
            "cluster_id",
            "topic_id",
            "system_identifier",
            "timeline",
            "relation_oid",
            "generation",
            "dead_letters",
        )
    )
    return same and newer.next_offset > older.next_offset
