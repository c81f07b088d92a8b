"""Where the relations of the DDL history are now: under which name, in a publication, or nowhere.

What belongs here: following a relation by its oid in the source, and recording that its changes end
or that they are another table's from here on. What does not: recording its shape
(``ddl_history.py``) and what capture makes of the rows (``stream/routing.py``).
"""

from collections.abc import Iterable, Sequence

from carbon_pipelines.source.connection import SourceConnection
from carbon_pipelines.source.ddl_history import TableName
from carbon_pipelines.source.relation import SETUP_TAG, history_is_readable

# Relations and names as the row says that joined the one to the other; see routing.py.
_STRANGERS = """
WITH joined AS (
  SELECT id, oid, schema, name FROM carbon.ddl_history
   WHERE rewritten AND NOT cast_only AND columns <> '[]'),
home AS (SELECT DISTINCT ON (oid) * FROM joined ORDER BY oid, id DESC),
owner AS (SELECT DISTINCT ON (schema, name) * FROM joined ORDER BY schema, name, id DESC)
SELECT c.oid::bigint
  FROM unnest(%s::oid[]) AS o(oid)
  JOIN pg_class c ON c.oid = o.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN unnest(%s::text[], %s::text[]) AS d(schema, name)
    ON d.schema = n.nspname AND d.name = c.relname
  JOIN home ON home.oid = c.oid
  LEFT JOIN owner ON owner.schema = d.schema AND owner.name = d.name
 WHERE (home.schema, home.name, owner.oid) IS DISTINCT FROM (d.schema, d.name, c.oid)
"""


def record_departures(
    connection: SourceConnection, left: Sequence[int], declared: Iterable[TableName]
) -> None:
    """Record, at its place in the stream, from where on changes of a table are not sent.

    Args:
        connection: Inside the transaction that changed the publications, which holds their locks.
        left: Relations that were published until now.
        declared: Names of tables. A relation that was recorded under one of them and is gone was
            dropped, which no event trigger may have recorded.
    """
    connection.execute(
        "SELECT carbon.record_relation(r.oid, %s, true) FROM unnest(%s::oid[]) AS r(oid)",
        (SETUP_TAG, list(left)),
    )
    pairs = list(declared)
    connection.execute(
        "INSERT INTO carbon.ddl_history (format_version, oid, schema, name, kind,"
        "                                replica_identity, columns, rewritten, command_tag)"
        " SELECT h.format_version, h.oid, h.schema, h.name, h.kind, 'n', '[]'::jsonb, false, %s"
        "   FROM (SELECT DISTINCT ON (oid) * FROM carbon.ddl_history ORDER BY oid, id DESC) AS h"
        "   JOIN unnest(%s::text[], %s::text[]) AS d(schema, name)"
        "     ON d.schema = h.schema AND d.name = h.name"
        "  WHERE h.columns <> '[]' AND NOT EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = h.oid)",
        (SETUP_TAG, [schema for schema, _ in pairs], [name for _, name in pairs]),
    )


def load_strangers(
    connection: SourceConnection, oids: Sequence[int], declared: Sequence[TableName]
) -> list[int]:
    """Relations of a declared name whose changes are taken for another table's.

    That is, they joined a publication under another name, or another one has joined under theirs
    since.
    """
    names = ([schema for schema, _ in declared], [name for _, name in declared])
    rows = connection.execute(_STRANGERS, (list(oids), *names)).fetchall()
    return [row[0] for row in rows]


def load_renamed_to(connection: SourceConnection, schema: str, name: str) -> TableName | None:
    """What a table that was recorded as ``schema.name`` is called now, if it still exists."""
    if not history_is_readable(connection):
        return None
    row = connection.execute(
        "SELECT n.nspname, c.relname FROM carbon.ddl_history h"
        " JOIN pg_class c ON c.oid = h.oid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE h.schema = %s AND h.name = %s ORDER BY h.id DESC LIMIT 1",
        (schema, name),
    ).fetchone()
    return (row[0], row[1]) if row else None
