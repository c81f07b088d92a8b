"""A relation's rows to change events, compiled once for each shape the relation has.

What belongs here: reading a row of pgoutput and writing it as Debezium's JSON envelope, in one pass
and without a Python object for each value that is not part of the result. What does not: which
event follows from a message and which position it has (``translate.py``).

An envelope's ``source`` has, besides Debezium's fields, ``commit_lsn`` and ``ordinal`` (the event's
position), ``schema_version`` (an id of carbon.ddl_history, 0 if no row there describes the
columns), ``generation`` (the number of the newest gap in the stream, left out before the first one)
and, if an update left TOAST values unchanged, ``unchanged``: the names of their columns joined by
U+001F.

A column that must not leave is known by its name alone. If no column has that name, it may have
been renamed: then no value of any column leaves, and the version is 0, at which readers stop. An
update or delete that PostgreSQL sends without the declared key has none either, and version -2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from carbon_pipelines.source.relation import SourceRelation, SourceType
from carbon_pipelines.stream.json_values import NULL, builtin_type, string, value_encoding
from carbon_pipelines.stream.pgoutput import Relation, RelationColumn
from carbon_pipelines.stream.row_reading import ColumnReading, Values, compile_reader

_SEPARATOR = "\x1f"

UNRECORDED = 0
"""The ``schema_version`` of events whose columns no row of carbon.ddl_history describes."""
PARTITION_TRUNCATED = -1
"""That of a message, ``op`` m: partitions were truncated, and rows went without an event each."""
UNKEYED = -2
"""That of updates and deletes that do not carry the declared key: they have no value at all."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where events of a relation go; ``label`` names its table in errors."""

    topic: str
    label: str
    key: tuple[str, ...] = ()
    dropped: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    """Columns that are declared strings."""
    whole_rows: bool = False
    """Rows are known by all of their columns: ``before`` is the whole old row."""
    is_history: bool = False


class RelationEncoder:
    """Encodes rows and events of one relation message.

    The templates take, in this order: what stands in ``before`` if there is something, the values
    of ``after`` one by one, xid, lsn, commit_lsn, ordinal, ``unchanged`` (see ``unchanged_field``),
    and ts_ms. xid, commit_lsn and ts_ms are bytes: they are written once in a transaction.
    """

    __slots__ = (
        *("changed", "created", "deleted", "key_of", "keyed", "moved", "of_leaf"),
        *("part_truncated", "read_row", "relation", "row", "sealed", "target", "truncated"),
        *("unkeyed_change", "unkeyed_delete", "version"),
    )

    def __init__(
        self,
        database: str,
        relation: Relation,
        target: Target,
        known: SourceRelation | None,
        *,
        of_leaf: bool = False,
        generation: int = 0,
    ) -> None:
        """Compile.

        Args:
            database: Logical name, for ``source.db``.
            relation: The columns that rows have from now on.
            target: Where events go.
            known: The relation's newest row of the DDL history, which tells what types are made of.
            of_leaf: The relation is a leaf of the table that ``known`` describes: it may have the
                same columns in another order.
            generation: How many gaps lie before the events, for ``source.generation``.
        """
        self.relation, self.target, self.of_leaf = relation, target, of_leaf
        version = _version(relation, known, in_any_order=of_leaf)
        names = sent = frozenset(column.name for column in relation.columns)
        if known is not None and version != UNRECORDED:
            names |= known.column_names  # a generated column may never be sent
        self.sealed = not target.dropped <= names
        self.version = UNRECORDED if self.sealed else version
        dropped = sent if self.sealed else target.dropped
        types = {column.name: column.type for column in known.columns} if known is not None else {}
        self.read_row = compile_reader(
            [_reading(column, dropped, target.texts, types) for column in relation.columns]
        )
        self.row = _row_template(relation, dropped)
        key = () if self.sealed else _key_columns(relation, target)
        self.key_of = _sealed_key if self.sealed and target.key else _compile_key(relation, key)
        self.keyed = self.sealed or (bool(key) and all(column.in_identity for column in key))
        source = _source_template(database, relation, UNKEYED, generation)
        self.unkeyed_change = _template(b"u", NULL, b"{}", source)
        self.unkeyed_delete = _template(b"d", b"{}", NULL, source)
        source = _source_template(database, relation, self.version, generation)
        self.created = _template(b"c", NULL, self.row, source)
        self.changed = _template(b"u", NULL, self.row, source)
        self.moved = _template(b"u", b"%b", self.row, source)
        self.deleted = _template(b"d", b"%b", NULL, source)
        self.truncated = _template(b"t", NULL, NULL, source)
        source = _source_template(database, relation, PARTITION_TRUNCATED, generation)
        self.part_truncated = _template(b"m", NULL, NULL, source)

    def fill_unchanged(
        self, row: Values, old_row: Values, unchanged: Sequence[int], *, old_is_whole: bool
    ) -> list[int]:
        """Take unchanged values from the old row where it carries them.

        Args:
            row: The new row; changed in place.
            old_row: The old row.
            unchanged: Indexes of columns whose value ``row`` lacks.
            old_is_whole: The old row has all columns (REPLICA IDENTITY FULL), not just the key's.

        Returns:
            The indexes that are still without a value.
        """
        left: list[int] = []
        for index in unchanged:
            if old_is_whole or self.relation.columns[index].in_identity:
                row[index] = old_row[index]
            else:
                left.append(index)
        return left

    def old_image(self, row: Values, *, is_whole: bool) -> bytes | None:
        """What stands in ``before``: the old key, or the whole old row, null if that did not come.

        None if the old row does not carry the key. Readers refuse null and None.
        """
        if self.target.whole_rows:
            return self.row % tuple(row) if is_whole else NULL
        return (self.key_of(row) or NULL) if self.keyed else None

    def unchanged_field(self, unchanged: Sequence[int]) -> bytes:
        """The field ``,"unchanged":"..."`` for the columns that are not dropped, or nothing."""
        if self.sealed:
            return b""
        columns = (self.relation.columns[index].name for index in unchanged)
        names = [name for name in columns if name not in self.target.dropped]
        return b',"unchanged":%b' % string(_SEPARATOR.join(names).encode()) if names else b""


def _version(relation: Relation, known: SourceRelation | None, *, in_any_order: bool) -> int:
    """The recorded shape that rows have, if it is recorded: a DDL may not have been."""
    if known is None:
        return UNRECORDED
    recorded = [(column.name, column.type.oid) for column in known.columns]
    sent = [(column.name, column.type_oid) for column in relation.columns]
    if in_any_order:
        return known.version if sorted(sent) == sorted(recorded) else UNRECORDED
    return known.version if sent == recorded else UNRECORDED


def _reading(
    column: RelationColumn,
    dropped: frozenset[str],
    texts: frozenset[str],
    types: dict[str, SourceType],
) -> ColumnReading:
    if column.name in dropped:
        return ColumnReading(_nothing, b"", b"")
    encoding = value_encoding(_type_of(column, types), as_text=column.name in texts)
    return ColumnReading(encoding.encode, NULL, encoding.unavailable)


def _row_template(relation: Relation, dropped: frozenset[str]) -> bytes:
    """A row as an object; a dropped column's place stays, and nothing is put there."""
    template, comma = b"", b""
    for column in relation.columns:
        if column.name in dropped:
            template += b"%b"
        else:
            template += b"%b%b:%%b" % (comma, _literal(string(column.name.encode())))
            comma = b","
    return b"{%b}" % template


def _type_of(column: RelationColumn, types: dict[str, SourceType]) -> SourceType:
    """A built-in type needs no history; others are known from it, or else are text."""
    built_in = builtin_type(column.type_oid, column.typmod)
    if built_in is not None:
        return built_in
    known = types.get(column.name)
    if known is not None and known.oid == column.type_oid:
        return known
    return SourceType(column.type_oid, column.typmod, "unknown", "b", "unknown", None)


def _key_columns(relation: Relation, target: Target) -> tuple[RelationColumn, ...]:
    """The declared key, or the replica identity where the owner renamed a column of the key."""
    by_name = {column.name: column for column in relation.columns}
    if all(name in by_name for name in target.key):
        return tuple(by_name[name] for name in target.key)
    return tuple(column for column in relation.columns if column.in_identity)


def _compile_key(
    relation: Relation, key: Sequence[RelationColumn]
) -> Callable[[Values], bytes | None]:
    """From a row to ``{"k":v}``; to None for a table without a key."""
    if not key:
        return _no_key
    template = b"{%b}" % b",".join(b"%b:%%b" % _literal(string(c.name.encode())) for c in key)
    values = itemgetter(*(relation.columns.index(column) for column in key))
    return lambda row: template % values(row)


def _no_key(row: Values) -> None:  # noqa: ARG001
    return None


def _sealed_key(row: Values) -> bytes:  # noqa: ARG001
    return b"{}"


def _nothing(value: bytes) -> bytes:  # noqa: ARG001
    return b""


def _source_template(database: str, relation: Relation, version: int, generation: int) -> bytes:
    behind_gap = b',"generation":%d' % generation if generation else b""
    db, schema, table = (
        _literal(string(name.encode())) for name in (database, relation.schema, relation.name)
    )
    return (
        b'{"connector":"carbon","db":%b,"schema":%b,"table":%b,"txId":%%b,"lsn":%%d,'
        b'"commit_lsn":%%b,"ordinal":%%d,"schema_version":%d%b%%b}'
        % (db, schema, table, version, behind_gap)
    )


def _template(op: bytes, before: bytes, after: bytes, source: bytes) -> bytes:
    return b'{"before":%b,"after":%b,"source":%b,"op":"%b","ts_ms":%%b}' % (
        before,
        after,
        source,
        op,
    )


def _literal(text: bytes) -> bytes:
    """``text`` as part of a template."""
    return text.replace(b"%", b"%%")
