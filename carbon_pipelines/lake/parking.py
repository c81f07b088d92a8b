"""Parking: one table stops for a reason that is written down, and the others go on.

What belongs here: the mark on the table, who may set it, and taking it off. What does not: the plan
of a release (``release.py``) and finding out that a table cannot go on (``catch_up.py``).

The mark is the table property ``carbon.parked``. It is set after everything before the stop was
merged, on the very snapshot that this left: if another process has replaced the copy meanwhile, the
mark is not set. It counts for the copy that it was set on and for no other, so publishing a copy
anew ends it in the same commit that shows the new rows.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import ancestors_of
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    RemovePropertiesUpdate,
    SetPropertiesUpdate,
    TableUpdate,
)

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    TABLE_REFUSALS,
    CarbonPipelinesError,
    CommitConflictError,
    HistoryColumnError,
    HistoryKeptError,
    LakeColumnsChangedError,
    LayoutColumnGoneError,
    MalformedEnvelopeError,
    MissingPriorValueError,
    OffsetBeyondEndError,
    OffsetGapError,
    PartitionTruncatedError,
    PriorDeadLetterError,
    ProtectedColumnMissingError,
    RecopyLimitError,
    RowsMissingError,
    SourceTableReplacedError,
    StateFormatError,
    TableNotCopiedError,
    TableNotParkedError,
    TableParkedError,
    UnkeyedChangeError,
    UnrecordedShapeError,
    UnrepresentableValueError,
    UnsupportedSchemaChangeError,
    UnsupportedTypeError,
)
from carbon_pipelines.lake.commit import commit_updates
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.state import load_progress
from carbon_pipelines.stream.topics import topic_of

PARKED = "carbon.parked"
"""Table property: the mark, as JSON."""
HISTORY = "carbon.parking-history"
"""Table property: the marks taken off, newest last, as a JSON list."""
KEPT_MARKS = 20
"""Marks that the history keeps."""
FORMAT_VERSION = "1"
"""Version of both properties."""
PARKING_ERRORS = (
    *TABLE_REFUSALS,
    UnkeyedChangeError,
    UnsupportedSchemaChangeError,
    UnsupportedTypeError,
    UnrecordedShapeError,
    PartitionTruncatedError,
    ProtectedColumnMissingError,
    RecopyLimitError,
    HistoryKeptError,
    HistoryColumnError,
    LakeColumnsChangedError,
    LayoutColumnGoneError,
    SourceTableReplacedError,
    OffsetGapError,
    OffsetBeyondEndError,
)
"""What will be the same at the next run, and is this one table's. A service that is down, or an
address that names another Kafka or PostgreSQL, is neither."""
RESUMABLE = frozenset(error.__name__ for error in TABLE_REFUSALS)
"""What the source says of a table now. Whether it still does can be asked, so nobody has to release
a table that is parked for one of these."""
EVENT_ERRORS = (
    UnrepresentableValueError,
    MissingPriorValueError,
    PriorDeadLetterError,
    RowsMissingError,
)
"""What is wrong with one event; whether that parks its table, the declaration says."""


@dataclass(frozen=True, slots=True)
class Parked:
    """Why a table stands still.

    Attributes:
        error: Class of the error, or "ByHand".
        reason: Its sentence.
        position: Where in the source the table stands.
        topic: Its topic.
        next_offset: Offset of the topic to go on from.
        snapshot_id: Snapshot that the mark was set on.
        since: When, UTC.
        by: Who set it.
    """

    error: str
    reason: str
    position: str
    topic: str
    next_offset: int
    snapshot_id: int
    since: datetime
    by: str

    @property
    def since_text(self) -> str:
        """When, as people read it."""
        return f"{self.since:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def stands(self) -> str:
        """Where, as people read it."""
        return f"{self.position}, before {self.topic}[0]@{self.next_offset}"

    def to_fields(self) -> dict[str, Any]:
        """The mark as plain values."""
        since = self.since.isoformat(timespec="seconds")
        return {"format_version": FORMAT_VERSION, **asdict(self), "since": since}


def _parse(text: str, table: str) -> Parked:
    fields: dict[str, Any] = json.loads(text)
    found = str(fields.pop("format_version", "none"))
    if found != FORMAT_VERSION:
        raise StateFormatError(table, found, FORMAT_VERSION)
    fields["since"] = datetime.fromisoformat(fields["since"])
    return Parked(**fields)


def find_parked(metadata: TableMetadata, table: str) -> Parked | None:
    """The mark on the table's present copy.

    Raises:
        StateFormatError: Set by a program of another format version.
    """
    text = metadata.properties.get(PARKED)
    if text is None:
        return None
    parked = _parse(text, table)
    return parked if descends_from(metadata, parked.snapshot_id) else None


def descends_from(metadata: TableMetadata, snapshot_id: int) -> bool:
    """Whether ``main`` is that snapshot or was made from it."""
    head = metadata.snapshot_by_name(MAIN_BRANCH)
    return any(one.snapshot_id == snapshot_id for one in ancestors_of(head, metadata))


def parks(error: CarbonPipelinesError, spec: TableSpec) -> bool:
    """Whether ``error``, met while a table was merged, parks it."""
    of_an_event = isinstance(error, EVENT_ERRORS) or (
        isinstance(error, MalformedEnvelopeError) and error.topic == topic_of(spec)
    )
    return isinstance(error, PARKING_ERRORS) or (of_an_event and spec.dead_letters.then == "park")


def parked_error(table: Table, spec: TableSpec, parked: Parked) -> TableParkedError:
    """The error for a table that goes no further, with what it lacks besides."""
    progress = load_progress(table.metadata, spec.label)
    return TableParkedError(
        spec.label,
        since=parked.since_text,
        by=parked.by,
        reason=parked.reason,
        stands=parked.stands,
        dead_letters=len(progress.dead_letters) if progress is not None else 0,
        keeps_history=spec.is_history,
    )


def park_table(
    catalog: Catalog,
    spec: TableSpec,
    cause: CarbonPipelinesError | str,
    *,
    copy: int | None = None,
    by: str = "carbon",
    now: datetime | None = None,
) -> Parked:
    """Set the mark; a table that is parked already keeps the mark it has.

    Args:
        catalog: Where the table is.
        spec: Its declaration.
        cause: The error, or the sentence of somebody who parks it by hand.
        copy: A snapshot of the copy that the cause belongs to, if it belongs to one.
        by: Who parks it.
        now: The time to write down.

    Raises:
        TableNotCopiedError: It has no copy that could stand still.
        CommitConflictError: The table was copied anew, or written to, meanwhile (retryable).
    """
    table = load_table(catalog, spec.identifier)
    progress = load_progress(table.metadata, spec.label) if table is not None else None
    head = table.current_snapshot() if table is not None else None
    if table is None or progress is None or head is None:
        raise TableNotCopiedError(spec.label)
    found = find_parked(table.metadata, spec.label)
    if found is not None:
        return found
    if copy is not None and not descends_from(table.metadata, copy):
        raise CommitConflictError(spec.label, 1)
    reason = str(cause)
    parked = Parked(
        error=type(cause).__name__ if isinstance(cause, CarbonPipelinesError) else "ByHand",
        reason=reason if reason.endswith(".") else f"{reason}.",
        position=str(progress.position),
        topic=topic_of(spec),
        next_offset=progress.next_offset,
        snapshot_id=head.snapshot_id,
        since=now or datetime.now(UTC),
        by=by,
    )
    _commit(table, spec, (SetPropertiesUpdate(updates={PARKED: json.dumps(parked.to_fields())}),))
    return parked


def unpark_table(
    catalog: Catalog,
    spec: TableSpec,
    expected: Parked,
    *,
    reason: str,
    by: str,
    now: datetime | None = None,
) -> None:
    """Take the mark off and write down who did and why, in one commit.

    Raises:
        TableNotParkedError: The mark is not there (any more), or is another one than ``expected``.
        CommitConflictError: Somebody wrote to the table meanwhile (retryable).
    """
    table = load_table(catalog, spec.identifier)
    if table is None or find_parked(table.metadata, spec.label) != expected:
        raise TableNotParkedError(spec.label)
    released = {
        "at": (now or datetime.now(UTC)).isoformat(timespec="seconds"),
        "by": by,
        "reason": reason,
    }
    _commit(table, spec, ended(table.properties, released))


def ended(properties: Mapping[str, str], how: Mapping[str, str]) -> tuple[TableUpdate, ...]:
    """The updates that take a mark off, ``how`` beside it in the history; none without a mark."""
    if PARKED not in properties:
        return ()
    history = json.loads(properties.get(HISTORY, "[]"))
    history.append({"parked": json.loads(properties[PARKED]), "released": dict(how)})
    return (
        SetPropertiesUpdate(updates={HISTORY: json.dumps(history[-KEPT_MARKS:])}),
        RemovePropertiesUpdate(removals=[PARKED]),
    )


def _commit(table: Table, spec: TableSpec, updates: tuple[TableUpdate, ...]) -> None:
    """Commit ``updates`` on the ``main`` that ``table`` was loaded with."""
    head = table.metadata.refs[MAIN_BRANCH].snapshot_id
    same = AssertRefSnapshotId.model_validate({"ref": MAIN_BRANCH, "snapshot-id": head})
    with lake_errors(f"Iceberg table {spec.label}"):
        commit_updates(table, (updates, (same,)))
