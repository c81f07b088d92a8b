"""What declared tables are like in their source, and the tables that hold their rows.

What belongs here: reading the facts that a setup judges. What does not: judging them
(``preflight.py``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from carbon_pipelines.source.connection import SourceConnection
from carbon_pipelines.source.ddl_history import TableName
from carbon_pipelines.source.leaves import load_parts


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A relation of a declared table's name.

    Attributes:
        owned: Whether our role owns it, which ALTER PUBLICATION ADD TABLE asks for.
        unreadable: Columns that our role may not SELECT.
        row_security: Whether policies hide rows from our role.
        identity: Columns of the replica identity's index; none for FULL and NOTHING.
        keys: Column sets of all unique, valid, immediate indexes over columns that are never NULL.
        unpublished: Generated columns that this server does not send.
        leaves: Of a partitioned table: what holds its rows, by label, without leaves of their own.
        declared_above: Label of a declared table that this one is a partition of.
    """

    oid: int
    kind: str
    persistence: str
    owned: bool
    unreadable: tuple[str, ...]
    row_security: bool
    replica_identity: str
    identity: tuple[str, ...]
    keys: tuple[frozenset[str], ...]
    unpublished: tuple[str, ...]
    leaves: Mapping[str, "TableFacts"] = field(default_factory=dict[str, "TableFacts"])
    declared_above: str | None = None


def load_table_facts(
    connection: SourceConnection, names: Iterable[TableName]
) -> dict[TableName, TableFacts]:
    """Read the facts of those of the named relations that exist, and of their leaves."""
    facts = _load_plain_facts(connection, list(names))
    by_oid = {one.oid: name for name, one in facts.items()}
    found = load_parts(connection, list(by_oid))
    leaves = _load_plain_facts(connection, [(one.schema, one.name) for one in found if one.is_leaf])
    above = {one.oid: ".".join(by_oid[one.root]) for one in found}
    below = {
        name: {
            one.label: leaves[one.schema, one.name]
            for one in found
            if one.root == facts[name].oid and (one.schema, one.name) in leaves
        }
        for name in facts
    }
    return {
        name: replace(one, leaves=below[name], declared_above=above.get(one.oid))
        for name, one in facts.items()
    }


def _load_plain_facts(
    connection: SourceConnection, pairs: Sequence[TableName]
) -> dict[TableName, TableFacts]:
    if not pairs:
        return {}
    rows = connection.execute(
        """
        SELECT n.nspname, c.relname, c.oid::bigint, c.relkind, c.relpersistence,
               pg_has_role(c.relowner, 'USAGE'),
               ARRAY(SELECT a.attname::text FROM pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                        AND NOT (has_schema_privilege(n.oid, 'USAGE')
                                 AND has_column_privilege(c.oid, a.attnum, 'SELECT'))
                      ORDER BY a.attnum),
               row_security_active(c.oid), c.relreplident,
               (SELECT coalesce(jsonb_agg(jsonb_build_array(
                   CASE c.relreplident WHEN 'd' THEN k.indisprimary WHEN 'i' THEN k.indisreplident
                        ELSE false END, columns.names, columns.never_null)), '[]')
                  FROM pg_index k CROSS JOIN LATERAL (
                    SELECT array_agg(a.attname ORDER BY key.place) AS names,
                           bool_and(coalesce(a.attnotnull, false)) AS never_null
                      FROM unnest(k.indkey[0:k.indnkeyatts - 1])
                           WITH ORDINALITY AS key(attnum, place)
                      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = key.attnum
                  ) AS columns
                 WHERE k.indrelid = c.oid AND k.indisvalid AND k.indisunique AND k.indimmediate
                   AND k.indpred IS NULL),
               ARRAY(SELECT a.attname::text FROM pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                        AND a.attgenerated <> '' AND NOT (a.attgenerated = 's'
                        AND current_setting('server_version_num')::int >= 180000)
                      ORDER BY a.attnum)
          FROM unnest(%s::text[], %s::text[]) AS wanted(schema, name)
          JOIN pg_namespace n ON n.nspname = wanted.schema
          JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
        """,
        ([schema for schema, _ in pairs], [name for _, name in pairs]),
    ).fetchall()
    return {
        (schema, name): TableFacts(
            oid=oid,
            kind=kind,
            persistence=persistence,
            owned=owned,
            unreadable=tuple(unreadable),
            row_security=row_security,
            replica_identity=replica_identity,
            identity=next((tuple(columns) for identity, columns, _ in indexes if identity), ()),
            keys=tuple(frozenset(columns) for _, columns, never_null in indexes if never_null),
            unpublished=tuple(unpublished),
        )
        for (
            schema, name, oid, kind, persistence, owned, unreadable, row_security,
            replica_identity, indexes, unpublished,
        ) in rows
    }  # fmt: skip
