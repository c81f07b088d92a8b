"""Plans lead from the publications that are there to those that are wanted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.errors import PublicationConflictError
from carbon_pipelines.source.publication import (
    Publication,
    plan_publications,
    wanted_publications,
)

NAMES = ("carbon_market", "carbon_market_keyless")
HISTORY = ("carbon", "ddl_history")
TRADE, LOG = ("public", "trade"), ("public", "log")


def wanted(keyed, keyless, version=180_004):
    return wanted_publications(NAMES, keyed, keyless, server_version=version)


def after(plan, current):
    """What the plan's statements make of ``current``, checking each step."""
    tables = {publication.name: set(publication.tables) for publication in current}
    for step in plan.steps:
        held = tables.setdefault(step.publication.name, set())
        assert step.kind != "create" or not held
        if step.kind == "drop":
            assert held.issuperset(step.tables)
            held.difference_update(step.tables)
        if step.kind == "add":
            assert not any(other.intersection(step.tables) for other in tables.values())
            held.update(step.tables)
    return tables


TABLES = st.frozensets(st.sampled_from([("public", name) for name in "abcdef"]))


@given(TABLES, TABLES, TABLES, TABLES)
def test_any_plan_ends_at_what_is_wanted_with_no_table_in_both(one, other, keyed, keyless):
    current = wanted(one, other - one)
    target = wanted(keyed, keyless - keyed)
    tables = after(plan_publications(current, target), current)
    assert tables == {publication.name: set(publication.tables) for publication in target}


@given(TABLES, TABLES)
def test_nothing_is_planned_when_everything_is_there(keyed, keyless):
    target = wanted(keyed, keyless - keyed)
    assert plan_publications(target, target).steps == ()


def test_a_first_plan_reads_as_its_sql():
    plan = plan_publications((), wanted([TRADE, HISTORY], [LOG]))
    assert str(plan).splitlines() == [
        "CREATE PUBLICATION \"carbon_market\" WITH (publish = 'insert, update, delete, truncate',"
        " publish_via_partition_root = false, publish_generated_columns = stored);",
        "CREATE PUBLICATION \"carbon_market_keyless\" WITH (publish = 'insert, truncate',"
        " publish_via_partition_root = false, publish_generated_columns = stored);",
        'ALTER PUBLICATION "carbon_market" ADD TABLE ONLY "carbon"."ddl_history", '
        'TABLE ONLY "public"."trade";',
        'ALTER PUBLICATION "carbon_market_keyless" ADD TABLE ONLY "public"."log";',
    ]
    assert plan.added == (HISTORY, TRADE, LOG)


def test_a_table_that_lost_its_key_leaves_before_it_enters():
    current = wanted([HISTORY, TRADE], [], version=150_018)
    plan = plan_publications(current, wanted([HISTORY], [TRADE], version=150_018))
    assert str(plan).splitlines() == [
        'ALTER PUBLICATION "carbon_market" DROP TABLE ONLY "public"."trade";',
        'ALTER PUBLICATION "carbon_market_keyless" ADD TABLE ONLY "public"."trade";',
    ]


def test_options_that_somebody_changed_are_set_back():
    main, keyless = wanted([HISTORY], [])
    changed = Publication(main.name, frozenset({"insert"}), main.tables, main.generated)
    steps = plan_publications((changed, keyless), (main, keyless)).steps
    assert [step.kind for step in steps] == ["set"]


def test_a_column_list_that_somebody_gave_is_taken_off():
    main, keyless = wanted([HISTORY, TRADE], [])
    limited = Publication(
        main.name, main.operations, main.tables, main.generated, partial=frozenset({TRADE})
    )
    steps = plan_publications((limited, keyless), (main, keyless)).steps
    assert [(step.kind, step.tables) for step in steps] == [("drop", (TRADE,)), ("add", (TRADE,))]


def test_a_publication_of_all_tables_is_somebody_elses():
    other = Publication(NAMES[0], frozenset({"insert"}), frozenset(), foreign="FOR ALL TABLES")
    with pytest.raises(PublicationConflictError, match="FOR ALL TABLES") as refusal:
        plan_publications((other,), wanted([HISTORY], []))
    assert refusal.value.publication == "carbon_market"


def test_an_empty_plan_says_so():
    assert str(plan_publications(wanted([], []), wanted([], []))) == "-- nothing to change"
