"""What a copy begins with, and whether an unfinished one can be gone on with.

What belongs here: the facts of one source snapshot that a copy rests on, the copy that begins with
them, and the comparison with what an earlier run left on the branch. What does not: collecting the
facts and copying (``first_copy.py``), reading the branch (``staging.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.lake.staging import StagedCopy
from carbon_pipelines.lake.state import CopyEdge, TableProgress
from carbon_pipelines.source.connection import SourceIdentity
from carbon_pipelines.source.leaves import Heap, Piece
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.stream.progress import Progress
from carbon_pipelines.stream.topics import TopicState


@dataclass(frozen=True, slots=True)
class CopyStart:
    """What was read around one source snapshot.

    Attributes:
        stream: Of the capture, from before the snapshot.
        topic: Of the table, from before the snapshot.
        identity: The server that answers now; Kafka's may be from before a failover.
        relation: As the snapshot sees it.
        heaps: The tables that hold its rows, likewise.
        edge: Between the snapshot and the stream.
    """

    stream: Progress
    topic: TopicState
    identity: SourceIdentity
    relation: SourceRelation
    heaps: Sequence[Heap]
    edge: CopyEdge


def begin(start: CopyStart, ranges: Sequence[Sequence[Piece]], schema_id: int) -> StagedCopy:
    """A copy of ``ranges`` of which nothing is on the branch yet."""
    progress = TableProgress(
        position=start.stream.position,
        next_offset=start.topic.high,
        schema_version=start.relation.version,
        cluster_id=start.topic.cluster_id,
        topic_id=start.topic.topic_id,
        system_identifier=start.identity.system_identifier,
        timeline=start.identity.timeline,
        relation_oid=start.relation.oid,
        edge=start.edge,
        generation=start.stream.generation,
    )
    return StagedCopy(
        progress=progress,
        ranges=ranges,
        done=frozenset(),
        last_through_lsn=start.edge.through_lsn,
        snapshots=1,
        filenodes={heap.oid: heap.filenode for heap in start.heaps},
        schema_id=schema_id,
    )


def can_resume(
    found: StagedCopy, start: CopyStart, spec: TableSpec, schema_id: int, current_schema_id: int
) -> bool:
    """Whether the ranges that ``found`` lacks can be copied as ``start`` sees them.

    The stream repairs what happened between the snapshots, row by row and by key. It knows nothing
    of rows that got another place without an event, and its events are merged under the current
    schema, which the copy's is to replace only later.

    Args:
        found: What the branch holds.
        start: What is there now.
        spec: The declaration.
        schema_id: Of the schema that files are to be written with.
        current_schema_id: Of the table's current schema.
    """
    progress = found.progress
    return (
        found.schema_id == schema_id == current_schema_id
        and spec.mode == "mirror"
        and bool(spec.key)
        and progress.relation_oid == start.relation.oid
        and progress.schema_version == start.relation.version
        # VACUUM FULL and CLUSTER move rows between the ranges
        and found.filenodes == {heap.oid: heap.filenode for heap in start.heaps}
        and progress.system_identifier == start.identity.system_identifier
        and progress.timeline == start.identity.timeline
        # the stream would not repair what happened before the gap
        and progress.generation == start.stream.generation
        and progress.topic_id == start.topic.topic_id
        and progress.next_offset >= start.topic.low
    )
