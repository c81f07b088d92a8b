"""What DataHub lacks: planning, and telling it to a recorded sink."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from carbon_pipelines.errors import DataHubUnavailableError, MetadataRefusedError
from carbon_pipelines.serving.datahub.emit import Told, emit, load_plan
from carbon_pipelines.serving.datahub.proposal import Proposal
from carbon_pipelines_tests.serving.datahub.sink import EVENTS, Sink, running_sink
from carbon_pipelines_tests.serving.datahub.telling import CREDIT, credit, dataset, only
from carbon_pipelines_tests.serving.datahub.world import (
    market,
    score,
    told_of_market,
    told_of_marts,
)

DOMAIN = "urn:li:domain:market"
FLOW = "urn:li:dataFlow:(dagster,carbon_pipelines,PROD)"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as running:
        yield running


def tell(sink: Sink, wanted: Sequence[Proposal], *, remove: bool = False) -> Told:
    return emit(sink.server(), "market", wanted, remove=remove)


def listed(sink: Sink) -> set[str]:
    """Urns that the list in DataHub has."""
    job = "urn:li:dataJob:(urn:li:dataFlow:(dagster,carbon_pipelines,PROD),serving/datahub/market)"
    return set(json.loads(sink.aspects[job, "dataJobInfo"]["customProperties"]["carbon.urns"]))


def shown(sink: Sink) -> set[str]:
    return {
        urn
        for (urn, name), value in sink.aspects.items()
        if name == "status" and not value["removed"]
    }


def test_datahub_has_everything_once_and_the_second_run_tells_nothing(sink: Sink) -> None:
    wanted = told_of_market()

    first = tell(sink, wanted)
    known, proposals = dict(sink.aspects), len(sink.proposals)
    second = tell(sink, wanted)

    kept = {
        (one.urn, one.aspect): json.loads(one.text) for one in wanted if one.aspect not in EVENTS
    }
    assert {at: value for at, value in sink.aspects.items() if "serving/datahub" not in at[0]} == {
        at: value for at, value in kept.items() if value != {"tags": []}
    }
    heard = [one.text for one in wanted if one.sharing == "event"]
    assert sorted(heard) == sorted(
        json.dumps(one, sort_keys=True, separators=(",", ":"))
        for series in sink.events.values()
        for one in series
    )
    assert (first.aspects, first.events) == (len(wanted) - len(heard) - first.unchanged, len(heard))
    assert (second.aspects, second.events, second.unchanged) == (0, 0, len(wanted))
    assert (sink.aspects, len(sink.proposals)) == (known, proposals)


def test_two_empty_datahubs_are_told_the_same_bytes(sink: Sink) -> None:
    tell(sink, told_of_market())
    with running_sink() as other:
        tell(other, told_of_market())

        assert sink.sent() == other.sent()


def test_only_what_changed_is_told(sink: Sink) -> None:
    tell(sink, only(credit()))
    described = credit().table.model_copy(update={"description": "Credits."})
    told = tell(sink, only(replace(credit(), table=described)))

    assert told.events == 0
    assert [(one["entityUrn"], one["aspectName"]) for one in sink.sent()[-1]] == [
        (dataset("postgres", "market.public.credit"), "datasetProperties"),
        (CREDIT, "datasetProperties"),
        (dataset("trino", "lake.certified_market.credit"), "datasetProperties"),
    ]


def test_a_new_score_is_told_and_an_old_one_is_not_told_again(sink: Sink) -> None:
    first = credit().scores[0]
    tell(sink, only(credit(scores=(first,))))
    later = replace(first, score_id="later", at=first.at + 60_000, score=91.0)
    told = tell(sink, only(credit(scores=(first, later))))

    assert told.aspects == 0
    runs = {one["runId"] for series in sink.events.values() for one in series if "runId" in one}
    assert runs == {first.score_id, "later"}
    assert told.events == len({at for at in sink.events if at[1] != "operation"})


def test_what_people_add_in_datahub_stays(sink: Sink) -> None:
    tell(sink, only(credit()))
    theirs = {"owner": "urn:li:corpuser:ada", "type": "DATA_STEWARD"}
    sink.aspects[CREDIT, "ownership"]["owners"].append(theirs)
    sink.aspects[CREDIT, "globalTags"]["tags"].append({"tag": "urn:li:tag:gold"})
    sink.aspects[CREDIT, "domains"] = {"domains": ["urn:li:domain:theirs"]}
    sink.aspects[DOMAIN, "domainProperties"]["name"] = "Carbon market"

    assert tell(sink, only(credit())).aspects == 0
    columns = {
        **credit().table.columns,
        "state": credit()
        .table.columns["holder_id"]
        .model_copy(update={"classification": "restricted"}),
    }
    stricter = credit().table.model_copy(update={"owner": "team:risk", "columns": columns})
    tell(sink, only(replace(credit(), table=stricter, scores=())))

    owners = [one["owner"] for one in sink.aspects[CREDIT, "ownership"]["owners"]]
    assert owners == ["urn:li:corpGroup:risk", "urn:li:corpuser:ada"]
    assert [one["tag"] for one in sink.aspects[CREDIT, "globalTags"]["tags"]] == [
        "urn:li:tag:classification.restricted",
        "urn:li:tag:gold",
    ]
    assert sink.aspects[CREDIT, "domains"] == {"domains": ["urn:li:domain:theirs"]}
    assert sink.aspects[DOMAIN, "domainProperties"]["name"] == "Carbon market"


def test_an_owner_that_somebody_gave_by_hand_is_no_reason_to_tell_ours_twice(sink: Sink) -> None:
    by_hand = {"owner": "urn:li:corpGroup:registry", "type": "BUSINESS_OWNER"}
    sink.aspects[CREDIT, "ownership"] = {"owners": [by_hand]}

    tell(sink, only(credit()))

    [owner] = sink.aspects[CREDIT, "ownership"]["owners"]
    assert owner["source"] == {"type": "SOURCE_CONTROL"}


def test_a_classification_that_is_declared_no_more_goes(sink: Sink) -> None:
    tell(sink, only(credit()))
    tell(sink, only(replace(credit(), table=credit().table.model_copy(update={"columns": {}}))))

    assert sink.aspects[CREDIT, "globalTags"] == {"tags": []}


def test_what_is_declared_no_more_is_named_first_and_hidden_only_when_that_is_wanted(
    sink: Sink,
) -> None:
    everything, fewer = told_of_market(), only(credit())
    tell(sink, everything)
    gone = {one.urn for one in everything} - {one.urn for one in fewer}
    gone = {urn for urn in gone if not urn.startswith(("urn:li:corpGroup", "urn:li:tag"))}

    plan = load_plan(sink.server(), "market", fewer)
    named = tell(sink, fewer)

    assert set(plan.gone) == set(named.left) == gone
    assert {f"remove {urn}" for urn in gone} <= set(plan.sentences())
    assert gone <= shown(sink) & listed(sink)

    removed = tell(sink, fewer, remove=True)

    assert (removed.removed, removed.left) == (len(gone), ())
    assert not gone & (shown(sink) | listed(sink))
    assert all(sink.aspects[urn, "status"] == {"removed": True} for urn in gone)
    assert tell(sink, fewer, remove=True).removed == 0
    assert tell(sink, everything).aspects  # and it comes back when it is declared again
    assert gone <= shown(sink)


def test_marts_and_a_database_do_not_take_each_other_for_gone(sink: Sink) -> None:
    tell(sink, told_of_market())
    emit(sink.server(), "mart", told_of_marts(), remove=True)
    told = tell(sink, told_of_market(), remove=True)

    assert (told.aspects, told.removed) == (0, 0)


def test_a_refused_aspect_is_named_and_the_others_are_told(sink: Sink) -> None:
    at = (CREDIT, "upstreamLineage")
    sink.refuses[at] = (422, "unrecognized field found but not allowed")
    wanted = told_of_market()

    with pytest.raises(MetadataRefusedError) as raised:
        tell(sink, wanted)

    assert raised.value.refused == (
        (*at, "it answers 422: unrecognized field found but not allowed"),
    )
    assert "upstreamLineage of " + CREDIT in str(raised.value)
    assert not raised.value.retryable
    assert at not in sink.aspects
    sink.refuses.clear()
    assert tell(sink, wanted).aspects == 1
    assert at in sink.aspects


def test_of_a_score_whose_result_was_refused_the_closing_event_waits(sink: Sink) -> None:
    wanted = only(credit())
    [result] = [
        one.urn
        for one in wanted
        if one.aspect == "assertionInfo" and one.value["description"] == "between(vintage)"
    ]
    sink.refuses[result, "assertionRunEvent"] = (400, "no")

    with pytest.raises(MetadataRefusedError):
        tell(sink, wanted)
    sink.refuses.clear()
    told = tell(sink, wanted)

    assert told.events > 1
    assert all(len(series) == 1 for series in sink.events.values())
    assert (result, "assertionRunEvent") in sink.events


def test_a_second_closing_event_waits_for_the_first(sink: Sink) -> None:
    first = score(credit().table)
    later = replace(first, score_id="later", at=first.at + 60_000)
    wanted = only(credit(scores=(first, later)))
    [whole] = {one.series for one in wanted if one.aspect == "datasetProfile"}
    sink.refuses[whole, "assertionRunEvent"] = (422, "no")

    with pytest.raises(MetadataRefusedError):
        tell(sink, wanted)
    assert (whole, "assertionRunEvent") not in sink.events
    sink.refuses.clear()
    tell(sink, wanted)

    runs = [one["runId"] for one in sink.events[whole, "assertionRunEvent"]]
    assert runs == [first.score_id, "later"]


@pytest.mark.parametrize("fault", [429, 500, 502, 503, "lost"])
def test_a_fault_that_passes_is_waited_for(sink: Sink, fault: int | str) -> None:
    wanted = only(credit())
    for before in range(0, 8, 2):
        sink.aspects.clear()
        sink.events.clear()
        sink.faults.clear()
        sink.faults.extend(["fine"] * before + [fault])
        tell(sink, wanted)

        assert len(sink.aspects) > 30
        assert all(len(series) == 1 for series in sink.events.values())


def test_a_datahub_that_dies_midway_is_told_the_rest_by_the_next_run(sink: Sink) -> None:
    wanted = told_of_market()
    with running_sink() as whole:
        tell(whole, wanted)
        aspects, events, requests = whole.aspects, whole.events, len(whole.requests)
    for survived in range(3, requests, 8):
        sink.aspects.clear()
        sink.events.clear()
        sink.faults.clear()
        sink.faults.extend(["fine"] * survived + [503] * 60)
        with pytest.raises(DataHubUnavailableError):
            tell(sink, wanted)
        there = {urn for urn, name in sink.aspects if name == "status"}
        assert not there or there <= listed(sink) | {FLOW}
        sink.faults.clear()
        tell(sink, wanted)

        assert sink.aspects == aspects
        assert {at: sorted(map(str, series)) for at, series in sink.events.items()} == {
            at: sorted(map(str, series)) for at, series in events.items()
        }


def test_facts_hold_no_time_of_the_telling() -> None:
    times: list[Any] = [value for one in told_of_market() for value in _times(one.value)]
    known = {0, *(s.at for t in market().tables if t.lake for s in t.lake.snapshots)}
    known |= {one.at for of in market().tables for one in of.scores}

    assert set(times) <= known


def _times(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("time", "timestampMillis", "lastUpdatedTimestamp"):
                yield inner
            else:
                yield from _times(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _times(inner)
