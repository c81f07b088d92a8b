"""The tables that hold a source table's rows: itself, or the leaves of a partitioned one.

What belongs here: which there are, by the catalogs of now or of a source snapshot, and cutting all
of them into ranges. What does not: cutting and reading one table (``copy.py``) and what the event
triggers know of leaves (``leaf_functions.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from carbon_pipelines.errors import RelationRewrittenError
from carbon_pipelines.source.connection import SourceConnection, session
from carbon_pipelines.source.copy import begin_as_of, load_extent, plan_table_ranges
from carbon_pipelines.source.relation import SourceRelation

_PARTS = """
WITH RECURSIVE part(root, oid) AS (
  SELECT i.inhparent, i.inhrelid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
   WHERE i.inhparent = ANY (%s::oid[]) AND c.relkind = 'p' AND NOT i.inhdetachpending
  UNION ALL
  SELECT part.root, i.inhrelid
    FROM part JOIN pg_inherits i ON i.inhparent = part.oid WHERE NOT i.inhdetachpending)
SELECT part.root::bigint, c.oid::bigint, n.nspname, c.relname, c.relkind <> 'p'
  FROM part JOIN pg_class c ON c.oid = part.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY part.root, c.oid
"""

_HEAPS = """
SELECT c.oid::bigint, n.nspname, c.relname, c.relfilenode::bigint,
       (SELECT jsonb_object_agg(a.attname, a.attnum) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY (%s::oid[]) ORDER BY c.oid
"""

_ANCESTORS = """
SELECT c.oid::bigint, n.nspname, c.relname
  FROM pg_partition_ancestors(%s::bigint::oid) AS a JOIN pg_class c ON c.oid = a.relid
  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid <> %s
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A partition, at whatever depth, of the table with oid ``root``; a leaf holds rows."""

    root: int
    oid: int
    schema: str
    name: str
    is_leaf: bool

    @property
    def label(self) -> str:
        """Schema and name as messages spell them."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Heap:
    """A table with pages of its own.

    Attributes:
        relation: The table whose rows it holds, under the heap's oid, name and ``attnum``.
        filenode: pg_class.relfilenode: VACUUM FULL, CLUSTER, TRUNCATE and rewrites give a table
            another file, and its rows other ctids.
    """

    relation: SourceRelation
    filenode: int

    @property
    def oid(self) -> int:
        """Its pg_class.oid."""
        return self.relation.oid


def load_parts(connection: SourceConnection, oids: Sequence[int]) -> list[Part]:
    """Every partition of those of the tables that are partitioned."""
    return [Part(*row) for row in connection.execute(_PARTS.encode(), (list(oids),)).fetchall()]


def load_ancestors(connection: SourceConnection, oid: int) -> list[tuple[int, str, str]]:
    """Oid, schema and name of what a table is a partition of now, from its parent to the root."""
    return connection.execute(_ANCESTORS.encode(), (oid, oid)).fetchall()


def load_heaps_as_of(dsn: str, snapshot_id: str, relation: SourceRelation) -> tuple[Heap, ...]:
    """The tables that hold the rows of ``relation``, as an exported snapshot sees them.

    Args:
        dsn: The source.
        snapshot_id: Of an ``ExportedSnapshot`` that is open.
        relation: As the same snapshot sees it.

    Returns:
        By oid; none for a partitioned table without partitions.

    Raises:
        RelationRewrittenError: The snapshot does not see one of them.
    """
    oids = sorted(relation.leaves) if relation.kind == "p" else [relation.oid]
    with session(dsn) as connection:
        begin_as_of(connection, snapshot_id)
        rows = connection.execute(_HEAPS.encode(), (oids,)).fetchall()
    if len(rows) != len(oids):
        raise RelationRewrittenError(relation.label, how="got other partitions")
    return tuple(
        Heap(_with_places(relation, oid, schema, name, attnums), filenode)
        for oid, schema, name, filenode, attnums in rows
    )


def check_leaves(connection: SourceConnection, relation: SourceRelation) -> None:
    """Prove, whatever snapshot the transaction has, that a partitioned table's leaves are the same.

    Raises:
        RelationRewrittenError: One came or went.
    """
    if relation.kind != "p":
        return
    # asks the catalogs of now, and keeps every leaf locked to the transaction's end
    query = "SELECT relid::oid::bigint FROM pg_partition_tree(%s::bigint::oid) WHERE isleaf"
    if frozenset(oid for (oid,) in connection.execute(query, (relation.oid,))) != relation.leaves:
        raise RelationRewrittenError(relation.label, how="got other partitions")


@dataclass(frozen=True, slots=True)
class Piece:
    """Pages of one heap; see ``CtidRange``."""

    heap_oid: int
    first_page: int
    end_page: int | None


def plan_heap_ranges(
    connection: SourceConnection, heaps: Sequence[Heap], *, target_bytes: int
) -> tuple[tuple[Piece, ...], ...]:
    """Cut tables as large as they are now into ranges of about ``target_bytes``, TOAST included.

    Returns:
        At least one range. A table of more than ``target_bytes`` has ranges of its own, others
        share them.

    Raises:
        RelationRewrittenError: One of them was dropped.
    """
    ranges: list[tuple[Piece, ...]] = []
    shared: list[Piece] = []
    shared_bytes = 0
    for heap in heaps:
        extent = load_extent(connection, heap.relation)
        if extent.table_bytes > target_bytes:
            cut = plan_table_ranges(connection, heap.relation, target_bytes=target_bytes)
            ranges += [(Piece(heap.oid, one.first_page, one.end_page),) for one in cut]
            continue
        if shared_bytes + extent.table_bytes > target_bytes:
            ranges.append(tuple(shared))
            shared, shared_bytes = [], 0
        shared.append(Piece(heap.oid, 0, None))
        shared_bytes += extent.table_bytes
    if shared or not ranges:
        ranges.append(tuple(shared))
    return tuple(ranges)


def _with_places(
    relation: SourceRelation, oid: int, schema: str, name: str, attnums: dict[str, int]
) -> SourceRelation:
    """``relation`` as a heap has it: a leaf may have its columns in another order."""
    columns = tuple(replace(column, attnum=attnums[column.name]) for column in relation.columns)
    return replace(relation, oid=oid, schema=schema, name=name, columns=columns)
