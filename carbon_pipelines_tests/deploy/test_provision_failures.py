"""What goes wrong on a real API server is told with service, condition, event and log line."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from carbon_pipelines.cluster import api
from carbon_pipelines.cluster.api import MANAGER, connect
from carbon_pipelines.cluster.load import load_graph
from carbon_pipelines.cluster.overlay import load_overlay
from carbon_pipelines.cluster.render import render
from carbon_pipelines.cluster.tools import Tools, find_tools
from carbon_pipelines.cluster.wait import Patience
from carbon_pipelines.errors import (
    ApiRefusalError,
    ChartUnavailableError,
    ClusterCredentialsError,
    ClusterVersionError,
    CrdMissingError,
    FieldConflictError,
    NamespaceTerminatingError,
    NoClusterError,
    ObjectsMisfitError,
    ObjectsRefusedError,
    OverlayMistakesError,
    ServiceNotReadyError,
    ToolMissingError,
    UnknownOverlayError,
    WebhookDownError,
)
from carbon_pipelines_tests.deploy.conftest import Shop
from carbon_pipelines_tests.deploy.control_plane import ControlPlane
from carbon_pipelines_tests.deploy.operators import REFUSES

IMPATIENT = Patience(deadline=timedelta(seconds=20), stuck=timedelta(seconds=1))
SHORT = Patience(deadline=timedelta(seconds=3), stuck=timedelta(seconds=60))


def failing(how: str) -> Callable[[dict[str, Any]], None]:
    def edit(body: dict[str, Any]) -> None:
        metadata = body["spec"]["template"]["metadata"]
        metadata["annotations"] = {"carbon-test/fails": how}

    return edit


def mended(body: dict[str, Any]) -> None:
    del body["spec"]["template"]["metadata"]["annotations"]


def test_a_crash_loop_is_told_with_its_exit_code_event_and_log(
    shop: Shop, plane: ControlPlane
) -> None:
    shop.provision()
    shop.edit("door", "Deployment", failing("crash"))
    with pytest.raises(ServiceNotReadyError) as caught:
        shop.provision(patience=IMPATIENT)
    error = caught.value
    assert error.service == "door"
    assert error.waiting[0][0] == "Deployment shop/door"
    assert "CrashLoopBackOff" in error.waiting[0][1]
    assert "6 restarts, exit code 1" in error.waiting[0][1]
    assert error.log_line is not None
    assert error.log_line.endswith("/door: fatal: cannot reach the catalog")
    assert error.waited_seconds < 15, "what does not go away by itself is not waited for"


def test_a_service_behind_one_that_fails_is_not_touched_and_the_run_goes_on_later(
    shop: Shop, plane: ControlPlane
) -> None:
    shop.edit("store", "StatefulSet", failing("never-ready"))
    with pytest.raises(ServiceNotReadyError, match="readiness probe does not succeed") as caught:
        shop.provision(patience=SHORT)
    assert caught.value.service == "store"
    assert plane.kubectl("-n", "shop", "get", "deploy", "--ignore-not-found") == ""
    shop.edit(
        "store", "StatefulSet", lambda body: body["spec"]["template"]["metadata"].pop("annotations")
    )
    plane.kubectl("-n", "shop", "delete", "pods", "-l", "app=store", "--wait=false")
    shop.provision()
    assert shop.plan().empty


def test_a_missing_secret_is_noted_in_the_plan_and_named_when_pods_wait_for_it(
    shop: Shop,
) -> None:
    def login(body: dict[str, Any]) -> None:
        source = {"secretRef": {"name": "door-login"}}
        body["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [source]
        failing("secret")(body)

    shop.edit("door", "Deployment", login)
    note = (
        "Secret shop/door-login is not there; Deployment shop/door waits for it, "
        "nothing of this overlay makes it"
    )
    assert shop.plan().notes == (note,)
    with pytest.raises(
        ServiceNotReadyError, match='CreateContainerConfigError: secret "door-login"'
    ):
        shop.provision(patience=IMPATIENT)


def test_a_quota_is_named_by_the_event_of_the_set_that_could_make_no_pod(shop: Shop) -> None:
    def huge(body: dict[str, Any]) -> None:
        requests = body["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
        requests["cpu"] = "64"

    shop.edit("door", "Deployment", huge)
    with pytest.raises(ServiceNotReadyError) as caught:
        shop.provision(patience=IMPATIENT)
    assert "exceeded quota: shop" in caught.value.waiting[0][1]
    assert caught.value.event is not None
    assert "FailedCreate on ReplicaSet door" in caught.value.event


def test_an_operator_that_says_nothing_is_waited_for_and_named(shop: Shop) -> None:
    shop.edit("store", "Vault", lambda body: body["metadata"].update(annotations={REFUSES: "yes"}))
    shop.provision()  # a kind without a rule, of which nobody has said anything, is ready
    status = {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "NoDisk"}]}}
    path = "/apis/keeper.example.org/v1/namespaces/shop/vaults/store/status"
    shop.cluster.request("PATCH", path, body=status, content_type="application/merge-patch+json")
    with pytest.raises(ServiceNotReadyError, match="Vault shop/store: Ready is False: NoDisk"):
        shop.provision(patience=SHORT)


def test_a_webhook_that_does_not_answer_is_named_and_nothing_is_changed(shop: Shop) -> None:
    shop.provision()
    hook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "gatekeeper"},
        "webhooks": [
            {
                "name": "check.gatekeeper.example.org",
                "clientConfig": {"service": {"name": "gone", "namespace": "shop"}},
                "rules": [
                    {
                        "apiGroups": ["apps"],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["deployments"],
                    }
                ],
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
            }
        ],
    }
    base = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    shop.cluster.request("POST", base, body=hook)
    shop.edit("store", "ConfigMap", lambda body: body["data"].update(mode="fast"))
    shop.edit("door", "Deployment", lambda body: body["spec"].update(replicas=0))
    with pytest.raises(WebhookDownError, match=r"check\.gatekeeper\.example\.org does not answer"):
        shop.provision()
    live = shop.cluster.get("/api/v1/namespaces/shop/configmaps/store")
    assert live is not None
    assert live["data"] == {"mode": "plain"}


def test_fields_of_others_are_named_with_their_manager_and_taken_only_if_told(
    shop: Shop, plane: ControlPlane
) -> None:
    shop.provision()
    patch = ("patch", "deployment", "door", "--type=merge", "-p", '{"spec":{"replicas":0}}')
    plane.kubectl("-n", "shop", *patch, "--field-manager=autoscaler")
    with pytest.raises(FieldConflictError) as caught:
        shop.provision()
    assert caught.value.conflicts == (("Deployment shop/door", "autoscaler", "spec.replicas"),)
    plan = shop.provision(take_over=True)
    assert "Deployment shop/door: autoscaler owns spec.replicas" in plan.describe()
    assert shop.plan().empty


def test_what_somebody_else_made_the_same_is_taken_under_our_name(
    shop: Shop, plane: ControlPlane
) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    plane.kubectl("create", "-f", "-", stdin=json.dumps(body))
    shop.provision()
    live = shop.cluster.get("/api/v1/namespaces/shop")
    assert live is not None
    assert MANAGER in [entry["manager"] for entry in live["metadata"]["managedFields"]]


def test_what_admission_forbids_is_refused_before_anything_is_changed(
    shop: Shop, plane: ControlPlane
) -> None:
    shop.provision()

    def misspelt(body: dict[str, Any]) -> None:
        body["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"

    shop.edit("door", "Deployment", misspelt)
    shop.edit("store", "ConfigMap", lambda body: body["data"].update(mode="fast"))
    with pytest.raises(ObjectsRefusedError, match="imagee"):
        shop.provision()
    live = shop.cluster.get("/api/v1/namespaces/shop/configmaps/store")
    assert live is not None
    assert live["data"] == {"mode": "plain"}


def test_a_kind_that_nobody_defines_is_named_with_its_objects(shop: Shop) -> None:
    with pytest.raises(CrdMissingError, match=r"Vault of keeper\.example\.org/v1 \(store"):
        shop.plan("store")


def test_a_namespace_that_is_being_deleted_is_named_with_what_holds_it(
    shop: Shop, plane: ControlPlane
) -> None:
    shop.provision()
    held = ("-n", "shop", "patch", "configmap", "store", "--type=merge", "-p")
    plane.kubectl(*held, '{"metadata":{"finalizers":["example.org/held"]}}')
    plane.kubectl("delete", "namespace", "shop", "--wait=false")
    try:
        with pytest.raises(NamespaceTerminatingError) as caught:
            shop.provision()
        assert caught.value.namespace == "shop"
    finally:
        plane.kubectl(*held, '{"metadata":{"finalizers":null}}')


def test_no_cluster_is_an_error_with_the_next_step(plane: ControlPlane, tmp_path: Path) -> None:
    with pytest.raises(NoClusterError, match="CARBON_CLUSTER_KUBECONFIG"):
        connect(str(tmp_path / "absent"))
    away = plane.kubeconfig.read_text().replace(plane.server, "https://127.0.0.1:1")
    (tmp_path / "away").write_text(away)
    with pytest.raises(NoClusterError, match="refused"):
        connect(str(tmp_path / "away"))
    with pytest.raises(NoClusterError, match="nowhere"):
        connect(str(plane.kubeconfig), "nowhere")


def test_a_cluster_of_another_version_is_refused_by_its_number(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "NEWEST", (1, 35))
    with pytest.raises(ClusterVersionError, match=r"runs Kubernetes 1\.37\.2; .* 1\.34 to 1\.35"):
        api.connect(str(plane.kubeconfig))


def test_expired_credentials_are_told_from_missing_rights(plane: ControlPlane, shop: Shop) -> None:
    with pytest.raises(ClusterCredentialsError, match="Log in again"):
        connect(str(plane.user("late", expired=True)))
    guest = connect(str(plane.user("guest")))
    guest_shop = Shop(shop.deploy, guest, shop.tools)
    with pytest.raises(ApiRefusalError, match='User "guest" cannot'):
        guest_shop.plan()


def test_overlays_that_cannot_be_are_refused_by_name(shop: Shop) -> None:
    graph = load_graph(shop.deploy)
    with pytest.raises(UnknownOverlayError, match=r'called "smal" .*Did you mean small\?'):
        load_overlay(shop.deploy, "smal")
    path = shop.deploy / "overlays" / "small" / "overlay.yaml"
    whole = path.read_text()
    path.write_text(whole.replace("[keeper, store, door]", "[store, dor]"))
    with pytest.raises(OverlayMistakesError) as caught:
        load_overlay(shop.deploy, "small").within(graph)
    assert caught.value.mistakes == (
        'services: "dor" is not declared',
        'services: store needs keeper, which is not among them: add "keeper"',
    )
    path.write_text(whole)
    labels = shop.deploy / "base" / "door" / "kustomization.yaml"
    labels.write_text(labels.read_text().replace("service: door", "service: dore"))
    with pytest.raises(ObjectsMisfitError, match='Deployment shop/door: label says "dore"'):
        shop.rendered()


def test_charts_are_rendered_with_our_labels_and_named_when_they_cannot_be_had(
    shop: Shop, tmp_path: Path, plane: ControlPlane
) -> None:
    chart = tmp_path / "gate"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: gate\nversion: 1.2.3\n")
    (chart / "templates" / "map.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gate}\ndata: {who: {{ .Values.who }}}\n"
    )
    (chart / "templates" / "test.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\n"
        'metadata: {name: gate-test, annotations: {"helm.sh/hook": test}}\n'
    )
    folder = shop.deploy / "base" / "gate"
    folder.mkdir()
    (folder / "service.yaml").write_text(
        "title: Gate\nabout: A chart.\nkind: chart\nnamespace: shop\nowner: team:platform\n"
    )
    (folder / "values.yaml").write_text("who: ann\n")
    (folder / "chart.yaml").write_text(
        "repository: https://charts.example.invalid\nchart: gate\nversion: 1.2.3\n"
        "release: gate\nnamespace: shop\n"
    )
    path = shop.deploy / "overlays" / "small" / "overlay.yaml"
    path.write_text(path.read_text().replace("door]", "door, gate]"))
    charts = tmp_path / "charts"
    charts.mkdir()
    overlay, graph = load_overlay(shop.deploy, "small"), load_graph(shop.deploy)
    with_charts = Tools(plane.programs["kubectl"], plane.programs["helm"], charts)
    with pytest.raises(ChartUnavailableError, match=r"gate 1\.2\.3"):
        render(shop.deploy, overlay, graph, with_charts)
    without = render(shop.deploy, overlay, graph, shop.tools, charts=False)
    assert without.without_chart == ("gate",)
    with_charts.run("helm", ["package", str(chart), "--destination", str(charts)], "gate")
    (made,) = render(shop.deploy, overlay, graph, with_charts).services["gate"]
    assert made.body["metadata"]["namespace"] == "shop"
    assert made.body["metadata"]["labels"]["carbon-pipelines/service"] == "gate"
    assert made.body["data"] == {"who": "ann"}


def test_tools_that_are_missing_or_too_old_are_told_from_one_another(tmp_path: Path) -> None:
    with pytest.raises(ToolMissingError, match="it is not on the PATH"):
        find_tools({"PATH": str(tmp_path)})
    old = tmp_path / "kubectl"
    old.write_text("""#!/bin/sh\necho '{"clientVersion": {"gitVersion": "v1.20.2"}}'\n""")
    old.chmod(0o755)
    with pytest.raises(ToolMissingError, match=r"is v1\.20\.2; 1\.30 or newer is needed"):
        find_tools({"PATH": str(tmp_path)})
