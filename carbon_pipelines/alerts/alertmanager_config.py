"""Alertmanager's configuration from ``owners.yaml``: the same people, the same ways.

What belongs here: routes and receivers as its documentation ("Configuration") has them. What does
not: Alertmanager itself, and secrets: each is a file that is called like its variable.

Routes are flat, one for each team and severity that somebody is declared for; everything else falls
to the default receivers, as it does when we send ourselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from carbon_pipelines.catalog.owners import SEVERITIES, OwnersSpec, ReceiverSpec, SmtpSpec
from carbon_pipelines.errors import AlertmanagerMailError

SECRETS = "/etc/alertmanager/secrets"
_IMPLICIT_TLS_PORT = 465

_ESCAPED = 'reReplaceAll "&" "&amp;" | reReplaceAll "<" "&lt;" | reReplaceAll ">" "&gt;"'
_SLACK_TITLE = (
    "{{ .Status | toUpper }}: {{ len .Alerts }} {{ .GroupLabels.alertname }} "
    "{{ .CommonLabels.asset }}"
)
_SLACK_TEXT = (
    "{{ range .Alerts }}"
    f"{{{{ .Labels.asset }}}} {{{{ .Annotations.summary | {_ESCAPED} }}}}\n"
    "<{{ .Annotations.link }}|Dagster> · {{ .Annotations.runbook_url }}\n"
    "{{ end }}"
)


def render_config(owners: OwnersSpec, *, secrets: str = SECRETS) -> str:
    """The whole file, as YAML; ``secrets`` is the directory of the files with them.

    Raises:
        AlertmanagerMailError: The mail server is reached in a way that Alertmanager does not know.
    """
    ways = {("default", severity): owners.default for severity in SEVERITIES}
    ways |= {
        (team, severity): receivers
        for team, receivers in owners.teams.items()
        for severity in SEVERITIES
    }
    receivers: list[dict[str, Any]] = []
    routes: list[dict[str, Any]] = []
    for (team, severity), specs in ways.items():
        told = [spec for spec in specs if severity in spec.severities]
        if not told:
            continue
        name = f"{team} {severity}"
        receivers.append({"name": name, **_receiver(told, secrets)})
        if team != "default":
            matchers = [_equals("team", team), _equals("severity", severity)]
            routes.append({"receiver": name, "matchers": matchers})
    critical, warning = (f"default {severity}" for severity in SEVERITIES)
    routes.append({"receiver": warning, "matchers": [_equals("severity", "warning")]})
    document = {
        **({"global": _mail(owners.smtp, secrets)} if owners.smtp is not None else {}),
        "route": {
            "receiver": critical,
            "group_by": ["team", "alertname"],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": "4h",
            "routes": routes,
        },
        "receivers": receivers,
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1_000)


def _equals(label: str, value: str) -> str:
    """A matcher that the old and the new parser read alike; a team holds nothing to escape."""
    return f'{label}="{value}"'


def _receiver(specs: Sequence[ReceiverSpec], secrets: str) -> Mapping[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {}
    for spec in specs:
        if spec.kind == "email":
            mails = [{"to": address, "send_resolved": True} for address in spec.to]
            found.setdefault("email_configs", []).extend(mails)
            continue
        url = f"{secrets}/{spec.url_variable}"
        if spec.kind == "slack":
            slack = {"api_url_file": url, "send_resolved": True}
            texts = {"title": _SLACK_TITLE, "text": _SLACK_TEXT}
            found.setdefault("slack_configs", []).append(slack | texts)
            continue
        webhook: dict[str, Any] = {"url_file": url, "send_resolved": True}
        if spec.token_variable is not None:
            file = f"{secrets}/{spec.token_variable}"
            webhook["http_config"] = {"authorization": {"credentials_file": file}}
        found.setdefault("webhook_configs", []).append(webhook)
    return found


def _mail(smtp: SmtpSpec, secrets: str) -> Mapping[str, Any]:
    """The mail server; on port 465, and only there, Alertmanager speaks TLS from the first byte."""
    if (smtp.security == "tls") != (smtp.port == _IMPLICIT_TLS_PORT):
        raise AlertmanagerMailError(smtp.port, smtp.security)
    settings: dict[str, Any] = {
        "smtp_smarthost": f"{smtp.host}:{smtp.port}",
        "smtp_from": smtp.sender,
        "smtp_require_tls": smtp.security == "starttls",
    }
    if smtp.user is not None:
        settings["smtp_auth_username"] = smtp.user
        settings["smtp_auth_password_file"] = f"{secrets}/{smtp.password_variable}"
    return settings
