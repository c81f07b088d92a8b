"""The dbt project as dbt understands it; dbt alone takes seconds, no service is needed."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from carbon_pipelines.mart.dbt_run import DbtRun, run_dbt
from carbon_pipelines.mart.project import load_marts, require_project

pytestmark = pytest.mark.integration

PROJECT = require_project({})
MARTS = load_marts(PROJECT)


@dataclass(frozen=True, slots=True)
class Understood:
    run: DbtRun
    manifest: dict[str, Any]
    written: set[Path]
    """In the project itself."""


@pytest.fixture(scope="module")
def understood(tmp_path_factory: pytest.TempPathFactory) -> Understood:
    """dbt's unit tests, run on DuckDB without a lake, and the manifest that dbt writes for them."""
    work, before = tmp_path_factory.mktemp("dbt"), set(PROJECT.rglob("*"))
    run = run_dbt(
        ["test", "--select", "test_type:unit"],
        project=PROJECT,
        work=work,
        environ={"CARBON_MART_CERTIFIED": "{}", "CARBON_MART_TARGET": "embedded"},
    )
    manifest = json.loads((work / "target" / "manifest.json").read_text(encoding="utf-8"))
    return Understood(run, manifest, set(PROJECT.rglob("*")) - before)


def test_models_do_what_their_unit_tests_say(understood: Understood) -> None:
    results = {node.name: node.message or node.status for node in understood.run.nodes}
    units = {name: said for name, said in results.items() if not name.startswith("carbon-on-run")}

    declared = [unit["name"] for unit in understood.manifest["unit_tests"].values()]
    assert len(declared) >= 2
    assert {name.rpartition(".")[2]: said for name, said in units.items()} == dict.fromkeys(
        declared, "pass"
    ), understood.run.said


def test_the_graph_is_what_dbt_makes_of_the_project(understood: Understood) -> None:
    nodes, parents = understood.manifest["nodes"], understood.manifest["parent_map"]

    def sources(node: str) -> set[tuple[str, str]]:
        if node.startswith("source."):
            _, _, database, table = node.split(".")
            return {(database, table)}
        return {source for parent in parents[node] for source in sources(parent)}

    models = {name: node for name, node in nodes.items() if node["resource_type"] == "model"}
    marts = {node["name"]: name for name, node in models.items() if "marts" in node["fqn"]}
    tests: dict[str, set[tuple[str, bool]]] = defaultdict(set)
    for name, node in nodes.items():
        if node["resource_type"] == "test":
            [mart] = [mart for mart, model in marts.items() if model in parents[name]]
            tests[mart].add((node["name"], node["config"]["severity"].lower() == "error"))

    assert {mart.name for mart in MARTS} == set(marts)
    for mart in MARTS:
        assert set(mart.sources) == sources(marts[mart.name])
        assert {(test.name, test.blocks) for test in mart.tests} == tests[mart.name]
        assert mart.description == " ".join(nodes[marts[mart.name]]["description"].split())
        assert mart.columns.keys() == nodes[marts[mart.name]]["columns"].keys()


def test_dbt_writes_nothing_into_the_project(understood: Understood) -> None:
    assert understood.written == set()
