"""Errors of writing data files again.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Sequence
from typing import ClassVar

from carbon_pipelines.errors.maintenance import MaintenanceError


class CompactionError(MaintenanceError):
    """Data files could not be written again."""


class CompactionInvariantError(CompactionError):
    """What was written is not what was read."""

    def __init__(
        self, table: str, what: str, *, expected: object, found: object, files: Sequence[str]
    ) -> None:
        self.table, self.what, self.files = table, what, tuple(files)
        self.expected, self.found = expected, found
        named = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        super().__init__(
            f"{table}: {what}: {expected} in the files that were read, {found} in those written "
            f"from them. Nothing was committed and the new files were removed; the table stands as "
            f"it did. The files that were read: {named}. Run "
            f'"carbon verify {table}": if it is equal, this is a defect of the program; report it.'
        )


class SourceFileDamagedError(CompactionError):
    """A data file is not what its manifest says."""

    def __init__(self, path: str, *, recorded: int, found: int) -> None:
        self.path, self.recorded, self.found = path, recorded, found
        super().__init__(
            f"{path} holds {found} rows, and its manifest says {recorded}: another engine wrote it "
            "so, or it was overwritten. Nothing was changed. Run "
            '"carbon verify" for its table, and "carbon recopy" if rows differ.'
        )


class SourceFileMissingError(CompactionError):
    """A data or delete file that the table's snapshot lists is not there."""

    def __init__(self, table: str, snapshot_id: int, reason: str) -> None:
        self.table, self.snapshot_id, self.reason = table, snapshot_id, reason
        super().__init__(
            f"{table}: a file of table snapshot {snapshot_id} cannot be read: {reason}. Nothing "
            "was changed; readers of the table fail too. Put the file back if it was quarantined, "
            f'else run "carbon recopy {table}".'
        )


class TargetSizeError(CompactionError):
    """A table's declared file size is no size."""

    def __init__(self, table: str, name: str, value: str) -> None:
        self.table, self.name, self.value = table, name, value
        super().__init__(
            f"{table}: its table property {name} is {value!r}, which is no number of bytes above "
            "zero. Nothing was changed. Correct the property, or remove it for the default."
        )


class EngineMissingError(CompactionError):
    """A table is Trino's to compact, and nothing says where Trino is."""

    def __init__(self, table: str, variable: str, chosen_by: str) -> None:
        self.table, self.variable = table, variable
        super().__init__(
            f"{table}: {chosen_by} has Trino compact it, and {variable} is not set: nothing says "
            "where Trino is. Nothing was changed. Set it to "
            "http[s]://user[:password]@host[:port]/catalog, or start the embedded one by "
            '"carbon up --with trino"; or have the table compacted by engine native.'
        )


class OptimizeFailedError(CompactionError):
    """Trino refused what it was asked for."""

    advice: ClassVar[str] = 'Correct it, or have the table compacted by "--engine native".'

    def __init__(self, table: str, state: str) -> None:
        self.table, self.state = table, state
        super().__init__(
            f"{table}: Trino's optimize failed: {state}. The table stands as it did. {self.advice}"
        )


class OptimizeInterruptedError(OptimizeFailedError):
    """Trino did not answer, or others committed first."""

    retryable = True
    advice = "The next run begins anew."


class OptimizedRowsError(CompactionError):
    """A snapshot that Trino made by optimizing has another number of rows than the one before."""

    def __init__(self, table: str, *, snapshot_id: int, before: int, after: int) -> None:
        self.table, self.snapshot_id, self.before, self.after = table, snapshot_id, before, after
        super().__init__(
            f"{table}: table snapshot {snapshot_id}, which Trino's optimize committed, has {after} "
            f"rows, and the one before it {before}. Readers see it. Run "
            f'"carbon verify {table} --repair", and compact this table by "--engine native".'
        )
