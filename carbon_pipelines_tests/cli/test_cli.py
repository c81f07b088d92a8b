import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from carbon_pipelines.cli import cli
from carbon_pipelines.cli.introspection import parse_relation
from carbon_pipelines_tests.catalog.declarations import PRICE_TICK, declare, minimal
from carbon_pipelines_tests.cli.nowhere import NOWHERE


@pytest.fixture(autouse=True)
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stack, no services, and declarations of our own."""
    for name in ("CARBON_STREAM_BOOTSTRAP", "CARBON_LAKE_CATALOG_TYPE", "CARBON_POSTGRES_BIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CARBON_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path / "declared"))
    declare(tmp_path / "declared", "market", price_tick=PRICE_TICK, credit=minimal("credit"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def reach_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that nothing answers at: enough for what is checked before connecting."""
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)


def test_every_command_explains_itself() -> None:
    for name, command in cli.commands.items():
        assert run(name, "--help").exit_code == 0
        assert command.help


def test_declared_tables_are_listed_with_what_is_promised() -> None:
    assert run("tables", "list").output.splitlines() == [
        "market/credit  <-  public.credit (id; mirror; within 15 min; team:market-data)",
        "market/price_tick  <-  public.price_tick (instrument_id, traded_at; mirror; "
        "within 15 min; team:market-data)",
    ]


def test_a_wrong_declaration_is_one_message_and_exit_code_1(tmp_path: Path) -> None:
    wrong = minimal("meter") + "ownr: team:a\n"
    declare(tmp_path / "declared", "market", meter=wrong)

    result = run("tables", "list")

    assert result.exit_code == 1
    assert result.output == (
        "Error: The declarations hold 1 mistake; nothing was loaded. Correct the lines named here "
        "and run again:\n"
        f'  {tmp_path}/declared/market/meter.yaml:5: "ownr" is not a field; did you mean "owner"?\n'
    )


@pytest.mark.parametrize("command", ["sync", "verify"])
def test_without_any_services_a_command_says_how_to_get_them(command: str) -> None:
    result = run(command)

    assert result.exit_code == 1
    assert "CARBON_STREAM_BOOTSTRAP" in result.output
    assert "carbon up" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("capture", "markt"),
        ("sync", "market/credt"),
        ("verify", "market/credt"),
        ("recopy", "market/credt"),
        ("recopy", "credit"),
    ],
)
def test_a_name_that_is_not_declared_is_an_error_with_what_is(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    reach_services(monkeypatch)

    result = run(*arguments)

    assert result.exit_code == 1
    assert result.output.startswith('Error: Nothing declared is called "')
    assert "market" in result.output


def test_status_of_a_stack_that_was_never_started_is_exit_code_1(tmp_path: Path) -> None:
    result = run("status")

    assert result.exit_code == 1
    assert result.output.splitlines()[0] == (f'{tmp_path}/home: not running; "carbon up" starts it')


def test_status_for_programs_is_json() -> None:
    document = json.loads(run("status", "--json").output)

    assert document["running"] is False
    assert {part["state"] for part in document["parts"]} == {"stopped"}


def test_verifying_nothing_is_not_a_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path / "empty"))
    reach_services(monkeypatch)

    result = run("verify")

    assert (result.exit_code, result.output) == (
        1,
        'Error: No table is declared yet; "carbon tables add" declares one.\n',
    )


@pytest.mark.parametrize(
    ("text", "relation"),
    [
        ("credit", ("public", "credit")),
        ("sales.Order", ("sales", "Order")),
        ('"my.schema"."a ""quoted"" one"', ("my.schema", 'a "quoted" one')),
    ],
)
def test_a_relation_is_spelled_as_in_psql(text: str, relation: tuple[str, str]) -> None:
    assert parse_relation(text) == relation


@pytest.mark.parametrize("text", ["a.b.c", ".b", "a.", '"a', ""])
def test_what_is_no_relation_is_a_usage_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("tables", "add", "market", text)

    assert result.exit_code == 2
    assert "is not schema.table" in result.output


def test_adding_a_table_without_a_source_names_the_variable() -> None:
    result = run("tables", "add", "market", "public.meter")

    assert result.exit_code == 1
    assert "CARBON_" in result.output


@pytest.mark.parametrize(
    "options", [("--yes",), ("--yes", "--reason", "why"), ("--repair", "--yes")], ids=" ".join
)
def test_a_repair_is_done_only_if_it_is_asked_for_and_a_reason_is_given(
    options: tuple[str, ...],
) -> None:
    result = run("verify", "market/credit", *options)

    assert result.exit_code == 2
    assert '--yes belongs to --repair and needs --reason "why".' in result.output
