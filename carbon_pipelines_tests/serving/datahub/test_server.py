"""Requests to DataHub: who is asked again, who is not, and what nobody may see."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from carbon_pipelines.errors import (
    DataHubAccessError,
    DataHubAnswerError,
    DataHubError,
    DataHubUnavailableError,
    SettingUnknownError,
)
from carbon_pipelines.serving.datahub.proposal import Proposal, written
from carbon_pipelines.serving.datahub.server import (
    BATCH_ASPECTS,
    BATCH_BYTES,
    DataHubServer,
    batches,
)
from carbon_pipelines.serving.datahub.settings import DataHubSettings, load_datahub_settings
from carbon_pipelines.serving.datahub.urns import Names, dataset_of, dataset_parts, field_urn
from carbon_pipelines_tests.alerts.certificates import make_certificate
from carbon_pipelines_tests.serving.datahub.sink import TOKEN, Sink, running_sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as running:
        yield running


def flows(count: int, size: int = 1) -> list[Proposal]:
    return [
        Proposal("tag", f"urn:li:tag:{n}", "tagProperties", {"name": "x" * size})
        for n in range(count)
    ]


def test_a_batch_is_told_as_datahubs_own_client_tells_it(sink: Sink) -> None:
    sink.server().tell(flows(1))

    assert sink.requests == [
        (
            "POST",
            "/aspects?action=ingestProposalBatch",
            {
                "proposals": [
                    {
                        "entityType": "tag",
                        "entityUrn": "urn:li:tag:0",
                        "changeType": "UPSERT",
                        "aspectName": "tagProperties",
                        "aspect": {"value": '{"name":"x"}', "contentType": "application/json"},
                    }
                ],
                "async": "false",
            },
        )
    ]
    assert sink.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    assert sink.headers[0]["X-RestLi-Protocol-Version"] == "2.0.0"


def test_batches_are_bounded_and_keep_their_order() -> None:
    many = flows(2 * BATCH_ASPECTS + 1)
    large = flows(5, BATCH_BYTES // 2)

    assert [len(one) for one in batches(many)] == [BATCH_ASPECTS, BATCH_ASPECTS, 1]
    assert [one for batch in batches(many) for one in batch] == many
    assert [len(one) for one in batches(large)] == [1, 1, 1, 1, 1]
    assert not list(batches([]))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_not_tried_again(sink: Sink, status: int) -> None:
    sink.faults.append(status)

    with pytest.raises(DataHubAccessError, match="CARBON_DATAHUB_TOKEN") as raised:
        sink.server().check()

    assert len(sink.requests) == 1
    assert not raised.value.retryable


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed(sink: Sink, status: int) -> None:
    sink.faults.append(status)

    with pytest.raises(DataHubAnswerError, match=f"answers {status}"):
        sink.server().check()

    assert [path for _, path, _ in sink.requests] == ["/config"]


def test_the_frontends_pages_are_no_metadata_service(sink: Sink) -> None:
    sink.faults.append("html")
    with pytest.raises(DataHubAnswerError, match="something else than JSON"):
        sink.server().check()
    sink.config = {"appVersion": "1"}
    with pytest.raises(DataHubAnswerError, match="/config is another's"):
        sink.server().check()
    sink.config = ["noCode"]
    with pytest.raises(DataHubAnswerError, match="something else than fields"):
        sink.server().check()


def test_a_version_is_told(sink: Sink) -> None:
    assert sink.server().check() == "v1.7.0"
    sink.config = {"noCode": "true"}
    assert sink.server().check() == "unknown"


def test_whoever_never_answers_is_asked_for_a_minute(sink: Sink) -> None:
    sink.faults.extend([503] * 100)

    with pytest.raises(DataHubUnavailableError, match="it answers 503 to /config") as raised:
        sink.server().check()

    assert raised.value.retryable
    assert 60 <= sink.time.seconds < 70
    assert 10 < len(sink.requests) < 30


def test_a_place_where_nobody_listens_is_asked_for_a_minute(sink: Sink) -> None:
    server = DataHubServer(DataHubSettings("http://127.0.0.1:9", TOKEN), sink.clock())

    with pytest.raises(DataHubUnavailableError, match="cannot be reached"):
        server.check()


def test_a_datahub_that_stumbles_over_everything_is_down_and_not_refusing(sink: Sink) -> None:
    sink.faults.extend([500] * 400)

    with pytest.raises(DataHubUnavailableError, match="it answers 500"):
        sink.server().tell(flows(8))


def test_a_datahub_that_stumbles_over_one_aspect_refuses_it(sink: Sink) -> None:
    proposals = flows(8)
    sink.refuses["urn:li:tag:5", "tagProperties"] = (500, "java.lang.NullPointerException")
    server = sink.server()

    [(refused, reason)] = server.tell(proposals)

    assert refused == proposals[5]
    assert reason == "it answers 500: java.lang.NullPointerException"
    assert server.told == 7
    assert len(sink.aspects) == 7


@pytest.mark.parametrize("fault", [401, 301, 404, "html", "refused", "silent"])
def test_no_error_shows_the_token(sink: Sink, fault: int | str) -> None:
    settings = sink.settings()
    if fault == "refused":
        settings = DataHubSettings("http://127.0.0.1:9", TOKEN)
    elif fault == "silent":
        sink.faults.extend(["lost"] * 100)
    else:
        sink.faults.append(fault)
    server = DataHubServer(settings, sink.clock())

    with pytest.raises(DataHubError) as raised:
        server.check()

    shown = f"{raised.value} {raised.value!r} {server!r} {raised.value.__dict__}"
    assert TOKEN not in shown


def test_a_certificate_is_checked_and_one_of_our_own_can_be_trusted(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with running_sink(certificate) as sink:
        trusting = replace(sink.settings(), authorities=str(certificate[0]))

        assert DataHubServer(trusting, sink.clock()).check() == "v1.7.0"
        with pytest.raises(DataHubUnavailableError, match="SSLError"):
            sink.server().check()
        assert len(sink.requests) == 1


def test_an_event_that_is_not_there_has_no_time(sink: Sink) -> None:
    urn = "urn:li:assertion:a"
    assert sink.server().last_event("assertion", urn, "assertionRunEvent") is None
    sink.events[urn, "assertionRunEvent"] = [{"timestampMillis": 5}, {"timestampMillis": 9}]
    assert sink.server().last_event("assertion", urn, "assertionRunEvent") == 9


def test_without_an_address_datahub_is_not_configured() -> None:
    assert load_datahub_settings({}) is None
    assert load_datahub_settings({"CARBON_DATAHUB_URL": "", "CARBON_DATAHUB_TOKEN": "t"}) is None


def test_settings_are_read_from_the_environment() -> None:
    named = {
        "CARBON_DATAHUB_URL": "https://datahub.example.org/api/gms/",
        "CARBON_DATAHUB_TOKEN": TOKEN,
        "CARBON_DATAHUB_ENV": "DEV",
        "SSL_CERT_FILE": "/etc/ssl/ours.crt",
    }
    settings = load_datahub_settings(named)

    assert settings == DataHubSettings(
        "https://datahub.example.org/api/gms", TOKEN, "DEV", "/etc/ssl/ours.crt"
    )
    assert TOKEN not in repr(settings)
    assert settings is not None
    assert settings.label == "DataHub at datahub.example.org"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CARBON_DATAHUB_URL", "datahub:8080"),
        ("CARBON_DATAHUB_URL", "ftp://datahub"),
        ("CARBON_DATAHUB_URL", "http://"),
        ("CARBON_DATAHUB_URL", "http://ada:s3cret@datahub"),
        ("CARBON_DATAHUB_URL", "http://datahub?token=s3cret"),
        ("CARBON_DATAHUB_URL", "http://datahub:port"),
        ("CARBON_DATAHUB_TOKEN", "s3cret\nX-Other: 1"),
        ("CARBON_DATAHUB_ENV", "prod"),
    ],
)
def test_a_setting_without_meaning_is_named_and_not_repeated(variable: str, value: str) -> None:
    environ = {"CARBON_DATAHUB_URL": "http://datahub", variable: value}

    with pytest.raises(SettingUnknownError, match=variable) as raised:
        load_datahub_settings(environ)

    assert "s3cret" not in str(raised.value)


def test_names_with_letters_that_an_urn_cannot_have() -> None:
    name = Names().dataset("postgres", "shop", "odd (schema)", "a,b%2C")
    field = field_urn(name, "c(1), d")

    assert name == (
        "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.odd %28schema%29.a%2Cb%2C,PROD)"
    )
    assert dataset_of(field) == (name, "c(1), d")
    assert dataset_parts(Names().dataset("kafka", "a,b")) == ("kafka", "a,b")


def test_a_value_is_written_in_one_way() -> None:
    assert written({"b": None, "a": [{"z": 1, "y": None}], "c": "\u00e9"}) == (
        '{"a":[{"z":1}],"c":"\\u00e9"}'
    )
    assert json.loads(written({"a": False, "b": [], "c": {}, "d": ""})) == {
        "a": False,
        "b": [],
        "c": {},
        "d": "",
    }
