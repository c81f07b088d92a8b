"""Whether the source has rows with given values.

What belongs here: the one query that counts them, as an exported snapshot sees them. What does not:
reading rows (``key_read.py``).
"""

from collections.abc import Mapping

import psycopg
from psycopg import sql

from carbon_pipelines.source.connection import session
from carbon_pipelines.source.copy import begin_as_of, lock_as_seen, translated
from carbon_pipelines.source.relation import SourceRelation


def count_rows_with(
    dsn: str, snapshot_id: str, relation: SourceRelation, values: Mapping[str, str]
) -> int:
    """How many rows have all of ``values``, PostgreSQL's text by column.

    A text that is no value of its column is in no row.

    Raises:
        KeyError: The relation has no such column; it is named.
        SourceError: As ``copy.read_range``.
    """
    types = {column.name: column.type.name for column in (*relation.columns, *relation.unsent)}
    conditions = [
        sql.SQL("t.{} = {}::{}").format(
            sql.Identifier(name),
            sql.Literal(text),
            sql.SQL(types[name]),  # pyright: ignore[reportArgumentType] -- as format_type spells it
        )
        for name, text in values.items()
    ]
    query = sql.SQL("SELECT count(*) FROM {only} {table} t WHERE {conditions}").format(
        only=sql.SQL("" if relation.kind == "p" else "ONLY"),
        table=sql.Identifier(relation.schema, relation.name),
        conditions=sql.SQL(" AND ").join(conditions),
    )
    with session(dsn) as connection, translated(connection, snapshot_id, relation):
        begin_as_of(connection, snapshot_id)
        lock_as_seen(connection, relation, list(values))
        try:
            row = connection.execute(query).fetchone()
        except psycopg.DataError:  # no value of the column's type, as a label that no enum has
            return 0
    assert row is not None
    return int(row[0])
