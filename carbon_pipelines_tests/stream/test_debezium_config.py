import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.cli import cli
from carbon_pipelines.stream.debezium_config import connector_config
from carbon_pipelines.stream.debezium_differences import DIFFERENCES
from carbon_pipelines.stream.topics import topic_of, topics_of
from carbon_pipelines_tests.catalog.declarations import declare, minimal
from carbon_pipelines_tests.stream.debezium import table

PAGE = Path(__file__).parents[2] / "docs" / "debezium.md"
DSN = "postgresql://reader:s3cret@db.example:5433/source?sslmode=verify-full"


def database(**more: object) -> DatabaseSpec:
    odd = table(source_schema="Sales, EU", source_table="t.x").model_copy(update={"name": "odd"})
    plain = table(columns={"secret": {"protect": "drop"}}, key=("id", "b"))
    fields = {"capture": "debezium", "tables": (plain, odd), **more}
    return DatabaseSpec.model_validate({"name": "market", "owner": "team:a", **fields})


def test_the_configuration_follows_from_the_declarations() -> None:
    config = connector_config(database(), DSN, password="${env:P}")

    chosen = {
        "database.hostname": "db.example",
        "database.port": "5433",
        "database.dbname": "source",
        "database.user": "reader",
        "database.password": "${env:P}",
        "database.sslmode": "verify-full",
        "slot.name": "carbon_market",
        "publication.name": "carbon_market",
        "topic.prefix": "cdc.market",
        "message.key.columns": r"Sales\x2c\ EU\.t\.x:id;public\.t:id,b",
        "column.exclude.list": r"public\.t\.secret",
        "table.include.list": r"carbon\.ddl_history,Sales\x2c\ EU\.t\.x,public\.t",
    }
    assert {name: config[name] for name in chosen} == chosen
    assert "s3cret" not in json.dumps(config)


def test_table_names_in_the_configuration_match_the_tables_alone() -> None:
    config = connector_config(database(), DSN, password="p")

    patterns = config["table.include.list"].split(",")
    names = ["carbon.ddl_history", "Sales, EU.t.x", "public.t"]
    assert [[bool(re.fullmatch(p, name)) for name in names] for p in patterns] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_topics_have_the_names_that_debezium_gives_them() -> None:
    assert topics_of(database()) == (
        "cdc.market.public.t",
        "cdc.market.Sales__EU.t.x",
        "cdc.market.carbon.ddl_history",
    )
    assert topic_of(table(source_table="a\N{CYCLONE}\u00e9")) == "cdc.market.public.a___"


def test_declared_modes_are_printed() -> None:
    values = DebeziumSpec(decimal_handling_mode="precise", binary_handling_mode="base64")
    tables = tuple(t.model_copy(update={"debezium": values}) for t in database().tables)

    config = connector_config(database(debezium=values, tables=tables), DSN, password="p")

    assert (config["decimal.handling.mode"], config["binary.handling.mode"]) == (
        "precise",
        "base64",
    )


def test_the_page_lists_the_differences_as_the_code_does() -> None:
    listed = PAGE.read_text(encoding="utf-8").split("## The differences\n")[1].split("\n\n")[0]

    rows = [f"| {d.what} | {d.when} | {d.outcome} |" for d in DIFFERENCES]
    assert listed.splitlines()[2:] == rows


def test_the_page_tells_of_every_setting_it_explains_what_is_printed() -> None:
    config = connector_config(database(), DSN, password="p")
    section = PAGE.read_text(encoding="utf-8").split("## What is printed, and why\n")[1]
    told = re.findall(r"^\| (.*?) \|", section.split("\n\n")[0], re.MULTILINE)[2:]

    for cell in told:
        for name, value in re.findall(r"`([a-z.]+)`(?: `([a-z0-9_]+)`)?", cell):
            if "." in name and not name.startswith("carbon."):
                assert config[name] == (value or config[name]), cell


@pytest.mark.parametrize("capture", ["debezium", "native"])
def test_the_command_prints_it_for_databases_that_a_connector_captures(
    capture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(tmp_path, "market", credit=minimal("credit"))
    (tmp_path / "market" / "_database.yaml").write_text(f"owner: team:a\ncapture: {capture}\n")
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path))
    monkeypatch.setenv("CARBON_HOME", str(tmp_path / "nowhere"))
    monkeypatch.setenv("CARBON_STREAM_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv("CARBON_SOURCE_MARKET_DSN", DSN)
    lake = (
        "CATALOG_URI",
        "WAREHOUSE",
        "S3_ENDPOINT",
        "S3_ACCESS_KEY",
        "S3_SECRET_KEY",
        "S3_REGION",
    )
    for name, value in {**dict.fromkeys(lake, "x"), "CATALOG_TYPE": "sql"}.items():
        monkeypatch.setenv(f"CARBON_LAKE_{name}", value)

    ran = CliRunner().invoke(cli, ["debezium", "config", "market"])

    if capture == "native":
        assert (ran.exit_code, "a connector reads none" in ran.output) == (1, True)
    else:
        printed = json.loads(ran.output)
        assert printed["database.password"] == "${env:CARBON_SOURCE_MARKET_PASSWORD}"
        assert "s3cret" not in ran.output
