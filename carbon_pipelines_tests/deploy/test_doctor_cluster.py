"""The doctor and a real API server: what it accepts, what it says of Services, and bad input.

Pods run no container there, so nothing can be tried from them: that is one of the cases.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from carbon_pipelines.cluster.doctor import KubectlAccess, Patience, examine
from carbon_pipelines.cluster.doctor_case import make_case
from carbon_pipelines.cluster.doctor_kubectl import Kubectl
from carbon_pipelines.cluster.doctor_policies import Connection, judge
from carbon_pipelines.cluster.graph import service_graph
from carbon_pipelines.errors import (
    KubectlCredentialsError,
    KubectlForbiddenError,
    KubectlUnreachableError,
)
from carbon_pipelines_tests.deploy import api_objects as api
from carbon_pipelines_tests.deploy.lab_world import spec

pytest.importorskip("carbon_pipelines_tests.deploy.control_plane")

SPACE, OTHER = "doctor-a", "doctor-b"
ENDPOINT = {"service": "shop-db", "port": 5432, "target_port": 5433, "protocol": "postgres"}
GRAPH = service_graph(
    [
        spec("shop-db", SPACE, "main", endpoints={"sql": ENDPOINT | {"pods": "main"}}),
        spec(
            "shop-web",
            OTHER,
            "main",
            uses=[
                {
                    "endpoint": "shop-db/sql",
                    "pods": ["main"],
                    "secret": "login",
                    "why": "a test",
                }
            ],
        ),
    ]
)
QUICK = Patience(timeout_seconds=0.5, slow_seconds=5.0)


def pod(space: str, name: str, port: int) -> api.Object:
    """A pod that the scheduler places."""
    made = api.pod(space, name, "", port=port)
    del made["status"], made["spec"]["nodeName"]
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1m"}}
    return made


@pytest.fixture(scope="module")
def kubectl(plane) -> Iterator[Kubectl]:
    """Two pods, a Service in front of one, and policies, as the API server accepted them."""
    database = api.service(SPACE, "shop-db", "10.96.77.20", 5432, 5433)
    made = [
        api.namespace(SPACE),
        api.namespace(OTHER),
        pod(SPACE, "shop-db", 5433),
        pod(OTHER, "shop-web", 80),
        database,
        *map(api.deny_all, (SPACE, OTHER)),
        *map(api.allow_dns, (SPACE, OTHER)),
        api.allow_in(SPACE, "shop-db", 5433, (OTHER, "shop-web")),
        api.allow_out(OTHER, "shop-web", (SPACE, "shop-db"), 5432),
    ]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    plane.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", stdin=listed)
    yield Kubectl(plane.programs["kubectl"], kubeconfig=str(plane.kubeconfig))
    plane.kubectl("delete", "namespace", SPACE, OTHER, "--wait=false")


def settled(kubectl: Kubectl) -> KubectlAccess:
    """The access, once both pods are ready and the Service has its endpoint."""
    access = KubectlAccess(kubectl)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        state = access.state()
        ours = [one for one in state.pods if one.namespace in {SPACE, OTHER}]
        ready = [one for one in ours if one.ready and one.address]
        if len(ready) == 2 and any(ok for _, ok in state.endpoints.get((SPACE, "shop-db"), ())):
            return access
        time.sleep(0.2)
    pytest.fail("the pods are not ready")


def test_policies_that_the_api_server_holds_are_judged_with_the_port_that_is_wrong(
    kubectl: Kubectl,
) -> None:
    state = settled(kubectl).state()
    (client,) = state.select(OTHER, {"app": "shop-web"})
    (server,) = state.select(SPACE, {"app": "shop-db"})
    egress, ingress = judge(state, Connection(client, server, server.address, 5433))
    assert (egress.allowed, ingress.allowed) == (False, True)
    assert egress.other_ports == {"out-shop-web-shop-db": ("TCP 5432",)}


def test_a_pod_that_cannot_be_run_commands_in_is_untested_and_not_broken(kubectl: Kubectl) -> None:
    (found,) = examine(GRAPH, settled(kubectl), ["shop-web->shop-db"], patience=QUICK).diagnoses
    assert found.status == "untested"
    assert f"Nothing can be tried from pod {OTHER}/shop-web" in found.sentence


def test_a_service_without_endpoints_is_known_from_the_api_server_alone(
    kubectl: Kubectl, plane
) -> None:
    access = settled(kubectl)
    plane.kubectl("-n", SPACE, "label", "pod", "shop-db", "app=elsewhere", "--overwrite")
    try:
        deadline = time.monotonic() + 20
        while any(ok for _, ok in access.state().endpoints.get((SPACE, "shop-db"), ())):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        (found,) = examine(GRAPH, access, patience=QUICK).diagnoses
    finally:
        plane.kubectl("-n", SPACE, "label", "pod", "shop-db", "app=shop-db", "--overwrite")
    assert found.cause == "no_endpoints"
    assert found.sentence == f"Service {SPACE}/shop-db has no endpoint: no pod carries app=shop-db"


def test_a_secret_that_is_missing_leaves_the_login_untried(kubectl: Kubectl) -> None:
    case = make_case(GRAPH.edges[0])
    assert case.secret == "login"
    assert KubectlAccess(kubectl).login(case) is None


def test_expired_credentials_are_told_from_no_cluster_and_from_no_right(
    kubectl: Kubectl, plane, tmp_path: Path
) -> None:
    late = replace(kubectl, kubeconfig=str(plane.user("late", "system:masters", expired=True)))
    with pytest.raises(KubectlCredentialsError, match="does not accept our credentials"):
        KubectlAccess(late).state()

    stranger = replace(kubectl, kubeconfig=str(plane.user("stranger")))
    with pytest.raises(KubectlForbiddenError, match="We may not get pods"):
        KubectlAccess(stranger).state()

    text = Path(kubectl.kubeconfig or "").read_text()
    away = tmp_path / "away"
    away.write_text(text.replace(plane.server, "https://127.0.0.1:1"))
    with pytest.raises(KubectlUnreachableError, match="No cluster answers"):
        KubectlAccess(replace(kubectl, kubeconfig=str(away))).state()

    with pytest.raises(KubectlUnreachableError, match='context "nowhere"'):
        KubectlAccess(replace(kubectl, context="nowhere")).state()
    nothing = tmp_path / "nothing"
    nothing.write_text("")
    with pytest.raises(KubectlUnreachableError, match="No cluster answers"):
        KubectlAccess(replace(kubectl, kubeconfig=str(nothing))).state()
