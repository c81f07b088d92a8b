"""``carbon datahub`` without a DataHub; ``integration/test_marts.py`` has it with one."""

import pytest
from click.testing import CliRunner

from carbon_pipelines.cli import cli
from carbon_pipelines_tests.cli.nowhere import NOWHERE


@pytest.mark.parametrize("command", ["plan", "emit"])
def test_without_an_address_a_command_says_which_variable_names_it(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CARBON_DATAHUB_URL", raising=False)

    result = CliRunner().invoke(cli, ["datahub", command])

    assert result.exit_code == 1
    assert "CARBON_DATAHUB_URL" in result.output


def test_a_scope_that_is_not_declared_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)

    result = CliRunner().invoke(cli, ["datahub", "draw", "nothing_like_it"])

    assert result.exit_code == 1
    assert "nothing_like_it" in result.output
