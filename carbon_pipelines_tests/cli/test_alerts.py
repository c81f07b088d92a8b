from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from carbon_pipelines.cli import cli
from carbon_pipelines_tests.alerts.receivers import Recorder, recording
from carbon_pipelines_tests.catalog.declarations import declare, minimal

OWNERS = """\
default:
  - {kind: slack, url_variable: EVERYBODY}
teams:
  team:market-data:
    - {kind: webhook, url_variable: MARKET, severities: [critical]}
    - {kind: email, to: [a@example.org], severities: [critical]}
  team:gone:
    - {kind: slack, url_variable: EVERYBODY}
smtp: {host: 127.0.0.1, sender: c@example.org, user: carbon, password_variable: MAIL_PASSWORD}
"""


@pytest.fixture(autouse=True)
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("EVERYBODY", "MARKET", "MAIL_PASSWORD", "CARBON_ALERTS_ALERTMANAGER_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path))
    declare(tmp_path, "market", tick=minimal("tick"), credit=minimal("credit"))
    (tmp_path / "owners.yaml").write_text(OWNERS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    with recording() as made:
        monkeypatch.setenv("EVERYBODY", f"{made.url}/s3cr3t")
        monkeypatch.setenv("MARKET", f"{made.url}/s3cr3t")
        monkeypatch.setenv("MAIL_PASSWORD", "s3cr3t")
        yield made


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, ["alerts", *arguments])
    assert "s3cr3t" not in result.output
    return result


def test_a_check_shows_the_ways_and_passes(recorder: Recorder) -> None:
    result = run("check")

    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "default  critical  ->  slack:EVERYBODY",
        "default  warning  ->  slack:EVERYBODY",
        "team:market-data  critical  ->  webhook:MARKET, email:a@example.org",
        "team:market-data  warning  ->  the default receivers",
        "team:gone owns nothing here.",
    ]


def test_a_check_names_variables_that_are_not_set_and_owners_without_receivers(
    declared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERYBODY", "https://hooks.example.org/s3cr3t")
    (declared / "market" / "tick.yaml").write_text(minimal("tick") + "owner: team:b\n")

    result = run("check")

    assert result.exit_code == 1
    assert result.output[result.output.index("Error") :].splitlines() == [
        "Error: Alerts would not reach everybody: 3 things to correct in owners.yaml or in the "
        'environment, then run "carbon alerts check" again:',
        "  team:b owns market/tick and has no receivers; the default ones are told",
        "  email:a@example.org cannot be told: MAIL_PASSWORD is not set",
        "  webhook:MARKET cannot be told: MARKET is not set",
    ]


def test_without_a_file_a_check_says_so(declared: Path) -> None:
    (declared / "owners.yaml").unlink()

    result = run("check")

    assert result.exit_code == 1
    assert f"Error: {declared} has no owners.yaml, so nobody is told of alerts." in result.output


def test_a_test_is_shown_and_not_sent(recorder: Recorder) -> None:
    result = run("test", "--team", "team:market-data")

    assert result.exit_code == 0
    assert [line for line in result.output.splitlines() if line and line[0] not in " N"] == [
        "email:a@example.org:",
        "slack:EVERYBODY:",
        "webhook:MARKET:",
    ]
    assert "Subject: [critical] TestAlert team:market-data" in result.output
    assert result.output.endswith("Nothing was sent. Add --send to send it.\n")
    assert recorder.paths == []


def test_a_test_that_is_sent_says_who_accepted_it(recorder: Recorder) -> None:
    result = run("test", "--team", "team:gone", "--send")

    assert (result.exit_code, result.output) == (0, "slack:EVERYBODY accepted it.\n")
    assert "This is a test: nothing is wrong." in recorder.bodies[0]["text"]


def test_a_test_that_is_refused_is_an_error(recorder: Recorder) -> None:
    recorder.always = 404

    result = run("test", "--team", "team:gone", "--send")

    assert result.exit_code == 1
    assert "slack:EVERYBODY: it answered 404" in result.output


def test_a_team_that_nobody_knows_is_an_error(recorder: Recorder) -> None:
    result = run("test", "--team", "team:markt")

    assert result.exit_code == 1
    assert "The teams are team:gone, team:market-data." in result.output


def test_where_nothing_is_set_nothing_is_red() -> None:
    result = run("test", "--send")

    assert result.exit_code == 0
    assert result.output.startswith("Not configured: no receiver has its variable (EVERYBODY")


def test_alertmanager_gets_the_test_where_there_is_one(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBON_ALERTS_ALERTMANAGER_URI", recorder.url)

    result = run("test", "--send")

    assert (result.exit_code, result.output) == (0, "alertmanager accepted it.\n")
    assert set(recorder.paths) == {"/api/v2/alerts"}


@pytest.mark.parametrize(
    "uri", ["alertmanager:9093", "ftp://host", "http://ann:s3cr3t@host", "http://[", "http://"]
)
def test_an_address_of_alertmanager_without_meaning_is_named(
    uri: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBON_ALERTS_ALERTMANAGER_URI", uri)

    result = run("check")

    assert result.exit_code == 1
    assert "CARBON_ALERTS_ALERTMANAGER_URI is" in result.output


def test_alertmanagers_configuration_is_printed_without_secrets(recorder: Recorder) -> None:
    result = run("render", "--secrets", "/run/secrets")

    assert result.exit_code == 0
    assert "url_file: /run/secrets/MARKET" in result.output
    assert recorder.url not in result.output
