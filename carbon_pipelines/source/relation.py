"""What a source table looks like: its columns, their types and its replica identity.

What belongs here: the shape of one relation, read from the catalogs or from its DDL history. What
does not: when a shape is recorded (``ddl_history.py``) and what the lake makes of a type.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from carbon_pipelines.errors import TableMissingError
from carbon_pipelines.source.connection import SourceConnection, describe_session
from carbon_pipelines.source.description import DESCRIBE, FORMAT_VERSION

SETUP_TAG = "carbon setup"
"""The command_tag of rows that a look at the source wrote, not a DDL at its place."""


@dataclass(frozen=True, slots=True)
class SourceType:
    """A column's type, with domains resolved to what they are made of.

    Attributes:
        oid: The declared type, which may be a domain; pgoutput sends the same.
        typmod: Of the resolved type (numeric's precision and scale, varchar's length), or -1.
        name: ``format_type`` of the resolved type, like ``numeric(10,2)`` or ``public.mood[]``.
        kind: pg_type.typtype of the resolved type: b base, e enum, c composite, r range,
            m multirange, p pseudo; never d.
        base_name: pg_type.typname of the resolved type, like ``int4``, ``numeric``, ``_int4``.
        element: The element's type if this is an array.
        labels: An enum's labels with their oids.
    """

    oid: int
    typmod: int
    name: str
    kind: str
    base_name: str
    element: "SourceType | None" = None
    labels: tuple[tuple[int, str], ...] = ()

    @property
    def is_built_in(self) -> bool:
        """Whether this is a base type of PostgreSQL's own, so that ``base_name`` says all of it.

        Sessions of ours have pg_catalog alone in their search_path: the name of every other type
        carries its schema, whatever built-in type it is named like.
        """
        return self.kind == "b" and "." not in self.name

    @property
    def is_list(self) -> bool:
        """Whether this is an array whose text can be split into its elements, at commas.

        Only base types choose another delimiter. Of PostgreSQL's own, box does (``;``); of an
        extension's we do not know (PostGIS has ``:``), so their arrays are one text.
        """
        element = self.element
        return element is not None and (
            element.kind != "b" or (element.is_built_in and element.base_name != "box")
        )


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A live column that replication sends.

    ``attnum`` survives a RENAME and is never used again. ``key_position`` counts from 0 in the
    replica identity's index. ``missing_value`` is the text of the constant that an ADD COLUMN gave
    to the rows that existed, for which no event is sent. ``comment`` is its owner's description.
    """

    attnum: int
    name: str
    type: SourceType
    nullable: bool
    key_position: int | None = None
    generated: bool = False
    missing_value: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class SourceRelation:
    """A table's shape.

    Attributes:
        kind: pg_class.relkind.
        replica_identity: pg_class.relreplident: d default, i index, f full, n nothing.
        columns: In attnum order, those that this server sends; none at all: it was dropped.
        version: The row of carbon.ddl_history that has this shape, 0 if there is none.
        rewritten: The DDL may have changed rows without an event for them (ALTER TYPE, a volatile
            default): a copy from before it is stale.
        unsent: Columns that this server never sends: virtual generated ones, and before PostgreSQL
            18 every generated one.
        by_setup: No DDL wrote the row but a look at the source, after what it found had happened.
        cast_only: It rewrote them for a new type alone, and had no USING.
        comment: The owner's description of the table.
        leaves: Oids of the tables that hold the rows of a partitioned one.
        filled: Those of them that the DDL had for itself alone and that were not empty then: rows
            of one that it attached came without events.
    """

    oid: int
    schema: str
    name: str
    kind: str
    replica_identity: str
    columns: tuple[SourceColumn, ...]
    version: int = 0
    rewritten: bool = False
    unsent: tuple[SourceColumn, ...] = ()
    cast_only: bool = False
    comment: str | None = None
    leaves: frozenset[int] = frozenset()
    filled: frozenset[int] = frozenset()
    by_setup: bool = False

    @property
    def label(self) -> str:
        """Schema and name as messages spell them, like ``public.price_tick``."""
        return f"{self.schema}.{self.name}"

    @property
    def dropped(self) -> bool:
        """Whether this records the table's end."""
        return not self.columns

    @property
    def identity_columns(self) -> tuple[str, ...]:
        """Names of the replica identity's columns in index order; none for FULL and NOTHING."""
        key = [column for column in self.columns if column.key_position is not None]
        return tuple(column.name for column in sorted(key, key=lambda c: c.key_position or 0))

    @property
    def column_names(self) -> frozenset[str]:
        """Names of all live columns, sent or not."""
        return frozenset(column.name for column in (*self.columns, *self.unsent))

    @property
    def enum_labels(self) -> dict[int, str]:
        """The labels of every enum that a column is made of, by oid."""
        kinds = [column.type for column in self.columns]
        labels: dict[int, str] = {}
        while kinds:
            kind = kinds.pop()
            labels.update(kind.labels)
            kinds += [kind.element] if kind.element is not None else []
        return labels


def load_relation(connection: SourceConnection, schema: str, name: str) -> SourceRelation:
    """Read a relation's shape now, and its version if its newest recorded shape is the same.

    Args:
        connection: One of ours: its search_path decides how types are spelled.
        schema: As in PostgreSQL, any characters.
        name: As in PostgreSQL, any characters.

    Raises:
        TableMissingError: No such relation exists.
    """
    query = DESCRIBE % {
        "relation": "(SELECT r.oid FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace s"
        " ON s.oid = r.relnamespace WHERE s.nspname = %(schema)s AND r.relname = %(name)s)"
    }
    row = connection.execute(query.encode(), {"schema": schema, "name": name}).fetchone()
    if row is None:
        label = f"{schema}.{name}"
        raise TableMissingError(label, location=describe_session(connection))
    relation = relation_from_history(row[0])
    recorded = load_recorded(connection, relation.oid)
    if recorded is None:
        return relation
    shape = replace(
        recorded, version=0, rewritten=False, cast_only=False, filled=frozenset(), by_setup=False
    )
    return recorded if shape == relation else relation


def load_recorded(connection: SourceConnection, oid: int) -> SourceRelation | None:
    """The newest recorded shape of a relation; None if there is none, or we may not read it."""
    if not history_is_readable(connection):
        return None
    row = connection.execute(
        "SELECT to_jsonb(h) FROM carbon.ddl_history h WHERE oid = %s ORDER BY id DESC LIMIT 1",
        (oid,),
    ).fetchone()
    return relation_from_history(row[0]) if row else None


def history_is_readable(connection: SourceConnection) -> bool:
    """Whether carbon.ddl_history is there and our role may read it."""
    row = connection.execute(
        "SELECT has_table_privilege(to_regclass('carbon.ddl_history'), 'SELECT')"
        " AND has_schema_privilege(to_regnamespace('carbon'), 'USAGE')"
    ).fetchone()
    return row is not None and bool(row[0])


def relation_from_history(document: Mapping[str, Any]) -> SourceRelation:
    """Build a relation from a row of carbon.ddl_history.

    Args:
        document: The row's columns by name, as in an envelope's ``after``; a list may be the JSON
            text of one. A description that is not recorded yet has no ``id``.

    Raises:
        ValueError: The row has another format version.
    """
    if document["format_version"] != FORMAT_VERSION:
        reason = (
            f"a row of carbon.ddl_history has format version {document['format_version']}, "
            f"and this release reads version {FORMAT_VERSION}"
        )
        raise ValueError(reason)
    columns = _parsed(document["columns"])
    return SourceRelation(
        oid=int(document["oid"]),
        schema=document["schema"],
        name=document["name"],
        kind=document["kind"],
        replica_identity=document["replica_identity"],
        columns=tuple(_column(column) for column in columns if column["published"]),
        version=document.get("id") or 0,
        rewritten=bool(document.get("rewritten")),
        unsent=tuple(_column(column) for column in columns if not column["published"]),
        cast_only=bool(document.get("cast_only")),
        comment=document.get("comment"),
        leaves=frozenset(_parsed(document.get("leaves")) or ()),
        filled=frozenset(_parsed(document.get("filled_leaves")) or ()),
        by_setup=document.get("command_tag") == SETUP_TAG,
    )


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _column(document: Mapping[str, Any]) -> SourceColumn:
    return SourceColumn(
        attnum=document["attnum"],
        name=document["name"],
        type=_type(document["type"]),
        nullable=document["nullable"],
        key_position=document["key_position"],
        generated=document["generated"] != "",
        missing_value=document["missing_value"],
        comment=document.get("comment"),
    )


def _type(chain: Sequence[Mapping[str, Any]]) -> SourceType:
    """Fold the chain of a type (see DESCRIBE): domains are skipped, elements are nested."""
    depth = next(depth for depth, link in enumerate(chain) if link["kind"] != "d")
    resolved, rest = chain[depth], chain[depth + 1 :]
    return SourceType(
        oid=chain[0]["oid"],
        typmod=resolved["typmod"],
        name=resolved["name"],
        kind=resolved["kind"],
        base_name=resolved["base_name"],
        element=_type(rest) if rest else None,
        labels=tuple((oid, label) for oid, label in resolved.get("labels") or ()),
    )
