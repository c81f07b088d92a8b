from pathlib import Path

import pytest

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.catalog.owners import OwnersSpec, ReceiverSpec, SmtpSpec
from carbon_pipelines.errors import DeclarationError
from carbon_pipelines_tests.catalog.declarations import declare, minimal

OWNERS = """\
default:
  - {kind: slack, url_variable: CARBON_ALERTS_SLACK}
teams:
  team:sales:
    - {kind: email, to: [oncall@example.org], severities: [critical]}
    - kind: webhook
      url_variable: PAGER
      token_variable: PAGER_TOKEN
smtp:
  host: mail.example.org
  sender: carbon@example.org
  user: carbon
  password_variable: MAIL_PASSWORD
"""
SECRET = "https://hooks.slack.com/services/T0/B0/s3cr3t"


def owners(root: Path, text: str, name: str = "owners.yaml") -> OwnersSpec | None:
    declare(root, "market", credit=minimal("credit"))
    (root / name).write_text(text, encoding="utf-8")
    return load_catalog(root).owners


def problems(root: Path, text: str) -> list[tuple[str, int, str]]:
    with pytest.raises(DeclarationError) as error:
        owners(root, text)
    assert "s3cr3t" not in str(error.value)
    return [(path.name, line, reason) for path, line, reason in error.value.problems]


def test_teams_have_receivers_and_secrets_only_names(tmp_path: Path) -> None:
    found = owners(tmp_path, OWNERS)

    assert found == OwnersSpec(
        default=(ReceiverSpec(kind="slack", url_variable="CARBON_ALERTS_SLACK"),),
        teams={
            "team:sales": (
                ReceiverSpec(kind="email", to=("oncall@example.org",), severities=("critical",)),
                ReceiverSpec(kind="webhook", url_variable="PAGER", token_variable="PAGER_TOKEN"),
            )
        },
        smtp=SmtpSpec(
            host="mail.example.org",
            sender="carbon@example.org",
            user="carbon",
            password_variable="MAIL_PASSWORD",
        ),
    )
    assert found.variables == ("CARBON_ALERTS_SLACK", "PAGER", "PAGER_TOKEN", "MAIL_PASSWORD")


def test_nobody_needs_to_be_told(tmp_path: Path) -> None:
    assert load_catalog(declare(tmp_path, "market", credit=minimal("credit"))).owners is None


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        (
            "url_variable: CARBON_ALERTS_SLACK",
            f'url_variable: "{SECRET}"',
            2,
            "default[0].url_variable: must be the name of an environment variable, like "
            "CARBON_ALERTS_SLACK_SALES, never the secret itself",
        ),
        (
            "url_variable: CARBON_ALERTS_SLACK",
            f'url: "{SECRET}"',
            2,
            '"url" is not a field; the fields are kind, severities, to, token_variable, '
            "url_variable",
        ),
        (
            "password_variable: MAIL_PASSWORD",
            "password_variable: s3cr3t",
            13,
            "smtp.password_variable: must be the name of an environment variable, like "
            "CARBON_ALERTS_SLACK_SALES, never the secret itself",
        ),
        (
            "password_variable: MAIL_PASSWORD",
            "password: s3cr3t",
            13,
            '"password" is not a field; did you mean "password_variable"?',
        ),
        (
            "kind: slack, url_variable: CARBON_ALERTS_SLACK",
            "kind: slack",
            2,
            "default[0].url_variable: is missing; it names the variable that holds the URL",
        ),
        (
            "kind: slack",
            "kind: pager",
            2,
            "default[0].kind: must be 'slack', 'email' or 'webhook', not \"pager\"",
        ),
        (
            "to: [oncall@example.org]",
            "to: [oncall]",
            5,
            "teams.team:sales[0].to[0]: must be an e-mail address, like oncall@example.org, "
            'not "oncall"',
        ),
        (
            "severities: [critical]",
            "severities: []",
            5,
            "teams.team:sales[0].severities: must not be empty",
        ),
        (
            "team:sales",
            "sales",
            4,
            'teams.sales: must name a team, like team:market-data, not "sales"',
        ),
        (
            "kind: slack,",
            "kind: slack, severities: [warning],",
            1,
            "default: nobody is told of critical alerts; one receiver here has to be",
        ),
        (
            "  password_variable: MAIL_PASSWORD\n",
            "",
            12,
            'smtp.user: "user" and "password_variable" come together; give both or neither',
        ),
        (OWNERS[:66], "", 1, '"default" is missing; every declaration of this kind has it'),
        (
            OWNERS[OWNERS.index("smtp:") :],
            "",
            5,
            'teams.team:sales[0].kind: e-mail needs the server under "smtp"; declare it',
        ),
    ],
)
def test_a_mistake_names_its_line_and_never_the_secret(
    tmp_path: Path, old: str, new: str, line: int, reason: str
) -> None:
    assert old in OWNERS

    assert (("owners.yaml", line, reason)) in problems(tmp_path, OWNERS.replace(old, new, 1))


def test_another_ending_is_not_read_and_not_silence(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"owners\.yml:1: is not read; call it owners\.yaml"):
        owners(tmp_path, OWNERS, "owners.yml")


def test_the_demo_tells_every_team_of_its_own() -> None:
    catalog = load_catalog()

    assert catalog.owners is not None
    assert set(catalog.owners.teams) == {table.owner for table in catalog.tables}
