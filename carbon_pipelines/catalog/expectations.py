"""What is declared about the values of a table: its expectations.

What belongs here: each kind of expectation with its fields. What does not: the values that these
may take (``quality.py``), the rules between fields (``expectation_rules.py``), whether a column
exists or has a fitting type, which only the lake's schema tells (``quality/fit.py``), and the score
(``quality/score.py``).

Bounds stay text as they are written: what they mean depends on the column's type.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr

from carbon_pipelines.catalog.quality import (
    Age,
    Count,
    Dimension,
    Place,
    Severity,
    Share,
    Weight,
)
from carbon_pipelines.catalog.values import Declared, Name, Text, Word


class ExpectationSpec(Declared):
    """What every expectation has.

    ``dimension`` is that of its kind unless another is written. A failed ``critical`` one caps the
    table's score; ``weight`` counts against the others of its dimension.
    """

    usual_dimension: ClassVar[Dimension] = "validity"
    name: Word | None = None
    dimension: Dimension | None = None
    severity: Severity = "warning"
    weight: Weight = 1.0
    _place: Place = PrivateAttr(default_factory=Place)

    @property
    def kind_name(self) -> str:
        """Its ``kind`` as it is written."""
        return str(getattr(self, "kind", ""))

    @property
    def of_dimension(self) -> Dimension:
        """The dimension that it counts for."""
        return self.dimension or self.usual_dimension

    @property
    def reads(self) -> tuple[tuple[str, str], ...]:
        """Columns that it needs, each with the field that names it."""
        return ()

    @property
    def names_tables(self) -> tuple[tuple[str, str], ...]:
        """Other tables that it reads, by logical name, each with the field that names it."""
        return ()

    @property
    def label(self) -> str:
        """What it is called in scores and messages; once in a table."""
        columns = ", ".join(column for _, column in self.reads)
        return self.name or (f"{self.kind_name}({columns})" if columns else self.kind_name)

    @property
    def place(self) -> Place:
        """Where it is written."""
        return self._place

    def written_at(self, place: Place) -> Self:
        """The same, known to be written there."""
        copy = self.model_copy()
        copy._place = place
        return copy


class RowExpectation(ExpectationSpec):
    """One that each row meets or not; ``mostly`` is the share of rows that suffices."""

    mostly: Share = 1.0


class ColumnExpectation(RowExpectation):
    """One about the values of one column; a null meets it, unless it is about nulls."""

    column: Name

    @property
    def reads(self) -> tuple[tuple[str, str], ...]:
        """The column."""
        return (("column", self.column),)


class NotNull(ColumnExpectation):
    """No value is null."""

    usual_dimension: ClassVar[Dimension] = "completeness"
    kind: Literal["not_null"]


class Between(ColumnExpectation):
    """Values of a number, date, time or timestamp lie between bounds, which belong to them."""

    kind: Literal["between"]
    min: Text | None = None
    max: Text | None = None


class InSet(ColumnExpectation):
    """Values are among those listed."""

    kind: Literal["in_set"]
    values: Annotated[tuple[str, ...], Field(min_length=1)]


class Matches(ColumnExpectation):
    """Some part of a text matches a regular expression; ``^`` and ``$`` stand for its ends."""

    kind: Literal["matches"]
    pattern: Annotated[str, Field(min_length=1)]


class LengthBetween(ColumnExpectation):
    """A text has so many characters."""

    kind: Literal["length"]
    min: Count | None = None
    max: Count | None = None


class Unique(RowExpectation):
    """No two rows are equal in all of the columns; a row with a null among them equals none."""

    usual_dimension: ClassVar[Dimension] = "uniqueness"
    kind: Literal["unique"]
    columns: Annotated[tuple[Name, ...], Field(min_length=1)]

    @property
    def reads(self) -> tuple[tuple[str, str], ...]:
        """The columns."""
        return tuple(("columns", column) for column in self.columns)


class References(RowExpectation):
    """Another table of the database has a row with these values; a row with a null refers to none.

    ``to`` names the other table's columns, by default those of its key.
    """

    usual_dimension: ClassVar[Dimension] = "consistency"
    kind: Literal["references"]
    columns: Annotated[tuple[Name, ...], Field(min_length=1)]
    table: Word
    to: tuple[Name, ...] = ()

    @property
    def reads(self) -> tuple[tuple[str, str], ...]:
        """The columns of this table."""
        return tuple(("columns", column) for column in self.columns)

    @property
    def names_tables(self) -> tuple[tuple[str, str], ...]:
        """The table that is referred to."""
        return (("table", self.table),)


class Holds(RowExpectation):
    """A condition in SQL is true for each row; a row for which it is null meets it, as in a CHECK.

    ``columns`` are shown of rows that do not meet it, besides the key.
    """

    usual_dimension: ClassVar[Dimension] = "consistency"
    kind: Literal["holds"]
    condition: Text
    columns: tuple[Name, ...] = ()

    @property
    def reads(self) -> tuple[tuple[str, str], ...]:
        """The columns that are shown; those of the condition only an engine knows."""
        return tuple(("columns", column) for column in self.columns)


class Query(ExpectationSpec):
    """A query in SQL gives the rows that are wrong: none may come.

    It names this table, and those that ``tables`` lists, by their logical names.
    """

    usual_dimension: ClassVar[Dimension] = "accuracy"
    kind: Literal["query"]
    sql: Text
    tables: tuple[Word, ...] = ()

    @property
    def names_tables(self) -> tuple[tuple[str, str], ...]:
        """Those listed."""
        return tuple(("tables", table) for table in self.tables)


class RowCount(ExpectationSpec):
    """The table has so many rows."""

    usual_dimension: ClassVar[Dimension] = "completeness"
    kind: Literal["row_count"]
    min: Count | None = None
    max: Count | None = None


class Fresh(ExpectationSpec):
    """The newest value of a date or timestamp is not older than ``at_most``."""

    usual_dimension: ClassVar[Dimension] = "timeliness"
    kind: Literal["fresh"]
    column: Name
    at_most: Age

    @property
    def reads(self) -> tuple[tuple[str, str], ...]:
        """The column."""
        return (("column", self.column),)


class Columns(ExpectationSpec):
    """The lake's table has these columns with these Iceberg types, and ``more`` or no others."""

    usual_dimension: ClassVar[Dimension] = "consistency"
    kind: Literal["columns"]
    types: Annotated[Mapping[Name, Text], Field(min_length=1)]
    more: Literal["allowed", "refused"] = "allowed"


Expectation = Annotated[
    NotNull
    | Between
    | InSet
    | Matches
    | LengthBetween
    | Unique
    | References
    | Holds
    | Query
    | RowCount
    | Fresh
    | Columns,
    Field(discriminator="kind"),
]
KINDS: Mapping[str, type[ExpectationSpec]] = {
    "not_null": NotNull,
    "between": Between,
    "in_set": InSet,
    "matches": Matches,
    "length": LengthBetween,
    "unique": Unique,
    "references": References,
    "holds": Holds,
    "query": Query,
    "row_count": RowCount,
    "fresh": Fresh,
    "columns": Columns,
}
