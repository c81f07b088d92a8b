"""Writing the first declaration of a table from what is known about it.

What belongs here: which fields a new declaration gets, its text, and the files to write. What does
not: asking PostgreSQL (``cli/introspection.py``); a proposal is made from facts alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from carbon_pipelines.catalog.document import parse_document
from carbon_pipelines.catalog.load import DATABASE_FILE, declared_table, load_database
from carbon_pipelines.catalog.table import default_name
from carbon_pipelines.errors import DeclarationExistsError

_LARGEST_PRECISION = 38
_SPARE_BEFORE, _SPARE_AFTER = 4, 2  # digits a proposed decimal has beyond what was seen
_PLAIN = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_:/.-]*[A-Za-z0-9_])?")
_PERSONAL = re.compile(
    r"e?mail|phone|mobile|(first|last|full|sur|given|family)_?name|birth|address|street|iban"
    r"|passport|tax_?id|vat_?id|ssn|social_security|national_id|password|secret|token",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class NumericDigits:
    """The widest values of an unbounded numeric column.

    ``before`` and ``after`` count digits around the point; ``finite_rows`` is how many values that
    is known of, ``other_rows`` how many are NaN or infinite, which no decimal can hold.
    """

    before: int
    after: int
    finite_rows: int
    other_rows: int


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column as PostgreSQL describes it; ``digits`` only for an unbounded numeric."""

    name: str
    type: str
    nullable: bool
    key_position: int | None
    digits: NumericDigits | None = None


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One table as PostgreSQL describes it; ``comment`` is its COMMENT, ``""`` if none."""

    schema: str
    name: str
    comment: str
    columns: tuple[ColumnFacts, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """Key columns in key order."""
        keyed = [(c.key_position, c.name) for c in self.columns if c.key_position is not None]
        return tuple(name for _, name in sorted(keyed))


@dataclass(frozen=True, slots=True)
class Promise:
    """What only a person can say about a table."""

    owner: str
    freshness: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class DeclarationPlan:
    """Files to write, in order; none of them exists."""

    files: tuple[tuple[Path, str], ...]


def place_declaration(root: Path, database: str, table: tuple[str, str], name: str | None) -> Path:
    """The file that would declare ``table`` (schema and name); cheap enough to ask first.

    Raises:
        DeclarationExistsError: That file exists, or another file declares the same source table.
        DeclarationError: What is already declared for the database holds mistakes.
    """
    directory = root / database
    if (directory / DATABASE_FILE).exists():
        for declared in load_database(directory).tables:
            if (declared.source_schema, declared.source_table) == table:
                raise DeclarationExistsError(directory / f"{declared.name}.yaml")
    path = directory / f"{name or default_name(*table)}.yaml"
    if path.exists():
        raise DeclarationExistsError(path)
    return path


def plan_declaration(
    root: Path, database: str, table: TableFacts, promise: Promise
) -> DeclarationPlan:
    """Decide which files declare ``table``.

    Raises:
        DeclarationExistsError: As ``place_declaration``.
        DeclarationError: As ``place_declaration``; also if the promise is none (an owner or a
            freshness that no declaration may have).
    """
    path = place_declaration(root, database, (table.schema, table.name), promise.name)
    text = "\n".join(_lines(table, promise)) + "\n"
    declared_table(parse_document(path, text), owner=promise.owner)
    of_database = path.parent / DATABASE_FILE
    files = [(path, text)]
    if not of_database.exists():
        files.insert(0, (of_database, f"owner: {scalar(promise.owner)}\n"))
    return DeclarationPlan(tuple(files))


def apply_declaration(plan: DeclarationPlan) -> None:
    """Write the planned files.

    Raises:
        DeclarationExistsError: One of them has appeared since; those before it were written.
    """
    for path, text in plan.files:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError as error:
            raise DeclarationExistsError(path) from error


def propose_decimal(digits: NumericDigits) -> str | None:
    """A decimal for an unbounded numeric, with room to grow; None where none is safe.

    None is right when nothing was seen, when a value is NaN or infinite, and when 38 digits cannot
    hold what was seen. The column is then a string in the lake.
    """
    if digits.finite_rows == 0 or digits.other_rows > 0:
        return None
    if digits.before + digits.after > _LARGEST_PRECISION:
        return None
    scale = digits.after + _SPARE_AFTER
    precision = max(digits.before + _SPARE_BEFORE + scale, 18)
    if precision > _LARGEST_PRECISION:
        precision, scale = _LARGEST_PRECISION, digits.after
    return f"decimal({precision},{scale})"


def _lines(table: TableFacts, promise: Promise) -> Iterator[str]:
    """The text of a table's file."""
    if promise.name is not None:
        yield f"name: {scalar(promise.name)}"
    yield f"source_schema: {scalar(table.schema)}"
    yield f"source_table: {scalar(table.name)}"
    if table.key:
        yield f"key: [{', '.join(scalar(name) for name in table.key)}]"
    else:
        yield "# PostgreSQL names no key for it, so only its inserts and truncates are seen."
        yield "# To mirror it instead, add a primary key there and declare it here: key: [...];"
        yield "# or ALTER TABLE ... REPLICA IDENTITY FULL there, and declare identity: full here."
        yield "mode: append"
    yield f"owner: {scalar(promise.owner)}"
    yield f"freshness: {scalar(promise.freshness)}"
    comment = " ".join(table.comment.split())
    description = comment or f"{table.schema}.{table.name} as its application writes it."
    yield f"description: {scalar(description)}"
    yield ""
    yield "# Every column is captured; one is listed below only to say more about it:"
    yield "#   classification: public | internal | confidential | restricted"
    yield "#   protect: drop               never leaves the source"
    yield '#   type: "decimal(18,4)"       for a numeric without precision; else it is a string'
    yield "# Columns in the source today:"
    for column in table.columns:
        yield f"#   {printable(column.name)}: {printable(column.type)}{_hint(column)}"
    typed = [
        (column.name, propose_decimal(column.digits)) for column in table.columns if column.digits
    ]
    decimals = [(name, decimal) for name, decimal in typed if decimal is not None]
    if decimals:
        yield "columns:"
    for name, decimal in decimals:
        yield f"  {scalar(name)}:"
        yield f'    type: "{decimal}"'


def _hint(column: ColumnFacts) -> str:
    """What to think about for one column, after its type."""
    hints = [] if column.nullable else ["not null"]
    if column.digits is not None:
        hints.append(_digits_hint(column.digits))
    if column.key_position is None and _PERSONAL.search(column.name):
        hints.append("may be personal or secret: classify it, or protect: drop")
    return f"  ({'; '.join(hints)})" if hints else ""


def _digits_hint(digits: NumericDigits) -> str:
    if digits.other_rows:
        return f"{digits.other_rows} values are NaN or infinite, so it stays a string"
    if not digits.finite_rows:
        return "no value yet, so it stays a string"
    seen = f"widest of {digits.finite_rows} values: {digits.before} digits before the point, "
    return f"{seen}{digits.after} after"


def scalar(text: str) -> str:
    """One YAML scalar: plain where no reader could misread it, else in double quotes."""
    return text if _PLAIN.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    """A YAML 1.1 double-quoted scalar (section 5.7); what no editor shows is escaped."""
    escaped = "".join(
        f"\\{char}" if char in '"\\' else char if char.isprintable() else f"\\U{ord(char):08x}"
        for char in text
    )
    return f'"{escaped}"'


def printable(text: str) -> str:
    """A name inside a comment, which ends at the first line break."""
    return text if text.isprintable() else _quoted(text)
