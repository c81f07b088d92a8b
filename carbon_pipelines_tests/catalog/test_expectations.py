from pathlib import Path

import pytest

from carbon_pipelines.catalog.expectations import (
    Between,
    Fresh,
    Holds,
    NotNull,
    References,
)
from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.catalog.quality import QualitySpec
from carbon_pipelines.errors import DeclarationError
from carbon_pipelines_tests.catalog.declarations import declare, minimal


def declared(root: Path, lines: str) -> Path:
    """A catalog of two tables, ``t`` with ``lines`` after the four of a minimal declaration."""
    return declare(root, "market", t=minimal("t") + lines, plant=minimal("plant"))


def problems(root: Path, lines: str) -> list[tuple[int, str]]:
    with pytest.raises(DeclarationError) as error:
        load_catalog(declared(root, lines))
    assert {path.name for path, _, _ in error.value.problems} == {"t.yaml"}
    return [(line, reason) for _, line, reason in error.value.problems]


def test_expectations_are_read_with_their_lines(tmp_path: Path) -> None:
    text = """\
expectations:
  - {kind: not_null, column: price, severity: critical}
  - kind: between
    column: price
    min: 0
    mostly: 0.999
    weight: 3
  - {kind: references, columns: [plant_id], table: plant}
  - {kind: holds, name: in_order, condition: bid <= ask, dimension: accuracy}
  - {kind: fresh, column: at, at_most: 2h}
quality:
  threshold: 97.5
  weights: {completeness: 2}
"""
    (_, table) = load_catalog(declared(tmp_path, text)).tables

    between, *_ = [one for one in table.expectations if isinstance(one, Between)]
    assert [type(one) for one in table.expectations] == [
        NotNull,
        Between,
        References,
        Holds,
        Fresh,
    ]
    assert (between.min, between.max, between.mostly, between.weight) == ("0", None, 0.999, 3.0)
    assert (between.place.path.name, between.place.line, between.place.line_of("min")) == (
        "t.yaml",
        7,
        9,
    )
    assert [one.of_dimension for one in table.expectations] == [
        "completeness",
        "validity",
        "consistency",
        "accuracy",
        "timeliness",
    ]
    assert table.quality == QualitySpec(threshold=97.5, weights={"completeness": 2.0})


def test_two_expectations_are_equal_wherever_they_are_written(tmp_path: Path) -> None:
    text = "expectations:\n  - {kind: not_null, column: price}\n"
    (_, table) = load_catalog(declared(tmp_path, text)).tables

    assert table.expectations == (NotNull(kind="not_null", column="price"),)


@pytest.mark.parametrize(
    ("field", "line", "reason"),
    [
        (
            "- {kind: notnull, column: a}",
            6,
            'expectations[0].kind: "notnull" is no kind of expectation; did you mean "not_null"?',
        ),
        ("- {column: a}", 6, '"expectations[0].kind" is missing; it is one of not_null, between,'),
        (
            "- kind: not_null\n    colunm: a",
            6,
            '"expectations[0].column" is missing; every declaration of this kind has it',
        ),
        (
            "- kind: not_null\n    column: a\n    severty: info",
            8,
            '"severty" is not a field; did you mean "severity"?',
        ),
        (
            "- kind: not_null\n    column: a\n    severity: fatal",
            8,
            "expectations[0].severity: must be 'info', 'warning' or 'critical', not \"fatal\"",
        ),
        (
            "- kind: not_null\n    column: a\n    dimension: beauty",
            8,
            "expectations[0].dimension: must be 'completeness', 'uniqueness',",
        ),
        (
            "- kind: not_null\n    column: a\n    weight: 0",
            8,
            "expectations[0].weight: must be a number above 0 and at most 100, like 2 or 0.5, not",
        ),
        (
            "- kind: not_null\n    column: a\n    mostly: 1.5",
            8,
            "expectations[0].mostly: must be a share of the rows above 0 and at most 1",
        ),
        (
            "- kind: row_count\n    min: many",
            7,
            'expectations[0].min: must be a whole number from 0 on, like 1000, not "many"',
        ),
        (
            "- kind: row_count\n    min: 5\n    max: 4",
            8,
            "expectations[0].max: is below min, 5, so that nothing could meet it",
        ),
        ("- {kind: row_count}", 6, 'expectations[0].kind: "row_count" needs "min", "max" or both'),
        ("- {kind: unique, columns: []}", 6, "expectations[0].columns: must not be empty"),
        ("- {kind: unique, columns: a}", 6, "expectations[0].columns: must be a list"),
        ("- {kind: unique, columns: [a, a]}", 6, 'expectations[0].columns: names column "a" twice'),
        ("- {kind: in_set, column: a, values: [x, x]}", 6, 'expectations[0].values: lists "x" t'),
        ("- {kind: fresh, column: a, at_most: soon}", 6, "expectations[0].at_most: must be a whol"),
        ("- {kind: holds, condition: a > 0}", 6, 'expectations[0]: needs a "name"'),
        ("- not_null", 6, 'expectations[0]: must hold fields, not "not_null"'),
        (
            "- {kind: references, columns: [plant], table: plnt}",
            6,
            'references(plant): no table "plnt" is declared here; did you mean "plant"?',
        ),
        (
            "- {kind: not_null, column: a}\n  - {kind: not_null, column: a}",
            7,
            'expectations[1]: is called "not_null(a)", and so is expectations[0]; remove one',
        ),
        (
            "- {kind: not_null, column: a}\ncolumns:\n  a: {protect: drop}",
            6,
            'expectations[0].column: column "a" is dropped before it reaches the lake; remove it',
        ),
    ],
)
def test_what_no_expectation_can_be_is_rejected_at_its_line(
    tmp_path: Path, field: str, line: int, reason: str
) -> None:
    found = problems(tmp_path, f"expectations:\n  {field}\n")

    assert found[0][0] == line
    assert found[0][1].startswith(reason)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("threshold: 101", "quality.threshold: must be a number from 0 to 100, like 95, not"),
        ("threshold: -1", "quality.threshold: must be a number from 0 to 100, like 95, not"),
        ("threshold: nan", "quality.threshold: must be a number from 0 to 100, like 95, not"),
        ("treshold: 9", '"treshold" is not a field; did you mean "threshold"?'),
        ("weights: {beauty: 1}", "quality.weights.beauty: must be 'completeness', 'uniqueness',"),
        ("weights: {accuracy: 0}", "quality.weights.accuracy: must be a number above 0 and at m"),
        ("sample_rows: 101", "quality.sample_rows: must be a whole number from 0 to 100, like 10"),
    ],
)
def test_what_no_score_can_be_made_with_is_rejected_at_its_line(
    tmp_path: Path, field: str, reason: str
) -> None:
    found = problems(tmp_path, f"quality:\n  {field}\n")

    assert found[0][0] == 6
    assert found[0][1].startswith(reason)


def test_no_database_takes_the_namespace_of_the_scores(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError) as error:
        load_catalog(declare(tmp_path, "quality", t=minimal("t")))

    assert '"quality" is the name of a namespace of our own in the lake' in str(error.value)
