"""What a source database and its declared tables are like, against what is declared of them.

What belongs here: making every check of a setup in order, and the plan for the publications that
follows from them. What does not: the checks themselves (``preflight.py``, ``slot.py``) and doing
anything (``setup.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import CatalogError, FullIdentityMissingError, KeyMissingError
from carbon_pipelines.source.connection import SourceConnection
from carbon_pipelines.source.ddl_history import HISTORY_TABLE, TableName, load_history_state
from carbon_pipelines.source.preflight import (
    IDENTITIES,
    ServerFacts,
    check_ownership,
    check_senders,
    check_server,
    check_table,
    lacking_identity,
    load_server_facts,
    missing_table,
)
from carbon_pipelines.source.publication import (
    PublicationPlan,
    load_publications,
    plan_publications,
    wanted_publications,
)
from carbon_pipelines.source.slot import SlotState, check_slot, no_free_slot, observe_slot
from carbon_pipelines.source.table_facts import TableFacts, load_table_facts


@dataclass(frozen=True, slots=True)
class Assessment:
    """What was found, and what has to be done about the publications.

    Attributes:
        plan: From the publications that exist to those that are wanted.
        identity_lost: Names of mirrored tables that lost what identifies their rows after they were
            published.
        facts: Of every declared table.
        slot: As it is; None if there is none.
    """

    plan: PublicationPlan
    identity_lost: tuple[str, ...]
    facts: Mapping[TableName, TableFacts]
    slot: SlotState | None


def table_name(table: TableSpec) -> TableName:
    """Schema and name of a declared table in its source."""
    return (table.source_schema, table.source_table)


def assess(connection: SourceConnection, database: DatabaseSpec) -> Assessment:
    """Make every check; touches nothing.

    Raises:
        CatalogError: The database's name is taken by what we make for others.
        SourceError: A subclass for each check; see the tree in ``errors/root.py``.
    """
    server, slot = _check_database(connection, database)
    names = (database.publication_name, database.keyless_publication_name)
    current = load_publications(connection, names)
    published = {name for publication in current for name in publication.tables}
    facts = load_table_facts(connection, [table_name(table) for table in database.tables])
    keyed, keyless, lost = {HISTORY_TABLE}, set[TableName](), list[str]()
    for table in database.tables:
        name = table_name(table)
        if name not in facts:
            raise missing_table(connection, table)
        if check_table(table, facts[name], server):
            keyed.add(name)
            continue
        keyless.add(name)
        if table.mode == "mirror":
            if name not in published:
                raise missing_identity(table, facts[name])
            lost.append(table.name)
    wanted = wanted_publications(names, keyed, keyless, server_version=server.version)
    plan = plan_publications(current, wanted)
    creates = len(current) < len(names) or not load_history_state(connection).current
    added = [(name, facts[name]) for name in plan.added if name in facts]
    check_ownership(server, creates=creates, added=added)
    return Assessment(plan, tuple(lost), facts, slot)


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
