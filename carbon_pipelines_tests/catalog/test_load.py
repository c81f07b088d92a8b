from datetime import timedelta
from pathlib import Path

import pytest

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.catalog.load import Catalog, load_catalog
from carbon_pipelines.catalog.table import ColumnSpec, PartitionField, TableSpec
from carbon_pipelines.errors import DeclarationError, UnknownTableError
from carbon_pipelines_tests.catalog.declarations import PRICE_TICK, declare, minimal


def problems(root: Path) -> list[tuple[str, int, str]]:
    with pytest.raises(DeclarationError) as error:
        load_catalog(root)
    return [(path.name, line, reason) for path, line, reason in error.value.problems]


def test_a_declaration_becomes_a_table(tmp_path: Path) -> None:
    catalog = load_catalog(declare(tmp_path, "market", price_tick=PRICE_TICK))

    price_tick = TableSpec(
        database="market",
        name="price_tick",
        source_schema="public",
        source_table="price_tick",
        key=("instrument_id", "traded_at"),
        partitioning=(PartitionField(column="traded_at", transform="day"),),
        owner="team:market-data",
        freshness=timedelta(minutes=15),
        description="Trades as they are reported.",
        columns={
            "price": ColumnSpec(type="decimal(18,4)"),
            "trader": ColumnSpec(classification="confidential"),
            "tax_id": ColumnSpec(classification="restricted", protect="drop"),
        },
    )
    assert catalog == Catalog(
        (DatabaseSpec(name="market", owner="team:market-data", tables=(price_tick,)),)
    )
    assert price_tick.dropped_columns == {"tax_id"}


def test_a_typing_mistake_in_a_field_names_file_line_and_the_field_that_was_meant(
    tmp_path: Path,
) -> None:
    declare(tmp_path, "market", price_tick=PRICE_TICK.replace("freshness", "freshnes"))

    assert problems(tmp_path) == [
        ("price_tick.yaml", 1, '"freshness" is missing; every declaration of this kind has it'),
        ("price_tick.yaml", 5, '"freshnes" is not a field; did you mean "freshness"?'),
    ]


def test_the_message_says_where_what_and_what_to_do(tmp_path: Path) -> None:
    declare(tmp_path, "market", price_tick=PRICE_TICK.replace("15m", "a while"))

    with pytest.raises(DeclarationError) as error:
        load_catalog(tmp_path)

    assert str(error.value) == (
        "The declarations hold 1 mistake; nothing was loaded. "
        "Correct the lines named here and run again:\n"
        f"  {tmp_path}/market/price_tick.yaml:5: freshness: must be a whole number of minutes, "
        'hours or days, like 15m, 1h or 2d, not "a while"'
    )


def test_mistakes_deep_inside_name_their_own_line(tmp_path: Path) -> None:
    text = (
        "source_table: t\nkey: [id]\nfreshness: 1h\ndescription: Rows.\n"
        "partitioning:\n- column: at\n  transform: weekly\n"
        "columns:\n  name:\n    classification: secret\n  price:\n    typ: decimal(9,2)\n"
        "  amount:\n    type: decimal(39,2)\n"
    )
    declare(tmp_path, "market", t=text)

    assert problems(tmp_path) == [
        (
            "t.yaml",
            7,
            "partitioning[0].transform: must be identity, year, month, day, hour, bucket[N] or "
            'truncate[N] with N above 0, not "weekly"',
        ),
        (
            "t.yaml",
            10,
            "columns.name.classification: must be 'public', 'internal', 'confidential' or "
            "'restricted', not \"secret\"",
        ),
        ("t.yaml", 12, '"typ" is not a field; did you mean "type"?'),
        (
            "t.yaml",
            14,
            "columns.amount.type: must be string, or decimal(p,s) with p from 1 to 38 and s from "
            '0 to p, like decimal(18,4), not "decimal(39,2)"',
        ),
    ]


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (
            "pod: {cpu: 2, memory: 8}",
            "pod.memory: must be memory as Kubernetes writes it, like 8Gi",
        ),
        ("pod: {cpu: two, memory: 8Gi}", "pod.cpu: must be cores as Kubernetes writes them"),
        ("pod: {memory: 8Gi}", '"pod.cpu" is missing'),
        ("pod: {cpu: 2, memory: 8Gi, disk: 1Gi}", '"disk" is not a field; the fields are cpu'),
        ("engine: spark", "engine: must be 'native' or 'trino', not \"spark\""),
        ("mode: log", "mode: must be 'mirror', 'history' or 'append', not \"log\""),
        ("database: other", '"database" is not a field; the fields are'),
        ("freshness: 30s", '"freshness" is written twice; the first is on line 3'),
        ("columns: *x", "is not YAML: found undefined alias"),
        ("name: Tick", "name: must start with a letter a-z"),
        ("dead_letters: {at_most: many}", "dead_letters.at_most: must be a whole number from 0 to"),
        ("dead_letters: {at_most: 1001}", "dead_letters.at_most: must be a whole number from 0 to"),
        ("dead_letters: {then: go}", "dead_letters.then: must be 'park' or 'stop', not \"go\""),
        ("dead_letters: {max: 3}", '"max" is not a field; the fields are at_most, then'),
        ("name: carbon_dead_letters", 'name: "carbon_dead_letters" is the name of a table of our'),
    ],
)
def test_what_nothing_uses_or_understands_is_rejected_at_its_line(
    tmp_path: Path, field: str, reason: str
) -> None:
    declare(tmp_path, "market", t=minimal("t") + field + "\n")

    [(file, line, found)] = problems(tmp_path)

    assert (file, line) == ("t.yaml", 5)
    assert found.startswith(reason)


def test_how_many_events_may_be_set_aside_is_declared(tmp_path: Path) -> None:
    text = minimal("a") + "dead_letters:\n  at_most: 20\n  then: stop\n"
    declare(tmp_path, "market", a=text, b=minimal("b"))

    declared = [table.dead_letters for table in load_catalog(tmp_path).tables]

    assert [(one.at_most, one.then) for one in declared] == [(20, "stop"), (0, "park")]


def test_every_mistake_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    declare(tmp_path, "market", a="source_table: [", b="- 1\n", c=minimal("c", freshness="1w"))
    declare(tmp_path, "registry", d=minimal("d") + "mode: append\n")
    (tmp_path / "market" / "e.yml").write_text(minimal("e"))
    (tmp_path / "stray.yaml").write_text(minimal("stray"))

    assert [(file, line) for file, line, _ in problems(tmp_path)] == [
        ("a.yaml", 2),
        ("b.yaml", 1),
        ("c.yaml", 3),
        ("e.yml", 1),
        ("d.yaml", 5),
        ("stray.yaml", 1),
    ]


def test_a_key_column_cannot_be_dropped(tmp_path: Path) -> None:
    dropped = "columns:\n  note: {classification: public}\n  id:\n    protect: drop\n"
    declare(tmp_path, "market", t=minimal("t") + dropped)

    assert problems(tmp_path) == [
        (
            "t.yaml",
            8,
            'columns.id.protect: column "id" is part of the key, so it cannot be dropped; '
            'remove its "protect: drop" or leave it out of the key',
        )
    ]


def test_columns_that_yaml_would_take_for_booleans_or_numbers_stay_names(tmp_path: Path) -> None:
    text = minimal("t").replace("[id]", "[no, on, 1:30, 0x10]")

    catalog = load_catalog(declare(tmp_path, "market", t=text))

    assert catalog.database("market").table("t").key == ("no", "on", "1:30", "0x10")


def test_a_table_takes_its_databases_owner_unless_it_names_one(tmp_path: Path) -> None:
    own = minimal("b") + "owner: team:registry\n"
    catalog = load_catalog(declare(tmp_path, "market", a=minimal("a"), b=own))

    assert [table.owner for table in catalog.tables] == ["team:market-data", "team:registry"]


def test_a_file_is_called_as_its_table(tmp_path: Path) -> None:
    declare(tmp_path, "market", ticks=minimal("price_tick"))

    assert problems(tmp_path) == [
        (
            "ticks.yaml",
            1,
            'declares the table "price_tick"; call the file price_tick.yaml or set "name: ticks"',
        )
    ]


def test_one_source_table_is_declared_once(tmp_path: Path) -> None:
    second = "name: ticks\n" + minimal("price_tick")
    declare(tmp_path, "market", price_tick=minimal("price_tick"), ticks=second)

    assert problems(tmp_path) == [
        (
            "ticks.yaml",
            2,
            "public.price_tick is declared in price_tick.yaml already; keep one",
        )
    ]


def test_a_database_without_its_file_says_what_to_write(tmp_path: Path) -> None:
    declare(tmp_path, "market", t=minimal("t"))
    (tmp_path / "market" / "_database.yaml").unlink()

    assert problems(tmp_path) == [
        ("_database.yaml", 1, 'is missing; it says at least "owner: team:<name>"')
    ]


def test_a_capture_that_is_not_built_is_rejected(tmp_path: Path) -> None:
    declare(tmp_path, "market")
    (tmp_path / "market" / "_database.yaml").write_text("owner: team:a\n\ncapture: polling\n")

    assert problems(tmp_path) == [
        ("_database.yaml", 3, "capture: must be 'native' or 'debezium', not \"polling\"")
    ]


def test_tables_of_a_database_that_debezium_captures_know_how_values_are_written(
    tmp_path: Path,
) -> None:
    declare(tmp_path, "market", credit=minimal("credit"))
    (tmp_path / "market" / "_database.yaml").write_text(
        "owner: team:a\ncapture: debezium\ndebezium:\n  decimal_handling_mode: precise\n"
    )

    database = load_catalog(tmp_path).database("market")

    expected = DebeziumSpec(decimal_handling_mode="precise")
    assert (database.connector, database.tables[0].debezium) == (expected, expected)


@pytest.mark.parametrize(
    ("written", "line", "reason"),
    [
        (
            "owner: team:a\ndebezium: {}\n",
            2,
            'debezium: is only for "capture: debezium"; set that or remove this',
        ),
        (
            "owner: team:a\ncapture: debezium\ndebezium:\n  decimal_mode: string\n",
            4,
            '"decimal_mode" is not a field; did you mean "decimal_handling_mode"?',
        ),
    ],
)
def test_a_mistake_in_what_is_declared_about_debezium_names_its_line(
    tmp_path: Path, written: str, line: int, reason: str
) -> None:
    declare(tmp_path, "market")
    (tmp_path / "market" / "_database.yaml").write_text(written)

    assert problems(tmp_path) == [("_database.yaml", line, reason)]


def test_a_table_without_a_key_is_not_captured_by_debezium(tmp_path: Path) -> None:
    declare(tmp_path, "market")
    (tmp_path / "market" / "_database.yaml").write_text("owner: team:a\ncapture: debezium\n")
    (tmp_path / "market" / "log.yaml").write_text(
        "source_table: log\nmode: append\nfreshness: 1h\ndescription: A log.\n"
    )

    (problem,) = problems(tmp_path)

    assert problem[:2] == ("log.yaml", 2)
    assert 'its database "capture: native"' in problem[2]


def test_a_missing_directory_says_which_variable_points_at_it(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="CARBON_CATALOG_DIR"):
        load_catalog(tmp_path / "nowhere")


def test_text_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    declare(tmp_path, "market")
    (tmp_path / "market" / "t.yaml").write_bytes(b"source_table: t\n# caf\xe9\n")

    assert problems(tmp_path) == [("t.yaml", 2, "is not UTF-8 text; save it as UTF-8")]


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ((), ["market/a", "market/b", "registry/a"]),
        (("market",), ["market/a", "market/b"]),
        (("*/a", "market/a"), ["market/a", "registry/a"]),
        (("registry/a", "market/b"), ["market/b", "registry/a"]),
    ],
)
def test_patterns_choose_tables_once_and_in_order(
    tmp_path: Path, patterns: tuple[str, ...], chosen: list[str]
) -> None:
    declare(tmp_path, "market", a=minimal("a"), b=minimal("b"))
    declare(tmp_path, "registry", a=minimal("a"))

    assert [table.label for table in load_catalog(tmp_path).select(patterns)] == chosen


def test_a_pattern_that_names_nothing_is_an_error_and_not_no_work(tmp_path: Path) -> None:
    catalog = load_catalog(declare(tmp_path, "market", price_tick=minimal("price_tick")))

    with pytest.raises(UnknownTableError) as error:
        catalog.select(("market/price_tik",))

    assert error.value.name == "market/price_tik"
    assert "Close to it: market/price_tick." in str(error.value)


def test_the_packaged_declarations_load() -> None:
    assert load_catalog().database("market").tables


@pytest.mark.parametrize(
    ("written", "line", "reason"),
    [
        ("on_rewrite: ask", 5, "on_rewrite: must be 'recopy' or 'park', not \"ask\""),
        (
            "recopies_per_hour: 0",
            5,
            'recopies_per_hour: must be a whole number from 1 to 9999, like 3, not "0"',
        ),
        (
            "on_rewrite: park\nrecopies_per_hour: 3",
            6,
            'recopies_per_hour: counts copies that "on_rewrite: park" never makes; '
            "remove one of the two",
        ),
    ],
)
def test_what_answers_a_rewrite_is_told_with_its_line(
    tmp_path: Path, written: str, line: int, reason: str
) -> None:
    declare(tmp_path, "market", t=minimal("t") + written + "\n")

    assert problems(tmp_path) == [("t.yaml", line, reason)]


def test_a_rewrite_is_answered_by_three_copies_an_hour_unless_declared_otherwise(
    tmp_path: Path,
) -> None:
    more = minimal("b") + "recopies_per_hour: 20\n"
    catalog = load_catalog(declare(tmp_path, "market", a=minimal("a"), b=more))

    assert [(t.on_rewrite, t.recopies_per_hour) for t in catalog.database("market").tables] == [
        ("recopy", 3),
        ("recopy", 20),
    ]
