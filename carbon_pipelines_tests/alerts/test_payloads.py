from email import message_from_bytes, policy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.alerts.alert import Alert, fingerprint_of
from carbon_pipelines.alerts.pages import RUNBOOKS, Pages, pages_of
from carbon_pipelines.alerts.payloads import (
    AT_ONCE,
    SLACK_LONGEST,
    alertmanager_body,
    batches,
    headline,
    idempotency_key,
    mail,
    slack_body,
    webhook_body,
)
from carbon_pipelines.alerts.telling import Message
from carbon_pipelines.alerts.wording import LONGEST, clip, told
from carbon_pipelines.errors import (
    LakeError,
    MalformedEnvelopeError,
    MissingPriorValueError,
    SettingUnknownError,
    TableParkedError,
    UnrepresentableValueError,
)
from carbon_pipelines_tests.alerts.saying import alert, message

ANY = st.text(max_size=60).flatmap(lambda text: st.sampled_from([text, text * 40]))


def test_the_fingerprint_is_prometheus_own() -> None:
    # values of model/signature_test.go of prometheus/common
    assert fingerprint_of({}) == f"{14695981039346656037:016x}"
    labels = {"name": "garland, briggs", "fear": "love is not enough"}
    assert fingerprint_of(labels) == f"{5799056148416392346:016x}"


def test_a_run_does_not_make_another_alert() -> None:
    one, other = alert(), Alert("TableStale", "critical", alert().labels, "More.", 2.0, run_id="2")

    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != alert(severity="warning").fingerprint


def test_alertmanager_is_given_an_end_that_a_restart_does_not_reach() -> None:
    firing, over = alertmanager_body([message(), message(ended_at=1_060.0)], now=1_030.0)

    assert firing == {
        "labels": {
            "alertname": "TableStale",
            "severity": "critical",
            "team": "team:a",
            "asset": "lake/market/credit",
        },
        "annotations": {
            "summary": "It is late.",
            "runbook_url": "https://docs.example.org/lake.md#what-a-red-check-means",
            "link": "https://dagster.example.org/runs/1",
            "run": "1",
        },
        "startsAt": "1970-01-01T00:16:40.000Z",
        "endsAt": "1970-01-01T00:32:10.000Z",
        "generatorURL": "https://dagster.example.org/runs/1",
    }
    assert over == {**firing, "endsAt": "1970-01-01T00:17:40.000Z"}


def test_a_webhook_gets_what_alertmanager_would_post() -> None:
    other = message(asset="lake/market/tick", ended_at=1_060.0)

    body = webhook_body([message(), other], receiver="webhook:PAGER", pages=Pages("https://ui"))

    assert {name: body[name] for name in body if name != "alerts"} == {
        "version": "4",
        "groupKey": '{}:{receiver="webhook:PAGER"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "webhook:PAGER",
        "groupLabels": {},
        "commonLabels": {"alertname": "TableStale", "severity": "critical", "team": "team:a"},
        "commonAnnotations": dict(alert().annotations),
        "externalURL": "https://ui",
    }
    assert [
        (one["status"], one["endsAt"], one["fingerprint"], set(one)) for one in body["alerts"]
    ] == [
        ("firing", "0001-01-01T00:00:00Z", alert().fingerprint, FIELDS),
        ("resolved", "1970-01-01T00:17:40.000Z", other.alert.fingerprint, FIELDS),
    ]


FIELDS = {
    "status",
    "labels",
    "annotations",
    "startsAt",
    "endsAt",
    "generatorURL",
    "fingerprint",
}


def test_slack_shows_text_as_it_is_and_links_to_run_and_runbook() -> None:
    text = slack_body([message(summary="a <!channel> & <https://evil|b>")])["text"]

    assert text == (
        ":red_circle: *TableStale lake/market/credit* since 1970-01-01 00:16 UTC\n"
        "a &lt;!channel&gt; &amp; &lt;https://evil|b&gt;\n"
        "<https://dagster.example.org/runs/1|Dagster> · "
        "<https://docs.example.org/lake.md#what-a-red-check-means|what to do>"
    )


@given(ANY, ANY, ANY)
def test_whatever_an_alert_says_slack_is_given_no_markup_and_not_too_much(
    summary: str, asset: str, link: str
) -> None:
    odd = Alert("TableStale", "critical", {"asset": asset}, summary, 1.0, link=link, runbook=link)

    text = slack_body([Message("r", odd)] * AT_ONCE)["text"]

    assert len(text) <= SLACK_LONGEST
    for part in text.split("<")[1:]:
        assert part.startswith(("http://", "https://"))
        assert ">" in part
    assert "<!" not in text
    assert "<@" not in text


def test_a_resolved_message_is_green_and_short() -> None:
    assert slack_body([message(ended_at=4_000.0)])["text"].splitlines()[0] == (
        ":large_green_circle: *TableStale lake/market/credit* since 1970-01-01 00:16 UTC, over at "
        "1970-01-01 01:06 UTC"
    )


@given(ANY, ANY)
def test_a_mail_holds_whatever_an_alert_says_and_no_other_header(summary: str, asset: str) -> None:
    odd = Alert("TableStale", "critical", {"asset": asset}, clip(summary), 1.0)

    made = mail([Message("r", odd)], sender="a@example.org", recipient="b@example.org", now=5.0)
    read = message_from_bytes(made.as_bytes(), policy=policy.default)

    assert set(read) == set(made)
    assert read["To"] == "b@example.org"
    assert len(made["Subject"]) <= 160
    assert read["Message-ID"] == made["Message-ID"]


def test_a_mail_says_all_of_it() -> None:
    made = mail([message()], sender="a@example.org", recipient="b@example.org", now=5.0)

    assert made["Subject"] == "[critical] TableStale lake/market/credit"
    assert made.get_content().splitlines() == [
        "FIRING: TableStale lake/market/credit (critical)",
        "since 1970-01-01 00:16 UTC",
        "It is late.",
        "Dagster: https://dagster.example.org/runs/1",
        "What to do: https://docs.example.org/lake.md#what-a-red-check-means",
        f"Fingerprint: {alert().fingerprint}",
    ]


def test_the_same_messages_have_the_same_key_in_any_order() -> None:
    one, other = message(), message(asset="lake/market/tick")

    assert idempotency_key([one, other]) == idempotency_key([other, one])
    assert idempotency_key([one]) != idempotency_key([message(ended_at=2_000.0)])


def test_many_alerts_are_several_messages_and_none_is_left_out() -> None:
    many = [message(asset=str(number)) for number in range(2 * AT_ONCE + 1)]

    assert [one for batch in batches(many) for one in batch] == many
    assert [len(batch) for batch in batches(many)] == [AT_ONCE, AT_ONCE, 1]
    assert headline([*many[:2], message(ended_at=3.0)]) == "3 alerts: 2 firing, 1 resolved"


@pytest.mark.parametrize(
    "error",
    [
        UnrepresentableValueError("holder", "decimal(9,2)", "s3cr3t"),
        MissingPriorValueError("market/credit", "note", "(s3cr3t)"),
        MalformedEnvelopeError("cdc.market.public.credit", 0, 4, "found s3cr3t"),
        TableParkedError(
            "market/credit",
            since="2026",
            by="sync",
            reason=str(UnrepresentableValueError("holder", "decimal(9,2)", "s3cr3t")),
            stands="offset 4",
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_sentence_with_a_value_leaves_only_where_nothing_is_protected(error: LakeError) -> None:
    name = type(error).__name__

    assert "s3cr3t" not in told(str(error), error=name, hides=True)
    assert "s3cr3t" in told(str(error), error=name, hides=False)


def test_words_of_other_programs_never_leave() -> None:
    assert told("Key (id)=(s3cr3t)", error="UniqueViolation", hides=False) == (
        "UniqueViolation, an error that is not foreseen; its words are on the page of the run."
    )


@given(ANY)
def test_a_summary_is_one_bounded_line_with_its_end(text: str) -> None:
    line = clip(text)

    assert len(line) <= LONGEST
    assert "\n" not in line
    assert line.endswith(" ".join(text.split())[-100:])


def test_every_runbook_is_a_heading_of_the_docs() -> None:
    docs = Path(__file__).parents[2] / "docs"
    headings = {
        f"{page.name}#{_slug(line)}"
        for page in docs.glob("*.md")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    }

    assert headings >= RUNBOOKS


def _slug(heading: str) -> str:
    words = heading.lstrip("#").strip().lower()
    return "".join(c for c in words if c.isalnum() or c in " -_").replace(" ", "-")


def test_pages_are_where_the_environment_says() -> None:
    pages = pages_of({"CARBON_ALERTS_UI_URI": "https://ui/", "CARBON_ALERTS_DOCS_URI": "https://d"})

    assert pages == Pages("https://ui", "https://d")
    assert pages_of({"CARBON_UI_PORT": "3001"}) == Pages("http://127.0.0.1:3001", "docs")
    assert pages.run("a b") == "https://ui/runs/a%20b"
    assert pages.runbook("RunFailed", "mart") == "https://d/mart.md#what-a-red-check-means"
    with pytest.raises(SettingUnknownError, match="CARBON_ALERTS_UI_URI") as error:
        pages_of({"CARBON_ALERTS_UI_URI": "https://ann:s3cr3t@ui"})
    assert "s3cr3t" not in str(error.value)
