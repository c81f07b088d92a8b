"""Every right is written down where it can be read, and no namespace is excepted in silence."""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from carbon_pipelines.cluster.graph import ServiceGraph
from carbon_pipelines.cluster.load import load_graph
from carbon_pipelines.cluster.security import (
    data_rights,
    expired,
    load_exceptions,
    rights_mistakes,
    rights_table,
)

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PAGE = ROOT / "docs" / "cluster" / "security.md"
BEGIN, END = "<!-- rights: generated -->\n", "<!-- /rights -->\n"
BEGIN_ROLES, END_ROLES = "<!-- roles: generated -->\n", "<!-- /roles -->\n"


@pytest.fixture(scope="module")
def graph() -> ServiceGraph:
    return load_graph(DEPLOY)


def objects(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*.yaml")):
        if path.name not in {"kustomization.yaml", "values.yaml", "service.yaml", "matrix.yaml"}:
            yield from (
                f for f in yaml.load_all(path.read_text(), Loader=LOADER) if f and "kind" in f
            )


def between(text: str, begin: str, end: str, wanted: str) -> str:
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return before + begin + wanted + end + after


def roles_table() -> str:
    roles = {
        found["metadata"]["name"].removeprefix("carbon-"): found
        for found in objects(DEPLOY / "policies" / "rbac")
        if found["kind"] == "ClusterRole"
    }
    bindings = [
        found
        for found in objects(DEPLOY / "policies" / "rbac")
        if found["kind"].endswith("RoleBinding") or found["kind"] == "ClusterRoleBinding"
    ]
    rows = []
    for name, role in roles.items():
        bound = [b for b in bindings if b["roleRef"]["name"] == f"carbon-{name}"]
        where = sorted({b["metadata"].get("namespace", "everywhere") for b in bound})
        who = sorted({s["name"] for b in bound for s in b["subjects"]})
        about = role["metadata"]["annotations"]["carbon-pipelines/about"]
        rows.append(f"| `{name}` | `{', '.join(who)}` | {', '.join(where)} | {about} |")
    return "\n".join(["| role | who | where | what |", "|---|---|---|---|", *rows]) + "\n"


def test_the_page_shows_the_rights_of_the_graph_and_the_roles(graph: ServiceGraph) -> None:
    text = PAGE.read_text()
    wanted = between(text, BEGIN, END, rights_table(data_rights(graph)))
    wanted = between(wanted, BEGIN_ROLES, END_ROLES, roles_table())
    if os.environ.get("CARBON_UPDATE_SNAPSHOT") == "1":
        PAGE.write_text(wanted)
    assert PAGE.read_text() == wanted, "run this test again with CARBON_UPDATE_SNAPSHOT=1"


def test_every_account_says_what_it_may_do(graph: ServiceGraph) -> None:
    assert rights_mistakes(data_rights(graph)) == ()


def test_a_kafka_user_is_declared_for_each_account_and_for_nobody_else(graph: ServiceGraph) -> None:
    users = {f["metadata"]["name"] for f in objects(DEPLOY / "base") if f["kind"] == "KafkaUser"}
    accounts = {right.account for right in data_rights(graph) if right.server == "kafka"}
    assert users == accounts


def test_no_kafka_user_may_do_everything() -> None:
    for found in objects(DEPLOY / "base"):
        if found["kind"] == "KafkaUser":
            for acl in found["spec"]["authorization"]["acls"]:
                assert "All" not in acl["operations"], found["metadata"]["name"]
                assert acl["resource"].get("name") != "*", found["metadata"]["name"]


def test_a_namespace_is_below_restricted_only_by_an_exception_that_holds() -> None:
    levels = {
        found["metadata"]["name"]: found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for found in objects(DEPLOY / "base" / "foundation")
        if found["kind"] == "Namespace"
    }
    exceptions = load_exceptions(DEPLOY)
    below = {name: level for name, level in levels.items() if level != "restricted"}
    assert below == {found.namespace: found.level for found in exceptions.values()}
    assert expired(exceptions, date.today()) == ()  # noqa: DTZ011


def test_every_namespace_of_the_graph_has_its_rules(graph: ServiceGraph) -> None:
    used = {service.namespace for service in graph.services if service.namespace}
    kinds = Counter(
        (found["kind"], found["metadata"].get("namespace", found["metadata"]["name"]))
        for found in objects(DEPLOY / "base" / "foundation")
    )
    for name in used:
        found = {kind for kind in ("Namespace", "ResourceQuota", "LimitRange") if kinds[kind, name]}
        assert found == {"Namespace", "ResourceQuota", "LimitRange"}, name


def test_nobody_but_provisioning_may_read_secrets_or_do_everything() -> None:
    for found in objects(DEPLOY / "policies" / "rbac"):
        if found["kind"] == "ClusterRole":
            for rule in found["rules"]:
                assert "secrets" not in rule["resources"], found["metadata"]["name"]
                assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
    admins = [
        [subject["name"] for subject in found["subjects"]]
        for found in objects(DEPLOY / "policies" / "rbac")
        if found["kind"] == "ClusterRoleBinding" and found["roleRef"]["name"] == "cluster-admin"
    ]
    assert admins == [["provisioner"]]


def test_there_are_roles_for_fifteen_kinds_of_people_and_services_and_all_are_asked() -> None:
    roles = {
        found["metadata"]["name"].removeprefix("carbon-")
        for found in objects(DEPLOY / "policies" / "rbac")
        if found["kind"] == "ClusterRole"
    }
    matrix = yaml.safe_load((DEPLOY / "policies" / "rbac" / "matrix.yaml").read_text())
    assert set(matrix["can"]) == roles
    assert len(roles) >= 15
    for name, can in matrix["can"].items():
        assert set(can) <= set(matrix["asked"]), name
