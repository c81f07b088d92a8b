from pathlib import Path

import pytest

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.catalog.propose_expectations import (
    ForeignKey,
    Promised,
    apply_proposal,
    propose_expectations,
    translate_check,
)
from carbon_pipelines.errors import DeclarationExistsError
from carbon_pipelines_tests.catalog.declarations import declare, minimal

COLUMNS = frozenset({"price", "state", "note", "Odd one"})
PROMISED = Promised(
    not_null=("id", "price", "secret"),
    labels={"state": ("open", "on, hold")},
    unique=(("id",), ("price", "state"), ("secret",)),
    foreign_keys=(
        ForeignKey(("plant_id",), ("public", "plant"), ("id",)),
        ForeignKey(("price",), ("public", "plant"), ("code",)),
        ForeignKey(("price",), ("other", "place"), ("id",)),
    ),
    checks=(
        ("t_price_check", "(price >= (0)::numeric)"),
        ("t_note_check", "(note ~ '^a'::text)"),
    ),
    ranges=(("id", "1", "9"), ("price", "0.5", "20")),
)


def test_what_the_source_promises_becomes_expectations(tmp_path: Path) -> None:
    declare(tmp_path, "market", t=minimal("t"), plant=minimal("plant"))
    plant, table = load_catalog(tmp_path).tables
    path = tmp_path / "market" / "t.yaml"
    columns = ["id", "price", "state", "note", "plant_id"]

    text = propose_expectations(table, PROMISED, columns, [plant, table])

    assert text == (
        "expectations:\n"
        "  - {kind: not_null, column: price, severity: critical}\n"
        "  - {kind: unique, columns: [id], severity: critical}\n"
        "  - {kind: unique, columns: [price, state], severity: critical}\n"
        "  - {kind: references, columns: [plant_id], table: plant}\n"
        "  - {kind: references, columns: [price], table: plant, to: [code]}\n"
        "# price refers to other.place, which is not declared\n"
        '  - {kind: in_set, column: state, values: [open, "on, hold"]}\n'
        '  - {kind: holds, name: t_price_check, condition: "(price >= (0))"}\n'
        "# no expectation can say CHECK t_note_check: (note ~ '^a'::text)\n"
        "# seen, and no promise of the source: - {kind: between, column: price, min: 0.5, "
        "max: 20}\n"
    )

    apply_proposal(path, text, "team:x")

    assert len(load_catalog(tmp_path).databases[0].table("t").expectations) == 7
    with pytest.raises(DeclarationExistsError):
        apply_proposal(path, text, "team:x")


def test_a_source_that_promises_nothing_gives_no_section(tmp_path: Path) -> None:
    (table,) = load_catalog(declare(tmp_path, "market", t=minimal("t"))).tables
    seen = Promised(ranges=(("price", "1", "2"),))

    assert propose_expectations(table, seen, ["price"], [table]) == ""


@pytest.mark.parametrize(
    ("check", "condition"),
    [
        (
            "(((state)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])"
            "::text[])))",
            "(((state) IN ('a', 'b')))",
        ),
        ("((price > 0) AND (length(note) < 9))", "((price > 0) AND (length(note) < 9))"),
        ("(note <> '::text'::text)", "(note <> '::text')"),
        ("(\"Odd one\" >= ('-1'::integer)::numeric)", "(\"Odd one\" >= ('-1'))"),
        ("(price / 2 > 1)", None),
        ("(note ~ '^a'::text)", None),
        ("public.is_fine(note)", None),
        ("(missing > 0)", None),
    ],
)
def test_a_check_is_translated_only_if_every_engine_reads_it_alike(
    check: str, condition: str | None
) -> None:
    assert translate_check(check, COLUMNS) == condition
