"""What we tell DataHub, held to the real models and the real client of ``acryl-datahub``.

They live in an environment of their own (``serving/datahub/environment.py``), and are asked by
``serving/datahub/real_models.py``.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from carbon_pipelines.serving.datahub.superset import load_export
from carbon_pipelines_tests.serving.datahub.environment import REAL_MODELS, datahub_python
from carbon_pipelines_tests.serving.datahub.export import NUMBERS, write_export
from carbon_pipelines_tests.serving.datahub.sink import EVENTS, running_sink
from carbon_pipelines_tests.serving.datahub.world import told_of_market, told_of_marts

pytestmark = pytest.mark.datahub

Wire = dict[str, Any]


@pytest.fixture(scope="module")
def python() -> Path:
    return datahub_python()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Wire]:
    """Everything that we can tell, of Superset too."""
    export = load_export(write_export(tmp_path_factory.mktemp("export")), NUMBERS)
    return [one.to_wire() for one in (*told_of_market(), *told_of_marts(export))]


def ask(python: Path, told: Sequence[Wire], *arguments: str) -> list[list[str]]:
    """What is wrong with each proposal, as DataHub's client sees it."""
    done = subprocess.run(
        [str(python), str(REAL_MODELS), *arguments],
        input="".join(json.dumps(one) + "\n" for one in told),
        env={**os.environ, "DATAHUB_TELEMETRY_ENABLED": "false", "PYTHONPATH": ""},
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_every_aspect_is_one_of_datahubs_and_is_written_as_datahub_writes_it(
    python: Path, told: list[Wire]
) -> None:
    found = ask(python, told)

    wrong = [
        (one["entityUrn"], one["aspectName"], problems)
        for one, problems in zip(told, found, strict=True)
        if problems
    ]
    assert wrong == []
    assert {one["entityType"] for one in told} == {
        "assertion",
        "chart",
        "corpGroup",
        "dashboard",
        "dataFlow",
        "dataJob",
        "dataProcessInstance",
        "dataset",
        "domain",
        "tag",
    }


def changed(told: Sequence[Wire], aspect: str, change: Mapping[str, Any]) -> Wire:
    """The first of an aspect, with other fields."""
    [first, *_] = [one for one in told if one["aspectName"] == aspect]
    value = {**json.loads(first["aspect"]["value"]), **change}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return {**first, "aspect": {**first["aspect"], "value": text}}


def test_what_is_none_of_datahubs_would_be_noticed(python: Path, told: list[Wire]) -> None:
    broken = [
        changed(told, "subTypes", {"typeNames": 5}),
        changed(told, "status", {"removed": "no"}),
        changed(told, "schemaMetadata", {"extra": 1}),
        changed(told, "operation", {"operationType": "MERGE"}),
        changed(told, "dataJobInputOutput", {"inputDatasets": ["urn:li:dataset:(a,b"]}),
        {**told[0], "aspectName": "chartInfo"},
        {**told[0], "entityType": "dataset"},
        {**told[0], "entityUrn": "urn:li:dataFlow:(dagster,PROD)"},
    ]

    assert [bool(problems) for problems in ask(python, broken)] == [True] * len(broken)


def test_the_real_client_sends_the_same_and_reads_it_back_from_the_sink(
    python: Path, told: list[Wire]
) -> None:
    with running_sink() as sink:
        found = ask(python, told, sink.url)

        assert not any(found)
        sent = [one for request in sink.sent() for one in request]
        without = [
            {name: value for name, value in one.items() if name != "systemMetadata"} for one in sent
        ]
        assert [_value_read(one) for one in without] == [_value_read(one) for one in told]
        bodies = [body for _, path, body in sink.requests if "ingestProposalBatch" in path]
        assert {body["async"] for body in bodies} == {"false"}
        assert {path for _, path, _ in sink.requests} >= {
            "/config",
            "/aspects?action=ingestProposalBatch",
            "/aspects?action=getTimeseriesAspectValues",
            "/openapi/v3/entity/dataset/batchGet",
            "/openapi/v3/entity/dataJob/batchGet",
        }
        assert {aspect for _, aspect in sink.events} >= EVENTS


def _value_read(wire: Wire) -> Wire:
    """A proposal whose aspect is read: blanks and the order of fields say nothing."""
    aspect = {**wire["aspect"], "value": json.loads(wire["aspect"]["value"])}
    return {**wire, "aspect": aspect}
