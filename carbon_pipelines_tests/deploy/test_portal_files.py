"""What people reach is made from one file and the service graph, for both ways in."""

import json
import os
from pathlib import Path

import pytest
import yaml

from carbon_pipelines.cluster.graph import ServiceGraph
from carbon_pipelines.cluster.load import load_graph
from carbon_pipelines.cluster.portal import (
    DOMAIN,
    Application,
    access_applications,
    as_json,
    ingress_routes,
    load_applications,
    tunnel_config,
)

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
BASE = DEPLOY / "base"
HEADER = (
    "# Generated from base/portal/applications.yaml and the service graph; every edit is lost.\n"
)


@pytest.fixture(scope="module")
def graph() -> ServiceGraph:
    return load_graph(DEPLOY)


@pytest.fixture(scope="module")
def applications(graph: ServiceGraph) -> tuple[Application, ...]:
    return load_applications(BASE / "portal" / "applications.yaml", graph, DOMAIN)


def test_the_committed_files_are_those_of_the_graph(applications: tuple[Application, ...]) -> None:
    wanted = {
        "portal/portal.json": as_json(applications),
        "cloudflared/config.yaml": HEADER + _yaml(tunnel_config(applications)),
        "cloudflared/access.json": json.dumps(access_applications(applications), indent=1) + "\n",
        "ingress/routes.yaml": HEADER + _yaml(ingress_routes(applications)),
    }
    if os.environ.get("CARBON_UPDATE_SNAPSHOT") == "1":
        for name, text in wanted.items():
            (BASE / name).write_text(text)
    committed = {name: (BASE / name).read_text() for name in wanted}
    assert committed == wanted, "run this test again with CARBON_UPDATE_SNAPSHOT=1"


def _yaml(value: object) -> str:
    return yaml.dump(value, Dumper=_Plain, sort_keys=False)


class _Plain(yaml.SafeDumper):
    """Writes values out again where they occur twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def test_every_application_is_an_edge_of_both_ways_in_and_of_the_portal(
    graph: ServiceGraph, applications: tuple[Application, ...]
) -> None:
    spec = yaml.safe_load((BASE / "portal" / "applications.yaml").read_text())["applications"]
    wanted = {application["endpoint"] for application in spec.values()}
    assert len(wanted) == len(applications)
    for service, pods in (("cloudflared", "tunnel"), ("ingress", "proxy"), ("portal", "portal")):
        uses = {
            use.endpoint
            for use in graph.service(service).uses
            if pods in use.pods and graph.service(use.endpoint.split("/")[0]).kind != "external"
        }
        itself = {"portal/http"} if service == "portal" else {"ingress/login"}
        assert uses | itself == wanted | itself, service


def test_nobody_gets_past_the_tunnel_or_the_ingress_without_having_logged_in(
    applications: tuple[Application, ...],
) -> None:
    *rules, last = tunnel_config(applications)["ingress"]
    assert all(rule["originRequest"]["access"]["required"] for rule in rules)
    assert last == {"service": "http_status:404"}
    routes = ingress_routes(applications)["http"]
    open_to_all = {
        name
        for name, router in routes["routers"].items()
        if not any("forwardAuth" in routes["middlewares"][m] for m in router["middlewares"])
    }
    assert open_to_all == {"login"}
    for application in applications:
        asked = routes["middlewares"][f"groups-{application.name}"]["forwardAuth"]["address"]
        assert asked.endswith("allowed_groups=" + ",".join(application.groups))
