"""Whether a key is gone from the source, and the lake has merged that.

What belongs here: asking the source, and waiting a moment for stream and lake. What does not: what
is then erased (``erasure.py``).

In this order: a snapshot of the source is exported and asked for the key; then Kafka is brought to
hold everything that it sees; then the lake has to have read that far. So whatever the key's rows
were, the lake has been told that they are gone, and no event that it still has to merge brings them
back, unless the source gets them again.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from pyiceberg.catalog import Catalog

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import DeletionNotMergedError, ErasureKeyError, KeyInSourceError
from carbon_pipelines.lake.connection import load_lake_table
from carbon_pipelines.lake.state import TableProgress, load_progress
from carbon_pipelines.source.connection import load_identity, session
from carbon_pipelines.source.copy import ExportedSnapshot, load_relation_as_of
from carbon_pipelines.source.key_presence import count_rows_with
from carbon_pipelines.source.position import format_lsn
from carbon_pipelines.source.visibility import emit_marker
from carbon_pipelines.stream.drain import wait_captured
from carbon_pipelines.stream.progress import load_progress as load_stream_progress
from carbon_pipelines.stream.resume import check_same_source
from carbon_pipelines.stream.topic_state import check_topic, load_topic_state
from carbon_pipelines.stream.topics import topic_of

CAPTURE_WAIT = timedelta(minutes=2)
MERGE_WAIT_SECONDS = 10.0
"""A lake that is merged continuously gets there by itself in this time."""
POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Where:
    """A table, its ends, and who waits."""

    catalog: Catalog
    table: TableSpec
    database: DatabaseSpec
    endpoints: Endpoints
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    @property
    def label(self) -> str:
        """The table as commands spell it."""
        return self.table.label


def count_in_source(where: Where, values: Mapping[str, str]) -> tuple[int, int]:
    """How many rows of the source have ``values`` now, and the L of the snapshot that was asked.

    Raises:
        ErasureKeyError: The source has no such column.
        SourceError: The source does not answer, refuses, or is another one.
        WrongDatabaseError: The stream is of another database than the source.
    """
    spec, dsn = where.table, where.endpoints.source_dsn(where.database.name)
    with session(dsn) as connection:
        here = load_identity(connection)
        stream = load_stream_progress(where.endpoints, where.database)
        if stream is not None:
            check_same_source(where.database.name, stream, here)
        with ExportedSnapshot(dsn) as snapshot:
            number = snapshot.snapshot_id
            relation = load_relation_as_of(dsn, number, spec.source_schema, spec.source_table)
            try:
                found = count_rows_with(dsn, number, relation, values)
            except KeyError as missing:
                raise ErasureKeyError(where.label, f"the source has no {missing}") from missing
            lsn = snapshot.insert_lsn
        marker = emit_marker(connection, b"erase")
    return found, max(lsn, marker)


def check_deleted(where: Where, values: Mapping[str, str]) -> TableProgress:
    """Refuse a key that is in the source, or whose deletion the lake has not merged.

    Returns:
        The progress of the lake.

    Raises:
        KeyInSourceError: The source has it.
        DeletionNotMergedError: The lake has not come so far (retryable).
        SourceError, StreamError: One of them cannot be asked.
    """
    found, lsn = count_in_source(where, values)
    if found:
        raise KeyInSourceError(where.label, found)
    wait_captured(where.database, where.endpoints, lsn, timeout=CAPTURE_WAIT)
    topic = load_topic_state(where.endpoints.stream_bootstrap, topic_of(where.table))
    give_up_at = where.clock() + MERGE_WAIT_SECONDS
    while True:
        table = load_lake_table(where.catalog, where.table.identifier)
        progress = load_progress(table.metadata, where.label)
        if progress is None:
            raise DeletionNotMergedError(where.label, "nothing", format_lsn(lsn))
        check_topic(progress.topic_id, progress.cluster_id, topic)
        if progress.next_offset >= topic.high:
            return progress
        if where.clock() > give_up_at:
            raise DeletionNotMergedError(where.label, str(progress.position), format_lsn(lsn))
        where.sleep(POLL_SECONDS)
