"""What ``carbon expire``, ``lease`` and ``orphans`` refuse before they reach any service."""

from datetime import timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from carbon_pipelines.cli import cli
from carbon_pipelines.cli.options import DURATION
from carbon_pipelines_tests.catalog.declarations import declare, minimal
from carbon_pipelines_tests.cli.nowhere import NOWHERE


@pytest.fixture(autouse=True)
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CARBON_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path / "declared"))
    declare(tmp_path / "declared", "market", credit=minimal("credit"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("6h", timedelta(hours=6)),
        ("3d", timedelta(days=3)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, duration: timedelta) -> None:
    assert DURATION.convert(text, None, None) == duration


@pytest.mark.parametrize("text", ["3", "d", "3w", "-1d", "1.5h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no duration"):
        DURATION.convert(text, None, None)


@pytest.mark.parametrize(
    "arguments", [("--older-than", "0d"), ("--keep", "0"), ("--at-most", "0")], ids=" ".join
)
def test_a_retention_of_zero_is_refused(arguments: tuple[str, ...]) -> None:
    result = run("expire", "market/credit", *arguments)

    assert result.exit_code == 1
    assert "that keeps nothing" in result.output


def test_an_age_of_orphans_below_the_floor_names_the_danger_and_the_flag() -> None:
    result = run("orphans", "market/credit", "--older-than", "1d", "--apply")

    assert result.exit_code == 1
    assert "a commit that is under way" in result.output
    assert "--may-take-files-of-running-writers" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("expire", "market/credt"),
        ("orphans", "market/credt"),
        ("orphans", "restore", "market/credt"),
        ("lease", "take", "market/credt", "--owner", "a", "--for", "1h"),
        ("lease", "list", "market/credt"),
        ("lease", "drop", "market/credt", "x"),
    ],
    ids=" ".join,
)
def test_a_name_that_is_not_declared_is_an_error_with_what_is(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert result.exit_code == 1
    assert result.output.startswith('Error: Nothing declared is called "')
