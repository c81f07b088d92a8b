import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from carbon_pipelines.errors import NotCertifiedError
from carbon_pipelines.mart.build import why_not_published
from carbon_pipelines.mart.certified import load_certified
from carbon_pipelines.mart.dbt_run import DbtRun, NodeResult, last_words, load_results
from carbon_pipelines.mart.project import Mart, MartTest
from carbon_pipelines_tests.lake.local_lake import open_local

SOLD = Mart(
    name="sold",
    description="What was sold.",
    owner="team:sales",
    columns={},
    classifications=frozenset(),
    sources=(("shop", "orders"),),
    tests=(MartTest("one_row_a_day", "", blocks=True),),
)
MADE = NodeResult("model", "sold", "success", "OK", None)
TESTED = NodeResult("test", "one_row_a_day", "pass", "", 0)
WARNED = NodeResult("test", "one_row_a_day", "warn", "Got 1 result", 1)
FAILED = NodeResult("test", "one_row_a_day", "fail", "Got 2 results", 2)
SAID = "the lake is away"


def why(*nodes: NodeResult, published: bool = False) -> str | None:
    marts = frozenset({"sold", "other"} if published else {"other"})
    error = why_not_published(SOLD, DbtRun(1, nodes, marts, SAID))
    return f"{type(error).__name__}: {error}" if error else None


def test_a_mart_is_published_if_made_tested_and_committed() -> None:
    assert why(MADE, TESTED, published=True) is None
    assert why(MADE, WARNED, published=True) is None


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ((), "MartBuildError: mart/sold was not built: the lake is away."),
        (
            (
                NodeResult("model", "stg_orders", "error", "no column", None),
                NodeResult("model", "sold", "skipped", "", None),
            ),
            "MartBuildError: mart/sold was not built: stg_orders: no column.",
        ),
        ((MADE, FAILED), "for its tests failed: one_row_a_day: Got 2 results."),
        ((MADE,), "for its tests failed: one_row_a_day: was not run."),
        (
            (MADE, TESTED),
            "MartPublishError: mart/sold was built and could not be published: the lake is away.",
        ),
    ],
)
def test_whatever_else_happened_is_told_and_nothing_was_published(
    nodes: tuple[NodeResult, ...], told: str
) -> None:
    error = why(*nodes)

    assert error is not None
    assert told in error
    assert "before stays as it was" in error


def test_dbts_last_words_are_its_error_if_there_is_one() -> None:
    error = "10:00:00  Encountered an error:\nCompilation Error\n  the lake is away\n"

    assert last_words(f"many\nlines\n{error}") == "Compilation Error the lake is away"
    assert last_words("many\nlines\n") == "many lines"


def test_results_are_read_by_kind_and_name(tmp_path: Path) -> None:
    file = tmp_path / "run_results.json"
    file.write_text(
        json.dumps(
            {
                "results": [
                    {"unique_id": "model.shop.sold", "status": "success", "message": "OK"},
                    {
                        "unique_id": "test.shop.one_row_a_day.0123456789",
                        "status": "fail",
                        "message": "Got 2\n  results\n  compiled code at /tmp/x.sql",
                        "failures": 2,
                    },
                    {"unique_id": "test.shop.sold_once", "status": "skipped", "message": None},
                ]
            }
        )
    )

    assert load_results(file) == (
        NodeResult("model", "sold", "success", "OK", None),
        NodeResult("test", "one_row_a_day", "fail", "Got 2 results", 2),
        NodeResult("test", "sold_once", "skipped", "", None),
    )
    assert load_results(tmp_path / "none.json") == ()


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_local(tmp_path)


def test_a_source_without_a_certified_snapshot_says_which_command_makes_one(
    catalog: Catalog,
) -> None:
    with pytest.raises(NotCertifiedError, match='"carbon certify shop/orders"'):
        load_certified(catalog, [SOLD])

    catalog.create_namespace("shop")
    table = catalog.create_table(("shop", "orders"), pa.schema([("id", pa.int64())]))
    table.append(pa.table({"id": [1]}))
    with pytest.raises(NotCertifiedError, match="shop/orders has no certified snapshot"):
        load_certified(catalog, [SOLD])


def test_what_is_certified_is_read_and_not_what_came_after(catalog: Catalog) -> None:
    catalog.create_namespace("shop")
    table = catalog.create_table(("shop", "orders"), pa.schema([("id", pa.int64())]))
    table.append(pa.table({"id": [1]}))
    certified = table.current_snapshot()
    assert certified is not None
    table.manage_snapshots().create_branch(certified.snapshot_id, "certified").commit()
    table.append(pa.table({"id": [2]}))

    assert load_certified(catalog, [SOLD]) == {"shop.orders": certified.snapshot_id}
