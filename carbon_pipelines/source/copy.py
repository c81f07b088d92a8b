"""Reading a table's rows as one source snapshot saw them.

What belongs here: exported snapshots, cutting a table into ctid ranges, and reading one range. What
does not: how COPY's text becomes Arrow (``copy_text.py``), writing rows anywhere, and which events
are already in a copy (``visibility.py`` has the rule, ``lake`` applies it).
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psycopg
import pyarrow as pa
from psycopg import sql

from carbon_pipelines.errors import (
    RelationRewrittenError,
    SnapshotGoneError,
    SourceLockedError,
    SourcePrivilegeError,
)
from carbon_pipelines.source.connection import SourceConnection, session
from carbon_pipelines.source.copy_text import BLOCK_BYTES, copy_blocks, decode_block
from carbon_pipelines.source.position import parse_lsn
from carbon_pipelines.source.relation import SourceRelation, load_relation
from carbon_pipelines.source.visibility import Visibility

_PAGE_BYTES = 8192
_BEGIN = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class ExportedSnapshot:
    """A source snapshot that other sessions import; a context manager that keeps it open.

    Attributes:
        snapshot_id: For ``SET TRANSACTION SNAPSHOT``.
        visibility: Which transactions it sees.
        insert_lsn: The L of the skip rule: ``pg_current_wal_insert_lsn()`` read after it. A copy
            may be committed once capture has passed a marker that was emitted after it.
    """

    snapshot_id: str
    visibility: Visibility
    insert_lsn: int

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            connection = stack.enter_context(session(self._dsn))
            connection.execute(_BEGIN)
            query = "SELECT pg_export_snapshot(), pg_current_snapshot()::text"
            row = connection.execute(query).fetchone()
            end = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
            assert row is not None
            assert end is not None
            self.snapshot_id, self.visibility = row[0], Visibility.parse(row[1])
            self.insert_lsn = parse_lsn(end[0])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a table is: its heap's pages, and bytes with TOAST; ``rows`` is an estimate."""

    pages: int
    rows: int
    table_bytes: int


@dataclass(frozen=True, slots=True)
class CtidRange:
    """Heap pages from ``first_page`` up to ``end_page``, which is not in it; None: to the end."""

    first_page: int
    end_page: int | None
    rows: int = 0

    def predicate(self) -> str:
        """SQL that a TID range scan answers without reading other pages."""
        upper = "" if self.end_page is None else f" AND ctid < '({self.end_page},0)'::tid"
        return f"ctid >= '({self.first_page},0)'::tid{upper}"


def load_extent(connection: SourceConnection, relation: SourceRelation) -> Extent:
    """Measure a table: pages from its file (pg_class.relpages lags), rows as last estimated."""
    row = connection.execute(
        "SELECT pg_relation_size(c.oid) / current_setting('block_size')::int,"
        " greatest(c.reltuples, 0)::bigint, pg_table_size(c.oid)"
        " FROM pg_class c WHERE c.oid = %s::bigint::oid",
        (relation.oid,),
    ).fetchone()
    if row is None:
        raise RelationRewrittenError(relation.label, how="was dropped")
    return Extent(*row)


def begin_as_of(connection: SourceConnection, snapshot_id: str) -> None:
    """Begin a read-only transaction that sees what an exported snapshot sees."""
    connection.execute(_BEGIN)
    connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot_id)))


def load_relation_as_of(dsn: str, snapshot_id: str, schema: str, name: str) -> SourceRelation:
    """A relation's shape and version as an exported snapshot sees them.

    Raises:
        TableMissingError: The snapshot sees no such relation.
    """
    with session(dsn) as connection:
        begin_as_of(connection, snapshot_id)
        return load_relation(connection, schema, name)


def plan_ranges(
    pages: int, rows: int, target_bytes: int, *, table_bytes: int | None = None
) -> tuple[CtidRange, ...]:
    """Cut a table into ranges of about ``target_bytes``, which together hold every row.

    Args:
        pages: Of the heap.
        rows: Estimated; spread over the ranges for progress.
        target_bytes: Per range, in the source, TOAST included if ``table_bytes`` is given.
        table_bytes: Heap and TOAST; by default the heap alone.

    Returns:
        At least one range. The last has no end: the table may have grown since it was measured.
    """
    page_bytes = max(_PAGE_BYTES, (table_bytes or 0) // max(1, pages))
    step = max(1, target_bytes // page_bytes)
    starts = range(0, max(1, pages), step)
    last = starts[-1]
    return tuple(
        CtidRange(
            start,
            None if start == last else start + step,
            rows * min(step, max(1, pages) - start) // max(1, pages),
        )
        for start in starts
    )


def plan_table_ranges(
    connection: SourceConnection, relation: SourceRelation, *, target_bytes: int
) -> tuple[CtidRange, ...]:
    """``plan_ranges`` for a table as large as it is now, TOAST included.

    Raises:
        RelationRewrittenError: The table was dropped.
    """
    extent = load_extent(connection, relation)
    return plan_ranges(extent.pages, extent.rows, target_bytes, table_bytes=extent.table_bytes)


def read_range(
    dsn: str,
    snapshot_id: str,
    relation: SourceRelation,
    columns: Sequence[str],
    ctid_range: CtidRange,
    csv_types: Mapping[str, pa.DataType],
    *,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[pa.RecordBatch]:
    """Read a range of a table as a snapshot saw it, in PostgreSQL's text form.

    What was yielded counts only once the iteration has ended without an error: the check that the
    table was not rewritten comes last, before the reader's lock is released. (A rewrite or TRUNCATE
    after the snapshot shows it an empty table, and no error.)

    Args:
        dsn: The source.
        snapshot_id: Of an ``ExportedSnapshot`` that stays open meanwhile.
        relation: The table, as it was when the snapshot was taken.
        columns: Names in the order of the batches' columns; protected ones left out.
        ctid_range: Which pages.
        csv_types: The type of columns that are not to be a string: integers, floats, booleans.
        block_bytes: Text per batch; a batch has at least one row, whatever its size.

    Yields:
        Batches with one column per name; NULL and the empty string are kept apart.

    Raises:
        RelationRewrittenError: The table is not what the snapshot saw; start again.
        SnapshotGoneError: The snapshot was closed; start again.
        SourceLockedError: The table was locked for longer than lock_timeout.
        SourcePrivilegeError: Our role may not read all rows of these columns.
        CopyUnreadableError: A text is not UTF-8.
        SourceUnreachableError: The server went away.
    """
    if not columns:
        reason = f"no column of {relation.label} is to be read"
        raise ValueError(reason)
    types = {name: csv_types.get(name, pa.string()) for name in columns}
    with session(dsn) as connection, translated(connection, snapshot_id, relation):
        begin_as_of(connection, snapshot_id)
        connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        connection.execute("SET LOCAL jit = off")
        lock_as_seen(connection, relation, columns)
        for block in copy_blocks(connection, _select(relation, columns, ctid_range), block_bytes):
            yield from decode_block(block, types, relation.label)
        _check_unchanged(connection, relation)
        connection.execute("COMMIT")


def _select(
    relation: SourceRelation, columns: Sequence[str], ctid_range: CtidRange | None
) -> sql.Composed:
    predicate = ctid_range.predicate() if ctid_range else "false"
    return sql.SQL("SELECT {} FROM ONLY {} WHERE {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier(relation.schema, relation.name),
        sql.SQL(predicate),  # pyright: ignore[reportArgumentType] -- built from integers
    )


def lock_as_seen(
    connection: SourceConnection, relation: SourceRelation, columns: Sequence[str]
) -> None:
    """Take the lock that keeps DDL out to the end, and prove that names still mean what they did.

    A renamed, dropped or swapped table or column is seen in the result's description, which comes
    from the current catalogs; queries of pg_attribute would show those of the snapshot.
    """
    result = connection.execute(_select(relation, columns, None)).pgresult
    assert result is not None
    attnums = {column.name: column.attnum for column in relation.columns}
    for place, name in enumerate(columns):
        if result.ftable(place) != relation.oid:
            raise RelationRewrittenError(relation.label, how="was replaced by another table")
        if result.ftablecol(place) != attnums.get(name):
            raise RelationRewrittenError(relation.label, how=f"got another column {name}")
    if relation.kind != "p":  # which has no file of its own
        _check_unchanged(connection, relation)


def _check_unchanged(connection: SourceConnection, relation: SourceRelation) -> None:
    """Compare the table's file in the snapshot's catalogs with its file now."""
    row = connection.execute(
        "SELECT c.relfilenode = pg_relation_filenode(c.oid) FROM pg_class c"
        " WHERE c.oid = %s::bigint::oid",
        (relation.oid,),
    ).fetchone()
    if row is None:
        raise RelationRewrittenError(relation.label, how="was created")
    if not row[0]:
        raise RelationRewrittenError(relation.label, how="was rewritten or truncated")


@contextmanager
def translated(
    connection: SourceConnection, snapshot_id: str, relation: SourceRelation
) -> Generator[None]:
    """Give PostgreSQL's errors while reading a table their names."""
    try:
        yield
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject) as gone:
        raise SnapshotGoneError(snapshot_id) from gone
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as missing:
        raise RelationRewrittenError(relation.label, how="was renamed or dropped") from missing
    except psycopg.errors.LockNotAvailable as locked:
        raise SourceLockedError(relation.label) from locked
    except psycopg.errors.InsufficientPrivilege as refusal:
        role, what = connection.info.user, f"read {relation.label}"
        remedy = f"{refusal.diag.message_primary}. Grant it, or protect the column with drop."
        raise SourcePrivilegeError(role, what=what, remedy=remedy) from refusal
