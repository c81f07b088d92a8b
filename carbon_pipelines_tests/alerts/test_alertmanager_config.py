"""What is rendered is what Alertmanager's documentation allows, and leads where we would send."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from carbon_pipelines.alerts.alertmanager_config import render_config
from carbon_pipelines.alerts.routing import make_routing
from carbon_pipelines.catalog.owners import SEVERITIES, AlertSeverity, OwnersSpec
from carbon_pipelines.errors import AlertmanagerMailError
from carbon_pipelines_tests.alerts.saying import alert

OWNERS = OwnersSpec.model_validate(
    {
        "default": [
            {"kind": "slack", "url_variable": "ALL"},
            {"kind": "email", "to": ["all@example.org"], "severities": ["critical"]},
        ],
        "teams": {
            "team:a": [
                {"kind": "webhook", "url_variable": "PAGER", "token_variable": "TOKEN"},
                {"kind": "slack", "url_variable": "A", "severities": ["warning"]},
            ],
            "team:b": [{"kind": "email", "to": ["b@x.org", "c@x.org"], "severities": ["critical"]}],
        },
        "smtp": {
            "host": "mail.example.org",
            "sender": "carbon@example.org",
            "user": "carbon",
            "password_variable": "PASSWORD",
        },
    }
)
# docs/configuration.md of Alertmanager: the fields of each part that are used here
FIELDS: Mapping[str, set[str]] = {
    "": {"global", "route", "receivers"},
    "global": {
        "smtp_smarthost",
        "smtp_from",
        "smtp_require_tls",
        "smtp_auth_username",
        "smtp_auth_password_file",
    },
    "route": {
        "receiver",
        "matchers",
        "group_by",
        "group_wait",
        "group_interval",
        "repeat_interval",
        "routes",
    },
    "receiver": {"name", "slack_configs", "webhook_configs", "email_configs"},
    "slack_configs": {"api_url_file", "send_resolved", "title", "text"},
    "webhook_configs": {"url_file", "send_resolved", "http_config"},
    "email_configs": {"to", "send_resolved"},
}


def rendered(owners: OwnersSpec = OWNERS) -> dict[str, Any]:
    return yaml.safe_load(render_config(owners, secrets="/run/secrets"))


def test_every_field_is_one_that_alertmanager_has() -> None:
    config = rendered()

    assert set(config) == FIELDS[""]
    assert set(config["global"]) == FIELDS["global"]
    for route in (config["route"], *config["route"]["routes"]):
        assert set(route) <= FIELDS["route"]
    for receiver in config["receivers"]:
        assert set(receiver) <= FIELDS["receiver"]
        for kind in set(receiver) - {"name"}:
            for one in receiver[kind]:
                assert set(one) <= FIELDS[kind]
    names = [receiver["name"] for receiver in config["receivers"]]
    assert len(set(names)) == len(names)
    assert {route["receiver"] for route in config["route"]["routes"]} <= set(names)
    assert "matchers" not in config["route"]  # the root has to match everything


def told(config: Mapping[str, Any], team: str, severity: str) -> set[str]:
    """Where Alertmanager would send: the first route whose matchers all hold, else the root's."""
    matching = [
        route["receiver"]
        for route in config["route"]["routes"]
        if set(route["matchers"]) <= {f'team="{team}"', f'severity="{severity}"'}
    ]
    name = matching[0] if matching else config["route"]["receiver"]
    [receiver] = [one for one in config["receivers"] if one["name"] == name]
    files = {
        f"slack:{one['api_url_file'].rpartition('/')[2]}"
        for one in receiver.get("slack_configs", ())
    }
    files |= {
        f"webhook:{one['url_file'].rpartition('/')[2]}"
        for one in receiver.get("webhook_configs", ())
    }
    return files | {f"email:{one['to']}" for one in receiver.get("email_configs", ())}


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("team", ["team:a", "team:b", "team:nobody", ""])
def test_alertmanager_tells_whom_we_would_tell(team: str, severity: AlertSeverity) -> None:
    routing = make_routing(OWNERS, dict.fromkeys(OWNERS.variables, "https://x"))

    ours = routing.routes(alert(team=team, severity=severity))

    assert told(rendered(), team, severity) == set(ours)


def test_secrets_are_files_called_like_their_variables() -> None:
    config = rendered()

    assert config["global"] == {
        "smtp_smarthost": "mail.example.org:587",
        "smtp_from": "carbon@example.org",
        "smtp_require_tls": True,
        "smtp_auth_username": "carbon",
        "smtp_auth_password_file": "/run/secrets/PASSWORD",
    }
    [pager] = [one for one in config["receivers"] if one["name"] == "team:a critical"]
    assert pager["webhook_configs"] == [
        {
            "url_file": "/run/secrets/PAGER",
            "send_resolved": True,
            "http_config": {"authorization": {"credentials_file": "/run/secrets/TOKEN"}},
        }
    ]


@pytest.mark.parametrize(("port", "security"), [(465, "starttls"), (587, "tls")])
def test_a_mail_server_that_alertmanager_cannot_reach_is_an_error(port: int, security: str) -> None:
    assert OWNERS.smtp is not None
    smtp = OWNERS.smtp.model_copy(update={"port": port, "security": security})

    with pytest.raises(AlertmanagerMailError, match=f"port {port}"):
        render_config(OWNERS.model_copy(update={"smtp": smtp}))


def test_tls_from_the_first_byte_asks_for_no_starttls() -> None:
    assert OWNERS.smtp is not None
    smtp = OWNERS.smtp.model_copy(update={"port": 465, "security": "tls"})

    config = rendered(OWNERS.model_copy(update={"smtp": smtp}))

    assert config["global"]["smtp_require_tls"] is False
