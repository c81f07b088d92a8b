"""Reading how fresh tables and marts are, stage by stage.

What belongs here: what is asked of the lake, Kafka and the source, each once. What does not: what
follows from it (``freshness.py``).

Nothing is estimated: positions and times are those that commits, certificates and records carry,
ages those of events in Kafka. Only of the capture an upper bound is known: since its reader gave a
sign of life, or since the newest progress record where nobody reads.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyiceberg.catalog import Catalog as LakeCatalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import ancestors_of

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import SourceUnreachableError, TopicMissingError
from carbon_pipelines.lake.certificate import find_certified
from carbon_pipelines.lake.connection import lake_errors, load_table, open_catalog
from carbon_pipelines.lake.reached import BUILT, VISIBLE, Place, Reached, place_of, read_reached
from carbon_pipelines.mart.project import NAMESPACE, Mart
from carbon_pipelines.serving.freshness import (
    Freshness,
    MartStanding,
    SourceTimes,
    Stage,
    TableStanding,
    mart_stages,
    table_stages,
)
from carbon_pipelines.source.capture_standing import observe_capture
from carbon_pipelines.source.connection import session
from carbon_pipelines.stream.event_times import TopicTimes, read_times
from carbon_pipelines.stream.topics import progress_topic, topic_of


@dataclass(frozen=True, slots=True)
class Asked:
    """What freshness is asked of."""

    tables: tuple[TableSpec, ...] = ()
    marts: tuple[Mart, ...] = ()


def read_freshness(catalog: Catalog, asked: Asked, endpoints: Endpoints) -> tuple[Freshness, ...]:
    """How fresh tables and marts are now, tables first.

    Raises:
        LakeUnavailableError: The catalog does not answer (retryable).
        StreamUnavailableError: Kafka does not answer (retryable).
        StateFormatError: A record was written by a program of another format version.
    """
    declared = {table.identifier: table for table in catalog.tables}
    needed = {source for mart in asked.marts for source in mart.sources}
    tables = {t.label: t for t in (*asked.tables, *(declared[one] for one in sorted(needed)))}
    if not tables:
        return ()
    with open_catalog(endpoints.lake) as lake:
        standings = {label: _table_standing(lake, table) for label, table in tables.items()}
        marts = {mart.name: _mart_standing(lake, mart) for mart in asked.marts}
    now = datetime.now(UTC)
    captures = {
        name: capture_behind(catalog.database(name), endpoints, now)
        for name in sorted({table.database for table in tables.values()})
    }
    times = {
        label: SourceTimes(
            _topic_times(table, endpoints, standings[label].offsets() | _offsets(label, marts)),
            captures[table.database],
        )
        for label, table in tables.items()
    }
    now = datetime.now(UTC)
    stages = {
        label: table_stages(label, standing, times[label], now)
        for label, standing in standings.items()
    }
    found = [
        Freshness(
            table.label,
            table.owner,
            catalog.database(table.database).visible_within,
            stages[table.label],
        )
        for table in asked.tables
    ]
    found += [_mart(catalog, mart, marts[mart.name], stages, times, now) for mart in asked.marts]
    return tuple(found)


def _mart(
    catalog: Catalog,
    mart: Mart,
    standing: MartStanding,
    stages: Mapping[str, Sequence[Stage]],
    times: Mapping[str, SourceTimes],
    now: datetime,
) -> Freshness:
    labels = ["/".join(source) for source in mart.sources]
    longest = max(catalog.database(name).visible_within for name, _ in mart.sources)
    own = {label: stages[label] for label in labels}
    return Freshness(
        f"{NAMESPACE}/{mart.name}",
        mart.owner,
        mart.visible_within or longest,
        mart_stages(own, standing, {label: times[label] for label in labels}, now),
    )


def capture_behind(database: DatabaseSpec, endpoints: Endpoints, now: datetime) -> float:
    """How far behind its source Kafka is, in seconds, at most.

    Raises:
        StreamUnavailableError: Kafka does not answer (retryable).
    """
    try:
        with session(endpoints.source_dsn(database.name)) as connection:
            standing = observe_capture(connection, database.slot_name)
    except SourceUnreachableError:
        standing = None
    if standing is not None and standing.has_all:
        return 0.0
    if standing is not None and standing.reader_behind_seconds is not None:
        return standing.reader_behind_seconds
    try:
        topic = read_times(endpoints.stream_bootstrap, progress_topic(database.name), ())
    except TopicMissingError:
        return 0.0
    said = topic.newest.captured_at if topic.newest is not None else None
    return max(0.0, (now - said).total_seconds()) if said is not None else 0.0


def _topic_times(table: TableSpec, endpoints: Endpoints, offsets: Iterable[int]) -> TopicTimes:
    try:
        return read_times(endpoints.stream_bootstrap, topic_of(table), offsets)
    except TopicMissingError:
        return TopicTimes({}, None)


def _offsets(label: str, marts: Mapping[str, MartStanding]) -> set[int]:
    """Of a table's topic, where marts stand that read it."""
    reached = [
        one
        for standing in marts.values()
        for one in (standing.built, *standing.visible.values())
        if one is not None
    ]
    return {one.sources[label].next_offset for one in reached if label in one.sources}


def _table_standing(lake: LakeCatalog, spec: TableSpec) -> TableStanding:
    with lake_errors(f"Iceberg table {spec.label}"):
        table = load_table(lake, spec.identifier)
    if table is None:
        return TableStanding(None, None)
    metadata = table.metadata
    certified = find_certified(metadata, spec.label)
    place = place_of(metadata, certified.snapshot_id, spec.label) if certified else None
    known = certified.certificate if certified is not None else None
    return TableStanding(
        merged=_merged(table, spec.label),
        certified=None if place is None else (place, known.certified_at if known else None),
        visible=_visible(table, spec.label),
    )


def _merged(table: Table, label: str) -> tuple[Place, datetime] | None:
    """Where the newest snapshot stands, and when the first one came there that is still known."""
    head = table.current_snapshot()
    place = place_of(table.metadata, head.snapshot_id, label) if head is not None else None
    if head is None or place is None:
        return None
    first = head
    for snapshot in ancestors_of(head, table.metadata):
        there = place_of(table.metadata, snapshot.snapshot_id, label)
        if there is None or there.position != place.position:
            break
        first = snapshot
    return place, datetime.fromtimestamp(first.timestamp_ms / 1000, UTC)


def _mart_standing(lake: LakeCatalog, mart: Mart) -> MartStanding:
    label = f"{NAMESPACE}/{mart.name}"
    with lake_errors(f"Iceberg table {label}"):
        table = load_table(lake, (NAMESPACE, mart.name))
    if table is None:
        return MartStanding(None)
    return MartStanding(read_reached(table.metadata, BUILT, label), _visible(table, label))


def _visible(table: Table, label: str) -> dict[str, Reached]:
    names = [name for name in table.metadata.properties if name.startswith(VISIBLE)]
    found = {name: read_reached(table.metadata, name, label) for name in names}
    return {name.removeprefix(VISIBLE): one for name, one in found.items() if one is not None}
