"""Writing a table's first expectations from what its source promises.

What belongs here: which expectations follow from which constraint, their text, and what cannot be
one. What does not: asking PostgreSQL (``source/constraints.py``); a proposal is made from facts
alone.

Nothing is added by itself: a command prints a proposal, and writes it only when told to, into a
declaration that has no expectations yet. Ranges that were seen are no promise of the source: they
are proposed as comments, for somebody to decide.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from carbon_pipelines.catalog.document import load_document, parse_document
from carbon_pipelines.catalog.load import declared_table
from carbon_pipelines.catalog.propose import printable, scalar
from carbon_pipelines.catalog.table import TableSpec, default_name
from carbon_pipelines.errors import DeclarationExistsError

_TEXT = r"'(?:[^']|'')*'"
_TYPE = r"(?:\"[^\"]+\"|[a-z_][a-z0-9_]*)"
_CAST = re.compile(
    rf"({_TEXT})|::{_TYPE}(?:\.{_TYPE})?(?: varying| precision| with(?:out)? time zone)?"
    r"(?:\([0-9, ]+\))?(?:\[\])?"
)
_ANY = re.compile(r"= ANY \((\()?ARRAY\[([^\]]*)\](?(1)\))\)")
_TOKEN = re.compile(
    rf"\s+|{_TEXT}|\"(?P<quoted>(?:[^\"]|\"\")+)\"|[0-9]+(?:\.[0-9]+)?"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|<=|>=|<>|[-=<>(),+*]"
)
_WORDS = frozenset(
    [
        "and",
        "or",
        "not",
        "is",
        "null",
        "true",
        "false",
        "in",
        "between",
        "length",
        "char_length",
        "abs",
        "lower",
        "upper",
        "coalesce",
    ]
)


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that refer to ``to_columns`` of a table of the source, schema and name."""

    columns: tuple[str, ...]
    to: tuple[str, str]
    to_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Promised:
    """What is known of one table's rows.

    Attributes:
        not_null: Columns.
        labels: Of columns whose type is an enum, by column.
        unique: Lists of columns.
        checks: Name and condition in PostgreSQL's words.
        ranges: Column, least and greatest value seen.
    """

    not_null: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    unique: tuple[tuple[str, ...], ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    checks: tuple[tuple[str, str], ...] = ()
    ranges: tuple[tuple[str, str, str], ...] = ()


def propose_expectations(
    table: TableSpec, promised: Promised, columns: Sequence[str], tables: Collection[TableSpec]
) -> str:
    """The text of an ``expectations`` section; "" if the source promises nothing.

    Args:
        table: Whose declaration it is for.
        promised: What its source promises.
        columns: Those that reach the lake.
        tables: All that are declared for the database, for foreign keys.
    """
    lines = list(_lines(table, promised, frozenset(columns), tables))
    if not any(line.startswith("  -") for line in lines):
        return ""
    return "\n".join(["expectations:", *lines]) + "\n"


def apply_proposal(path: Path, text: str, owner: str) -> None:
    """Write a section at the end of a declaration.

    Raises:
        DeclarationExistsError: It has expectations already.
        DeclarationError: With the section, the file would hold mistakes; nothing was written.
    """
    if "expectations" in load_document(path).fields:
        raise DeclarationExistsError(path)
    written = path.read_text("utf-8")
    whole = written if written.endswith("\n") else f"{written}\n"
    declared_table(parse_document(path, whole + text), owner=owner)
    path.write_text(whole + text, encoding="utf-8")


def _lines(
    table: TableSpec, promised: Promised, columns: frozenset[str], tables: Collection[TableSpec]
) -> Iterator[str]:
    """Constraints first, what cannot be said in comments, then ranges."""
    for name in promised.not_null:
        if name in columns and name not in table.key:
            yield _entry(kind="not_null", column=name, severity="critical")
    for names in promised.unique:
        if columns.issuperset(names):
            yield _entry(kind="unique", columns=names, severity="critical")
    for key in promised.foreign_keys:
        if columns.issuperset(key.columns):
            yield _reference(key, tables)
    for name, labels in promised.labels.items():
        if name in columns:
            yield _entry(kind="in_set", column=name, values=labels)
    for name, condition in promised.checks:
        yield _check(name, condition, columns)
    for name, least, greatest in promised.ranges:
        if name in columns and name not in table.key and name not in table.protected_columns:
            seen = _entry(kind="between", column=name, min=least, max=greatest)
            yield f"# seen, and no promise of the source: {seen.strip()}"


def _reference(key: ForeignKey, tables: Collection[TableSpec]) -> str:
    for table in tables:
        if (table.source_schema, table.source_table) == key.to:
            if key.to_columns == table.key:
                return _entry(kind="references", columns=key.columns, table=table.name)
            return _entry(
                kind="references", columns=key.columns, table=table.name, to=key.to_columns
            )
    names = ", ".join(key.columns)
    return printable(f"# {names} refers to {'.'.join(key.to)}, which is not declared")


def _check(name: str, condition: str, columns: frozenset[str]) -> str:
    translated = translate_check(condition, columns)
    if translated is None:
        return f"# no expectation can say CHECK {printable(name)}: {printable(condition)}"
    return _entry(kind="holds", name=default_name("public", name), condition=translated)


def translate_check(condition: str, columns: frozenset[str]) -> str | None:
    """A CHECK of PostgreSQL as a condition that other engines read alike; None if it is none.

    Comparisons, AND, OR, NOT, lists, sums, products and a few functions mean the same everywhere.
    Casts are left out: the lake's types are the source's. Anything else, like a regular expression
    or a division, is not translated.
    """
    text = _ANY.sub(r"IN (\2)", _CAST.sub(lambda found: found[1] or "", condition))
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return None
        word, quoted = token["word"], token["quoted"]
        if word is not None and word not in columns and word.lower() not in _WORDS:
            return None
        if quoted is not None and quoted.replace('""', '"') not in columns:
            return None
        at = token.end()
    return text


def _entry(**fields: str | Sequence[str]) -> str:
    """One expectation on a line of its own."""
    spelled = [
        f"{name}: {scalar(value)}"
        if isinstance(value, str)
        else f"{name}: [{', '.join(map(scalar, value))}]"
        for name, value in fields.items()
    ]
    return f"  - {{{', '.join(spelled)}}}"
