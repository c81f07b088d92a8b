"""What has to be true of a server and its tables before anything of ours is created there.

What belongs here: facts of the server, and pure checks, each with an error of its own. What does
not: facts of tables (``table_facts.py``), the checks of the slot (``slot.py``), doing anything.
"""

from dataclasses import dataclass

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    GeneratedKeyError,
    KeyMismatchError,
    NoFreeSenderError,
    PartitionDeclaredError,
    SourcePrivilegeError,
    SourceServerError,
    TableKindError,
    TableMissingError,
    TablePrivilegeError,
    WalLevelError,
)
from carbon_pipelines.source.connection import SourceConnection, describe_session
from carbon_pipelines.source.ddl_history import TableName
from carbon_pipelines.source.table_facts import TableFacts

OLDEST_VERSION, NEWEST_VERSION = 15, 18

_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "c": "a composite type",
}
_PERSISTENCE = {"u": "an unlogged table", "t": "a temporary table"}
_PARTITION_OF = " (a partition of "
IDENTITIES = {"d": "DEFAULT", "i": "USING INDEX", "f": "FULL", "n": "NOTHING"}


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A server and what our role may do on it; ``version`` is like 180004."""

    location: str
    role: str
    version: int
    in_recovery: bool
    encoding: str
    wal_level: str
    may_replicate: bool
    may_create: bool
    slots_limit: int
    slots_used: int
    senders_limit: int
    senders_used: int


def load_server_facts(connection: SourceConnection) -> ServerFacts:
    """Read the facts that ``check_server`` judges."""
    row = connection.execute(
        """
        SELECT pg_is_in_recovery(), current_setting('server_encoding'),
               current_setting('wal_level'),
               r.rolsuper OR r.rolreplication OR EXISTS (
                 SELECT 1 FROM pg_roles m WHERE m.rolname = 'rds_replication'
                    AND pg_has_role(m.oid, 'USAGE')),
               has_database_privilege(current_database(), 'CREATE'),
               current_setting('max_replication_slots')::int,
               (SELECT count(*) FROM pg_replication_slots),
               current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_stat_replication)
          FROM pg_roles r WHERE r.rolname = current_user
        """
    ).fetchone()
    assert row is not None
    info = connection.info
    return ServerFacts(describe_session(connection), info.user, info.server_version, *row)


def check_server(server: ServerFacts) -> None:
    """Refuse a server that cannot be captured, and a role that may not.

    Raises:
        SourceServerError: Its version is not supported, it is a standby, or it holds any bytes.
        WalLevelError: Its WAL holds too little.
        SourcePrivilegeError: Our role may not replicate.
    """
    major = server.version // 10_000
    if not OLDEST_VERSION <= major <= NEWEST_VERSION:
        raise SourceServerError(
            server.location,
            fact=f"it is PostgreSQL {major}",
            remedy=f"Use PostgreSQL {OLDEST_VERSION} to {NEWEST_VERSION}.",
        )
    if server.in_recovery:
        raise SourceServerError(
            server.location,
            fact="it is a standby, which takes no publication",
            remedy="Point CARBON_SOURCE_<DATABASE>_DSN at the primary.",
        )
    if server.encoding == "SQL_ASCII":
        raise SourceServerError(
            server.location,
            fact="its encoding is SQL_ASCII, so that nobody knows what its texts mean",
            remedy="Move the database to UTF8.",
        )
    if server.wal_level != "logical":
        raise WalLevelError(server.location, found=server.wal_level)
    if not server.may_replicate:
        raise SourcePrivilegeError(
            server.role,
            what=f"replicate from {server.location}",
            remedy=f'A superuser has to run: ALTER ROLE "{server.role}" REPLICATION.',
        )


def check_senders(server: ServerFacts) -> None:
    """Raise NoFreeSenderError if our capture could not start to read."""
    limit, used = server.senders_limit, server.senders_used
    if used >= limit:
        raise NoFreeSenderError(server.location, limit=limit, used=used)


def check_creation(server: ServerFacts) -> None:
    """Raise SourcePrivilegeError if our role may not create publications and schema carbon."""
    if not server.may_create:
        role, database = server.role, server.location.rpartition("/")[2]
        raise SourcePrivilegeError(
            role,
            what=f"create publications and schema carbon in {server.location}",
            remedy=f'Its owner has to run: GRANT CREATE ON DATABASE "{database}" TO "{role}".',
        )


def not_owned(server: ServerFacts, name: TableName) -> TablePrivilegeError:
    """The error for a table that is to enter a publication and is not our role's."""
    return TablePrivilegeError(
        server.role,
        what=f"publish {'.'.join(name)}, which it does not own",
        remedy=f'Make "{server.role}" a member of the role that owns the table.',
    )


def check_table(table: TableSpec, facts: TableFacts, server: ServerFacts) -> bool:
    """Refuse a table that cannot be captured as declared.

    Returns:
        Whether PostgreSQL can publish its updates as the declaration needs them. False for mode
        append, and for a mirrored table without a replica identity, or ``identity: full`` and
        another one: whether that is an error depends on what was published before.

    Raises:
        TableKindError: It or one of its partitions is not an ordinary, logged table.
        PartitionDeclaredError: It is a partition of another declared table.
        TablePrivilegeError: Our role cannot read all of its rows and columns.
        KeyMismatchError: The declared key is not what PostgreSQL identifies its rows by.
        GeneratedKeyError: A key column is never sent.
    """
    label = f"{table.source_schema}.{table.source_table}"
    if facts.declared_above is not None:
        raise PartitionDeclaredError(label, facts.declared_above)
    # changes come from the leaves, and rows are told apart by what is unique in all of them
    checked = [_check_heap(label, table, facts, server)]
    for leaf, its_facts in facts.leaves.items():
        checked.append(_check_heap(_leaf_label(leaf, label), table, its_facts, server))
    return all(checked)


def _check_heap(label: str, table: TableSpec, facts: TableFacts, server: ServerFacts) -> bool:
    if facts.kind not in "rp" or facts.persistence != "p":
        kind = _KINDS.get(facts.kind) or _PERSISTENCE.get(facts.persistence) or facts.kind
        raise TableKindError(label, kind=kind)
    _check_readable(label, table, facts, server)
    if table.mode == "append":
        return False
    if table.is_bag:
        return facts.replica_identity == "f"
    if facts.replica_identity == "f":
        if frozenset(table.key) not in facts.keys:
            found = sorted(facts.keys[0]) if facts.keys else ()
            raise KeyMismatchError(label, declared=table.key, found=found)
    elif not facts.identity:
        return False
    elif frozenset(table.key) != frozenset(facts.identity):
        raise KeyMismatchError(label, declared=table.key, found=facts.identity)
    for column in table.key:
        if column in facts.unpublished:
            raise GeneratedKeyError(label, column=column, server_version=server.version)
    return True


def _leaf_label(leaf: str, root: str) -> str:
    return f"{leaf}{_PARTITION_OF}{root})"


def lacking_identity(table: TableSpec, facts: TableFacts) -> tuple[str, TableFacts]:
    """Label and facts of what has not the identity that a mirror needs.

    That is the table itself, or the first of its leaves that has not if the table has it.
    """
    label = f"{table.source_schema}.{table.source_table}"
    named = [(label, facts), *((_leaf_label(leaf, label), f) for leaf, f in facts.leaves.items())]
    for one, found in named:
        if found.replica_identity != "f" and (table.is_bag or not found.identity):
            return one, found
    return label, facts


def _check_readable(label: str, table: TableSpec, facts: TableFacts, server: ServerFacts) -> None:
    unreadable = [name for name in facts.unreadable if name not in table.dropped_columns]
    if unreadable:
        relation = label.partition(_PARTITION_OF)[0]
        raise TablePrivilegeError(
            server.role,
            what=f"read {', '.join(unreadable)} of {label}",
            remedy=f'Its owner has to run: GRANT SELECT ON {relation} TO "{server.role}", and '
            "GRANT USAGE on its schema.",
        )
    if facts.row_security:
        raise TablePrivilegeError(
            server.role,
            what=f"read all rows of {label}: row-level security hides some",
            remedy=f'A superuser has to run: ALTER ROLE "{server.role}" BYPASSRLS.',
        )


def missing_table(
    connection: SourceConnection, table: TableSpec, away: TableName | None
) -> TableMissingError:
    """The error for a declared table that does not exist; ``away`` is its name after a rename."""
    schema, name = table.source_schema, table.source_table
    renamed_to = ".".join(away) if away else None
    location = describe_session(connection)
    return TableMissingError(f"{schema}.{name}", location=location, renamed_to=renamed_to)
