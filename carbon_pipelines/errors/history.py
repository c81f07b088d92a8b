"""Errors of tables that keep the history of their rows, and of changed modes.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from carbon_pipelines.errors.lake import LakeError

_ANOTHER_NAME = (
    "To go on from the source as it is now, begin a new history beside it: declare the table under "
    'another "name" and run "carbon sync" for that; what was kept stays readable under the old one.'
)


class HistoryKeptError(LakeError):
    """A table with ``mode: history`` would have to be copied anew, which would drop its history."""

    def __init__(self, table: str, why: str) -> None:
        self.table, self.why = table, why
        super().__init__(
            f"{table}: {why}. A copy anew would drop the history that the lake's table keeps, so "
            "none is made. The table stands where it did, with all that it has; other tables go "
            f"on. {_ANOTHER_NAME}"
        )


class HistoryColumnError(LakeError):
    """A column of the source has the name of one that ``mode: history`` adds."""

    def __init__(self, table: str, column: str) -> None:
        self.table, self.column = table, column
        super().__init__(
            f'{table}: the source has a column {column}, which is the name of one that "mode: '
            'history" adds. Nothing under that name was copied or merged; the table stands before '
            'it and other tables go on. Leave the column out with "protect: drop" in the '
            f'declaration, start capture again, and run "carbon release {table}" if the table is '
            "parked; before its first copy, another name in the source helps too."
        )


class ModeChangedError(LakeError):
    """A table is declared with another mode than its rows were written with."""

    def __init__(self, table: str, *, held: str, declared: str) -> None:
        self.table, self.held, self.declared = table, held, declared
        if held == "history":
            remedy = _ANOTHER_NAME
        else:
            remedy = (
                f'Run "carbon recopy {table}" to replace its rows by a copy of the source as it is '
                "now, which begins the new mode."
            )
        super().__init__(
            f'{table} is declared with "mode: {declared}", but the lake\'s table was written with '
            f'"mode: {held}", and its rows mean another thing. Nothing was merged and readers see '
            f'what they saw. Put "mode: {held}" back. {remedy}'
        )
