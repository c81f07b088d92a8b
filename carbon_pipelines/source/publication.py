"""Which tables PostgreSQL publishes to us, and with which operations.

What belongs here: our two publications, the plan that turns what is there into what is wanted, and
executing it. What does not: whether a table may be published at all (``preflight.py``).

Tables with a replica identity are in ``carbon_<database>``. Publishing updates of a table without
one makes the application's UPDATE fail, so such tables are in ``carbon_<database>_keyless``, which
publishes inserts and truncates only. No table is ever in both: a slot reads both, and the sum of
their operations would count.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, LiteralString

import psycopg
from psycopg import sql

from carbon_pipelines.errors import (
    PublicationConflictError,
    SourceError,
    SourceLockedError,
    SourcePrivilegeError,
    TableMissingError,
)
from carbon_pipelines.source.connection import SourceConnection, describe_session
from carbon_pipelines.source.ddl_history import TableName

OPERATIONS = ("insert", "update", "delete", "truncate")
KEYLESS_OPERATIONS = ("insert", "truncate")

_GENERATED_VERSION = 180_000  # publish_generated_columns came with PostgreSQL 18


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication as it is, or as it is wanted.

    Attributes:
        operations: Out of insert, update, delete, truncate.
        tables: All its tables, as (schema, name).
        generated: Whether stored generated columns are sent; always False before PostgreSQL 18.
        via_root: publish_via_partition_root, which never sends a leaf's TRUNCATE.
        partial: Those of its tables that have a column list or a row filter.
        foreign: What shows that somebody else made it, like "FOR ALL TABLES".
    """

    name: str
    operations: frozenset[str]
    tables: frozenset[TableName]
    generated: bool = False
    via_root: bool = False
    partial: frozenset[TableName] = field(default_factory=frozenset[TableName])
    foreign: str | None = None


@dataclass(frozen=True, slots=True)
class PublicationStep:
    """One statement; its text is the SQL."""

    kind: Literal["drop", "create", "set", "add"]
    publication: Publication
    tables: tuple[TableName, ...] = ()

    def statement(self) -> sql.Composed:
        """The SQL to execute."""
        verbs: dict[str, LiteralString] = {
            "drop": "ALTER PUBLICATION {name} DROP {tables}",
            "create": "CREATE PUBLICATION {name} WITH ({options})",
            "set": "ALTER PUBLICATION {name} SET ({options})",
            "add": "ALTER PUBLICATION {name} ADD {tables}",
        }
        operations = [name for name in OPERATIONS if name in self.publication.operations]
        options = sql.SQL("publish = {}, publish_via_partition_root = false{}").format(
            sql.Literal(", ".join(operations)),
            sql.SQL(", publish_generated_columns = stored" * self.publication.generated),
        )
        tables = [sql.SQL("TABLE ONLY {}").format(sql.Identifier(*name)) for name in self.tables]
        return sql.SQL(verbs[self.kind]).format(
            name=sql.Identifier(self.publication.name),
            options=options,
            tables=sql.SQL(", ").join(tables),
        )

    def __str__(self) -> str:
        return self.statement().as_string()


@dataclass(frozen=True, slots=True)
class PublicationPlan:
    """What to execute, in order and in one transaction; its text is that SQL."""

    steps: tuple[PublicationStep, ...]

    @property
    def added(self) -> tuple[TableName, ...]:
        """Tables that enter a publication, for which we have to own them."""
        return tuple(name for step in self.steps if step.kind == "add" for name in step.tables)

    @property
    def uncovered(self) -> frozenset[TableName]:
        """Tables that were not published as wanted: changes before this plan may be missing."""
        changed = (step.publication.tables for step in self.steps if step.kind == "set")
        return frozenset(self.added).union(*changed)

    def __str__(self) -> str:
        return "\n".join(f"{step};" for step in self.steps) or "-- nothing to change"


def plan_publications(
    current: Sequence[Publication], wanted: Sequence[Publication]
) -> PublicationPlan:
    """Decide how to get from the publications that exist to those that are wanted.

    Drops come first, so that no table is in two publications at any step; options come before
    additions, so that no table is published with operations that its application cannot afford.

    Args:
        current: Those of the wanted names that exist.
        wanted: Two publications without a table in common.

    Raises:
        PublicationConflictError: One of that name is somebody else's.
    """
    existing = {publication.name: publication for publication in current}
    drops: list[PublicationStep] = []
    options: list[PublicationStep] = []
    additions: list[PublicationStep] = []
    for target in wanted:
        found = existing.get(target.name)
        if found is not None and found.foreign:
            raise PublicationConflictError(found.name, found=found.foreign)
        kept = found.tables - found.partial if found else frozenset[TableName]()
        if found and (surplus := found.tables - (kept & target.tables)):
            drops.append(PublicationStep("drop", target, tuple(sorted(surplus))))
        if found is None or _options(found) != _options(target):
            options.append(PublicationStep("set" if found else "create", target))
        if missing := target.tables - kept:
            additions.append(PublicationStep("add", target, tuple(sorted(missing))))
    return PublicationPlan((*drops, *options, *additions))


def wanted_publications(
    names: tuple[str, str],
    keyed: Iterable[TableName],
    keyless: Iterable[TableName],
    *,
    server_version: int,
) -> tuple[Publication, Publication]:
    """The publications a database should have.

    Args:
        names: Of the publication of tables with a key, and of the one without.
        keyed: Tables of the first; the DDL history, which has a key, is among them.
        keyless: Tables of the second.
        server_version: Like 180004.
    """
    generated = server_version >= _GENERATED_VERSION
    return (
        Publication(names[0], frozenset(OPERATIONS), frozenset(keyed), generated),
        Publication(names[1], frozenset(KEYLESS_OPERATIONS), frozenset(keyless), generated),
    )


def load_publications(
    connection: SourceConnection, names: Sequence[str]
) -> tuple[Publication, ...]:
    """Read those of the named publications that exist."""
    rows = connection.execute(
        """
        SELECT p.pubname, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
               coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 's', p.pubviaroot,
               CASE WHEN p.puballtables THEN 'FOR ALL TABLES'
                    WHEN EXISTS (SELECT 1 FROM pg_publication_namespace n
                                  WHERE n.pnpubid = p.oid) THEN 'FOR TABLES IN SCHEMA' END,
               (SELECT coalesce(jsonb_agg(jsonb_build_array(n.nspname, c.relname,
                         r.prattrs IS NOT NULL OR r.prqual IS NOT NULL)), '[]')
                  FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid
                  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid)
          FROM pg_publication p WHERE p.pubname = ANY (%s) ORDER BY p.pubname
        """,
        (list(names),),
    ).fetchall()
    return tuple(
        Publication(
            name=name,
            operations=frozenset(
                operation for operation, on in zip(OPERATIONS, flags, strict=True) if on
            ),
            tables=frozenset((schema, table) for schema, table, _ in tables),
            generated=generated,
            via_root=via_root,
            partial=frozenset((schema, table) for schema, table, partial in tables if partial),
            foreign=foreign,
        )
        for name, *flags, generated, via_root, foreign, tables in rows
    )


def load_published_oids(connection: SourceConnection, names: Sequence[str]) -> dict[int, TableName]:
    """The tables of the named publications by oid, without the DDL history."""
    rows = connection.execute(
        "SELECT c.oid::bigint, n.nspname, c.relname FROM pg_publication_rel r"
        " JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = ANY (%s)"
        " AND c.oid <> 'carbon.ddl_history'::regclass ORDER BY c.oid",
        (list(names),),
    ).fetchall()
    return {oid: (schema, name) for oid, schema, name in rows}


def apply_publications(
    connection: SourceConnection, plan: PublicationPlan
) -> dict[TableName, SourceError]:
    """Execute a plan inside the caller's transaction.

    Returns:
        Why a table could not be moved now; it stays where it is, for a later call.

    Raises:
        SourcePrivilegeError: We own neither the publication nor the table.
    """
    postponed: dict[TableName, SourceError] = {}
    for step in plan.steps:
        left = tuple(name for name in step.tables if name not in postponed)
        if step.tables and not left:
            continue
        error = _execute(connection, replace(step, tables=left))
        if error is None:
            continue
        for name in left:
            error = _execute(connection, replace(step, tables=(name,)))
            if error is not None:
                postponed[name] = error
    return postponed


def _execute(connection: SourceConnection, step: PublicationStep) -> SourceError | None:
    """Execute a step; why not, if one of its tables is in the way."""
    tables = ", ".join(f"{schema}.{name}" for schema, name in step.tables)
    try:
        with connection.transaction():
            connection.execute(step.statement())
    except psycopg.errors.LockNotAvailable as refusal:
        if not step.tables:
            raise SourceLockedError(step.publication.name) from refusal
        return SourceLockedError(tables)
    except psycopg.errors.InsufficientPrivilege as refusal:
        remedy = f"{refusal.diag.message_primary}; give our role that ownership."
        raise SourcePrivilegeError(
            connection.info.user, what=f"execute {step}", remedy=remedy
        ) from refusal
    except psycopg.errors.UndefinedTable:
        # dropped or renamed in this moment
        return TableMissingError(tables, location=describe_session(connection))
    return None


def _options(publication: Publication) -> tuple[frozenset[str], bool, bool]:
    return publication.operations, publication.generated, publication.via_root
