"""The Iceberg table of a database's dead letters: events that its tables lack.

What belongs here: the table, one row per event, and writing to it so that an event is there once.
What does not: which events go there (``set_aside.py``) and putting them back (``replay.py``).

Which dead letters a lake table lacks, its own snapshot says (``TableProgress.dead_letters``): that
changes in the commit that skips an event or applies it. This table holds the bytes, and a
``status`` for people that follows: the rows come before the commit that skips them, and are
resolved after the commit that applies them. A process that dies in between leaves a status behind,
which ``settle`` corrects; it never changes what is applied.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal, cast

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo, In
from pyiceberg.table import Table
from pyiceberg.types import (
    BinaryType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestamptzType,
)

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import CommitConflictError, DeadLetterMissingError
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.keys import number_keys
from carbon_pipelines.lake.row_swap import swap_rows
from carbon_pipelines.lake.state import TableProgress
from carbon_pipelines.lake.table_creation import create_own_table

NAME = "carbon_dead_letters"
"""The table's name, beside the lake tables of its database; no declaration may take it."""
FORMAT = "carbon.dead_letter_format"
FORMAT_VERSION = "1"
"""Version of its columns, in every snapshot's summary."""
COMMIT_ATTEMPTS = 20

Status = Literal["pending", "replayed", "superseded", "dropped"]

# their constructors take what their generated signatures do not say
_equals = cast("Callable[[str, object], BooleanExpression]", EqualTo)
_among = cast("Callable[[str, Sequence[object]], BooleanExpression]", In)
_KEY = ("offset", "topic_id", "partition")
_COLUMNS: tuple[tuple[str, IcebergType, bool], ...] = (
    ("table_name", StringType(), True),
    ("error", StringType(), True),
    ("reason", StringType(), True),
    ("topic", StringType(), True),
    ("topic_id", StringType(), True),
    ("partition", IntegerType(), True),
    ("offset", LongType(), True),
    ("key", BinaryType(), False),
    ("value", BinaryType(), False),
    ("schema_version", LongType(), False),
    ("position", StringType(), False),
    ("set_aside_at", TimestamptzType(), True),
    ("status", StringType(), True),
    ("resolved_at", TimestamptzType(), False),
    ("resolved_by", StringType(), False),
    ("resolution", StringType(), False),
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event that a table lacks.

    Attributes:
        table_name: Logical name of the table.
        error: Class of the error that merging it gave, ``reason`` its sentence.
        key: The message's key as it is in the topic, ``value`` likewise.
        position: Where in the source, if the message says.
        resolution: Why it was resolved, in the words of who did.
    """

    table_name: str
    error: str
    reason: str
    topic: str
    topic_id: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    schema_version: int | None
    position: str | None
    set_aside_at: datetime
    status: Status = "pending"
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolution: str | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of dead letters, said by whom and why."""

    status: Status
    by: str
    reason: str

    def of(self, letter: DeadLetter, now: datetime) -> DeadLetter:
        """The letter with this written down."""
        return replace(
            letter,
            status=self.status,
            resolved_at=now,
            resolved_by=self.by,
            resolution=self.reason,
        )


_Plan = Callable[[Table], list[DeadLetter]]
"""From the table as loaded to the rows to write, each in place of the one with its key."""


class DeadLetterTable:
    """The dead letters of one database."""

    def __init__(self, catalog: Catalog, database: str) -> None:
        self._catalog, self._identifier = catalog, (database, NAME)

    def load(
        self,
        *,
        table_name: str,
        topic_id: str | None = None,
        offsets: Collection[int] | None = None,
        status: Status | None = None,
    ) -> list[DeadLetter]:
        """Those of one table, by offset, that fit what else is given; none without the table."""
        table = load_table(self._catalog, self._identifier)
        if table is None:
            return []
        wanted: BooleanExpression = _equals("table_name", table_name)
        for column, value in (("topic_id", topic_id), ("status", status)):
            wanted = And(wanted, _equals(column, value) if value is not None else AlwaysTrue())
        if offsets is not None:
            wanted = And(wanted, _among("offset", list(offsets)))
        with lake_errors(self._label):
            rows = table.scan(row_filter=wanted).to_arrow().to_pylist()
        return sorted((DeadLetter(**row) for row in rows), key=lambda one: one.offset)

    def lacked(self, spec: TableSpec, progress: TableProgress) -> list[DeadLetter]:
        """The dead letters that a table lacks.

        Raises:
            DeadLetterMissingError: Their rows are gone.
        """
        if not progress.dead_letters:
            return []
        found = self.load(
            table_name=spec.name, topic_id=progress.topic_id, offsets=progress.dead_letters
        )
        gone = sorted(set(progress.dead_letters) - {letter.offset for letter in found})
        if gone:
            raise DeadLetterMissingError(spec.label, self._label, gone)
        return found

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Have every one of ``letters`` in the table, each once whoever else adds it.

        One that is there already and pending stays as it is.

        Raises:
            CommitConflictError: Others won again and again (retryable).
        """

        def missing(table: Table) -> list[DeadLetter]:
            offsets = [letter.offset for letter in letters]
            with lake_errors(self._label):
                scan = table.scan(
                    row_filter=_among("offset", offsets), selected_fields=(*_KEY, "status")
                )
                found = scan.to_arrow().to_pylist()
            known = {(row["offset"], row["topic_id"], row["status"]) for row in found}
            return [x for x in letters if (x.offset, x.topic_id, x.status) not in known]

        if letters:
            self._upsert(missing)

    def resolve(self, letters: Sequence[DeadLetter], how: Resolution) -> int:
        """Write down what became of ``letters``, of those that are still pending; how many were."""
        now = datetime.now(UTC)
        changed = 0

        def pending(table: Table) -> list[DeadLetter]:
            nonlocal changed
            offsets = [letter.offset for letter in letters]
            scan = And(_among("offset", offsets), _equals("status", "pending"))
            with lake_errors(self._label):
                rows = table.scan(row_filter=scan).to_arrow().to_pylist()
            ours = {(letter.topic_id, letter.offset) for letter in letters}
            found = [DeadLetter(**r) for r in rows if (r["topic_id"], r["offset"]) in ours]
            changed = len(found)
            return [how.of(letter, now) for letter in found]

        if letters:
            self._upsert(pending)
        return changed

    def settle(
        self, table_name: str, progress: TableProgress, replayed: Collection[int] = ()
    ) -> int:
        """Correct statuses that processes which died, or copies anew, left pending; how many.

        What the table of ``progress`` has passed without lacking it, it has: from a replay that
        committed ``replayed`` offsets, or because something later decided the row.
        """
        pending = self.load(table_name=table_name, status="pending")
        passed = [
            letter
            for letter in pending
            if letter.topic_id != progress.topic_id
            or (letter.offset < progress.next_offset and letter.offset not in progress.dead_letters)
        ]
        again = [x for x in passed if x.offset in replayed and x.topic_id == progress.topic_id]
        later = [letter for letter in passed if letter not in again]
        by = "carbon"
        self.resolve(again, Resolution("replayed", by, "an earlier replay had applied it"))
        self.resolve(later, Resolution("superseded", by, "the table is past it by other means"))
        return len(passed)

    @property
    def _label(self) -> str:
        return f"Iceberg table {'.'.join(self._identifier)}"

    def _upsert(self, plan: _Plan) -> None:
        """Commit what ``plan`` makes of the table, planned anew whenever another commit is first.

        That a row is there once rests on this: a plan lands only on the snapshot it was made for.
        """
        for _ in range(COMMIT_ATTEMPTS):
            table = load_table(self._catalog, self._identifier) or create_own_table(
                self._catalog, self._identifier, _COLUMNS, self._label
            )
            letters = plan(table)
            if not letters or self._commit(table, letters):
                return
        raise CommitConflictError(".".join(self._identifier), COMMIT_ATTEMPTS)

    def _commit(self, table: Table, letters: Sequence[DeadLetter]) -> bool:
        schema = arrow_schema(table.schema())
        rows = pa.Table.from_pylist([asdict(letter) for letter in letters], schema=schema)
        keys, _ = number_keys([rows.column(name).combine_chunks() for name in _KEY])
        with lake_errors(self._label):
            properties = {FORMAT: FORMAT_VERSION}
            return swap_rows(table, _KEY, keys, rows, properties) is not None
