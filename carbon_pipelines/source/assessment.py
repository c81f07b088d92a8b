"""What a source database and its declared tables are like, against what is declared of them.

What belongs here: making every check of a setup in order, and the plan for the publications that
follows from them. What does not: the checks themselves (``preflight.py``, ``slot.py``) and doing
anything (``setup.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    CatalogError,
    FullIdentityMissingError,
    KeyMissingError,
    PartitionedTableError,
    SourceError,
    TableNotPublishedError,
    TablePrivilegeError,
)
from carbon_pipelines.source.connection import SourceConnection
from carbon_pipelines.source.ddl_history import (
    HISTORY_TABLE,
    TableName,
    load_history_state,
)
from carbon_pipelines.source.preflight import (
    IDENTITIES,
    ServerFacts,
    check_creation,
    check_senders,
    check_server,
    check_table,
    lacking_identity,
    load_server_facts,
    missing_table,
    not_owned,
)
from carbon_pipelines.source.publication import (
    PublicationPlan,
    load_publications,
    plan_publications,
    wanted_publications,
)
from carbon_pipelines.source.slot import SlotState, check_slot, no_free_slot, observe_slot
from carbon_pipelines.source.table_facts import TableFacts, load_table_facts
from carbon_pipelines.source.whereabouts import load_renamed_to


@dataclass(frozen=True, slots=True)
class Assessment:
    """What was found, and what has to be done about the publications.

    Attributes:
        plan: From the publications that exist to those that are wanted.
        refused: Why a table cannot be captured as declared, by logical name.
        identity_lost: Names of mirrored tables that lost what identifies their rows after they were
            published; they are refused, and their inserts go on being published.
        facts: Of every declared table that exists.
        slot: As it is; None if there is none.
    """

    plan: PublicationPlan
    refused: Mapping[str, SourceError]
    identity_lost: tuple[str, ...]
    facts: Mapping[TableName, TableFacts]
    slot: SlotState | None


def table_name(table: TableSpec) -> TableName:
    """Schema and name of a declared table in its source."""
    return (table.source_schema, table.source_table)


def assess(connection: SourceConnection, database: DatabaseSpec) -> Assessment:
    """Make every check; touches nothing.

    What is wrong with one table is that table's refusal, and the others are captured. A refused
    table leaves the publications, unless what it is refused for leaves its changes as they are.

    Raises:
        CatalogError: The database's name is taken by what we make for others.
        SourceError: A subclass for each check of what all tables share; see the tree in
            ``errors/root.py``. The refusal of a table if a first setup found none that it accepts.
    """
    server, slot = _check_database(connection, database)
    names = (database.publication_name, database.keyless_publication_name)
    current = load_publications(connection, names)
    facts = load_table_facts(connection, [table_name(table) for table in database.tables])
    found = _Places({name: one.name for one in current for name in one.tables})
    for table in database.tables:
        found.judge(connection, database, table, facts.get(table_name(table)), server)
    found.refuse_nothing_to_capture(slot)

    def plan() -> PublicationPlan:
        wanted = found.wanted
        keyed = {HISTORY_TABLE, *(name for name, place in wanted.items() if place == names[0])}
        keyless = wanted.keys() - keyed
        aim = wanted_publications(names, keyed, keyless, server_version=server.version)
        return plan_publications(current, aim)

    if len(current) < len(names) or not load_history_state(connection).current:
        check_creation(server)
    added = {name for name in plan().added if name in facts and not facts[name].owned}
    for table in database.tables:
        if table_name(table) in added:
            found.refuse(table, not_owned(server, table_name(table)), stays=True)
    found.refuse_nothing_to_capture(slot)
    return Assessment(plan(), found.refused, tuple(found.identity_lost), facts, slot)


def check_declared(connection: SourceConnection, database: DatabaseSpec, table: TableSpec) -> None:
    """Look at one table alone, before it is copied.

    Raises:
        SourceError: Why it cannot be captured as declared.
        TableNotPublishedError: Nothing is wrong with it, and the setup has not been run since.
    """
    names = (database.publication_name, database.keyless_publication_name)
    current = load_publications(connection, names)
    found = _Places({name: one.name for one in current for name in one.tables})
    facts = load_table_facts(connection, [table_name(one) for one in database.tables])
    server = load_server_facts(connection)
    found.judge(connection, database, table, facts.get(table_name(table)), server)
    for refusal in found.refused.values():
        raise refusal
    if any(found.places.get(name) != place for name, place in found.wanted.items()):
        raise TableNotPublishedError(".".join(table_name(table)), database=database.name)


class _Places:
    """Which publication each table is in, which it has to be in, and which tables are refused."""

    def __init__(self, places: Mapping[TableName, str]) -> None:
        self.places = places
        self.wanted: dict[TableName, str] = {}
        self.refused: dict[str, SourceError] = {}
        self.identity_lost: list[str] = []

    def judge(
        self,
        connection: SourceConnection,
        database: DatabaseSpec,
        table: TableSpec,
        facts: TableFacts | None,
        server: ServerFacts,
    ) -> None:
        """Find a place for a table, or refuse it."""
        name = table_name(table)
        if facts is None:
            away = load_renamed_to(connection, *name)
            self.refused[table.name] = missing_table(connection, table, away)
            if away is not None and self._is_followed(away, database):
                # captured under its new name, so that nothing is lost if it comes back
                self.wanted[away] = self.places[away]
            return
        if facts.kind == "p" and database.connector is not None:
            self.refuse(table, PartitionedTableError(".".join(name)), stays=False)
            return
        try:
            updates = check_table(table, facts, server)
        except TablePrivilegeError as refusal:
            # its changes are sent as before; only a copy of it would fail
            self.refuse(table, refusal, stays=True)
            return
        except SourceError as refusal:
            self.refuse(table, refusal, stays=False)
            return
        lost = not updates and table.mode != "append"
        if not lost:
            self.wanted[name] = (
                database.publication_name if updates else database.keyless_publication_name
            )
            return
        self.refuse(table, missing_identity(table, facts), stays=False)
        if name in self.places:
            self.wanted[name] = database.keyless_publication_name
            self.identity_lost.append(table.name)

    def _is_followed(self, away: TableName, database: DatabaseSpec) -> bool:
        """Whether a table that was renamed is still published, and no other declaration's."""
        return away in self.places and away not in {table_name(one) for one in database.tables}

    def refuse(self, table: TableSpec, refusal: SourceError, *, stays: bool) -> None:
        """Refuse a table; whether it ``stays`` where it is."""
        name = table_name(table)
        self.refused[table.name] = refusal
        self.wanted.pop(name, None)
        if stays and name in self.places:
            self.wanted[name] = self.places[name]

    def refuse_nothing_to_capture(self, slot: SlotState | None) -> None:
        """A slot for nothing would only keep WAL."""
        if slot is None and not self.wanted:
            for refusal in self.refused.values():
                raise refusal


def _check_database(
    connection: SourceConnection, database: DatabaseSpec
) -> tuple[ServerFacts, SlotState | None]:
    """The checks of what all tables share."""
    if database.name.endswith("_keyless"):
        reason = (
            f'Database "{database.name}": names ending in "_keyless" are those of publications of '
            "tables without a key. Nothing was changed. Declare it under another name."
        )
        raise CatalogError(reason)
    server = load_server_facts(connection)
    check_server(server)
    slot = observe_slot(connection, database.slot_name)
    if slot is not None:
        by_connector = database.capture == "debezium"
        check_slot(slot, database=connection.info.dbname, read_by_connector=by_connector)
    elif server.slots_used >= server.slots_limit:
        raise no_free_slot(connection, database.slot_name)
    if slot is None or slot.holder_pid is None:
        check_senders(server)
    return server, slot


def missing_identity(
    table: TableSpec, facts: TableFacts
) -> KeyMissingError | FullIdentityMissingError:
    """The error for a table that was never published and has not the identity it needs.

    Of a partitioned table that has it, the first leaf that has not is named.
    """
    label, facts = lacking_identity(table, facts)
    if table.is_bag:
        return FullIdentityMissingError(label, replica_identity=IDENTITIES[facts.replica_identity])
    return KeyMissingError(label, replica_identity=IDENTITIES[facts.replica_identity])
