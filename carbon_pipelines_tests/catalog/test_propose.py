from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_pipelines.catalog.document import parse_document
from carbon_pipelines.catalog.load import declared_table, load_catalog
from carbon_pipelines.catalog.propose import (
    ColumnFacts,
    NumericDigits,
    Promise,
    TableFacts,
    apply_declaration,
    plan_declaration,
    propose_decimal,
)
from carbon_pipelines.catalog.rules import RESERVED_SCHEMAS
from carbon_pipelines.errors import DeclarationError, DeclarationExistsError
from carbon_pipelines_tests.catalog.declarations import declare, minimal

PROMISE = Promise(owner="team:sales", freshness="15m")
ORDER = TableFacts(
    schema="sales",
    name="Order",
    comment="Orders: one row\neach.",
    columns=(
        ColumnFacts("line", "integer", nullable=False, key_position=1),
        ColumnFacts("order id", "bigint", nullable=False, key_position=0),
        ColumnFacts("email", "text", nullable=True, key_position=None),
        ColumnFacts("price", "numeric", True, None, NumericDigits(6, 4, 900, 0)),  # noqa: FBT003
        ColumnFacts("ratio", "numeric", True, None, NumericDigits(1, 2, 900, 3)),  # noqa: FBT003
    ),
)

names = st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=20
)


def test_a_new_table_is_written_with_its_key_its_columns_and_a_decimal_that_fits(
    tmp_path: Path,
) -> None:
    apply_declaration(plan_declaration(tmp_path, "shop", ORDER, PROMISE))

    assert (tmp_path / "shop" / "_database.yaml").read_text() == "owner: team:sales\n"
    assert (tmp_path / "shop" / "sales_order.yaml").read_text() == (
        "source_schema: sales\n"
        "source_table: Order\n"
        'key: ["order id", line]\n'
        "owner: team:sales\n"
        "freshness: 15m\n"
        'description: "Orders: one row each."\n'
        "\n"
        "# Every column is captured; one is listed below only to say more about it:\n"
        "#   classification: public | internal | confidential | restricted\n"
        "#   protect: drop               never leaves the source\n"
        '#   type: "decimal(18,4)"       for a numeric without precision; else it is a string\n'
        "# Columns in the source today:\n"
        "#   line: integer  (not null)\n"
        "#   order id: bigint  (not null)\n"
        "#   email: text  (may be personal or secret: classify it, or protect: drop)\n"
        "#   price: numeric  (widest of 900 values: 6 digits before the point, 4 after)\n"
        "#   ratio: numeric  (3 values are NaN or infinite, so it stays a string)\n"
        "columns:\n"
        "  price:\n"
        '    type: "decimal(18,6)"\n'
    )
    assert load_catalog(tmp_path).database("shop").table("sales_order").key == ("order id", "line")


def test_a_table_without_a_key_is_proposed_as_append(tmp_path: Path) -> None:
    log = TableFacts("public", "log", "", (ColumnFacts("line", "text", False, None),))  # noqa: FBT003

    apply_declaration(plan_declaration(tmp_path, "shop", log, PROMISE))

    assert load_catalog(tmp_path).database("shop").table("log").mode == "append"


def test_a_declaration_is_never_overwritten(tmp_path: Path) -> None:
    declare(tmp_path, "shop", sales_order=minimal("other") + "name: sales_order\n")
    before = (tmp_path / "shop" / "sales_order.yaml").read_text()

    with pytest.raises(DeclarationExistsError, match=r"sales_order\.yaml already exists"):
        plan_declaration(tmp_path, "shop", ORDER, PROMISE)

    assert (tmp_path / "shop" / "sales_order.yaml").read_text() == before


def test_a_source_table_that_another_file_declares_is_not_declared_again(tmp_path: Path) -> None:
    plan = plan_declaration(tmp_path, "shop", ORDER, Promise("team:sales", "15m", name="orders"))
    apply_declaration(plan)

    with pytest.raises(DeclarationExistsError, match=r"orders\.yaml"):
        plan_declaration(tmp_path, "shop", ORDER, PROMISE)


def test_a_file_that_appears_between_plan_and_write_is_left_alone(tmp_path: Path) -> None:
    plan = plan_declaration(tmp_path, "shop", ORDER, PROMISE)
    declare(tmp_path, "shop")

    with pytest.raises(DeclarationExistsError):
        apply_declaration(plan)


def test_a_promise_that_no_declaration_may_hold_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(DeclarationError, match="freshness: must be a whole number"):
        plan_declaration(tmp_path, "shop", ORDER, Promise("team:sales", "soon"))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("digits", "decimal"),
    [
        (NumericDigits(before=6, after=4, finite_rows=1, other_rows=0), "decimal(18,6)"),
        (NumericDigits(before=20, after=9, finite_rows=1, other_rows=0), "decimal(35,11)"),
        (NumericDigits(before=30, after=8, finite_rows=1, other_rows=0), "decimal(38,8)"),
        (NumericDigits(before=30, after=9, finite_rows=1, other_rows=0), None),
        (NumericDigits(before=1, after=0, finite_rows=1, other_rows=1), None),
        (NumericDigits(before=0, after=0, finite_rows=0, other_rows=0), None),
    ],
)
def test_a_decimal_is_proposed_only_where_it_holds_everything_seen(
    digits: NumericDigits, decimal: str | None
) -> None:
    assert propose_decimal(digits) == decimal


@settings(deadline=None)
@given(names, names, st.lists(names, min_size=1, max_size=3, unique=True))
def test_whatever_a_table_is_called_its_declaration_says_the_same(
    schema: str, name: str, key: list[str]
) -> None:
    columns = tuple(
        ColumnFacts(column, "numeric", False, at, NumericDigits(1, 1, 1, 0))  # noqa: FBT003
        for at, column in enumerate(key)
    )
    facts = TableFacts(schema, name, comment=name, columns=columns)
    promise = Promise("team:sales", "15m", name="t")
    if schema in RESERVED_SCHEMAS:
        return

    plan = plan_declaration(Path("nowhere"), "shop", facts, promise)
    path, text = plan.files[-1]
    table = declared_table(parse_document(path, text), owner="team:sales")

    assert (table.source_schema, table.source_table, table.key) == (schema, name, tuple(key))
    assert set(table.columns) == set(key)
