from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.errors import (
    MartProjectError,
    MartProjectMissingError,
    SettingUnknownError,
    UnknownMartError,
)
from carbon_pipelines.mart.project import (
    MartTest,
    load_marts,
    mart_target,
    project_directory,
    require_project,
    select_marts,
)

PROJECT = require_project({})

STAGED = "select id, at from {{ certified(source('shop', 'orders')) }}"
SOLD = """\
-- not ref('nothing_at_all')
select * from {{ ref('stg_orders') }} {# nor ref('that') #} join {{ source("crm", "people") }}
"""
DESCRIBED = """\
models:
  - name: sold
    description: What was sold.
    config: {meta: {owner: "team:sales"}}
    data_tests:
      - grain: {name: one_row_a_day, arguments: {columns: [day]}}
    columns:
      - name: day
        description: The day.
        config: {meta: {classification: internal}}
        data_tests:
          - not_null: {name: knows_the_day, config: {severity: warn}}
"""


def write(directory: Path, **files: str) -> Path:
    """A dbt project of one mart; a file's name is its path with __ for slashes."""
    texts = {
        "dbt_project__yml": "name: shop\n",
        "models__staging__stg_orders__sql": STAGED,
        "models__marts__sold__sql": SOLD,
        "models__marts__marts__yml": DESCRIBED,
        **files,
    }
    for name, text in texts.items():
        *folders, stem, kind = name.split("__")
        file = directory.joinpath(*folders, f"{stem}.{kind}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return directory


def test_a_mart_is_known_by_its_files(tmp_path: Path) -> None:
    test = "-- Nothing is sold twice.\nselect 1 from {{ ref('sold') }}, {{ ref('stg_orders') }}"

    [mart] = load_marts(write(tmp_path, tests__sold_once__sql=test))

    assert (mart.name, mart.owner, mart.description) == ("sold", "team:sales", "What was sold.")
    assert mart.sources == (("crm", "people"), ("shop", "orders"))
    assert mart.columns == {"day": "The day."}
    assert mart.classifications == {"internal"}
    assert mart.tests == (
        MartTest("knows_the_day", "dbt test not_null of day.", blocks=False),
        MartTest("one_row_a_day", "dbt test grain.", blocks=True),
        MartTest("sold_once", "Nothing is sold twice.", blocks=True),
    )


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            {"models__marts__sold__sql": "select 1 from {{ ref('stg_order') }}"},
            r"sold\.sql: refers to stg_order, and there is no such model",
        ),
        (
            {"models__marts__marts__yml": DESCRIBED.replace("name: one_row_a_day, ", "")},
            r'marts\.yml: test grain of sold needs a "name"',
        ),
        (
            {"models__marts__marts__yml": DESCRIBED.replace("owner:", "boss:")},
            r"marts\.yml: sold needs a description and, as config\.meta\.owner, a team",
        ),
        ({"models__marts__marts__yml": "models: ["}, r"marts\.yml: while parsing"),
        (
            {"tests__of_nothing__sql": "select 1 from {{ ref('stg_orders') }}"},
            r"of_nothing\.sql: a test has to look at exactly one mart",
        ),
    ],
)
def test_a_project_that_says_too_little_is_told_where(
    tmp_path: Path, files: dict[str, str], reason: str
) -> None:
    with pytest.raises(MartProjectError, match=reason):
        load_marts(write(tmp_path, **files))


def test_the_project_is_where_the_variable_says_or_beside_the_package(tmp_path: Path) -> None:
    assert project_directory({"CARBON_DBT_DIR": str(write(tmp_path))}) == tmp_path
    assert project_directory({}) == Path(__file__).parent.parent.parent / "dbt"
    with pytest.raises(MartProjectMissingError, match="Set CARBON_DBT_DIR"):
        project_directory({"CARBON_DBT_DIR": str(tmp_path / "none")})


def test_marts_are_chosen_by_name_and_engines_by_variable() -> None:
    marts = load_marts(PROJECT)

    assert select_marts(marts, []) == marts
    assert [mart.name for mart in select_marts(marts, ["price_curve"])] == ["price_curve"]
    with pytest.raises(UnknownMartError, match=r'no mart "prices"\. There are carbon_cost'):
        select_marts(marts, ["prices"])
    assert mart_target({}) == "embedded"
    assert mart_target({"CARBON_MART_TARGET": "cluster"}) == "cluster"
    with pytest.raises(SettingUnknownError, match="production"):
        mart_target({"CARBON_MART_TARGET": "production"})


def test_sources_are_as_fresh_as_their_tables_promise() -> None:
    [source] = document("models/staging/sources.yml")["sources"]
    units = {"m": "minutes", "h": "hours"}
    told = {
        table["name"]: timedelta(**{units[meta[-1]]: int(meta[:-1])})
        for table in source["tables"]
        for meta in [table["config"]["meta"]["freshness"]]
    }

    promised = {table.name: table.freshness for table in load_catalog().database("market").tables}
    assert told == {name: promised[name] for name in told}
    assert {("market", name) for name in told} == {
        source for mart in load_marts(PROJECT) for source in mart.sources
    }


def test_nothing_of_the_project_is_without_a_description() -> None:
    described = [
        node
        for file in ("models/staging/staging.yml", "models/marts/marts.yml")
        for model in document(file)["models"]
        for node in (model, *model["columns"])
    ]
    models = {file.stem for file in (PROJECT / "models").rglob("*.sql")}

    assert all(node["description"] for node in described)
    assert models <= {node["name"] for node in described}


def test_dashboards_show_every_mart() -> None:
    shown = str(document("models/marts/exposures.yml")["exposures"])

    assert [mart.name for mart in load_marts(PROJECT) if f"ref('{mart.name}')" not in shown] == []


def document(file: str) -> dict[str, Any]:
    return yaml.safe_load((PROJECT / file).read_text(encoding="utf-8"))
