"""What a chart shows, and what it has to show.

What belongs here: asking for a chart's data as its viewers do, warming the cache, making the same
of the mart's own snapshot, and the difference. What does not: datasets and dashboards.

The data that a chart has to show is made by DuckDB: the statement that Superset says it ran is run
on the rows of the mart's snapshot, read by PyIceberg. So the numbers are made twice, by two
engines from two readers, and a cache or a Trino that lags behind shows as a difference. Numbers are
compared as doubles, for Superset has no others.

The warm-up endpoints of Superset answer 200 and leave nothing in the cache where charts have a
query context. Asking for the data with ``force`` does what they promise.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, cast

import duckdb
import pyarrow as pa

from carbon_pipelines.errors import ChartFailedError, DashboardFilesError, NotVisibleError
from carbon_pipelines.mart.project import NAMESPACE
from carbon_pipelines.serving.superset_code import CodeObject
from carbon_pipelines.serving.superset_http import SupersetApi
from carbon_pipelines.serving.superset_import import find_id

_DATA = "/api/v1/chart/data"
Row = tuple[tuple[str, Any], ...]
"""Label and value of each column, in the order of the labels; a value that is null is left out."""


@dataclass(frozen=True, slots=True)
class ChartData:
    """An answer for one chart."""

    rows: tuple[Mapping[str, Any], ...]
    statement: str
    from_cache: bool


def ask_chart(api: SupersetApi, chart: CodeObject, *, force: bool) -> ChartData:
    """A chart's data; without ``force`` what a viewer gets, be it from the cache.

    Raises:
        ChartFailedError: Superset could not make it.
        ServingError: It does not answer, or refuses us.
    """
    number = find_id(api, "dataset", str(chart.fields["dataset_uuid"]))
    if number is None:
        raise ChartFailedError(chart.title, "its dataset is not there, or not for our user")
    context = json.loads(chart.fields["query_context"])
    asked = {
        "datasource": {"id": number, "type": "table"},
        "queries": context["queries"],
        "result_format": "json",
        "result_type": "full",
        "force": force,
    }
    [answer] = api.send("POST", _DATA, asked)["result"]
    if answer.get("error"):
        raise ChartFailedError(chart.title, str(answer["error"]))
    rows = cast("list[dict[str, Any]]", answer["data"])
    return ChartData(tuple(rows), str(answer["query"]), bool(answer.get("is_cached")))


def difference(
    chart: CodeObject, shown: ChartData, mart: str, rows: Callable[[], pa.Table]
) -> str | None:
    """What a chart shows that the mart has not; None if it shows the mart.

    Raises:
        DashboardFilesError: The chart reshapes its data in a way that is not known here.
    """
    [query] = json.loads(chart.fields["query_context"])["queries"]
    statement, most = _without_limit(shown.statement)
    selected = _run(chart, query, statement, mart, rows())
    wanted, found = Counter(_shape(chart, query, selected)), Counter(map(_row, shown.rows))
    missing, foreign = wanted - found, found - wanted
    if most is not None and len(selected) > most:
        # Which of equal rows come before the limit is nobody's to say: those shown are the mart's.
        if query.get("post_processing"):
            reason = f"has more than its {most:,} rows, so that a part of its series is missing"
            raise DashboardFilesError(f'the chart "{chart.title}"', reason)
        missing = Counter[Row]() if found.total() == most else missing
    if not missing and not foreign:
        return None
    told = f"{found.total():,} rows, of which {foreign.total():,} are not the mart's"
    return f'the chart "{chart.title}" has {told}, and lacks {missing.total():,} that it has'


def require_visible(
    api: SupersetApi,
    chart: CodeObject,
    mart: str,
    snapshot_id: int,
    rows: Callable[[], pa.Table],
) -> ChartData:
    """What viewers get is the mart's; if not, computed anew once.

    Raises:
        NotVisibleError: It is still not (retryable).
        ChartFailedError, ServingError: As for `ask_chart`.
    """
    shown = ask_chart(api, chart, force=False)
    if difference(chart, shown, mart, rows) is None:
        return shown
    ask_chart(api, chart, force=True)
    shown = ask_chart(api, chart, force=False)
    told = difference(chart, shown, mart, rows)
    if told is not None:
        raise NotVisibleError(api.settings.label, snapshot_id, told)
    return shown


def _without_limit(statement: str) -> tuple[str, int | None]:
    """A statement without the limit at its end, and that."""
    found = re.search(r"\sLIMIT (\d+)\s*;?\s*$", statement)
    if found is None:
        return statement.strip().rstrip(";"), None
    return statement[: found.start()], int(found[1])


def _run(
    chart: CodeObject, query: Mapping[str, Any], statement: str, mart: str, table: pa.Table
) -> list[dict[str, Any]]:
    """The rows that a statement selects of a mart; whatever it calls the catalog is the lake.

    Superset gives a metric another name in SQL where it is called as a column is, and takes that
    back by its place.
    """
    labels = [_label(one) for one in (*query.get("columns", ()), *query.get("metrics", ()))]
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        engine.execute("ATTACH ':memory:' AS lake")
        engine.execute(f"CREATE SCHEMA lake.{NAMESPACE}")
        engine.register("rows_of_mart", table)
        engine.execute(f'CREATE TABLE lake.{NAMESPACE}."{mart}" AS SELECT * FROM rows_of_mart')
        engine.execute(f"USE lake.{NAMESPACE}")
        try:
            selected = engine.execute(statement).fetchall()
        except duckdb.Error as error:
            reason = f"runs a statement that cannot be compared with the mart: {error}"
            raise DashboardFilesError(f'the chart "{chart.title}"', reason) from error
        width = len(engine.description or ())
        if width != len(labels):
            reason = f"selects {width} columns, and asks for {len(labels)}"
            raise DashboardFilesError(f'the chart "{chart.title}"', reason)
        return [dict(zip(labels, row, strict=True)) for row in selected]


def _label(asked: Any) -> str:
    """What a column or metric of a query is called."""
    return asked if isinstance(asked, str) else str(asked["label"])


def _shape(
    chart: CodeObject, query: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> list[Row]:
    """Rows as the query's post-processing leaves them: as they are, or one series a column."""
    steps = [step for step in query.get("post_processing") or [] if step]
    names = [str(step["operation"]) for step in steps]
    if not names:
        return [_row(row) for row in rows]
    if names not in (["pivot", "rename", "flatten"], ["pivot", "flatten"]):
        reason = f"reshapes its data by {', '.join(names)}, which cannot be compared with the mart"
        raise DashboardFilesError(f'the chart "{chart.title}"', reason)
    options = steps[0]["options"]
    index, series = list(options["index"]), list(options["columns"])
    metrics = list(options["aggregates"])
    renamed = steps[1]["options"]["columns"] if names[1] == "rename" else {}
    shaped: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        found = shaped.setdefault(tuple(row[name] for name in index), {n: row[n] for n in index})
        for metric in metrics:
            head = [renamed.get(metric, metric)] if renamed.get(metric, metric) else []
            found[", ".join([*head, *(_series(row[name]) for name in series)])] = row[metric]
    return [_row(row) for row in shaped.values()]


def _series(value: Any) -> str:
    return "<NULL>" if value is None else str(value)


def _row(row: Mapping[str, Any]) -> Row:
    values = ((name, _value(value)) for name, value in row.items())
    return tuple(sorted((name, value) for name, value in values if value is not None))


def _value(value: Any) -> Any:
    """As JSON of Superset has it: doubles, and moments as milliseconds since 1970 in UTC."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.timestamp() * 1000
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp() * 1000
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float | Decimal):
        number = float(value)
        return None if math.isnan(number) else number
    return str(value)
