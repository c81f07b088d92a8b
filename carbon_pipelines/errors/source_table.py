"""Errors of one source table: its shape, its publication, reading it.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Sequence

from carbon_pipelines.errors.source import SourceError, SourcePrivilegeError


class TableMissingError(SourceError):
    """Table ``table`` does not exist; ``renamed_to`` is where its predecessor went, if known."""

    def __init__(self, table: str, *, location: str, renamed_to: str | None = None) -> None:
        self.table, self.location, self.renamed_to = table, location, renamed_to
        if renamed_to:
            text = (
                f"{table} is now {renamed_to} in {location}; rename it back, or declare source "
                f"{renamed_to}. Rows from before it was renamed stay as they are until then."
            )
        else:
            text = (
                f"Table {table} does not exist in {location}. Nothing was read or changed, and "
                "rows that were copied before stay as they are. Correct source_schema and "
                "source_table in its declaration, or remove the declaration."
            )
        super().__init__(text)


class TablePrivilegeError(SourcePrivilegeError):
    """Our role lacks a right on one table; ``what`` it may not do."""


class TableKindError(SourceError):
    """Table ``table`` is a ``kind``, of which PostgreSQL publishes no changes."""

    def __init__(self, table: str, *, kind: str) -> None:
        self.table, self.kind = table, kind
        super().__init__(
            f"{table} is {kind}, and PostgreSQL publishes no changes of it. Nothing was changed. "
            "Declare the ordinary table behind it, or remove the declaration."
        )


class PartitionedTableError(TableKindError):
    """A partitioned table of a database that a Debezium connector captures."""

    def __init__(self, table: str) -> None:
        self.table, self.kind = table, "a partitioned table"
        SourceError.__init__(
            self,
            f"{table} is a partitioned table, which is not captured from the topics of a Debezium "
            "connector: it sends the changes of each partition to a topic of their own. Nothing "
            "was changed. Declare its partitions as tables of their own, or leave the database to "
            'our own capture (without "capture: debezium").',
        )


class PartitionDeclaredError(SourceError):
    """Table ``table`` is a partition of ``root``, and both are declared."""

    def __init__(self, table: str, root: str) -> None:
        self.table, self.root = table, root
        super().__init__(
            f"{table} is a partition of {root}, and both are declared: the rows of a partition are "
            "those of its root, and each change goes to one topic. Nothing was changed. Remove one "
            "of the two declarations."
        )


class KeyMissingError(SourceError):
    """Mirror table ``table`` has no replica identity, so its updates cannot be published."""

    def __init__(self, table: str, *, replica_identity: str) -> None:
        self.table, self.replica_identity = table, replica_identity
        super().__init__(
            f"{table} is declared with mode mirror, but PostgreSQL has no usable key for it "
            f"(REPLICA IDENTITY is {replica_identity}, without a valid, immediate, unique index). "
            "Publishing its updates would make the application's UPDATE fail, so nothing was "
            "changed. Add a primary key, or ALTER TABLE ... REPLICA IDENTITY USING INDEX; or ALTER "
            "TABLE ... REPLICA IDENTITY FULL and declare identity: full instead of a key; or "
            "declare mode: append (inserts and truncates only)."
        )


class FullIdentityMissingError(SourceError):
    """Table ``table`` is to be known by whole rows, and PostgreSQL does not send them."""

    def __init__(self, table: str, *, replica_identity: str) -> None:
        self.table, self.replica_identity = table, replica_identity
        super().__init__(
            f"{table} is declared with identity: full, but its REPLICA IDENTITY is "
            f"{replica_identity}: PostgreSQL does not send the old rows of its updates and "
            "deletes. Nothing was published or copied, and a copy that is there stands as it did. "
            "Run ALTER TABLE ... REPLICA IDENTITY FULL; or, if the table has a key, declare it as "
            "key: [...] in the place of identity: full."
        )


class KeyMismatchError(SourceError):
    """The declared key of ``table`` is not what PostgreSQL identifies its rows by."""

    def __init__(self, table: str, *, declared: Sequence[str], found: Sequence[str]) -> None:
        self.table, self.declared, self.found = table, tuple(declared), tuple(found)
        super().__init__(
            f"{table} declares key [{', '.join(declared)}], but PostgreSQL identifies its rows by "
            f"[{', '.join(found) or 'nothing unique'}]. Deletes could not be applied, so nothing "
            "was changed. Declare the key that PostgreSQL uses, or change REPLICA IDENTITY."
        )


class GeneratedKeyError(SourceError):
    """Key column ``column`` of ``table`` is generated, and this server does not publish it."""

    def __init__(self, table: str, *, column: str, server_version: int) -> None:
        self.table, self.column, self.server_version = table, column, server_version
        super().__init__(
            f"Key column {column} of {table} is generated, and PostgreSQL "
            f"{server_version // 10_000} sends no generated columns to subscribers. Nothing was "
            "changed. Use a key of ordinary columns, or PostgreSQL 18 with a stored column."
        )


class TableNotPublishedError(SourceError):
    """Table ``table`` is in order, but PostgreSQL does not publish its changes to us yet."""

    retryable = True

    def __init__(self, table: str, *, database: str) -> None:
        self.table, self.database = table, database
        super().__init__(
            f"{table} is not in its publication yet, so a copy of it would miss changes. Nothing "
            f'was copied. "carbon sync {database}" or materializing stream/{database} publishes it.'
        )


class PublicationConflictError(SourceError):
    """Publication ``publication`` exists in a form that is not ours to change."""

    def __init__(self, publication: str, *, found: str) -> None:
        self.publication, self.found = publication, found
        super().__init__(
            f'Publication "{publication}" already exists and is {found}: somebody else made it. It '
            "was left as it is. Drop or rename it, or declare the database under another name."
        )


class SlotLostError(SourceError):
    """The WAL that ``slot`` needs is gone; ``reason`` is PostgreSQL's."""

    def __init__(self, slot: str, *, reason: str) -> None:
        self.slot, self.reason = slot, reason
        super().__init__(
            f'Slot "{slot}" is lost ({reason}): WAL that was not read yet has been removed, and '
            "changes are missing for good. The slot was left as it is. Raise "
            "max_slot_wal_keep_size. Then take heal_slots: false out of the database's "
            "declaration, and the next run replaces the slot and copies the tables anew; or drop "
            f"the slot yourself (SELECT pg_drop_replication_slot('{slot}')) and run "
            '"carbon start-over" for the database.'
        )


class SlotMismatchError(SourceError):
    """Slot ``slot`` exists, but its ``fact`` is ``found`` instead of ``wanted``."""

    def __init__(self, slot: str, *, fact: str, found: str, wanted: str) -> None:
        self.slot, self.fact, self.found, self.wanted = slot, fact, found, wanted
        super().__init__(
            f'Slot "{slot}" is not ours: its {fact} is {found} instead of {wanted}. It was left as '
            "it is. Drop it if nobody needs it (SELECT pg_drop_replication_slot"
            f"('{slot}')), or declare the database under another name."
        )


class SlotInUseError(SourceError):
    """Slot ``slot`` is read by ``application`` (process ``pid``), which is not carbon."""

    retryable = True

    def __init__(self, slot: str, *, pid: int, application: str) -> None:
        self.slot, self.pid, self.application = slot, pid, application
        super().__init__(
            f'Slot "{slot}" is being read by process {pid} ("{application}"), which is not carbon. '
            "What it reads, we never see; nothing was changed. End it (SELECT "
            f"pg_terminate_backend({pid})) and point it at a slot of its own."
        )


class OpenTransactionError(SourceError):
    """Transactions older than ``xid`` did not end in time; ``blockers`` describes each."""

    retryable = True

    def __init__(self, xid: int, *, blockers: Sequence[str], waited_seconds: float) -> None:
        self.xid, self.blockers, self.waited_seconds = xid, tuple(blockers), waited_seconds
        named = "; ".join(self.blockers) or "they ended just now"
        super().__init__(
            f"Transactions older than {xid} did not end within {waited_seconds:.0f} s: {named}. "
            "Until they end, a copy could miss their rows, so none was started. Commit or roll "
            "back what is named here, and run again."
        )


class SourceLockedError(SourceError):
    """A lock on ``what`` was not granted within lock_timeout."""

    retryable = True

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"A lock on {what} was not granted in time: another session changes or holds it "
            "(see pg_locks). We gave way rather than make the application wait; run again later."
        )


class RelationRewrittenError(SourceError):
    """Table ``table`` is no longer what the source snapshot saw; ``how`` says what happened."""

    retryable = True

    def __init__(self, table: str, *, how: str) -> None:
        self.table, self.how = table, how
        super().__init__(
            f"{table} {how} after the source snapshot was taken, so what was read of it is not "
            "what the snapshot saw. Discard every row read under this snapshot and start the copy "
            "again with a new one."
        )


class SnapshotGoneError(SourceError):
    """The exported snapshot ``snapshot_id`` can no longer be imported."""

    retryable = True

    def __init__(self, snapshot_id: str) -> None:
        self.snapshot_id = snapshot_id
        super().__init__(
            f"Source snapshot {snapshot_id} is gone: the session that exported it has ended. "
            "Discard every row read under it and start the copy again with a new one."
        )


class CopyUnreadableError(SourceError):
    """Rows of ``table`` could not be decoded; ``reason`` is the decoder's."""

    def __init__(self, table: str, *, reason: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(
            f"Rows of {table} could not be decoded: {reason}. The copy stopped and nothing of it "
            "counts. Most likely a text holds bytes that are not UTF-8; find and correct it in "
            "PostgreSQL, then copy again."
        )


TABLE_REFUSALS: tuple[type[SourceError], ...] = (
    TableMissingError,
    TablePrivilegeError,
    TableKindError,
    PartitionDeclaredError,
    KeyMissingError,
    FullIdentityMissingError,
    KeyMismatchError,
    GeneratedKeyError,
)
"""Why one table is not captured as declared, whoever else is; each passes when its cause goes."""
