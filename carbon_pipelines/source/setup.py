"""Making a source database ready for capture, and keeping it so.

What belongs here: the order of the steps. What does not: the steps themselves (``assessment.py``,
``publication.py``, ``ddl_history.py``, ``slot.py``, ``visibility.py``).

The order, and why:
1. Every check, before anything is created. A table that does not pass is refused, and the others
   are captured.
2. Publications, committed. Then the slot: PostgreSQL 15 fails for ever at the creation of a
   publication that is younger than the slot.
3. A row of DDL history for each table *after* the slot exists, so that the stream has it; for a
   table that joins later, in the transaction that publishes it, so that its row comes before its
   events. It says "rewritten": if the table was published before, what happened since is missing.
   A table that leaves gets such a row too, in the transaction that takes it out: what comes then is
   missing.
4. The barrier: every transaction that ran before the last change has ended. Only then may a source
   snapshot be taken.
Steps 3 and 4 are remembered as unfinished in carbon.capture_state, in the transaction that makes
them necessary: a crash in between is made good by the next call.
"""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.errors import SourceError, SourceLockedError, SourcePrivilegeError
from carbon_pipelines.source.assessment import Assessment, assess, missing_identity, table_name
from carbon_pipelines.source.connection import (
    SourceConnection,
    SourceIdentity,
    load_identity,
    session,
)
from carbon_pipelines.source.ddl_history import (
    HISTORY_TABLE,
    TableName,
    ensure_history,
    load_recorded_relations,
    record_shapes,
)
from carbon_pipelines.source.publication import (
    PublicationPlan,
    apply_publications,
    load_published_oids,
)
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.source.setup_lock import alone
from carbon_pipelines.source.setup_state import SetupState, load_state, save_state
from carbon_pipelines.source.slot import (
    SlotState,
    create_slot,
    observe_slot,
)
from carbon_pipelines.source.visibility import wait_until_older_transactions_ended
from carbon_pipelines.source.whereabouts import load_strangers, record_departures


@dataclass(frozen=True, slots=True)
class SourceSetup:
    """A source that is ready for capture and for source snapshots.

    Attributes:
        identity: Which database it is; to be remembered with the progress.
        slot: The state of the slot.
        slot_created: Whether this call made it: nothing from before can be captured.
        publications: What this call changed.
        refused: Why a declared table is not captured now, or not as declared, by logical name. The
            others are; a later call takes it up when its cause is gone.
        triggers: Whether event triggers record DDL at its place in the stream.
        identity_lost: Names of mirrored tables whose owner dropped their key after they had been
            published; refused. They are in the keyless publication, their updates and deletes are
            not seen, and their copies are stale from then on, until a key is back and they are
            copied again.
        omitted_columns: ``table.column`` of generated columns that this server does not send.
        relations: The recorded shape of each table, by logical name.
    """

    identity: SourceIdentity
    slot: SlotState
    slot_created: bool
    publications: PublicationPlan
    refused: Mapping[str, SourceError]
    triggers: bool
    identity_lost: tuple[str, ...]
    omitted_columns: tuple[str, ...]
    relations: dict[str, SourceRelation]

    @property
    def publications_changed(self) -> bool:
        """Whether this call changed a publication."""
        return bool(self.publications.steps)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """How long to wait and how, shared by every wait of one call."""

    deadline: float
    sleep: Callable[[float], None]
    clock: Callable[[], float]

    def remaining(self) -> timedelta:
        return timedelta(seconds=max(0.0, self.deadline - self.clock()))

    def barrier(self, connection: SourceConnection) -> None:
        wait_until_older_transactions_ended(
            connection, timeout=self.remaining(), sleep=self.sleep, clock=self.clock
        )


def ensure_source(
    dsn: str,
    database: DatabaseSpec,
    *,
    timeout: timedelta = timedelta(minutes=5),
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> SourceSetup:
    """Bring publications, slot and DDL history to what is declared. Idempotent and resumable.

    A call that finds nothing to do writes nothing and waits for nobody.

    Args:
        dsn: The source database.
        database: What is declared about it.
        timeout: For all waits together: the lock against a second call, and older transactions.
        sleep: Takes seconds.
        clock: Gives seconds.

    Raises:
        SourceError: A subclass for each check of what all tables share; see the tree in
            ``errors/root.py``. What is wrong with one table alone is in the result.
        OpenTransactionError: An older transaction did not end in time; a later call goes on.
    """
    waiting = _Waiting(clock() + timeout.total_seconds(), sleep, clock)
    with (
        session(dsn) as connection,
        _translated(connection),
    ):
        alone(connection, database.name, timeout=waiting.remaining(), sleep=sleep, clock=clock)
        found = assess(connection, database)
        triggers = ensure_history(connection)
        slot_created = found.slot is None
        published = _publish(connection, database, found)
        oids = published.oids
        if slot_created:
            waiting.barrier(connection)  # names what blocks; creating the slot would just hang
            create_slot(connection, database.slot_name, timeout=waiting.remaining())
        state = load_state(connection, database.slot_name)
        if not state.described:
            with connection.transaction():
                for locked in record_shapes(connection, oids, unseen=oids).values():
                    raise locked
                state = SetupState(described=True)
                save_state(connection, database.slot_name, state)
        if not state.settled:
            waiting.barrier(connection)
            done = SetupState(described=True, settled=True)
            save_state(connection, database.slot_name, done)
        slot = observe_slot(connection, database.slot_name)
        assert slot is not None
        recorded = load_recorded_relations(connection, oids)
        by_name = {(relation.schema, relation.name): relation for relation in recorded.values()}
        return SourceSetup(
            identity=load_identity(connection),
            slot=slot,
            slot_created=slot_created,
            publications=found.plan,
            refused={**found.refused, **published.refused},
            triggers=triggers,
            identity_lost=(*found.identity_lost, *published.identity_lost),
            omitted_columns=tuple(
                f"{table.name}.{column}"
                for table in database.tables
                if table_name(table) in found.facts
                for column in found.facts[table_name(table)].unpublished
            ),
            relations={
                table.name: by_name[table_name(table)]
                for table in database.tables
                if table_name(table) in by_name
            },
        )


@dataclass(frozen=True, slots=True)
class _Published:
    """What the publications hold, by oid, and what was found out while they were changed."""

    oids: tuple[int, ...]
    refused: Mapping[str, SourceError]
    identity_lost: tuple[str, ...]


def _publish(connection: SourceConnection, database: DatabaseSpec, found: Assessment) -> _Published:
    """Commit the publications and what has to be remembered of them.

    A table that has lost its key since it was checked is taken out again: it is locked against that
    only from here on, and would make the application's UPDATE fail.
    """
    plan, slot_exists = found.plan, found.slot is not None
    publications = (database.publication_name, database.keyless_publication_name)
    with connection.transaction():
        before = load_published_oids(connection, publications)
        postponed: dict[TableName, SourceError] = apply_publications(connection, plan)
        demoted = connection.execute("SELECT carbon.demote_keyless_tables()::bigint").fetchall()
        names = load_published_oids(connection, publications)
        oids = tuple(names)
        if not slot_exists and not names:
            for error in postponed.values():
                raise error
        described = slot_exists and load_state(connection, database.slot_name).described
        if plan.steps or not slot_exists:
            save_state(connection, database.slot_name, SetupState(described=described))
        if described:
            declared = [table_name(table) for table in database.tables]
            uncovered = plan.uncovered - postponed.keys()
            unseen = [oid for oid, name in names.items() if name in uncovered]
            unseen += load_strangers(connection, oids, declared)
            # without the history the shapes themselves went unseen
            unseen = oids if HISTORY_TABLE in uncovered else unseen
            for oid, error in record_shapes(connection, oids, unseen=unseen).items():
                postponed.setdefault(names[oid], error)
            record_departures(
                connection,
                [oid for oid in before if oid not in names],
                declared,
            )
    refused, lost = dict[str, SourceError](), list[str]()
    for table in database.tables:
        name = table_name(table)
        if name in found.facts and (found.facts[name].oid,) in demoted:
            refused[table.name] = missing_identity(table, found.facts[name])
            lost.append(table.name)
        elif name in postponed:
            refused[table.name] = postponed[name]
    return _Published(oids, refused, tuple(lost))


@contextmanager
def _translated(connection: SourceConnection) -> Generator[None]:
    """Give a name to what no step expects: somebody else's schema carbon, or a lock on it."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as refusal:
        role, what = connection.info.user, f"finish the setup: {refusal.diag.message_primary}"
        remedy = "Use the role that owns schema carbon and our publications."
        raise SourcePrivilegeError(role, what=what, remedy=remedy) from refusal
    except psycopg.errors.LockNotAvailable as refusal:
        what = "a table of schema carbon"
        raise SourceLockedError(what) from refusal
