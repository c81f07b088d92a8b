"""Every error this project raises on purpose.

What belongs here: exception classes, their facts as attributes, and their sentences. Each sentence
says what happened, where, in which state things are now, and the next step. What does not: the
translation to a Dagster failure (``defs/failures.py``) and any decision.

CarbonPipelinesError                  (``retryable`` says whether the same call may succeed later)
├── CatalogError                      a declaration is missing or contradicts itself
│   ├── DeclarationError              declarations hold mistakes; each names its file and line
│   ├── UnknownTableError             nothing declared has that name
│   └── DeclarationExistsError        a declaration would be overwritten
├── SettingsError                     a service's address is missing or unusable
│   ├── SettingMissingError           a variable is not set and no embedded stack stands in
│   └── SettingUnknownError           a variable has a value without meaning
├── EmbeddedError                     a local service does not start, answer or stop
│   ├── StackBusyError                (retryable) another command works on the same stack
│   ├── StackMissingError             nothing was started in that home yet
│   ├── StateDamagedError             a file of the stack's home cannot be understood
│   ├── PortOccupiedError             a remembered port belongs to someone else's process
│   ├── PartEndedError                a part's process ended while it was starting
│   ├── PartSilentError               a part's process runs and does not answer
│   ├── PartRefusedError              a part's own data does not know the stack's password
│   ├── PartUnstoppableError          a part's process outlives SIGKILL
│   ├── DownloadError                 (retryable) an artifact could not be had
│   ├── PostgresBinariesError         the server binaries are missing or of another version
│   └── OsUserError                   no OS user can run PostgreSQL here
├── SourceError                       PostgreSQL cannot be captured as declared
│   ├── SourceUnreachableError        (retryable) PostgreSQL does not answer
│   ├── SourceAuthenticationError     PostgreSQL refuses our role or password
│   ├── SourceDatabaseMissingError    the server has no database of that name
│   ├── SourcePrivilegeError          our role lacks a right that capture needs
│   ├── SourceServerError             version, encoding or recovery: not a server we can capture
│   ├── WalLevelError                 wal_level is not logical
│   ├── NoFreeSlotError               all replication slots are taken
│   ├── NoFreeSenderError             (retryable) all WAL senders are taken
│   ├── SourceIdentityError           another database answers behind the same name
│   ├── TableMissingError             a declared table does not exist
│   ├── TableKindError                a view, foreign or unlogged table sends no changes
│   │   └── PartitionedTableError     partitioned tables are not captured yet
│   ├── KeyMissingError               mode mirror, and PostgreSQL has no replica identity
│   ├── KeyMismatchError              the declared key is not the replica identity
│   ├── GeneratedKeyError             a key column that replication never sends
│   ├── PublicationConflictError      our publication's name belongs to something else
│   ├── SlotLostError                 the slot's WAL is gone
│   ├── SlotMismatchError             our slot's name belongs to something else
│   ├── SlotInUseError                (retryable) a stranger reads our slot
│   ├── OpenTransactionError          (retryable) an older transaction does not end
│   ├── SourceLockedError             (retryable) a lock on a table was not granted in time
│   ├── RelationRewrittenError        (retryable) a table changed under its reader
│   ├── SnapshotGoneError             (retryable) a source snapshot was closed under its readers
│   └── CopyUnreadableError           the source holds text that is not UTF-8
├── StreamError                       a topic cannot be written or read as promised
│   ├── StreamUnavailableError        (retryable) Kafka does not answer
│   ├── CaptureRunningError           (retryable) another process holds the slot
│   ├── CaptureFencedError            another producer took our place
│   ├── DrainTimeoutError             (retryable) capture did not pass the marker in time
│   ├── EventTooLargeError            an event is larger than Kafka accepts
│   ├── UndecodableChangeError        a message of the slot is not what pgoutput promises
│   ├── UnkeyedChangeError            an update or delete does not carry the declared key
│   ├── ProgressFormatError           the progress was written by another format version
│   ├── ProgressLostError             a topic that others rely on was emptied or created again
│   ├── CaptureOutdatedError          a published table is not declared in this process
│   ├── ReplicationRefusedError       PostgreSQL will not send changes from the slot
│   ├── CaptureOptionsChangedError    the slot would be read with other options than before
│   ├── WrongDatabaseError            another database answers behind the same name
│   ├── TimelineDivergedError         a failover undid changes that Kafka already holds
│   ├── WalGapError                   the slot has moved past what Kafka holds
│   ├── TopicMissingError             a topic does not exist
│   ├── TopicRefusedError             Kafka refuses to create or delete a topic
│   ├── TopicReplacedError            a topic was deleted and created again
│   ├── OffsetGapError                retention has passed the offset to go on from
│   ├── OffsetBeyondEndError          a topic ends before the offset to go on from
│   ├── SchemaVersionMissingError     the DDL topic lacks versions that events refer to
│   └── MalformedEnvelopeError        a message of a topic is not an envelope
├── LakeError                         an Iceberg table refused a change
│   ├── LakeUnavailableError          (retryable) the catalog or the object store does not answer
│   ├── LakeAuthenticationError       the catalog or the object store refuses our credentials
│   ├── UnsupportedTypeError          a PostgreSQL type has no Iceberg type
│   ├── UnrepresentableValueError     a value has no place in its column's type
│   ├── UnsupportedSchemaChangeError  a DDL cannot be followed in place
│   ├── ProgressMissingError          the progress topic says nothing
│   ├── SourceTableReplacedError      a source table was dropped and another took its name
│   ├── WrongSourceError              a table was made from another PostgreSQL
│   ├── MissingPriorValueError        an unchanged TOAST value has no row to be taken from
│   ├── CommitConflictError           (retryable) another writer committed first
│   ├── CommitUnknownError            (retryable) whether a commit landed could not be told
│   ├── StateMissingError             no snapshot of the table carries our progress
│   └── StateFormatError              the progress was written by another format version
├── QualityError                      a comparison could not be made
│   ├── NoConsistentPointError        (retryable) source and lake never stood at the same point
│   └── LakeUnreadableError           the independent reader cannot read a table snapshot
└── DemoStageError                    a process of the demo failed
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar


class CarbonPipelinesError(Exception):
    """Base class; ``retryable`` says whether the same call may succeed later."""

    retryable: ClassVar[bool] = False


class CatalogError(CarbonPipelinesError):
    """A declaration is missing or contradicts itself."""


class DeclarationError(CatalogError):
    """Declarations hold mistakes.

    ``problems`` has one ``(file, line, reason)`` for each; lines count from 1.
    """

    def __init__(self, problems: Sequence[tuple[Path, int, str]]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {file}:{line}: {reason}" for file, line, reason in self.problems)
        mistakes = "1 mistake" if len(self.problems) == 1 else f"{len(self.problems)} mistakes"
        super().__init__(
            f"The declarations hold {mistakes}; nothing was loaded. "
            f"Correct the lines named here and run again:\n{lines}"
        )


class UnknownTableError(CatalogError):
    """Nothing declared is called ``name``; ``known`` holds what is."""

    def __init__(self, name: str, *, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        close = get_close_matches(name, self.known, n=3, cutoff=0.5)
        declared = close or self.known[:10]
        listed = ", ".join(declared) if declared else "nothing yet"
        super().__init__(
            f'Nothing declared is called "{name}". {"Close to it" if close else "Declared"}: '
            f'{listed}. "carbon tables list" shows all; "carbon tables add" declares a new one.'
        )


class DeclarationExistsError(CatalogError):
    """``path`` already declares something, and declarations are never overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{path} already exists and was left as it is. Edit it, or move it away and run "
            '"carbon tables add" again.'
        )


class SettingsError(CarbonPipelinesError):
    """Where a service is cannot be told from the environment or the embedded stack."""


class SettingMissingError(SettingsError):
    """A variable is not set, and there is no embedded stack to stand in."""

    def __init__(self, variable: str, meaning: str) -> None:
        self.variable = variable
        super().__init__(
            f"{variable} is not set ({meaning}), and there is no embedded stack here to stand in: "
            "set it, or run `carbon up` (CARBON_HOME names the stack's directory)."
        )


class SettingUnknownError(SettingsError):
    """A variable has a value without meaning."""

    def __init__(self, variable: str, value: str, known: Sequence[str]) -> None:
        self.variable = variable
        self.value = value
        super().__init__(f"{variable} is {value!r}; it must be one of {', '.join(known)}.")


class EmbeddedError(CarbonPipelinesError):
    """A local service does not start, answer or stop as it must."""


class StackBusyError(EmbeddedError):
    """Another command holds the stack's lock."""

    retryable = True

    def __init__(self, home: Path, waited_seconds: float) -> None:
        self.home = home
        self.waited_seconds = waited_seconds
        super().__init__(
            f"another command has held {home}/lock for {waited_seconds:.0f} s: nothing was changed. "
            "Wait until that up or down has ended, then run the command again."
        )


class StackMissingError(EmbeddedError):
    """A home without a stack."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(f"no stack was started in {home} yet: run `carbon up` there first.")


class StateDamagedError(EmbeddedError):
    """A file of the stack's home is not what this version wrote."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"{path} cannot be understood: {reason}. The data beside it is untouched. Restore that "
            "file, or move the whole directory away and run `carbon up` for a new stack."
        )


class PortOccupiedError(EmbeddedError):
    """A port that belongs to a part is held by a process that is not ours."""

    def __init__(self, part: str, port: int, occupant: str, state_file: Path) -> None:
        self.part = part
        self.port = port
        self.occupant = occupant
        super().__init__(
            f"{part} needs 127.0.0.1:{port}, which {occupant} holds: {part} was not started. Stop "
            f'that process, or remove the ports of "{part}" from {state_file} so that the next '
            "`carbon up` picks free ones."
        )


class PartEndedError(EmbeddedError):
    """A part's process ended while it was starting."""

    def __init__(self, part: str, log: Path, last_lines: str) -> None:
        self.part = part
        self.log = log
        self.last_lines = last_lines
        super().__init__(
            f"{part} ended while it was starting; {log} ends with:\n{last_lines}\n"
            "Its data is kept. Correct the cause and run `carbon up` again."
        )


class PartSilentError(EmbeddedError):
    """A part's process runs, and its port does not answer as our service."""

    def __init__(self, part: str, waited_seconds: float, log: Path, last_lines: str) -> None:
        self.part = part
        self.waited_seconds = waited_seconds
        self.log = log
        super().__init__(
            f"{part} runs and has not answered for {waited_seconds:.0f} s; {log} ends with:\n"
            f"{last_lines}\nRun `carbon down`, then `carbon up`."
        )


class PartRefusedError(EmbeddedError):
    """A part runs on data that was made with other secrets."""

    def __init__(self, part: str, directory: Path, reason: str) -> None:
        self.part = part
        self.directory = directory
        super().__init__(
            f"{part} runs and refuses the stack's own user ({reason}): {directory} was made with "
            "other secrets than those in secrets.json beside it. Restore that file, or move both "
            "away and run `carbon up` for a new, empty stack."
        )


class PartUnstoppableError(EmbeddedError):
    """Processes of a part are still there after SIGKILL."""

    def __init__(self, part: str, pids: Iterable[int]) -> None:
        self.part = part
        self.pids = tuple(pids)
        super().__init__(
            f"processes {', '.join(map(str, self.pids))} of {part} outlive SIGKILL (blocked in the "
            "kernel, or another user's): end them by hand, then run `carbon down` again."
        )


class DownloadError(EmbeddedError):
    """An artifact is neither in the cache nor to be had."""

    retryable = True

    def __init__(self, coordinate: str, cache: Path, reason: str) -> None:
        self.coordinate = coordinate
        self.cache = cache
        super().__init__(
            f"{coordinate} is not in {cache} and could not be downloaded: {reason}. Check the "
            "network and its proxy, or point CARBON_CACHE_DIR at a directory filled elsewhere."
        )


class PostgresBinariesError(EmbeddedError):
    """The server binaries are missing, or another major version made the data directory."""

    def __init__(self, directory: Path, problem: str, next_step: str) -> None:
        self.directory = directory
        self.problem = problem
        super().__init__(f"PostgreSQL of {directory}: {problem}. {next_step}")


class OsUserError(EmbeddedError):
    """PostgreSQL refuses to run as root and no other OS user can be used."""

    def __init__(self, user: str, problem: str) -> None:
        self.user = user
        self.problem = problem
        super().__init__(
            f"PostgreSQL does not run as root, and OS user {user} cannot run it: {problem}. Create "
            "a user for it and name it in CARBON_POSTGRES_OS_USER, or run carbon as another user."
        )


class SourceError(CarbonPipelinesError):
    """PostgreSQL cannot be captured as declared."""


class SourceUnreachableError(SourceError):
    """No connection to ``location``, or it broke; ``reason`` is PostgreSQL's or the network's."""

    retryable = True

    def __init__(self, location: str, *, reason: str) -> None:
        self.location, self.reason = location, reason
        super().__init__(
            f"PostgreSQL at {location} does not answer: {reason}. Nothing was read or changed. "
            "Check that the server runs and can be reached from here; the same call may then work."
        )


class SourceAuthenticationError(SourceError):
    """The server at ``location`` refuses our role or password."""

    def __init__(self, location: str, *, reason: str) -> None:
        self.location, self.reason = location, reason
        super().__init__(
            f"PostgreSQL at {location} refuses to let us in: {reason}. Nothing was read or "
            "changed. Correct the role or the password in CARBON_SOURCE_<DATABASE>_DSN, or the "
            "server's pg_hba.conf."
        )


class SourceDatabaseMissingError(SourceError):
    """The server at ``location`` answers, but has no such database."""

    def __init__(self, location: str) -> None:
        self.location = location
        super().__init__(
            f"The server answers, but the database of {location} does not exist. Nothing was "
            "changed. Correct CARBON_SOURCE_<DATABASE>_DSN or create the database."
        )


class SourcePrivilegeError(SourceError):
    """Role ``role`` may not do ``what``; ``remedy`` is the statement or the step that helps."""

    def __init__(self, role: str, *, what: str, remedy: str) -> None:
        self.role, self.what, self.remedy = role, what, remedy
        super().__init__(f'Role "{role}" may not {what}. What needed it was not done. {remedy}')


class SourceServerError(SourceError):
    """The server ``fact`` rules capture out; ``remedy`` is the next step."""

    def __init__(self, location: str, *, fact: str, remedy: str) -> None:
        self.location, self.fact, self.remedy = location, fact, remedy
        super().__init__(
            f"The server at {location} cannot be captured: {fact}. Nothing was changed. {remedy}"
        )


class WalLevelError(SourceError):
    """``wal_level`` is ``found`` and has to be logical."""

    def __init__(self, location: str, *, found: str) -> None:
        self.location, self.found = location, found
        super().__init__(
            f"The server at {location} runs with wal_level = {found}, which holds too little to "
            "read changes from. Nothing was changed. Run ALTER SYSTEM SET wal_level = 'logical' "
            "and restart the server."
        )


class NoFreeSlotError(SourceError):
    """Slot ``slot`` is to be created, and all ``limit`` slots are taken by ``taken``."""

    def __init__(self, slot: str, *, limit: int, taken: Sequence[str]) -> None:
        self.slot, self.limit, self.taken = slot, limit, tuple(taken)
        super().__init__(
            f'Slot "{slot}" cannot be created: max_replication_slots = {limit}, and these exist: '
            f"{', '.join(self.taken) or 'none'}. Nothing was changed. Drop one that nobody reads "
            "(SELECT pg_drop_replication_slot(...)), or raise max_replication_slots and restart "
            "the server."
        )


class NoFreeSenderError(SourceError):
    """All ``limit`` WAL senders are ``used``."""

    retryable = True

    def __init__(self, location: str, *, limit: int, used: int) -> None:
        self.location, self.limit, self.used = location, limit, used
        super().__init__(
            f"The server at {location} has no free WAL sender: max_wal_senders = {limit}, {used} "
            "are in use. Nothing was changed. End one (see pg_stat_replication), or raise "
            "max_wal_senders and restart the server."
        )


class SourceIdentityError(SourceError):
    """Another database than the remembered one answers; ``fact`` is what differs."""

    def __init__(self, *, fact: str, remembered: str, found: str) -> None:
        self.fact, self.remembered, self.found = fact, remembered, found
        super().__init__(
            f"This is not the database that was captured so far: its {fact} was {remembered} and "
            f"is {found}. Nothing was read or changed. Correct CARBON_SOURCE_<DATABASE>_DSN; if "
            "the database was restored or failed over on purpose, its tables need a re-copy "
            '("carbon recopy").'
        )


class TableMissingError(SourceError):
    """Table ``table`` does not exist; ``renamed_to`` is where its predecessor went, if known."""

    def __init__(self, table: str, *, location: str, renamed_to: str | None = None) -> None:
        self.table, self.location, self.renamed_to = table, location, renamed_to
        state = (
            f"It is called {renamed_to} now. Change source_schema and source_table"
            if renamed_to
            else "Nothing was read or changed. Correct source_schema and source_table"
        )
        super().__init__(
            f"Table {table} does not exist in {location}. {state} in its declaration, or remove "
            "the declaration."
        )


class TableKindError(SourceError):
    """Table ``table`` is a ``kind``, of which PostgreSQL publishes no changes."""

    def __init__(self, table: str, *, kind: str) -> None:
        self.table, self.kind = table, kind
        super().__init__(
            f"{table} is {kind}, and PostgreSQL publishes no changes of it. Nothing was changed. "
            "Declare the ordinary table behind it, or remove the declaration."
        )


class PartitionedTableError(TableKindError):
    """Partitioned tables are a limit of this release."""

    def __init__(self, table: str) -> None:
        self.table, self.kind = table, "a partitioned table"
        SourceError.__init__(
            self,
            f"{table} is a partitioned table, which this release does not capture; a later one "
            "will. Nothing was changed. Declare its partitions as tables of their own until then, "
            "or remove the declaration.",
        )


class KeyMissingError(SourceError):
    """Mirror table ``table`` has no replica identity, so its updates cannot be published."""

    def __init__(self, table: str, *, replica_identity: str) -> None:
        self.table, self.replica_identity = table, replica_identity
        super().__init__(
            f"{table} is declared with mode mirror, but PostgreSQL has no usable key for it "
            f"(REPLICA IDENTITY is {replica_identity}, without a valid, immediate, unique index). "
            "Publishing its updates would make the application's UPDATE fail, so nothing was "
            "changed. Add a primary key, or ALTER TABLE ... REPLICA IDENTITY USING INDEX, or "
            "declare mode: append (inserts and truncates only)."
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
            "max_slot_wal_keep_size, drop the slot (SELECT pg_drop_replication_slot"
            f"('{slot}')), and start the database over with a re-copy of its tables "
            '("carbon recopy").'
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


class StreamError(CarbonPipelinesError):
    """A topic cannot be written or read as the catalog promises."""


class StreamUnavailableError(StreamError):
    """Kafka at ``bootstrap`` does not answer, or not with what it must; ``state`` says which."""

    retryable = True

    def __init__(self, bootstrap: str, state: str) -> None:
        self.bootstrap, self.state = bootstrap, state
        super().__init__(
            f"Kafka at {bootstrap} is not usable: {state}. Nothing that was not committed counts, "
            f'so a retry is safe; see that the broker runs ("carbon status").'
        )


class CaptureRunningError(StreamError):
    """Another process reads slot ``slot``; ``detail`` is what PostgreSQL says about it."""

    retryable = True

    def __init__(self, database: str, slot: str, detail: str) -> None:
        self.database, self.slot, self.detail = database, slot, detail
        super().__init__(
            f"Slot {slot} of database {database} is being read by another process ({detail}), and "
            f"two captures of one database cannot run at once. Leave this one to the other, or "
            f"stop the other first."
        )


class CaptureFencedError(StreamError):
    """Another producer with ``transactional_id`` has started; what we had open was aborted."""

    def __init__(self, bootstrap: str, transactional_id: str) -> None:
        self.bootstrap, self.transactional_id = bootstrap, transactional_id
        super().__init__(
            f"Another producer has taken over {transactional_id} on Kafka at {bootstrap}; the open "
            f"transaction was aborted and nothing is lost or doubled. See which capture of this "
            f"database should run, stop the other one, and start it again."
        )


class DrainTimeoutError(StreamError):
    """Capture reached ``reached`` but not ``wanted`` (LSN text) within ``seconds``."""

    retryable = True

    def __init__(
        self, database: str, *, wanted: str, reached: str, seconds: float, holder: str
    ) -> None:
        self.database, self.wanted, self.reached = database, wanted, reached
        self.seconds, self.holder = seconds, holder
        super().__init__(
            f"Kafka holds database {database} up to {reached}, but {wanted} was not reached within "
            f"{seconds:.0f} s ({holder}). Run it again to go on from there; if {reached} does not "
            f"move, look at the log of the process that captures."
        )


class EventTooLargeError(StreamError):
    """One event of ``table`` at ``lsn`` has ``size_bytes``; Kafka refuses it.

    ``size_bytes`` counts key and value before compression; ``limit`` says whose limit it broke.
    """

    def __init__(self, table: str, *, lsn: str, size_bytes: int, limit: str) -> None:
        self.table, self.lsn, self.size_bytes, self.limit = table, lsn, size_bytes, limit
        super().__init__(
            f"An event of {table} at LSN {lsn} has {size_bytes:,} bytes, more than {limit}. "
            f"Capture stands before it and loses nothing. Raise max.message.bytes of the table's "
            f'topic, or declare the large column "protect: drop", then start capture again.'
        )


class UndecodableChangeError(StreamError):
    """A message of the slot at ``lsn`` is not what pgoutput's protocol promises."""

    def __init__(self, slot: str, *, lsn: str, kind: str, reason: str) -> None:
        self.slot, self.lsn, self.kind, self.reason = slot, lsn, kind, reason
        super().__init__(
            f'Message "{kind}" of slot {slot} at LSN {lsn} cannot be decoded: {reason}. Capture '
            f"stands before it and loses nothing. This is a fault in carbon_pipelines or an "
            f"unsupported server version: report it with this message."
        )


class UnkeyedChangeError(StreamError):
    """An update or delete of ``table`` at ``lsn`` does not carry the columns ``missing``."""

    def __init__(self, table: str, *, lsn: str, missing: Sequence[str]) -> None:
        self.table, self.lsn, self.missing = table, lsn, tuple(missing)
        super().__init__(
            f"An update or delete of {table} at LSN {lsn} does not carry the key column(s) "
            f"{', '.join(self.missing)}: the table's replica identity no longer covers its "
            f"declared key. Capture stands before it and loses nothing. Declare the key that the "
            f"table has now and start capture again, then re-copy the table."
        )


class ProgressFormatError(StreamError):
    """The progress in ``topic`` is not of a format version this release reads."""

    def __init__(self, topic: str, found: str) -> None:
        self.topic, self.found = topic, found
        super().__init__(
            f"The progress in {topic} has {found}, which this release cannot read. Nothing was "
            f"captured. Use the release that wrote it, or a newer one."
        )


class ProgressLostError(StreamError):
    """``topic`` was emptied or created again although ``with_events`` hold events."""

    def __init__(self, database: str, topic: str, with_events: Sequence[str]) -> None:
        self.database, self.topic, self.with_events = database, topic, tuple(with_events)
        super().__init__(
            f"{topic} was emptied or created again, but the events in "
            f"{', '.join(self.with_events[:5])} rely on what it held: what Kafka has of database "
            f"{database} can no longer be told. Nothing was captured. Run "
            f'"carbon start-over {database}": it shows what it deletes and copies anew.'
        )


class CaptureOutdatedError(StreamError):
    """``table`` is not declared here, but it is published and has ``topic``."""

    def __init__(self, database: str, table: str, topic: str) -> None:
        self.database, self.table, self.topic = database, table, topic
        super().__init__(
            f"Changes of {table} arrive, which this process finds no declaration of in database "
            f"{database}, although topic {topic} exists: skipping them would leave a gap in it. "
            f"Capture stands before them and loses nothing. If the table was declared meanwhile, "
            f'start "carbon capture" again; if its declaration was removed on purpose, delete the '
            f"topic."
        )


class ReplicationRefusedError(StreamError):
    """PostgreSQL refuses to go on with slot ``slot``; ``reason`` is its answer."""

    def __init__(self, slot: str, *, sqlstate: str, reason: str) -> None:
        self.slot, self.sqlstate, self.reason = slot, sqlstate, reason
        super().__init__(
            f"PostgreSQL refuses to send changes from slot {slot}: {reason} (SQLSTATE {sqlstate}). "
            f"Nothing was acknowledged that Kafka does not hold. Correct what it names; "
            f"materializing the stream asset sets up publications and slot again."
        )


class CaptureOptionsChangedError(StreamError):
    """The slot was read with options ``before`` and would now be read with ``now``."""

    def __init__(self, database: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        self.database, self.before, self.now = database, dict(before), dict(now)
        changed = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
        pairs = "; ".join(f"{k}: {before.get(k)!r} -> {now.get(k)!r}" for k in changed)
        super().__init__(
            f"Capture of database {database} would read its slot with other options than before "
            f"({pairs}). Positions inside a transaction are only comparable under the same "
            f"options, so nothing was captured. Use the options that it was started with."
        )


class WrongDatabaseError(StreamError):
    """Another database answers behind the name; ``fact`` is what differs."""

    def __init__(self, database: str, *, fact: str, before: str, now: str) -> None:
        self.database, self.fact, self.before, self.now = database, fact, before, now
        super().__init__(
            f"The database behind the name {database} is not the one that was captured so far: its "
            f"{fact} was {before} and is {now}. Nothing was captured. Correct "
            f"CARBON_SOURCE_{database.upper()}_DSN, or declare the new database under a name of "
            f"its own."
        )


class TimelineDivergedError(StreamError):
    """Timeline ``now`` left ``before`` at ``switched_at``, before the captured ``position``."""

    def __init__(
        self, database: str, *, before: int, now: int, switched_at: str, position: str
    ) -> None:
        self.database, self.before, self.now = database, before, now
        self.switched_at, self.position = switched_at, position
        super().__init__(
            f"Database {database} runs on timeline {now}; the captured position {position} is on "
            f"timeline {before}, which {now} left at {switched_at}. Kafka holds changes that this "
            f"server does not have, so nothing was captured. Run "
            f'"carbon start-over {database}": it shows what it deletes and copies anew.'
        )


class WalGapError(StreamError):
    """Slot ``slot`` starts at ``confirmed``, but Kafka only holds what is before ``captured``."""

    def __init__(self, database: str, slot: str, *, confirmed: str, captured: str) -> None:
        self.database, self.slot = database, slot
        self.confirmed, self.captured = confirmed, captured
        super().__init__(
            f"Slot {slot} starts at {confirmed}, but Kafka holds database {database} only up to "
            f"{captured}: the slot was created again or moved by someone else, and the changes "
            f"between never reached Kafka. Nothing was captured. Run "
            f'"carbon start-over {database}": it shows what it deletes and copies anew.'
        )


class TopicMissingError(StreamError):
    """Topic ``topic`` does not exist on Kafka at ``bootstrap``."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.bootstrap, self.topic = bootstrap, topic
        super().__init__(
            f"Topic {topic} does not exist on Kafka at {bootstrap}. If its table was never "
            f'captured, run "carbon capture" or materialize its stream asset first; if the topic '
            f"was deleted, the table needs a re-copy after that."
        )


class TopicRefusedError(StreamError):
    """Kafka refuses what we asked for ``topic``; ``reason`` is its answer."""

    def __init__(self, bootstrap: str, topic: str, *, doing: str, reason: str) -> None:
        self.bootstrap, self.topic, self.doing, self.reason = bootstrap, topic, doing, reason
        super().__init__(
            f"Kafka at {bootstrap} refuses to {doing} topic {topic}: {reason}. Create the topic by "
            f"hand with one partition, or give our user the right to."
        )


class TopicReplacedError(StreamError):
    """Topic ``topic`` is not the one that was read so far.

    ``before`` and ``now`` are ``(cluster id, topic id)``.
    """

    def __init__(self, topic: str, *, before: tuple[str, str], now: tuple[str, str]) -> None:
        self.topic, self.before, self.now = topic, before, now
        what = "topic id" if before[0] == now[0] else "cluster id"
        index = 1 if before[0] == now[0] else 0
        super().__init__(
            f"Topic {topic} was deleted and created again, or is on another cluster: its {what} "
            f"was {before[index]} and is {now[index]}, so remembered offsets mean nothing in it. "
            f'Nothing was read. Run "carbon recopy {_table_of(topic)}".'
        )


class OffsetBeyondEndError(StreamError):
    """Reading ``topic`` has to go on from ``start``, but it ends before ``end``."""

    def __init__(self, topic: str, *, start: int, end: int) -> None:
        self.topic, self.start, self.end = topic, start, end
        super().__init__(
            f"{topic}[0] ends before offset {end}, but reading has to go on from {start}: the topic "
            f"lost records that were read before (an unclean leader election, or a restored "
            f'broker). Nothing was read. Run "carbon recopy {_table_of(topic)}".'
        )


class OffsetGapError(StreamError):
    """Offsets ``first`` to ``last`` of ``topic`` expired unread."""

    def __init__(self, topic: str, *, first: int, last: int) -> None:
        self.topic, self.first, self.last = topic, first, last
        super().__init__(
            f"{topic}[0] starts at offset {last + 1}, but reading has to go on from {first}: "
            f"offsets {first} to {last} expired unread. Nothing was read. A re-copy is needed: "
            f'run "carbon recopy {_table_of(topic)}".'
        )


class SchemaVersionMissingError(StreamError):
    """The DDL topic lacks schema versions that events refer to."""

    def __init__(self, topic: str, versions: Sequence[int]) -> None:
        self.topic, self.versions = topic, tuple(versions)
        super().__init__(
            f"Events refer to schema version {', '.join(map(str, versions))}, which {topic} does not "
            "hold. Nothing of their batch was merged. If the topic was deleted or created again, "
            'run "carbon recopy" for the tables of this database.'
        )


class MalformedEnvelopeError(StreamError):
    """The message at ``offset`` of ``topic`` is not an envelope; ``reason`` says why."""

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        self.topic, self.partition, self.offset, self.reason = topic, partition, offset, reason
        super().__init__(
            f"The message at {topic}[{partition}]@{offset} is not a change event: {reason}. "
            f"Nothing from this batch was applied. See who else writes to the topic; to go on "
            f'without the message, run "carbon recopy {_table_of(topic)}".'
        )


def _table_of(topic: str) -> str:
    """The default label of a topic's table: ``market/credit`` for ``cdc.market.public.credit``."""
    parts = topic.split(".", 3)
    if len(parts) < 4 or parts[0] != "cdc":
        return topic
    _, database, schema, table = parts
    return f"{database}/{table}" if schema == "public" else f"{database}/{schema}_{table}"


class LakeError(CarbonPipelinesError):
    """An Iceberg table refused a change."""


class LakeUnavailableError(LakeError):
    """The catalog or the object store does not answer."""

    retryable = True

    def __init__(self, what: str, reason: str) -> None:
        self.what, self.reason = what, reason
        super().__init__(
            f"{what} does not answer: {reason}. The tables stand as they did; what was written for "
            "this commit is unreferenced. Check the address in CARBON_LAKE_* and that the bucket "
            'exists (locally: "carbon up" repairs the stack), then run again.'
        )


class LakeAuthenticationError(LakeError):
    """The catalog or the object store refuses our credentials."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} refuses our credentials. Nothing was written. Correct the keys in "
            "CARBON_LAKE_S3_ACCESS_KEY, CARBON_LAKE_S3_SECRET_KEY or CARBON_LAKE_CATALOG_URI "
            "and run again."
        )


class UnsupportedTypeError(LakeError):
    """A PostgreSQL type has no Iceberg type."""

    def __init__(self, type_name: str, column: str = "", table: str = "") -> None:
        self.type_name, self.column, self.table = type_name, column, table
        where = f"{table}.{column} has type {type_name}" if column else f"type {type_name}"
        super().__init__(
            f"{where}, which has no Iceberg type. Nothing was created. Leave the column out with "
            '"protect: drop" in its declaration, or cast it in the source.'
        )


class UnrepresentableValueError(LakeError):
    """A value has no place in its column's type."""

    def __init__(self, column: str, type_name: str, value: str) -> None:
        self.column, self.type_name, self.value = column, type_name, value
        shown = value if len(value) <= 80 else value[:77] + "..."
        super().__init__(
            f"column {column}: {shown!r} cannot be held exactly as {type_name}. The table stands "
            "before the batch with this value and nothing is lost. Declare a wider type for the "
            'column ("type: decimal(p,s)") or correct the source, then run "carbon recopy".'
        )


class UnsupportedSchemaChangeError(LakeError):
    """A DDL cannot be followed in place."""

    def __init__(self, table: str, change: str, version: int) -> None:
        self.table, self.change, self.version = table, change, version
        super().__init__(
            f"{table}: schema version {version} {change}, which cannot be followed in place. The "
            f'table stands before it; other tables go on. Run "carbon recopy {table}".'
        )


class ProgressMissingError(LakeError):
    """Capture reached a point but its progress topic says nothing."""

    def __init__(self, database: str) -> None:
        self.database = database
        super().__init__(
            f"{database}: the progress topic is empty although capture has run; it was deleted or "
            "compacted away. Nothing was copied. Materialize "
            f'stream/{database} (or run "carbon capture {database}") and run again.'
        )


class SourceTableReplacedError(LakeError):
    """A source table was dropped and another took its name."""

    def __init__(self, table: str, copied_oid: int, found_oid: int) -> None:
        self.table, self.copied_oid, self.found_oid = table, copied_oid, found_oid
        super().__init__(
            f"{table}: the source table was dropped and created again under the same name (oid "
            f"{copied_oid} before, {found_oid} now). The lake stands at the old table's last change. "
            f'Run "carbon recopy {table}" to follow the new one.'
        )


class WrongSourceError(LakeError):
    """A table was made from another PostgreSQL."""

    def __init__(self, table: str, expected: str, found: str) -> None:
        self.table, self.expected, self.found = table, expected, found
        super().__init__(
            f"{table} was copied from the PostgreSQL with system identifier {expected}, but its "
            f"database is now captured from {found}. Nothing was merged. Correct the DSN, or, if the "
            f'move is meant, run "carbon recopy {table}".'
        )


class MissingPriorValueError(LakeError):
    """An unchanged TOAST value has no row to be taken from."""

    def __init__(self, table: str, columns: str, keys: str) -> None:
        self.table, self.columns, self.keys = table, columns, keys
        super().__init__(
            f"{table}: an update left {columns} unchanged for key {keys}, but the lake holds no such "
            "row and never writes a NULL in its place. The table stands before this batch. Run "
            f'"carbon verify {table}" to see what else differs, then "carbon recopy {table}".'
        )


class CommitConflictError(LakeError):
    """Another writer committed first; nothing was written."""

    retryable = True

    def __init__(self, table: str, attempts: int) -> None:
        self.table, self.attempts = table, attempts
        super().__init__(
            f"{table}: other writers committed first {attempts} times in a row. Nothing of this batch "
            "is in the table and its progress stands before it. Run again when they are done."
        )


class CommitUnknownError(LakeError):
    """Whether a commit landed could not be told."""

    retryable = True

    def __init__(self, table: str, snapshot_id: int, reason: str) -> None:
        self.table, self.snapshot_id, self.reason = table, snapshot_id, reason
        super().__init__(
            f"{table}: the commit of snapshot {snapshot_id} ended without an answer ({reason}) and the "
            "catalog does not show it now. Run again: the next run starts from what the table says, "
            "so the batch lands once whether or not this commit did."
        )


class StateMissingError(LakeError):
    """No snapshot of the table carries our progress."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(
            f"{table} has snapshots, but none of them carries carbon.position: it was written by "
            "another tool, or the carrier expired. Nothing was changed. Run "
            f'"carbon recopy {table}" to replace its rows, or give it another logical name.'
        )


class StateFormatError(LakeError):
    """The progress was written by another format version."""

    def __init__(self, table: str, found: str, known: str) -> None:
        self.table, self.found, self.known = table, found, known
        super().__init__(
            f"{table}: progress of format version {found}, this program knows {known}. Nothing was "
            "changed. Use a program at least as new as the one that wrote it."
        )


class QualityError(CarbonPipelinesError):
    """A comparison could not be made."""


class NoConsistentPointError(QualityError):
    """No round found source and lake at the same point, so nothing is known about the table."""

    retryable = True

    def __init__(self, table: str, reasons: Sequence[str]) -> None:
        self.table = table
        self.reasons = tuple(reasons)
        last = self.reasons[-1] if self.reasons else "no round was made"
        super().__init__(
            f"{table}: {len(self.reasons)} rounds found no point at which source and lake could be "
            f"compared; the last one: {last}. Nothing was compared, so nothing is known. Run "
            f'"carbon verify {table}" again when nobody truncates, rewrites or alters the table.'
        )


class LakeUnreadableError(QualityError):
    """DuckDB, which shares no code with our writer, cannot read a table snapshot."""

    def __init__(self, table: str, snapshot_id: int, detail: str) -> None:
        self.table = table
        self.snapshot_id = snapshot_id
        self.detail = detail
        super().__init__(
            f"{table}: DuckDB cannot read table snapshot {snapshot_id}: {detail.splitlines()[0]} "
            f"The table is not verified. If a file is missing or damaged, run "
            f'"carbon recopy {table}".'
        )


class DemoStageError(CarbonPipelinesError):
    """A process that the demo started failed."""

    def __init__(self, stage: str, state: str, log: Path) -> None:
        self.stage = stage
        self.state = state
        self.log = log
        super().__init__(
            f"The demo's {stage} process failed: {state}. The stack is still running and nothing "
            f"is lost. Read {log}, then run the demo again; it goes on from here."
        )
