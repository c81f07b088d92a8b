"""Errors of tables that are parked, and of dead letters.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Sequence

from carbon_pipelines.errors.lake import LakeError


class TableParkedError(LakeError):
    """A table is parked; ``reason`` and ``since`` are those of its mark.

    ``dead_letters`` is how many events it lacks.
    """

    def __init__(
        self,
        table: str,
        *,
        since: str,
        by: str,
        reason: str,
        stands: str,
        dead_letters: int = 0,
        keeps_history: bool = False,
    ) -> None:
        self.table, self.since, self.by, self.reason, self.stands = table, since, by, reason, stands
        self.dead_letters = dead_letters
        copy = f'"carbon recopy {table}"'
        if keeps_history:
            copy = 'begin a new history under another "name", for this one is never copied anew'
        super().__init__(
            f"{table} is parked since {since} by {by}: {reason} The table stands at {stands}; "
            "nothing was read and other tables go on. Once the cause is gone, run "
            f'"carbon release {table}"; to follow the source as it is now, {copy}.'
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


class PriorDeadLetterError(LakeError):
    """An event takes a value from an earlier event of its row that is a dead letter."""

    def __init__(self, table: str, columns: str, offset: int) -> None:
        self.table, self.columns, self.offset = table, columns, offset
        super().__init__(
            f"{table}: an update left {columns} as they were after the event at offset {offset}. "
            "That one is a dead letter, so their values are not known. The row stands as it did "
            f'before it. "carbon replay {table}" applies both once the cause is gone.'
        )


class RowNeededError(PriorDeadLetterError):
    """An event would take away a row from which a dead letter takes the values it lacks."""

    def __init__(self, table: str, moved: int) -> None:
        self.table, self.moved = table, moved
        LakeError.__init__(
            self,
            f"{table}: the event at offset {moved} gave this row another key and left large values "
            "as they were. It is a dead letter, so the row stands until it has them. "
            f'"carbon replay {table}" applies both once the cause is gone.',
        )


class DeadLetterExpiredError(LakeError):
    """Whether a dead letter is still its row's last word cannot be told."""

    def __init__(self, table: str, offset: int, low: int) -> None:
        self.table, self.offset, self.low = table, offset, low
        super().__init__(
            f"{table}: Kafka starts at offset {low} and no longer holds what came after the dead "
            f"letter at {offset}; a later event of the same row may be among it. The row stands as "
            f'it did. Run "carbon recopy {table}".'
        )


class DeadLetterMissingError(LakeError):
    """A table lacks events, and the dead letters' table does not have them."""

    def __init__(self, table: str, where: str, offsets: Sequence[int]) -> None:
        self.table, self.where, self.offsets = table, where, tuple(offsets)
        super().__init__(
            f"{table} lacks the events at offsets {', '.join(map(str, offsets[:5]))}, but {where} "
            "does not hold them: it was dropped, or set back. Nothing was changed. Run "
            f'"carbon recopy {table}".'
        )


class NoSuchDeadLetterError(LakeError):
    """A dead letter that is to be dropped is not pending, or belongs to a row."""

    def __init__(self, table: str, offset: int, reason: str) -> None:
        self.table, self.offset, self.reason = table, offset, reason
        super().__init__(
            f"{table}: the dead letter at offset {offset} cannot be dropped: {reason}. Nothing was "
            f'changed. "carbon replay {table}" shows what is pending.'
        )


class LayoutColumnGoneError(LakeError):
    """A column that the files of a table are laid out by is gone, or is another column now."""

    def __init__(self, table: str, column: str, how: str) -> None:
        self.table, self.column, self.how = table, column, how
        super().__init__(
            f"{table}: {column}, by which the lake's table is {how}, was dropped or became another "
            "column, and the files that are laid out by it cannot be described without it. Readers "
            'keep the rows from before. Declare the source table anew under another "name", with '
            '"partitioning" and "sort_order" that it has columns for; "carbon sync" copies it.'
        )


class UnkeyedChangeError(LakeError):
    """The update or delete behind ``position`` does not say which row it is about."""

    def __init__(self, table: str, position: str) -> None:
        self.table, self.position = table, position
        super().__init__(
            f"{table}: the update or delete behind position {position} does not carry the declared "
            "key, because the table's replica identity was another one. The table stands before "
            "it; other tables go on. Declare the key that PostgreSQL uses, or give the table its "
            f'replica identity back; then run "carbon recopy {table}".'
        )


class SourceTableAwayError(LakeError):
    """A source table has left its declared name: it is ``now`` another one's, or was dropped."""

    retryable = True

    def __init__(self, table: str, *, now: str | None) -> None:
        self.table, self.now = table, now
        super().__init__(
            f"{table}: the source table {f'was renamed to {now}' if now else 'was dropped'} at "
            "this place of the stream, and what PostgreSQL has under the declared name now has not "
            "come through the stream yet. The table stands before it; other tables go on. Drain "
            f'the source ("carbon sync {table}", or materialize its stream asset) and run again.'
        )
