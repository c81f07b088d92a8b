"""Dashboards and rules speak of metrics that something exports; alerts reach who is declared."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from carbon_pipelines.alerts.alertmanager_config import render_config
from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.catalog.owners import OwnersSpec
from carbon_pipelines.cluster.load import load_graph

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy" / "base" / "monitoring"
MOUNTED = "/etc/alertmanager/secrets/alertmanager-receivers"
# What PromQL itself brings, and names of labels.
LANGUAGE = {"sum", "max", "min", "count", "by", "on", "ignoring", "rate", "increase", "time"} | {
    "vector",
    "or",
}
HEADER = "# Generated from owners.yaml, as `carbon alerts render` prints it; every edit is lost.\n"


def owners() -> OwnersSpec:
    found = load_catalog(ROOT / "carbon_pipelines" / "catalog" / "tables").owners
    assert found is not None
    return found


def variables(declared: OwnersSpec) -> list[str]:
    receivers = [*declared.default, *(r for team in declared.teams.values() for r in team)]
    named = {v for r in receivers for v in (r.url_variable, r.token_variable) if v}
    if declared.smtp is not None and declared.smtp.password_variable:
        named.add(declared.smtp.password_variable)
    return sorted(named)


def receivers(declared: OwnersSpec) -> str:
    """The Secret with a file for each variable, copied from the vault."""
    data = [
        {"secretKey": name, "remoteRef": {"key": "monitoring/receivers", "property": name}}
        for name in variables(declared)
    ]
    secret = {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": "alertmanager-receivers"},
        "spec": {
            "refreshInterval": "1h",
            "secretStoreRef": {"kind": "ClusterSecretStore", "name": "vault"},
            "target": {"name": "alertmanager-receivers"},
            "data": data,
        },
    }
    return HEADER + yaml.safe_dump(secret, sort_keys=False)


def test_alertmanager_tells_those_whom_owners_yaml_names() -> None:
    declared = owners()
    wanted = {
        "alertmanager.yaml": HEADER + render_config(declared, secrets=MOUNTED),
        "receivers.yaml": receivers(declared),
    }
    if os.environ.get("CARBON_UPDATE_SNAPSHOT") == "1":
        for name, text in wanted.items():
            (MONITORING / name).write_text(text)
    committed = {name: (MONITORING / name).read_text() for name in wanted}
    assert committed == wanted, "run this test again with CARBON_UPDATE_SNAPSHOT=1"
    for name in variables(declared):
        assert f"{MOUNTED}/{name}" in wanted["alertmanager.yaml"]


def expressions() -> Iterator[tuple[str, str]]:
    for path in sorted((MONITORING / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            if panel["datasource"]["type"] == "prometheus":
                yield from ((f"{path.stem}: {panel['title']}", t["expr"]) for t in panel["targets"])
    for document in yaml.load_all((MONITORING / "rules.yaml").read_text(), Loader=LOADER):
        for group in document["spec"]["groups"]:
            yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])


def metrics(expression: str) -> set[str]:
    """Names in PromQL that are no word of the language, label, or text between quotes."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|ignoring|without)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"\b[a-z_][a-zA-Z0-9_]*\b", bare)) - LANGUAGE


def test_every_metric_that_is_shown_or_watched_is_exported_by_something() -> None:
    known = yaml.safe_load((MONITORING / "metrics.yaml").read_text())
    used = {(where, name) for where, text in expressions() for name in metrics(text)}
    assert {(where, name) for where, name in used if name not in known} == set()
    assert len({name for _, name in used}) >= 40
    ours = [name for name in known if name.startswith("carbon")]
    assert ours == [], "the code exports no metric; see the head of metrics.yaml"


def test_dashboards_are_found_by_grafana_and_each_has_its_own_name() -> None:
    paths = sorted((MONITORING / "dashboards").glob("*.json"))
    listed = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())["configMapGenerator"]
    shown = {
        file
        for generator in listed
        for file in generator["files"]
        if generator["options"]["labels"] == {"grafana_dashboard": "1"}
    }
    assert shown == {f"dashboards/{path.name}" for path in paths}
    assert len({json.loads(path.read_text())["uid"] for path in paths}) == len(paths) >= 4


def test_every_rule_has_a_heading_and_a_next_step() -> None:
    page = (ROOT / "docs" / "cluster" / "alerts.md").read_text()
    headings = {line[3:].lower() for line in page.splitlines() if line.startswith("## ")}
    told = [
        rule
        for document in yaml.load_all((MONITORING / "rules.yaml").read_text(), Loader=LOADER)
        for group in document["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert headings == {rule["alert"].lower() for rule in told}
    for rule in told:
        notes = rule["annotations"]
        assert notes["runbook_url"].split("#") == [
            "https://docs.example.org/cluster/alerts",
            rule["alert"].lower(),
        ]
        assert notes["description"].endswith(".")
        assert notes["description"] in page
        assert rule["expr"] in page
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_whatever_prometheus_reads_is_an_edge_of_the_graph() -> None:
    graph = load_graph(ROOT / "deploy")
    read = {
        edge.server.name
        for edge in graph.edges
        if edge.client.name == "kube-prometheus-stack" and edge.pods == "prometheus"
    }
    monitored = {
        document["metadata"]["name"]
        for path in (ROOT / "deploy" / "base").rglob("*.yaml")
        if path.name != "kustomization.yaml"
        for document in yaml.load_all(path.read_text(), Loader=LOADER)
        if isinstance(document, dict) and document.get("kind") in {"ServiceMonitor", "PodMonitor"}
    }
    declared = {service.name for service in graph.services}
    assert (monitored & declared) - read == set()
