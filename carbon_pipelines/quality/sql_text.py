"""Pieces of SQL for expectations: names, literals and what engines spell differently.

What belongs here: text. What does not: which checks are made of it (``checks.py``) and running it
(``engine_pass.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one engine spells what differs; ``{0}``, ``{1}`` are the arguments."""

    name: str
    is_nan: str
    matches: str
    text: str
    """A value as text, a hundred characters of it."""
    file: str
    """The column that has the data file of a row."""

    def nan(self, value: str) -> str:
        """Whether a float is NaN."""
        return self.is_nan.format(value)

    def matching(self, value: str, pattern: str) -> str:
        """Whether some part of a text matches a regular expression."""
        return self.matches.format(value, literal(pattern))

    def shown(self, value: str) -> str:
        """A value as people are shown it."""
        return self.text.format(value)


FILE_COLUMN = "carbon_file"
"""What our relations in DuckDB call it."""
DUCKDB = Dialect(
    "duckdb",
    is_nan="isnan({0})",
    matches="regexp_matches({0}, {1})",
    text="substr(CAST({0} AS VARCHAR), 1, 100)",
    file=FILE_COLUMN,
)
TRINO = Dialect(
    "trino",
    is_nan="is_nan({0})",
    matches="regexp_like({0}, {1})",
    text="substr(CAST({0} AS VARCHAR), 1, 100)",
    file='"$path"',
)


def quoted(name: str) -> str:
    """A name as SQL spells it, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Sequence[str], prefix: str = "") -> str:
    """Names, separated by commas; ``prefix`` is put before each."""
    return ", ".join(prefix + quoted(name) for name in names)


def literal(text: str) -> str:
    """A text as SQL spells it."""
    return "'" + text.replace("'", "''") + "'"


def typed(text: str, kind: str) -> str:
    """A value of an SQL type, written as text."""
    return f"CAST({literal(text)} AS {kind})"
