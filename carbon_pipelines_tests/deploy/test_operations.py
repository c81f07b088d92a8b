"""Upgrade, rollback, restart, scale and teardown of services on a real API server."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from carbon_pipelines.cluster.lock import locked
from carbon_pipelines.cluster.operations import (
    plan_rollback,
    plan_scale,
    restart,
    restore,
    scale,
    upgrade,
)
from carbon_pipelines.cluster.provision import Consent
from carbon_pipelines.cluster.teardown import plan_teardown, tear_down
from carbon_pipelines.cluster.wait import Patience
from carbon_pipelines.errors import (
    BackupFailedError,
    DangerousPlanError,
    RevisionMissingError,
    ScaleRefusedError,
    ServiceNotReadyError,
)
from carbon_pipelines_tests.deploy.conftest import QUICK, Shop
from carbon_pipelines_tests.deploy.control_plane import ControlPlane

IMAGE = "jsonpath={.spec.template.spec.containers[0].image}"
IMPATIENT = Patience(deadline=timedelta(seconds=20), stuck=timedelta(seconds=1))


def to_image(image: str, *, fails: str | None = None) -> Any:
    def edit(body: dict[str, Any]) -> None:
        template = body["spec"]["template"]
        template["spec"]["containers"][0]["image"] = image
        if fails:
            template["metadata"]["annotations"] = {"carbon-test/fails": fails}

    return edit


def image_of(plane: ControlPlane) -> str:
    return plane.kubectl("-n", "shop", "get", "deploy", "door", "-o", IMAGE)


def test_an_upgrade_that_does_not_become_ready_is_put_back(shop: Shop, plane: ControlPlane) -> None:
    shop.provision()
    shop.edit("door", "Deployment", to_image("example.org/door:2"))
    with locked(shop.cluster, "test", "small") as lock:
        upgrade(shop.cluster, shop.rendered(), "door", lock, Consent(), QUICK, shop.said.append)
        assert image_of(plane) == "example.org/door:2"
        shop.edit("door", "Deployment", to_image("example.org/door:3", fails="crash"))
        with pytest.raises(ServiceNotReadyError, match="CrashLoopBackOff"):
            upgrade(
                shop.cluster, shop.rendered(), "door", lock, Consent(), IMPATIENT, shop.said.append
            )
    assert image_of(plane) == "example.org/door:2"
    assert "door did not become ready: revision 2 is put back" in shop.said


def test_an_upgrade_does_not_begin_while_what_it_stands_on_is_broken(
    shop: Shop, plane: ControlPlane
) -> None:
    shop.provision()
    plane.kubectl("-n", "shop", "delete", "configmap", "store")
    shop.edit("door", "Deployment", to_image("example.org/door:2"))
    with (
        locked(shop.cluster, "test", "small") as lock,
        pytest.raises(ServiceNotReadyError, match="ConfigMap shop/store: it is not there, before"),
    ):
        upgrade(shop.cluster, shop.rendered(), "door", lock, Consent(), QUICK, shop.said.append)
    assert image_of(plane) == "registry.example.org/door:1.0.0"


def test_a_rollback_goes_to_the_state_that_worked_before(shop: Shop, plane: ControlPlane) -> None:
    shop.provision()
    with pytest.raises(RevisionMissingError, match="revision before the newest; there are: 1"):
        plan_rollback(shop.cluster, shop.rendered(), "door", None)
    shop.edit("door", "Deployment", to_image("example.org/door:2"))
    shop.provision("door")
    chosen, plan = plan_rollback(shop.cluster, shop.rendered(), "door", None)
    assert (chosen.number, chosen.by) == (1, "test")
    assert [change.manifest.label for change in plan.changes] == ["Deployment shop/door"]
    with locked(shop.cluster, "test", "small") as lock:
        restore(shop.cluster, shop.rendered(), chosen, lock, QUICK)
    assert image_of(plane) == "registry.example.org/door:1.0.0"


def test_a_restart_makes_pods_anew_and_no_plan_takes_it_back(
    shop: Shop, plane: ControlPlane
) -> None:
    shop.provision()
    pods = (
        "-n",
        "shop",
        "get",
        "pods",
        "-l",
        "app=store",
        "-o",
        "jsonpath={.items[*].metadata.uid}",
    )
    before = set(plane.kubectl(*pods).split())
    with locked(shop.cluster, "test", "small") as lock:
        at = datetime.now(UTC)
        done = restart(shop.cluster, shop.rendered(), "store", lock, QUICK, at)
    assert done == ("StatefulSet shop/store",)
    assert not before & set(plane.kubectl(*pods).split())
    assert shop.plan().empty


def test_scaling_holds_until_the_next_provisioning(shop: Shop, plane: ControlPlane) -> None:
    shop.provision()
    rendered = shop.rendered()
    with pytest.raises(ScaleRefusedError, match="strategy Recreate"):
        plan_scale(rendered, "door", "Deployment/door", 2)
    with pytest.raises(ScaleRefusedError, match="the service has StatefulSet/store"):
        plan_scale(rendered, "store", "Deployment/store", 2)
    with locked(shop.cluster, "test", "small") as lock:
        more = plan_scale(rendered, "store", "StatefulSet/store", 4)
        scale(shop.cluster, rendered, more, lock, Consent(), QUICK)
        fewer = plan_scale(rendered, "store", "StatefulSet/store", 2)
        with pytest.raises(DangerousPlanError, match=r"fewer pods \(4 -> 2\)"):
            scale(shop.cluster, rendered, fewer, lock, Consent(), QUICK)
    pods = plane.kubectl("-n", "shop", "get", "pods", "-l", "app=store", "-o", "name").split()
    assert len(pods) == 4
    (change,) = shop.plan().changes
    assert [(field.path, field.before, field.after) for field in change.fields] == [
        ("spec.replicas", 4, 3)
    ]


def test_a_teardown_backs_up_first_and_keeps_data(
    shop: Shop, plane: ControlPlane, tmp_path: Path
) -> None:
    shop.provision()
    plan = plan_teardown(shop.cluster, shop.rendered(), None, delete_data=False)
    assert [manifest.label for manifest in plan.removed][:2] == [
        "Deployment shop/door",
        "Service shop/door",
    ]
    with locked(shop.cluster, "test", "small") as lock:
        (saved,) = tear_down(shop.cluster, plan, lock, tmp_path / "backup", shop.said.append)
    kinds = [body["kind"] for body in yaml.safe_load_all(saved.read_text())]
    assert {"StatefulSet", "Deployment", "Namespace", "CustomResourceDefinition"} <= {*kinds}
    snapshot = "jsonpath={.items[?(@.status.succeeded==1)].metadata.name}"
    assert "store-snapshot-" in plane.kubectl("-n", "shop", "get", "jobs", "-o", snapshot)
    assert plane.kubectl("-n", "shop", "get", "deploy,sts,svc", "-o", "name") == ""
    claims = plane.kubectl("-n", "shop", "get", "pvc", "-o", "name").split()
    assert len(claims) == 3
    shop.provision()  # and all is back, on the same volumes
    assert plane.kubectl("-n", "shop", "get", "pvc", "-o", "name").split() == claims


CLUSTERS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %(plural)s.postgresql.cnpg.io}
spec:
  group: postgresql.cnpg.io
  scope: Namespaced
  names: {kind: %(kind)s, plural: %(plural)s, listKind: %(kind)sList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


def test_nothing_is_removed_when_a_database_cannot_be_backed_up(
    shop: Shop, plane: ControlPlane, tmp_path: Path
) -> None:
    objects = shop.deploy / "base" / "store" / "objects.yaml"
    database = {
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Cluster",
        "metadata": {"name": "postgres", "namespace": "shop"},
        "spec": {"instances": 3, "plugins": [{"name": "barman-cloud.cloudnative-pg.io"}]},
    }
    more = [CLUSTERS % {"kind": "Cluster", "plural": "clusters"}]
    more += [CLUSTERS % {"kind": "Backup", "plural": "backups"}, yaml.safe_dump(database)]
    objects.write_text("---\n".join([objects.read_text(), *more]))
    shop.provision()
    plan = plan_teardown(shop.cluster, shop.rendered(), None, delete_data=False)
    assert [manifest.label for manifest in plan.hibernated] == ["Cluster shop/postgres"]
    backups = "/apis/postgresql.cnpg.io/v1/namespaces/shop/backups"

    def answer(status: dict[str, str]) -> Any:
        """A report that plays the operator: it answers to each Backup that is not answered yet."""

        def sleep(_seconds: float) -> None:
            for body in shop.cluster.items(backups):
                if not (body.get("status") or {}).get("phase"):
                    path = f"{backups}/{body['metadata']['name']}/status"
                    merge = "application/merge-patch+json"
                    shop.cluster.request("PATCH", path, body={"status": status}, content_type=merge)

        return sleep

    with locked(shop.cluster, "test", "small") as lock:
        failed = answer({"phase": "failed", "error": "no such bucket"})
        with pytest.raises(BackupFailedError, match="no such bucket"):
            tear_down(shop.cluster, plan, lock, tmp_path, shop.said.append, sleep=failed)
        assert plane.kubectl("-n", "shop", "get", "sts", "-o", "name").strip()
        done = answer({"phase": "completed"})
        tear_down(shop.cluster, plan, lock, tmp_path, shop.said.append, sleep=done)
    live = shop.cluster.get("/apis/postgresql.cnpg.io/v1/namespaces/shop/clusters/postgres")
    assert live is not None
    assert live["metadata"]["annotations"]["cnpg.io/hibernation"] == "on"
