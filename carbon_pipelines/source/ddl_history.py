"""The published table that says what every captured table looked like, and when.

What belongs here: installing carbon.ddl_history, and the cross-check that records what the event
triggers did not (they can be switched off, and some services do not allow them). What does not: the
objects' text (``ddl_triggers.py``), how a shape is described (``relation.py``), and who reads the
rows from the stream (``stream/schemas.py``).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString, TypeAlias

import psycopg
from psycopg import sql

from carbon_pipelines.errors import (
    SourceError,
    SourceLockedError,
    SourcePrivilegeError,
    SourceServerError,
    TableMissingError,
)
from carbon_pipelines.source.connection import SourceConnection, describe_session
from carbon_pipelines.source.ddl_triggers import (
    FUNCTION_NAMES,
    FUNCTIONS,
    TRIGGER_NAMES,
    TRIGGERS,
)
from carbon_pipelines.source.history_tables import TABLES
from carbon_pipelines.source.look import load_found
from carbon_pipelines.source.relation import (
    SETUP_TAG,
    SourceRelation,
    relation_from_history,
)
from carbon_pipelines.source.traces import load_triggers, save_traces

TableName: TypeAlias = tuple[str, str]
HISTORY_TABLE: TableName = ("carbon", "ddl_history")

_MARK = "carbon_pipelines " + hashlib.sha256((TABLES + FUNCTIONS + TRIGGERS).encode()).hexdigest()

# A role named carbon that may use our schema, and whose search_path begins with "$user" by default.
_TRAPPED = """
SELECT EXISTS (
  SELECT 1 FROM pg_roles c
   WHERE c.rolname = 'carbon' AND (c.rolsuper OR pg_has_role(c.oid, current_user, 'USAGE'))
     AND NOT EXISTS (
       SELECT 1 FROM pg_db_role_setting s, unnest(s.setconfig) AS setting
        WHERE s.setrole = c.oid AND starts_with(setting, 'search_path=')
          AND strpos(setting, '$user') = 0))
"""


@dataclass(frozen=True, slots=True)
class HistoryState:
    """What is there of the DDL history; ``triggers`` means all of them fire in every session."""

    current: bool
    triggers: bool
    superuser: bool


def load_history_state(connection: SourceConnection) -> HistoryState:
    """Read whether schema carbon holds this release's objects and whether its triggers fire."""
    row = connection.execute(
        "SELECT obj_description(to_regnamespace('carbon'), 'pg_namespace') = %s"
        "   AND to_regclass('carbon.ddl_history') IS NOT NULL"
        "   AND to_regclass('carbon.capture_state') IS NOT NULL"
        "   AND to_regclass('carbon.table_traces') IS NOT NULL"
        "   AND (SELECT count(*) FROM pg_proc WHERE proname = ANY (%s)"
        "        AND pronamespace = to_regnamespace('carbon')) = %s,"
        " (SELECT count(*) FROM pg_event_trigger"
        "   WHERE evtname = ANY (%s) AND evtenabled = 'A') = %s,"
        " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
        (
            _MARK,
            list(FUNCTION_NAMES),
            len(FUNCTION_NAMES),
            list(TRIGGER_NAMES),
            len(TRIGGER_NAMES),
        ),
    ).fetchone()
    assert row is not None
    return HistoryState(current=bool(row[0]), triggers=row[1], superuser=row[2])


def ensure_history(connection: SourceConnection) -> bool:
    """Install or update the history's objects where they differ from this release's.

    Args:
        connection: In autocommit mode; the objects are made in one transaction.

    Returns:
        Whether the event triggers are there. Without them, which takes a superuser or a managed
        service's exception, shapes are recorded by ``record_shapes`` alone, and a table whose owner
        drops its key keeps its place in the publication of updates.

    Raises:
        SourcePrivilegeError: Our role may not create schema carbon or change what is in it.
        SourceServerError: A role would take the schema for its own.
    """
    _check_search_path(connection)
    state = load_history_state(connection)
    if state.current and (state.triggers or not state.superuser):
        return state.triggers
    role = connection.info.user
    try:
        with connection.transaction():
            if not state.current:
                connection.execute(TABLES.encode())
                connection.execute(FUNCTIONS.encode())
                comment = sql.SQL("COMMENT ON SCHEMA carbon IS {}").format(sql.Literal(_MARK))
                connection.execute(comment)
            return _install_triggers(connection)
    except psycopg.errors.InsufficientPrivilege as refusal:
        database = connection.info.dbname
        remedy = f'GRANT CREATE ON DATABASE "{database}" TO "{role}", or use the schema\'s owner.'
        what = f"create or update schema carbon in {describe_session(connection)}"
        raise SourcePrivilegeError(role, what=what, remedy=remedy) from refusal


def _check_search_path(connection: SourceConnection) -> None:
    row = connection.execute(_TRAPPED).fetchone()
    if row is not None and row[0]:
        raise SourceServerError(
            describe_session(connection),
            fact='its role "carbon" finds our schema of that name by "$user" in its search_path, '
            "and would make its own tables in it",
            remedy="A superuser has to run: ALTER ROLE carbon SET search_path = public.",
        )


def _install_triggers(connection: SourceConnection) -> bool:
    try:
        with connection.transaction():
            connection.execute(TRIGGERS.encode())
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def record_shapes(
    connection: SourceConnection, oids: Sequence[int], *, unseen: Sequence[int] = ()
) -> dict[int, SourceError]:
    """Record each relation whose newest row is missing or differs, or whose rows may have changed.

    Each table is locked against DDL before it is described again, until the transaction ends: a row
    committed after a trigger's row must not be older than it.

    Args:
        connection: Inside the caller's transaction.
        oids: Relations.
        unseen: Those of which changes may be missing in the stream before this transaction: they
            were not published, or the slot is new. Recorded in any case, and as rewritten: a copy
            from before is stale. One without a row counts as such.

    Returns:
        Why a relation got no row now, by oid: it was locked for longer than lock_timeout, or
        dropped in this moment. The next call records it.
    """
    postponed: dict[int, SourceError] = {}
    triggers = load_triggers(connection)
    for found in load_found(connection, oids, unseen=unseen, triggers=triggers):
        error = _lock(connection, found.label) if found.has_news else None
        if error is not None:
            postponed[found.oid] = error
    locked = [oid for oid in oids if oid not in postponed]
    seen = load_found(connection, locked, unseen=unseen, triggers=triggers)
    for found in seen:
        if found.has_news:
            connection.execute(
                "SELECT carbon.record_relation(%s::bigint::oid, %s, %s)",
                (found.oid, SETUP_TAG, found.may_be_stale),
            )
    save_traces(connection, [(found.oid, found.traces) for found in seen], triggers)
    return postponed


def _lock(connection: SourceConnection, label: LiteralString) -> SourceError | None:
    """Lock a table against DDL until the transaction ends; why not, if that cannot be had."""
    # the label was quoted by format('%I.%I')
    statement = sql.SQL("SELECT FROM ONLY {} WHERE false").format(sql.SQL(label))
    try:
        with connection.transaction():
            connection.execute(statement)
    except psycopg.errors.LockNotAvailable:
        return SourceLockedError(label)
    except psycopg.errors.UndefinedTable:
        return TableMissingError(label, location=describe_session(connection))
    except psycopg.errors.InsufficientPrivilege:
        # Recorded without: if a DDL comes between, its events do not fit what is recorded.
        return None
    return None


def load_recorded_relations(
    connection: SourceConnection, oids: Sequence[int]
) -> dict[int, SourceRelation]:
    """The newest recorded shape of each relation, by oid."""
    rows = connection.execute(
        "SELECT DISTINCT ON (h.oid) to_jsonb(h) FROM carbon.ddl_history h"
        " WHERE h.oid = ANY (%s::oid[]) ORDER BY h.oid, h.id DESC",
        (list(oids),),
    ).fetchall()
    relations = [relation_from_history(row[0]) for row in rows]
    return {relation.oid: relation for relation in relations}
