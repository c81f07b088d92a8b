"""Every statement that is sent to Doris, read by sqlglot's ``doris`` dialect as far as it goes."""

import inspect
import logging
from collections.abc import Callable

import pytest
import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError

from carbon_pipelines.serving import doris_statements as statements
from carbon_pipelines.serving.doris_statements import DorisColumn

COLUMNS = (
    DorisColumn("is_open", "BOOLEAN"),
    DorisColumn("quotes", "BIGINT"),
    DorisColumn("energy", "DOUBLE"),
    DorisColumn("price", "DECIMAL(12, 4)"),
    DorisColumn("who`s", "STRING"),
    DorisColumn("day", "DATE"),
    DorisColumn("hour_at", "DATETIME(6)"),
)
SECRET = {"type": "iceberg", "s3.secret_key": "it's \\ secret"}

UNDERSTOOD: dict[str, tuple[str, type[exp.Expression]]] = {
    "create_database": (statements.create_database("mart"), exp.Create),
    "list_tables": (statements.list_tables("mart"), exp.Select),
    "list_columns": (statements.list_columns("mart", "prices"), exp.Select),
    "create_table": (statements.create_table("mart", "prices", COLUMNS, replicas=3), exp.Create),
    "drop_table": (statements.drop_table("mart", "prices"), exp.Drop),
    "rename_table": (statements.rename_table("mart", "prices", "other"), exp.Alter),
    "insert_from_lake": (
        statements.insert_from_lake(
            "mart",
            "prices",
            COLUMNS,
            lake_table=statements.lake_name("lake", "mart", "prices"),
            snapshot_id=7,
        ),
        exp.Insert,
    ),
    "check_rows": (
        statements.check_rows(statements.internal_name("mart", "prices"), COLUMNS),
        exp.Select,
    ),
    "view_tasks": (statements.view_tasks("mart", "by_day"), exp.Select),
    "view_state": (statements.view_state("mart", "by_day"), exp.Select),
}
# The dialect takes these for a command and a text: it knows their first words alone.
OPAQUE: dict[str, tuple[str, str]] = {
    "create_catalog": (
        statements.create_catalog("lake", SECRET),
        "CREATE CATALOG IF NOT EXISTS `lake` PROPERTIES "
        "('type' = 'iceberg', 's3.secret_key' = 'it''s \\\\ secret')",
    ),
    "alter_catalog": (
        statements.alter_catalog("lake", {"uri": "http://x"}),
        "ALTER CATALOG `lake` SET PROPERTIES ('uri' = 'http://x')",
    ),
    "list_catalogs": (statements.list_catalogs(), "SHOW CATALOGS"),
    "show_catalog": (statements.show_catalog("lake"), "SHOW CATALOG `lake`"),
    "replace_table": (
        statements.replace_table("mart", "prices", "other"),
        "ALTER TABLE `mart`.`prices` REPLACE WITH TABLE `other` PROPERTIES ('swap' = 'false')",
    ),
}
# The dialect knows no REFRESH; these are held to the manual's words.
UNKNOWN: dict[str, tuple[str, str]] = {
    "refresh_catalog": (statements.refresh_catalog("lake"), "REFRESH CATALOG `lake`"),
    "refresh_database": (
        statements.refresh_database("lake", "mart"),
        "REFRESH DATABASE `lake`.`mart`",
    ),
    "refresh_table": (
        statements.refresh_table("lake", "mart", "prices"),
        "REFRESH TABLE `lake`.`mart`.`prices`",
    ),
    "refresh_view": (
        statements.refresh_view("mart", "by_day", "COMPLETE"),
        "REFRESH MATERIALIZED VIEW `mart`.`by_day` COMPLETE",
    ),
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("sqlglot").setLevel(logging.ERROR)


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_the_dialect_understands_a_statement(name: str) -> None:
    text, kind = UNDERSTOOD[name]
    assert type(sqlglot.parse_one(text, dialect="doris")) is kind


@pytest.mark.parametrize("name", OPAQUE)
def test_a_statement_that_the_dialect_only_passes_on_is_the_manuals(name: str) -> None:
    text, wanted = OPAQUE[name]
    assert isinstance(sqlglot.parse_one(text, dialect="doris"), exp.Command)
    assert text == wanted


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_statement_that_the_dialect_does_not_know_is_the_manuals(name: str) -> None:
    text, wanted = UNKNOWN[name]
    with pytest.raises(ParseError):
        sqlglot.parse_one(text, dialect="doris")
    assert text == wanted


def test_no_statement_is_left_out() -> None:
    def is_statement(found: object) -> bool:
        return inspect.isfunction(found) and found.__module__ == statements.__name__

    made: list[tuple[str, Callable[..., str]]] = inspect.getmembers(statements, is_statement)
    public = {name for name, _ in made if not name.startswith("_")}
    assert public - {"internal_name", "lake_name"} == {*UNDERSTOOD, *OPAQUE, *UNKNOWN}


def test_names_and_texts_are_quoted() -> None:
    assert "`who``s` STRING NULL" in statements.create_table("m", "t", COLUMNS, replicas=1)
    assert "'it''s'" in statements.view_state("mart", "it's")
