"""Errors of tables that are parked, and of dead letters.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from carbon_pipelines.errors.lake import LakeError


class TableParkedError(LakeError):
    """A table is parked; ``reason`` and ``since`` are those of its mark."""

    def __init__(self, table: str, *, since: str, by: str, reason: str, stands: str) -> None:
        self.table, self.since, self.by, self.reason, self.stands = table, since, by, reason, stands
        super().__init__(
            f"{table} is parked since {since} by {by}: {reason} The table stands at {stands}; "
            "nothing was read and other tables go on. Once the cause is gone, run "
            f'"carbon release {table}"; to follow the source as it is now, "carbon recopy {table}".'
        )


class TableNotParkedError(LakeError):
    """A table that is to be released is not parked."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(
            f"{table} is not parked, so there is nothing to release. Nothing was changed. "
            f'"carbon sync {table}" brings it up to now.'
        )


class TableNotCopiedError(LakeError):
    """A table has no published copy to do something with."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(
            f"{table} has no published copy in the lake yet. Nothing was changed. "
            f'"carbon sync {table}" copies it.'
        )


class RecopyLimitError(LakeError):
    """A table asks to be copied anew more often than its declaration allows."""

    def __init__(self, table: str, limit: int, reason: str) -> None:
        self.table, self.limit, self.reason = table, limit, reason
        super().__init__(
            f"{table} was copied anew by itself {limit} times within an hour and would have to be "
            f"again: {reason} Readers keep the rows of the last copy. Find out what changes the "
            'table so often, or raise "recopies_per_hour" in its declaration.'
        )
