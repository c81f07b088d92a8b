"""Expectations and scores of the sample market, as DataHub is told of them."""

from carbon_pipelines_tests.serving.datahub.telling import credit, events, only
from carbon_pipelines_tests.serving.datahub.world import SCORED, market, score


def test_a_score_is_told_in_whole_by_dimension_and_by_expectation() -> None:
    told = only(credit())
    infos = {one.urn: one.value["description"] for one in told if one.aspect == "assertionInfo"}
    results = {
        infos[one.urn]: one.value["result"] for one in told if one.aspect == "assertionRunEvent"
    }

    failed = credit().table.expectations[-1].label
    assert results == {
        "not_null(tonnes)": {"type": "SUCCESS", "rowCount": 1000},
        "unique(credit_id)": {"type": "SUCCESS", "rowCount": 1000},
        "references(facility_id)": {"type": "SUCCESS", "rowCount": 1000},
        "between(tonnes)": {"type": "SUCCESS", "rowCount": 1000},
        "between(vintage)": {"type": "SUCCESS", "rowCount": 1000},
        failed: {
            "type": "FAILURE",
            "rowCount": 1000,
            "unexpectedCount": 3,
            "nativeResults": {"reason": "3 of 1,000 rows do not meet it"},
        },
        **{
            f"The {name} of market/credit, 0 to 100, is at least 90.": {
                "type": "SUCCESS",
                "rowCount": 1000,
                "actualAggValue": value,
                "nativeResults": {"score": f"{value:g}", "threshold": "90"},
            }
            for name, value in (("completeness", 100.0), ("uniqueness", 100.0), ("validity", 92.5))
        },
        "The consistency of market/credit, 0 to 100, is at least 90.": {
            "type": "ERROR",
            "nativeResults": {"score": "unknown", "threshold": "90"},
            "error": {"type": "INSUFFICIENT_DATA"},
        },
        "The score of market/credit, 0 to 100, is at least 90, and nothing critical failed.": {
            "type": "SUCCESS",
            "rowCount": 1000,
            "actualAggValue": 96.25,
            "nativeResults": {"score": "96.2", "threshold": "90"},
        },
    }
    assert {one["timestampMillis"] for one in events(told, "assertionRunEvent")} == {
        int(SCORED.timestamp() * 1000)
    }


def test_a_score_of_other_expectations_says_nothing_of_single_ones() -> None:
    old = score(credit().table, expectations_version="of before")
    told = only(credit(scores=(old,)))

    infos = {one.urn: one.value["type"] for one in told if one.aspect == "assertionInfo"}
    assert {infos[one.urn] for one in told if one.aspect == "assertionRunEvent"} == {"CUSTOM"}


def test_the_whole_score_closes_what_is_told_of_it() -> None:
    told = [one for one in only(credit()) if one.sharing == "event" and one.aspect != "operation"]

    assert [one.closes for one in told] == [False] * (len(told) - 1) + [True]
    assert len({one.series for one in told}) == 1


def test_of_a_protected_column_only_the_verdict_is_told() -> None:
    [facts] = [one for one in market().tables if one.table.name == "counterparty"]
    told = only(facts)

    [failed] = [
        one["result"]
        for one in events(told, "assertionRunEvent")
        if one["result"]["type"] == "FAILURE"
    ]
    assert facts.table.expectations[-1].reads == (("column", "exposure"),)
    assert failed == {
        "type": "FAILURE",
        "rowCount": 1000,
        "unexpectedCount": 3,
        "nativeResults": None,
    }
