import json
import re
from pathlib import Path

from carbon_pipelines.quality.scorecard import score_facts, scorecard
from carbon_pipelines_tests.quality.scoring import ScoredLake, reading

EXPECTATIONS = """\
  - {kind: not_null, column: tonnes, severity: critical}
  - {kind: in_set, column: quality, values: [measured], weight: 2}
  - {kind: unique, columns: [id]}
"""


def test_the_page_explains_the_number(tmp_path: Path) -> None:
    lake = ScoredLake(tmp_path, EXPECTATIONS, more="quality: {sample_rows: 2}\n")
    damaged = [reading(n, quality="a|b\n") for n in range(3)]
    lake.fill([*damaged, reading(3, tonnes=None)])
    scored = lake.score()

    text = scorecard(scored)

    head, _, *page = [re.sub("-{3,}", "---", " ".join(line.split())) for line in text.splitlines()]

    assert head == (
        "# market/reading: 49.1 of 100, threshold 90: not passed, critical: not_null(tonnes)"
    )
    assert page == [
        f"4 rows of table snapshot {scored.snapshot_id}, at source position {scored.position}; "
        f"scored 2026-03-01 12:00:00 UTC against expectations {scored.version}.",
        "",
        "| dimension | score | points | expectations |",
        "|---|---|---|---|",
        "| completeness | 30 | 33.3 | 1 |",
        "| uniqueness | 100 | 33.3 | 1 |",
        "| validity | 17.5 | 33.3 | 1 |",
        "",
        "## Why it is not 100",
        "",
        "| points | dimension | why |",
        "|---|---|---|",
        "| -27.5 | validity | in_set(quality): 3 of 4 rows are none of measured (75 %) |",
        "| -23.3 | completeness | not_null(tonnes): 1 of 4 rows are null (25 %) |",
        "",
        "### Rows that fail not_null(tonnes)",
        "",
        "| id | tonnes |",
        "|---|---|",
        "| 3 | NULL |",
        "",
        "### Rows that fail in_set(quality)",
        "",
        "| id | quality |",
        "|---|---|",
        "| 0 | a\\|b |",
        "| 1 | a\\|b |",
        "",
        "and 1 more",
    ]
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert [len({len(line) for line in lines}) for lines in tables] == [1, 1, 1, 1]


def test_what_is_unknown_is_said_first(tmp_path: Path) -> None:
    lake = ScoredLake(tmp_path, EXPECTATIONS)
    lake.fill([])

    page = scorecard(lake.score())

    assert page.startswith("# market/reading: unknown\n")
    assert "- not_null(tonnes): the table has no rows, so nothing is known of it" in page
    assert "| completeness | unknown |" in page


def test_the_facts_are_plain_json(tmp_path: Path) -> None:
    lake = ScoredLake(tmp_path, EXPECTATIONS)
    lake.fill([reading(1), reading(2, tonnes=None)])

    facts = json.loads(json.dumps(score_facts(lake.score())))

    assert facts["failed_critical"] == ["not_null(tonnes)"]
    assert 100 - sum(loss["points"] for loss in facts["losses"]) == facts["score"]
    assert facts["expectations"][0]["sample"] == [{"id": "2", "tonnes": None}]
