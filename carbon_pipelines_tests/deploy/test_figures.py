"""The page of figures is counted from what is rendered."""

import os
from pathlib import Path

import yaml

from carbon_pipelines.cluster.figures import (
    Counts,
    Wanted,
    count_objects,
    count_recorded,
    inside,
    namespaces_table,
    sum_counts,
    wanted_table,
)
from carbon_pipelines_tests.deploy.rendered import render

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PAGE = ROOT / "docs" / "cluster" / "figures.md"
WANTED = (
    Wanted(
        "pods",
        "66",
        lambda c: sum(n.pods for n in inside(c)),
        "every replica that we ask for, Jobs and runs not among them; operators and node-exporter "
        "(three nodes) have namespaces of their own",
    ),
    Wanted(
        "namespaces",
        "5",
        lambda c: sum(1 for _ in inside(c) if _.pods or _.services),
        "theirs name data-platform, monitoring, registry and vault; each operator has one of its "
        "own here, so that its rights and policies end there",
    ),
    Wanted(
        "pods in data-platform",
        "40+",
        lambda c: c["data-platform"].pods,
        "without SeaTunnel and DolphinScheduler, which the platform once used",
    ),
    Wanted(
        "Services in data-platform",
        "15+",
        lambda c: c["data-platform"].services,
        "operators' Services are among them",
    ),
    Wanted(
        "GiB in data-platform",
        "20+",
        lambda c: round(c["data-platform"].volume_bytes / 2**30),
        "three copies of everything, sized for production; the overlay local asks for 45",
    ),
    Wanted(
        "pods in monitoring",
        "9",
        lambda c: c["monitoring"].pods,
        "Prometheus and Alertmanager are two each, Alloy is two in place of Promtail on each node",
    ),
    Wanted(
        "pods in registry",
        "2",
        lambda c: c["registry"].pods,
        "one: its files are on one volume, and what runs is on the nodes already",
    ),
    Wanted("pods in vault-prod", "3", lambda c: c["vault-prod"].pods, "the same: raft needs three"),
    Wanted(
        "network policies",
        "9",
        lambda c: sum(n.network_policies for n in inside(c)),
        "two for each edge of the service graph, and two for each namespace; all generated",
    ),
    Wanted(
        "roles",
        "15+",
        lambda c: sum(n.roles for n in c.values()),
        "ours for people and services, and those of the operators' charts",
    ),
    Wanted(
        "secrets",
        "20+",
        lambda c: sum(n.secrets for n in inside(c)),
        "each account has its own, and each server its certificate",
    ),
    Wanted(
        "dashboards of our own",
        "4+",
        lambda c: sum(n.dashboards for n in inside(c)),
        "beside those of Superset, and those that the monitoring chart brings",
    ),
)


def counts() -> dict[str, Counts]:
    charts = sorted((DEPLOY / "operators").glob("*/rendered.yaml"))
    recorded = [count_recorded(yaml.safe_load(path.read_text())) for path in charts]
    return dict(sum_counts([count_objects(render(DEPLOY / "overlays" / "production")), *recorded]))


def test_the_page_shows_what_is_rendered() -> None:
    counted = counts()
    wanted = (
        PAGE.read_text().split("## Beside")[0]
        + "## Beside the platform's own figures\n"
        + wanted_table(counted, WANTED)
        + "\n## By namespace\n"
        + namespaces_table(counted)
    )
    if os.environ.get("CARBON_UPDATE_SNAPSHOT") == "1":
        PAGE.write_text(wanted)
    assert PAGE.read_text() == wanted, "run this test again with CARBON_UPDATE_SNAPSHOT=1"


def test_the_platform_has_at_least_what_its_owner_counts() -> None:
    counted = counts()
    least = {
        figure.what: (figure.ours(counted), int(figure.theirs.rstrip("+")))
        for figure in WANTED
        if figure.what not in {"pods in registry"}  # one, see the page
    }
    assert {what: pair for what, pair in least.items() if pair[0] < pair[1]} == {}


def test_charts_were_counted_at_the_version_that_is_used() -> None:
    for path in (DEPLOY / "operators").glob("*/chart.yaml"):
        recorded = yaml.safe_load((path.parent / "rendered.yaml").read_text())
        assert recorded["version"] == str(yaml.safe_load(path.read_text())["version"]), path
