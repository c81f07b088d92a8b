"""Errors of Iceberg tables.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from carbon_pipelines.errors.root import CarbonPipelinesError


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
            f"{where}, which has no Iceberg type. Nothing was created. Correct the column's "
            'declared type, or leave the column out with "protect: drop" in its declaration.'
        )


class ColumnRoleError(LakeError):
    """A column's type cannot be where the declaration has it: key, partitioning, sort order."""

    def __init__(self, table: str, column: str, type_name: str, *, role: str, why: str) -> None:
        self.table, self.column, self.type_name, self.role = table, column, type_name, role
        super().__init__(
            f"{table}.{column} is declared in {role}, but its type in the lake is {type_name}: "
            f"{why}. Nothing was copied. Change the declaration: leave the column out there, or "
            'keep it as text with "type: string" where its type allows that.'
        )


class UnrepresentableValueError(LakeError):
    """A value has no place in its column's type."""

    def __init__(self, column: str, type_name: str, value: str) -> None:
        self.column, self.type_name, self.value = column, type_name, value
        shown = value if len(value) <= 80 else value[:77] + "..."
        super().__init__(
            f"column {column}: {shown!r} cannot be held exactly as {type_name}. The table stands "
            "before this value and nothing is lost. Declare a wider type for the "
            'column ("type: decimal(p,s)", or "type: string" for PostgreSQL\'s own text) or '
            'correct the source, then restart a running capture and run "carbon recopy".'
        )


class DeclaredColumnError(LakeError):
    """A declaration partitions or sorts by a column that the source table has not."""

    def __init__(self, table: str, field: str, column: str) -> None:
        self.table, self.field, self.column = table, field, column
        super().__init__(
            f"{table}: its declaration names column {column} in {field}, but the source table has "
            "no such column. Nothing was copied and the lake's table stands as it did. Correct "
            f"{field} in the declaration and run again."
        )


class PartitionColumnNewError(LakeError):
    """A declaration partitions by a column that the lake's table gets only with this copy."""

    def __init__(self, table: str, column: str) -> None:
        self.table, self.column = table, column
        super().__init__(
            f"{table}: its declaration partitions by column {column}, which the lake's table gets "
            "only with this copy. Nothing was copied and readers keep the old rows. Take it out of "
            f'partitioning and run "carbon recopy {table}", then put it back and run that again.'
        )


class UnrecordedShapeError(LakeError):
    """Events from ``position`` on have columns that the DDL history does not describe."""

    def __init__(self, table: str, position: str) -> None:
        self.table, self.position = table, position
        super().__init__(
            f"{table}: events from position {position} on have columns that no row of "
            "carbon.ddl_history describes: a DDL was not recorded (no event triggers, or they were "
            'off), or no column has the name that is declared "protect: drop", so that nothing of '
            "the rows is sent. The table stands before them; other tables go on. Correct that name "
            f'if it is the reason, and start capture again; then run "carbon recopy {table}".'
        )


class PartitionTruncatedError(LakeError):
    """Partitions of the source table were truncated at ``position``."""

    def __init__(self, table: str, position: str) -> None:
        self.table, self.position = table, position
        super().__init__(
            f"{table}: at position {position} some of its partitions were truncated, and which "
            "rows that removed only the source knows. The table stands before it; other tables go "
            f'on. Run "carbon recopy {table}".'
        )


class ProtectedColumnMissingError(LakeError):
    """Columns that must not leave the source are not in it under the declared names."""

    def __init__(self, table: str, columns: str) -> None:
        self.table, self.columns = table, columns
        super().__init__(
            f'{table} declares "protect: drop" for {columns}, but the source has no column of that '
            "name: if it was renamed, its values would leave. Nothing after that was copied or "
            "merged; other tables go on. Declare the name that the column has now, or remove it if "
            f'the column is gone, start capture again, and run "carbon recopy {table}".'
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
            f"{copied_oid} before, {found_oid} now). The lake stands at the old table's last "
            f'change. Run "carbon recopy {table}" to follow the new one.'
        )


class WrongSourceError(LakeError):
    """A table was made from another PostgreSQL."""

    def __init__(self, table: str, expected: str, found: str) -> None:
        self.table, self.expected, self.found = table, expected, found
        super().__init__(
            f"{table} was copied from the PostgreSQL with system identifier {expected}, but its "
            f"database is now captured from {found}. Nothing was merged. Correct the DSN, or, if "
            f'the move is meant, run "carbon recopy {table}".'
        )


class StreamGapError(LakeError):
    """Changes between what the table holds and what its topic goes on with are missing."""

    def __init__(self, table: str, *, held: int, found: int, missing: str, remedy: str) -> None:
        self.table, self.held, self.found, self.missing = table, held, found, missing
        super().__init__(
            f"{table} stands before a gap in its topic: {missing} (the table is of generation "
            f"{held}, the events are of {found}). Nothing behind the gap was merged. {remedy}"
        )


class MissingPriorValueError(LakeError):
    """An unchanged TOAST value has no row to be taken from."""

    def __init__(self, table: str, columns: str, keys: str) -> None:
        self.table, self.columns, self.keys = table, columns, keys
        super().__init__(
            f"{table}: an update left {columns} unchanged for key {keys}, but the lake holds no "
            "such row and never writes a NULL in its place. The row stands as it did before it. "
            f'Run "carbon verify {table}" to see what else differs, then "carbon recopy {table}".'
        )


class RowsMissingError(LakeError):
    """Rows that the source had and changed are not in the lake, in a table without a key."""

    def __init__(self, table: str, rows: int, topic: str, offset: int) -> None:
        self.table, self.rows, self.topic, self.offset = table, rows, topic, offset
        super().__init__(
            f"{table}: updates and deletes name {rows} rows that the lake does not hold, the last "
            f"of them at {topic}[0]@{offset}. Nothing of this batch was merged, for a row is never "
            "left out without a word. Something else removed them, or PostgreSQL changed how it "
            "writes their values without sending an event (a renamed type, object or role). Run "
            f'"carbon verify {table}" to see what else differs, then "carbon recopy {table}".'
        )


class SequenceNumberError(LakeError):
    """A commit would get a sequence number that is not above its parent's."""

    def __init__(self, table: str, number: int, parent: int) -> None:
        self.table, self.number, self.parent = table, number, parent
        super().__init__(
            f"{table}: the next snapshot would get sequence number {number}, but the one before it "
            f"has {parent}: another writer set last-sequence-number back, and deletes would not "
            "apply to newer rows. Nothing was written. Find out what writes this table besides "
            f'us, then run "carbon recopy {table}".'
        )


class CommitConflictError(LakeError):
    """Another writer committed first; nothing was written."""

    retryable = True

    def __init__(self, table: str, attempts: int) -> None:
        self.table, self.attempts = table, attempts
        super().__init__(
            f"{table}: other writers committed first {attempts} times in a row. Nothing of this "
            "batch is in the table and its progress stands before it. Run again when they are done."
        )


class FollowRunningError(LakeError):
    """Another process follows ``table``; ``holder`` says which."""

    retryable = True

    def __init__(self, table: str, holder: str) -> None:
        self.table, self.holder = table, holder
        super().__init__(
            f"{table} is followed by another process already ({holder}). That one keeps it up to "
            "date and nothing is lost; stop it before this one can take over."
        )


class CommitUnknownError(LakeError):
    """Whether a commit landed could not be told."""

    retryable = True

    def __init__(self, table: str, snapshot_id: int, reason: str) -> None:
        self.table, self.snapshot_id, self.reason = table, snapshot_id, reason
        super().__init__(
            f"{table}: the commit of snapshot {snapshot_id} ended without an answer ({reason}) and "
            "the catalog does not show it now. Run again: the next run starts from what the table "
            "says, so the batch lands once whether or not this commit did."
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


class TableMovedError(LakeError):
    """What was read for a repair no longer fits the table."""

    retryable = True

    def __init__(self, table: str, reason: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(
            f"{table}: {reason} since the rows for its repair were read. Nothing was repaired. Run "
            f'"carbon verify {table} --repair" again; it reads them anew.'
        )
