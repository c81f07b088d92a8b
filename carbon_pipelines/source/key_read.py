"""Reading single rows, by key, as one source snapshot saw them.

What belongs here: the one query that reads some columns of some keys. What does not: whole tables
(``copy.py``) and what the values are for (``lake/reread.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from psycopg import sql

from carbon_pipelines.source.connection import session
from carbon_pipelines.source.copy import begin_as_of, lock_as_seen, translated
from carbon_pipelines.source.copy_text import BLOCK_BYTES, copy_blocks, decode_block
from carbon_pipelines.source.leaves import check_leaves
from carbon_pipelines.source.relation import SourceRelation

_PLACE = ""
"""The name of the column of places: one that no column of PostgreSQL has."""


@dataclass(frozen=True, slots=True)
class WantedRows:
    """Rows to read; ``keys`` has for each key column of the relation its text in every row."""

    key: Sequence[str]
    keys: Sequence[Sequence[str]]
    columns: Sequence[str]


def read_by_key(
    dsn: str,
    snapshot_id: str,
    relation: SourceRelation,
    wanted: WantedRows,
    *,
    max_bytes: int,
) -> pa.Table | None:
    """The values of ``wanted`` as PostgreSQL's text, in one query.

    Args:
        dsn: The source.
        snapshot_id: Of an ``ExportedSnapshot`` that stays open meanwhile.
        relation: The table, as it was when the snapshot was taken.
        wanted: Which rows and columns.
        max_bytes: Of the answer.

    Returns:
        ``wanted.columns``, a row for each row found; its place in ``wanted.keys`` is in the first
        column, ``int64``. None if the answer is longer than ``max_bytes``.

    Raises:
        SourceError: As ``copy.read_range``; of a partitioned table, which has no file of its own,
            that its leaves are others now. Rows of one that was truncated are not found.
    """
    types = {_PLACE: pa.int64(), **dict.fromkeys(wanted.columns, pa.string())}
    parts: list[pa.RecordBatch] = []
    size = 0
    with session(dsn) as connection, translated(connection, snapshot_id, relation):
        begin_as_of(connection, snapshot_id)
        lock_as_seen(connection, relation, [*wanted.key, *wanted.columns])
        for block in copy_blocks(connection, _select(relation, wanted), BLOCK_BYTES):
            size += len(block)
            if size > max_bytes:
                return None
            parts += decode_block(block, types, relation.label)
        check_leaves(connection, relation)
    return pa.Table.from_batches(parts, schema=pa.schema(list(types.items())))


def _select(relation: SourceRelation, wanted: WantedRows) -> sql.Composed:
    types = {column.name: column.type.name for column in relation.columns}
    names = [sql.Identifier(f"k{i}") for i in range(len(wanted.key))]
    equal = (
        sql.SQL("t.{} = w.{}::{}").format(sql.Identifier(column), name, sql.SQL(types[column]))  # pyright: ignore[reportArgumentType] -- as format_type spells it
        for column, name in zip(wanted.key, names, strict=True)
    )
    return sql.SQL(
        "SELECT w.place - 1, {columns} FROM unnest({keys}) WITH ORDINALITY AS w({names}, place)"
        " JOIN {only} {table} t ON {equal}"
    ).format(
        columns=sql.SQL(", ").join(sql.Identifier("t", name) for name in wanted.columns),
        keys=sql.SQL(", ").join(
            sql.SQL("{}::pg_catalog.text[]").format(sql.Literal(list(texts)))
            for texts in wanted.keys
        ),
        names=sql.SQL(", ").join(names),
        only=sql.SQL("" if relation.kind == "p" else "ONLY"),
        table=sql.Identifier(relation.schema, relation.name),
        equal=sql.SQL(" AND ").join(equal),
    )
