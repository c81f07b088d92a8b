"""Errors of erasing a person's rows. None of them tells the key.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Sequence

from carbon_pipelines.errors.maintenance import MaintenanceError


class ErasureError(MaintenanceError):
    """A person's rows were not erased, or not all of them."""


class KeyInSourceError(ErasureError):
    """The source has the key."""

    def __init__(self, table: str, rows: int) -> None:
        self.table, self.rows = table, rows
        super().__init__(
            f"{table}: {rows} rows of the source have this key. What the lake would lose, the next "
            "sync, repair or copy would bring back. Nothing was erased. Delete them in the source, "
            f'run "carbon sync {table}", then this again.'
        )


class DeletionNotMergedError(ErasureError):
    """The lake has not come to where the source has the key no more."""

    retryable = True

    def __init__(self, table: str, reached: str, wanted: str) -> None:
        self.table, self.reached, self.wanted = table, reached, wanted
        super().__init__(
            f"{table}: the source has this key no more, but the lake stands at {reached} and has "
            f"not merged everything up to {wanted}: its deletion may be among that. Nothing was "
            f'erased. Run "carbon sync {table}", then this again.'
        )


class ErasureDateError(ErasureError):
    """A date that cannot be promised."""

    def __init__(self, table: str, date: str, reason: str) -> None:
        self.table, self.date, self.reason = table, date, reason
        super().__init__(f"{table}: everything gone by {date} is refused: {reason}.")


class ErasureKeyError(ErasureError):
    """A key that is none of the table's."""

    def __init__(self, table: str, reason: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(f"{table}: the key cannot be looked for: {reason}. Nothing was done.")


class ErasureNothingError(ErasureError):
    """Nothing has the key."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(
            f"{table}: no row with this key, deleted or not, is in any file of the table, its "
            "snapshots, quarantine, orphans or dead letters. Nothing was done. Is the key written "
            "as the table has it (case, spaces, all of its columns)? What Kafka and the source "
            "keep, the plan without --apply says."
        )


class ErasureReasonError(ErasureError):
    """A reason that says the key."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(
            f"{table}: the reason has a value of the key in it, and it is kept until all is done. "
            "Nothing was done. Give the number of the request instead."
        )


class ErasureLackedError(ErasureError):
    """The table lacks events of the key."""

    def __init__(self, table: str, offsets: Sequence[int]) -> None:
        self.table, self.offsets = table, tuple(offsets)
        named = ", ".join(map(str, self.offsets[:10]))
        super().__init__(
            f"{table} lacks events of this key, dead letters at offsets {named}: without their "
            "bytes they could never be put back. Nothing was erased. Run "
            f'"carbon replay {table}" or "carbon recopy {table}" (for a message that names no row '
            '"carbon replay --drop"), then this again.'
        )


class ErasureLeftError(ErasureError):
    """Files that hold the key's rows cannot be written again."""

    def __init__(self, table: str, path: str, reason: str = "") -> None:
        self.table, self.path, self.reason = table, path, reason
        super().__init__(
            f"{table} cannot be written again without the rows of this key: "
            f"{f'{path}: {reason}' if reason else path}. What was committed so far stays. Have "
            "the engine that wrote it write it again as Parquet with position deletes, or run "
            f'"carbon recopy {table}"; then this again.'
        )


class ErasureUnreadableError(ErasureError):
    """A data file cannot be read, so nobody can tell what is in it."""

    def __init__(self, table: str, path: str) -> None:
        self.table, self.path = table, path
        super().__init__(
            f"{table}: {path}, which its present snapshot needs, is missing or is no Parquet file: "
            "whether rows of this key are in it cannot be told. What was committed so far stays. "
            f'If it was quarantined, "carbon orphans restore {table}"; else "carbon recopy '
            f'{table}"; then this again.'
        )


class ErasureUnfinishedError(ErasureError):
    """The date has come, and something is left."""

    retryable = True

    def __init__(self, table: str, reason: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(
            f"{table}: not everything is gone yet: {reason}. The request stays; "
            f'"carbon erase --due {table} --apply" goes on from there.'
        )
