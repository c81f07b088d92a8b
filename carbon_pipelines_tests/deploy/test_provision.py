"""Provisioning on a real API server: what a plan says, what applying does, what is left."""

import signal
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import pytest

from carbon_pipelines.cluster.api import Cluster
from carbon_pipelines.cluster.lock import acquire, locked, release
from carbon_pipelines.cluster.operations import status_lines
from carbon_pipelines.errors import (
    DangerousPlanError,
    ObjectsRefusedError,
    OverlayMismatchError,
    ProvisionLockedError,
)
from carbon_pipelines_tests.deploy.conftest import Shop
from carbon_pipelines_tests.deploy.control_plane import ControlPlane

OBJECTS = 14


def container(body: dict[str, Any]) -> dict[str, Any]:
    return body["spec"]["template"]["spec"]["containers"][0]


def test_an_empty_cluster_is_planned_provisioned_and_needs_nothing_more(
    shop: Shop, plane: ControlPlane
) -> None:
    first = shop.plan()
    assert plane.kubectl("get", "namespaces", "shop", "--ignore-not-found") == ""
    assert [change.act for change in first.changes] == ["create"] * OBJECTS
    assert first.services == ("foundation", "keeper", "store", "door")

    shop.provision()
    again = shop.plan()

    assert again.empty, again.describe()
    assert again.sentence() == (
        f"overlay small: nothing to do, all {OBJECTS} objects are as declared"
    )
    order = [line.split(":")[0] for line in shop.said[1:]]
    assert order == ["foundation", "keeper", "store", "door"]
    assert all("ready after" in line for line in shop.said[1:])
    assert shop.said[-1].endswith("1 endpoints answer")
    pods = plane.kubectl("-n", "shop", "get", "pods", "-l", "app=store", "-o", "name")
    assert len(pods.split()) == 3
    assert status_lines(shop.cluster, shop.rendered()) == [
        "foundation: ready",
        "keeper: ready",
        "store: ready",
        "door: ready",
    ]


def test_a_second_run_writes_nothing(shop: Shop, plane: ControlPlane) -> None:
    shop.provision()
    versions = ("-n", "shop", "get", "cm,svc,deploy,job", "-o", "jsonpath={..resourceVersion}")
    before = plane.kubectl(*versions).split()
    shop.provision()
    assert plane.kubectl(*versions).split() == before


def test_a_change_is_shown_with_its_fields_and_what_restarts(shop: Shop) -> None:
    shop.provision()
    shop.edit("door", "Deployment", lambda body: container(body).update(image="example.org/door:2"))
    plan = shop.plan()
    assert plan.describe().splitlines()[1:] == [
        f"overlay small: 1 changed of {OBJECTS} objects",
        "door:",
        "  ~ Deployment shop/door",
        "      spec.template.spec.containers[door].image: registry.example.org/door:1.0.0 -> "
        "example.org/door:2",
        "Restarts:",
        "  Deployment shop/door (1 pods)",
    ]
    shop.provision("door")
    assert shop.plan().empty


def test_what_pods_read_at_start_is_told_when_it_changes(shop: Shop) -> None:
    shop.provision()
    shop.edit("store", "ConfigMap", lambda body: body["data"].update(mode="fast"))
    assert shop.plan().notes == (
        "StatefulSet shop/store uses ConfigMap store, which changes, and does not restart by "
        'itself: "carbon cluster restart store" does it',
    )


def test_dangers_are_named_and_refused_until_they_are_accepted(shop: Shop) -> None:
    shop.provision()
    shop.edit("store", "StatefulSet", lambda body: body["spec"].update(replicas=1))
    shop.edit("store", "Vault", lambda body: body["spec"].update(storage="512Mi"))
    shop.edit("door", "Service", lambda body: body["spec"]["selector"].update(app="gate"))
    with pytest.raises(DangerousPlanError) as refused:
        shop.provision()
    assert refused.value.dangers == (
        "StatefulSet shop/store: spec.replicas: fewer pods (3 -> 1); a quorum or the only copy may "
        "go",
        "Vault shop/store: spec.storage: storage shrinks",
        "Service shop/door: spec.selector.app: traffic goes to other pods at once",
    )
    assert len(shop.plan().changes) == 3, "a refused plan changes nothing"
    shop.edit("door", "Service", lambda body: body["spec"]["selector"].update(app="door"))
    shop.provision(accept_dangers=True)
    assert shop.plan().empty


def test_what_can_never_change_is_refused_with_the_servers_words(shop: Shop) -> None:
    shop.provision()

    def more(body: dict[str, Any]) -> None:
        claim = body["spec"]["volumeClaimTemplates"][0]["spec"]
        claim["resources"]["requests"]["storage"] = "2Gi"

    shop.edit("store", "StatefulSet", more)
    with pytest.raises(ObjectsRefusedError, match="have to be deleted and created anew"):
        shop.plan()


def test_a_changed_job_runs_again(shop: Shop, plane: ControlPlane) -> None:
    shop.provision()
    shop.edit("store", "Job", lambda body: container(body).update(image="example.org/store:2"))
    plan = shop.plan()
    assert [(change.act, change.manifest.label) for change in plan.changes] == [
        ("replace", "Job shop/store-setup")
    ]
    shop.provision("store")
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    assert plane.kubectl("-n", "shop", "get", "job", "store-setup", "-o", image) == (
        "example.org/store:2"
    )
    assert shop.plan().empty


def test_what_is_no_longer_declared_stays_until_pruned(shop: Shop, plane: ControlPlane) -> None:
    shop.provision()
    path = shop.deploy / "base" / "store" / "objects.yaml"
    kept = path.read_text().split("---\n")
    path.write_text("---\n".join(kept[:-1]))  # without the Vault
    plan = shop.provision()
    assert [change.manifest.label for change in plan.removals] == ["Vault shop/store"]
    assert plane.kubectl("-n", "shop", "get", "vaults", "-o", "name").strip()
    with pytest.raises(DangerousPlanError, match="Vault shop/store: is removed"):
        shop.provision(prune=True)
    shop.provision(prune=True, accept_dangers=True)
    assert plane.kubectl("-n", "shop", "get", "vaults", "-o", "name") == ""
    assert shop.plan().empty


def test_two_who_provision_at_once_are_told_of_each_other(cluster: Cluster, shop: Shop) -> None:
    with locked(cluster, "ann on laptop", "small"):
        with pytest.raises(ProvisionLockedError, match="ann on laptop is changing this cluster"):
            acquire(cluster, "ben on server", "small")
        with pytest.raises(OverlayMismatchError, match="from overlay small, not production"):
            acquire(cluster, "ann on laptop", "production")
    release(acquire(cluster, "ben on server", "small"))


def test_a_lock_outlives_its_duration_while_its_holder_lives(cluster: Cluster, shop: Shop) -> None:
    with locked(cluster, "ann", "small", duration=timedelta(seconds=2)) as lock:
        time.sleep(3)
        lock.check()
        with pytest.raises(ProvisionLockedError):
            acquire(cluster, "ben", "small")


KILLED = """
import sys
from datetime import timedelta
from pathlib import Path
from carbon_pipelines.cluster import apply
from carbon_pipelines.cluster.api import connect
from carbon_pipelines.cluster.load import load_graph
from carbon_pipelines.cluster.lock import locked
from carbon_pipelines.cluster.overlay import load_overlay
from carbon_pipelines.cluster.provision import Consent, provision
from carbon_pipelines.cluster.render import render
from carbon_pipelines.cluster.tools import Tools
from carbon_pipelines.cluster.wait import Patience
kubeconfig, deploy, kubectl = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
cluster = connect(kubeconfig)
rendered = render(deploy, load_overlay(deploy, "small"), load_graph(deploy), Tools(kubectl, "helm"))
real, written = apply.apply_object, []
def counting(*args, **more):
    written.append(1)
    if len(written) > 7:
        print("halfway", flush=True)
        sys.stdin.read()
    return real(*args, **more)
apply.apply_object = counting
with locked(cluster, "killed", "small", duration=timedelta(seconds=8)) as lock:
    provision(cluster, rendered, None, lock, Consent(), Patience(), print)
"""


def test_a_killed_run_is_gone_on_from(shop: Shop, plane: ControlPlane) -> None:
    command = [sys.executable, "-c", KILLED, str(plane.kubeconfig), str(shop.deploy)]
    process = subprocess.Popen(
        [*command, plane.programs["kubectl"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert any("halfway" in line for line in process.stdout), "it ended before its kill"
        with pytest.raises(ProvisionLockedError, match="killed is changing this cluster"):
            acquire(shop.cluster, "test", "small")
        process.send_signal(signal.SIGKILL)
    left = shop.plan()
    assert 0 < len(left.changes) < OBJECTS
    deadline = time.monotonic() + 60
    while True:
        try:
            shop.provision()
            break
        except ProvisionLockedError:
            assert time.monotonic() < deadline, "the lock of a dead holder does not expire"
            time.sleep(0.3)
    assert shop.plan().empty
