"""Great Expectations as the counter of the standard kinds, on the engine that scores.

What belongs here: our expectations as its own, running them as one suite, and their counts. What
does not: what counts mean, points and samples, which are the same whoever counted; so no value of a
protected column leaves through it.

It counts what it counts exactly on DuckDB. It does not know regular expressions there, compares
decimals as floats, and orders NaN as the engine does: those are left to the common pass, and so is
an expectation that it cannot run. It closes a connection before it reads an answer, which DuckDB's
cursors do not outlive: the connection that it gets does not end transactions, for it only reads.

Importing it takes 5 CPU-seconds, so nothing does unless it is asked for.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import duckdb
from pyiceberg.types import DateType, DecimalType, IcebergType, IntegerType, LongType, StringType
from sqlalchemy.pool import StaticPool

from carbon_pipelines.catalog.expectations import (
    Between,
    ExpectationSpec,
    InSet,
    LengthBetween,
    NotNull,
    RowCount,
    RowExpectation,
    Unique,
)
from carbon_pipelines.errors import RunnerMissingError
from carbon_pipelines.quality.checks import Surroundings
from carbon_pipelines.quality.sql_text import quoted

RELATION = "carbon_gx"
_EXACT_DIGITS = 15
"""A float holds so many decimal digits."""
_EXACT_INTEGER = 2**53


@dataclass(frozen=True, slots=True)
class GxRun:
    """What one run of Great Expectations gave.

    Attributes:
        counts: Rows that fail, by the label of our expectation.
        suite: Its expectation suite, as plain values: other tools can load it.
    """

    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    suite: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class _Translated:
    """One of our expectations in its words: the name of its class, and arguments."""

    label: str
    kind: str
    arguments: Mapping[str, Any]


def run_great_expectations(
    engine: duckdb.DuckDBPyConnection, around: Surroundings, expectations: Sequence[ExpectationSpec]
) -> GxRun:
    """Count what Great Expectations counts exactly; the others are in no count.

    Raises:
        RunnerMissingError: The package is not installed.
    """
    names = {name: f"c{number}" for number, name in enumerate(around.columns.types)}
    translated = [
        found for one in expectations if (found := _translate(one, around, names)) is not None
    ]
    if not translated:
        return GxRun()
    columns = ", ".join(f"{quoted(name)} AS {safe}" for name, safe in names.items())
    schema = str((engine.execute("SELECT current_schema()").fetchone() or ("main",))[0])
    engine.execute(f"CREATE OR REPLACE VIEW {RELATION} AS SELECT {columns} FROM {around.relation}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its libraries about each other
        results, suite = _validate(engine, schema, translated)
    counts = {
        one.label: count
        for one, result in zip(translated, results, strict=True)
        if (count := _count(result)) is not None
    }
    return GxRun(counts, suite)


def _validate(
    engine: duckdb.DuckDBPyConnection, schema: str, translated: Sequence[_Translated]
) -> tuple[list[Any], Mapping[str, Any]]:
    """Run all as one suite; a result for each, in order."""
    try:
        gx, classes, bars, wrapping = (
            import_module(name)
            for name in (
                "great_expectations",
                "great_expectations.expectations",
                "great_expectations.data_context.types.base",
                "duckdb_engine",
            )
        )
    except ImportError as error:
        raise RunnerMissingError("great_expectations", str(error)) from error
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = bars.ProgressBarsConfig(globally=False)
    source = context.data_sources.add_sql(
        "lake",
        connection_string="duckdb:///:memory:",
        create_temp_table=False,
        kwargs={
            "poolclass": StaticPool,
            "pool_reset_on_return": None,
            "creator": lambda: _ReadingConnection(wrapping.ConnectionWrapper(engine)),
        },
    )
    asset = source.add_table_asset("table", table_name=RELATION, schema_name=schema)
    batch = asset.add_batch_definition_whole_table("whole").get_batch()
    suite = context.suites.add(
        gx.ExpectationSuite(
            name="declared",
            expectations=[
                getattr(classes, one.kind)(**one.arguments, meta={"label": one.label})
                for one in translated
            ],
        )
    )
    found = batch.validate(suite, result_format={"result_format": "BASIC"})
    by_label = {one.expectation_config.meta["label"]: one for one in found.results}
    return [by_label[one.label] for one in translated], suite.to_json_dict()


class _ReadingConnection:
    """A connection whose answers outlive SQLAlchemy's ends of transactions: it only reads."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def begin(self) -> None:
        """Nothing: every statement stands for itself."""

    def commit(self) -> None:
        """Nothing."""

    def rollback(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing: the engine is its owner's."""


def _count(result: Any) -> int | None:
    """The rows that fail; None if it could not be run."""
    count = result.result.get("unexpected_count")
    if count is None and "observed_value" in result.result:
        return 0
    return count


def _translate(
    one: ExpectationSpec, around: Surroundings, names: Mapping[str, str]
) -> _Translated | None:
    """Our expectation in its words; None if it would not count exactly."""
    if isinstance(one, RowCount):
        arguments = {"min_value": one.min, "max_value": one.max}
        return _Translated(one.label, "ExpectTableRowCountToBeBetween", arguments)
    if not isinstance(one, RowExpectation):
        return None
    common = {"mostly": one.mostly}
    if isinstance(one, Unique):
        return _unique(one, names)
    if isinstance(one, NotNull):
        arguments = {"column": names[one.column], **common}
        return _Translated(one.label, "ExpectColumnValuesToNotBeNull", arguments)
    if isinstance(one, LengthBetween):
        arguments = {"column": names[one.column], "min_value": one.min, "max_value": one.max}
        return _Translated(
            one.label, "ExpectColumnValueLengthsToBeBetween", {**arguments, **common}
        )
    if isinstance(one, Between):
        kind = around.type_of(one.column)
        bounds = [_bound(text, kind) for text in (one.min, one.max) if text is not None]
        if any(bound is None for bound in bounds):
            return None
        low = _bound(one.min, kind) if one.min is not None else None
        high = _bound(one.max, kind) if one.max is not None else None
        arguments = {"column": names[one.column], "min_value": low, "max_value": high, **common}
        return _Translated(one.label, "ExpectColumnValuesToBeBetween", arguments)
    if isinstance(one, InSet):
        return _in_set(one, around.type_of(one.column), names)
    return None


def _unique(one: Unique, names: Mapping[str, str]) -> _Translated:
    columns = [names[name] for name in one.columns]
    if len(columns) == 1:
        arguments: dict[str, Any] = {"column": columns[0], "mostly": one.mostly}
        return _Translated(one.label, "ExpectColumnValuesToBeUnique", arguments)
    arguments = {
        "column_list": columns,
        "ignore_row_if": "any_value_is_missing",
        "mostly": one.mostly,
    }
    return _Translated(one.label, "ExpectCompoundColumnsToBeUnique", arguments)


def _in_set(one: InSet, kind: IcebergType, names: Mapping[str, str]) -> _Translated | None:
    values: list[Any] = list(one.values)
    if isinstance(kind, IntegerType | LongType):
        values = [int(value) for value in one.values]
    elif not isinstance(kind, StringType):
        return None
    arguments = {"column": names[one.column], "value_set": values, "mostly": one.mostly}
    return _Translated(one.label, "ExpectColumnValuesToBeInSet", arguments)


def _bound(text: str, kind: IcebergType) -> Any:
    """A bound that it compares exactly; None if there is none."""
    if isinstance(kind, IntegerType | LongType):
        number = int(text) if text.lstrip("-").isdigit() else None
        return number if number is not None and abs(number) <= _EXACT_INTEGER else None
    if isinstance(kind, DecimalType):
        short = kind.precision <= _EXACT_DIGITS and len(text.strip("-0.")) <= _EXACT_DIGITS
        return float(text) if short else None
    if isinstance(kind, DateType):
        return datetime.fromisoformat(text).replace(tzinfo=UTC).date()
    return None
