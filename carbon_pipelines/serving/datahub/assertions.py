"""What is expected of a table's rows, as assertions of DataHub, and what came of it.

What belongs here: an assertion for the score, for each dimension of it and for each declared
expectation, and their results at each score that was kept. What does not: making scores
(``quality/``).

A result has the time of its score. Those of one score are a series that the result of the whole
score closes. What an expectation says of a protected column is not told: only that it is met or
not.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from carbon_pipelines.catalog.expectations import ExpectationSpec
from carbon_pipelines.catalog.quality import DIMENSIONS, Dimension
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.quality.score import shown
from carbon_pipelines.serving.datahub.datasets import belonging
from carbon_pipelines.serving.datahub.facts import KeptScore, TableFacts, Violation
from carbon_pipelines.serving.datahub.proposal import TIME, Aspect, Proposal
from carbon_pipelines.serving.datahub.urns import assertion_urn, field_urn, platform_urn

SCORE = "score"
WHOLE: Aspect = {"partition": "FULL_TABLE_SNAPSHOT", "type": "FULL_TABLE"}
"""What part of a dataset an event is about: all of it."""
_SHAPES: Mapping[str, tuple[str, str, str]] = {
    # kind: scope, aggregation, operator
    "not_null": ("DATASET_COLUMN", "IDENTITY", "NOT_NULL"),
    "between": ("DATASET_COLUMN", "IDENTITY", "BETWEEN"),
    "in_set": ("DATASET_COLUMN", "IDENTITY", "IN"),
    "matches": ("DATASET_COLUMN", "IDENTITY", "REGEX_MATCH"),
    "length": ("DATASET_COLUMN", "_NATIVE_", "BETWEEN"),
    "unique": ("DATASET_COLUMN", "UNIQUE_PROPORTION", "EQUAL_TO"),
    "row_count": ("DATASET_ROWS", "ROW_COUNT", "BETWEEN"),
    "columns": ("DATASET_SCHEMA", "COLUMNS", "CONTAIN"),
}
_OTHER = ("DATASET_ROWS", "_NATIVE_", "_NATIVE_")


def assertion_proposals(dataset: str, of: TableFacts) -> Iterator[Proposal]:
    """Assertions of a table of the lake, then their results, oldest first."""
    table = of.table
    if not table.expectations:
        return
    for dimension in _dimensions(table):
        yield from _assertion(dataset, table, dimension, _of_dimension(dataset, table, dimension))
    for expectation in table.expectations:
        yield from _assertion(
            dataset, table, expectation.label, _of_expectation(dataset, expectation)
        )
    yield from _assertion(dataset, table, SCORE, _of_score(dataset, table))
    for score in of.scores:
        yield from _results(dataset, table, score)


def _dimensions(table: TableSpec) -> tuple[Dimension, ...]:
    used = {one.of_dimension for one in table.expectations}
    return tuple(one for one in DIMENSIONS if one in used)


def _assertion(dataset: str, table: TableSpec, name: str, info: Aspect) -> Iterator[Proposal]:
    urn = assertion_urn(dataset, name)
    yield Proposal("assertion", urn, "assertionInfo", info)
    platform = {"platform": platform_urn("iceberg")}
    yield Proposal("assertion", urn, "dataPlatformInstance", platform)
    for one in belonging("assertion", urn, owner=table.owner, domain=None):
        if one.aspect in {"status", "ownership"}:
            yield one


def _of_score(dataset: str, table: TableSpec) -> Aspect:
    threshold = f"{table.quality.threshold:g}"
    return _custom(
        dataset,
        "Quality score",
        f"The score of {table.label}, 0 to 100, is at least {threshold}, and nothing critical "
        "failed.",
        {"threshold": threshold},
    )


def _of_dimension(dataset: str, table: TableSpec, dimension: Dimension) -> Aspect:
    threshold = f"{table.quality.threshold:g}"
    weight = f"{table.quality.weights.get(dimension, 1.0):g}"
    return _custom(
        dataset,
        "Quality dimension",
        f"The {dimension} of {table.label}, 0 to 100, is at least {threshold}.",
        {"dimension": dimension, "threshold": threshold, "weight": weight},
    )


def _custom(dataset: str, kind: str, description: str, properties: Mapping[str, str]) -> Aspect:
    return {
        "customProperties": dict(properties),
        "type": "CUSTOM",
        "customAssertion": {"type": kind, "entity": dataset},
        "source": {"type": "EXTERNAL"},
        "description": description,
    }


def _of_expectation(dataset: str, expectation: ExpectationSpec) -> Aspect:
    scope, aggregation, operator = _SHAPES.get(expectation.kind_name, _OTHER)
    fields = [field_urn(dataset, column) for _, column in expectation.reads]
    about = expectation.model_dump(mode="json", exclude_none=True)
    return {
        "customProperties": {
            "dimension": expectation.of_dimension,
            "severity": expectation.severity,
            "weight": f"{expectation.weight:g}",
        },
        "type": "DATASET",
        "datasetAssertion": {
            "dataset": dataset,
            "scope": scope,
            "fields": fields or None,
            "aggregation": aggregation,
            "operator": operator,
            "parameters": _parameters(about),
            "nativeType": expectation.kind_name,
            "nativeParameters": {
                name: value if isinstance(value, str) else _plain(value)
                for name, value in about.items()
                if name not in {"kind", "severity", "weight", "dimension", "name"}
            },
            "logic": about.get("sql") or about.get("condition"),
        },
        "source": {"type": "EXTERNAL"},
        "description": expectation.label,
    }


def _parameters(about: Mapping[str, Any]) -> Aspect | None:
    """Bounds as DataHub shows them."""
    found: dict[str, Any] = {}
    for name, field in (("minValue", "min"), ("maxValue", "max")):
        if field in about:
            found[name] = {"value": str(about[field]), "type": "NUMBER"}
    if "values" in about:
        found["value"] = {"value": _plain(about["values"]), "type": "SET"}
    if "pattern" in about:
        found["value"] = {"value": str(about["pattern"]), "type": "STRING"}
    return found or None


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _results(dataset: str, table: TableSpec, score: KeptScore) -> Iterator[Proposal]:
    urn = assertion_urn(dataset, SCORE)
    if score.current:
        violations = {one.label: one for one in score.violations}
        for expectation in table.expectations:
            found = violations.get(expectation.label)
            result = _result_of(expectation, found, score, table)
            yield _event(dataset, expectation.label, score, result, urn)
    for dimension in _dimensions(table):
        value = score.dimensions.get(dimension)
        result = _number(value, score, passes=value is not None and value >= score.threshold)
        yield _event(dataset, dimension, score, result, urn)
    yield Proposal("dataset", dataset, "datasetProfile", _profile(score), "event", urn)
    whole = _number(score.score, score, passes=score.passes)
    yield _event(dataset, SCORE, score, whole, urn, closes=True)


def _event(
    dataset: str, name: str, score: KeptScore, result: Aspect, series: str, *, closes: bool = False
) -> Proposal:
    urn = assertion_urn(dataset, name)
    event: Aspect = {
        TIME: score.at,
        "runId": score.score_id,
        "asserteeUrn": dataset,
        "assertionUrn": urn,
        "status": "COMPLETE",
        "result": result,
        "runtimeContext": {"snapshot_id": str(score.snapshot_id), "position": score.position},
        "partitionSpec": WHOLE,
    }
    return Proposal("assertion", urn, "assertionRunEvent", event, "event", series, closes=closes)


def _result_of(
    expectation: ExpectationSpec, found: Violation | None, score: KeptScore, table: TableSpec
) -> Aspect:
    if found is None:
        return {"type": "SUCCESS", "rowCount": score.rows}
    guarded = any(column in table.protected_columns for _, column in expectation.reads)
    # What SQL of somebody's own says of a column is not known to be free of it.
    guarded |= bool(table.protected_columns) and not expectation.reads
    told = None if guarded else {"reason": found.reason}
    if found.status == "unknown":
        return {"type": "ERROR", "nativeResults": told, "error": {"type": "INSUFFICIENT_DATA"}}
    return {
        "type": "FAILURE",
        "rowCount": score.rows,
        "unexpectedCount": found.unexpected_rows,
        "nativeResults": told,
    }


def _number(value: float | None, score: KeptScore, *, passes: bool) -> Aspect:
    told = {"score": shown(value), "threshold": f"{score.threshold:g}"}
    if value is None:
        return {"type": "ERROR", "nativeResults": told, "error": {"type": "INSUFFICIENT_DATA"}}
    return {
        "type": "SUCCESS" if passes else "FAILURE",
        "rowCount": score.rows,
        "actualAggValue": value,
        "nativeResults": told,
    }


def _profile(score: KeptScore) -> Aspect:
    return {TIME: score.at, "rowCount": score.rows, "partitionSpec": WHOLE}
