"""The job ``provision_platform`` on a real API server: dry run, run, re-run, and a red run."""

from typing import Any

import dagster as dg
import pytest

from carbon_pipelines.cluster.load import load_graph
from carbon_pipelines.cluster.lock import load_lease, locked
from carbon_pipelines.defs.cluster.provision import provision_job
from carbon_pipelines.defs.cluster.resources import HelmResource, KubernetesResource
from carbon_pipelines.defs.cluster.services import service_jobs
from carbon_pipelines_tests.deploy.conftest import Shop
from carbon_pipelines_tests.deploy.control_plane import ControlPlane
from carbon_pipelines_tests.deploy.test_provision_failures import failing

STEPS = [
    "plan",
    *(f"foundation.foundation_{step}" for step in ("apply", "ready", "verified")),
    *(f"keeper.keeper_{step}" for step in ("apply", "ready", "verified")),
    *(f"store.store_{step}" for step in ("apply", "ready", "verified")),
    *(f"door.door_{step}" for step in ("apply", "ready", "verified")),
]


class Runs:
    """Runs jobs over the small overlay, in one Dagster instance."""

    def __init__(self, shop: Shop, plane: ControlPlane, instance: dg.DagsterInstance) -> None:
        self.shop, self.instance = shop, instance
        self.resources = {
            "kubernetes": KubernetesResource(kubeconfig=str(plane.kubeconfig)),
            "helm": HelmResource(
                kubectl=plane.programs["kubectl"],
                helm=plane.programs["helm"],
                deploy=str(shop.deploy),
            ),
        }

    def run(self, name: str, op: str, **config: Any) -> dg.ExecuteInProcessResult:
        """Run a job with the config of one of its ops."""
        jobs = [provision_job(load_graph(self.shop.deploy)), *service_jobs()]
        (job,) = [each for each in jobs if each.name == name]
        told = {"overlay": "small", "reason": "a test", **config}
        return job.execute_in_process(
            run_config={"ops": {op: {"config": told}}},
            resources=self.resources,
            instance=self.instance,
            raise_on_error=False,
        )

    def provision(self, **config: Any) -> dg.ExecuteInProcessResult:
        """Run ``provision_platform``."""
        return self.run("provision_platform", "plan", **config)


@pytest.fixture
def runs(shop: Shop, plane: ControlPlane) -> Any:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Runs(shop, plane, instance)


def succeeded(result: dg.ExecuteInProcessResult) -> list[str]:
    return [event.step_key or "" for event in result.all_events if event.is_step_success]


def test_a_dry_run_shows_the_plan_and_a_run_brings_up_service_after_service(
    runs: Runs, plane: ControlPlane
) -> None:
    dry = runs.provision()
    assert dry.success
    assert succeeded(dry) == ["plan"]
    (shown,) = [
        event.asset_observation_data
        for event in dry.all_events
        if event.event_type_value == "ASSET_OBSERVATION"
    ]
    facts = shown.asset_observation.metadata
    assert facts["carbon/changes"].value == 14
    assert "+ StatefulSet shop/store" in str(facts["carbon/plan"].value)
    assert plane.kubectl("get", "namespace", "shop", "--ignore-not-found") == ""

    whole = runs.provision(dry_run=False)
    assert whole.success
    assert succeeded(whole) == STEPS
    lease = load_lease(runs.shop.cluster)
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "", "a run gives the lock back"

    again = runs.provision(dry_run=False)
    assert again.success
    assert [len(runs.shop.plan().changes), again.output_for_node("plan", "go")["overlay"]] == [
        0,
        "small",
    ]


def test_a_red_run_names_service_condition_event_and_log_line(runs: Runs) -> None:
    runs.shop.provision()
    runs.shop.edit("door", "Deployment", failing("crash"))
    result = runs.provision(dry_run=False, services=["door"], deadline_seconds=3)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    facts = {name: value.value for name, value in data.metadata.items()}
    assert facts["carbon/service"] == "door"
    assert facts["carbon/object"] == "Deployment shop/door"
    assert "CrashLoopBackOff" in str(facts["carbon/condition"])
    assert str(facts["carbon/log_line"]).endswith("fatal: cannot reach the catalog")
    assert failure.step_key == "door.door_ready"


def test_a_run_that_finds_the_cluster_locked_names_who_and_changes_nothing(runs: Runs) -> None:
    with locked(runs.shop.cluster, "ann on laptop", "small"):
        result = runs.provision(dry_run=False)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "ann on laptop is changing this cluster" in str(
        failure.step_failure_data.user_failure_data
    )
    assert runs.shop.cluster.get("/api/v1/namespaces/shop") is None


def test_the_jobs_of_one_service_show_their_plan_and_do_it_only_if_told(
    runs: Runs, plane: ControlPlane, tmp_path: Any
) -> None:
    runs.shop.provision()
    image = ("-n", "shop", "get", "deploy", "door", "-o", "jsonpath={..image}")
    runs.shop.edit(
        "door",
        "Deployment",
        lambda body: body["spec"]["template"]["spec"]["containers"][0].update(image="door:2"),
    )
    for dry_run, wanted in ((True, "registry.example.org/door:1.0.0"), (False, "door:2")):
        done = runs.run("upgrade_service", "upgrade_one", service="door", dry_run=dry_run)
        assert done.success
        assert plane.kubectl(*image) == wanted
    for dry_run, wanted in ((True, "door:2"), (False, "registry.example.org/door:1.0.0")):
        done = runs.run("rollback_service", "roll_back_one", service="door", dry_run=dry_run)
        assert done.success
        assert plane.kubectl(*image) == wanted
    assert runs.run("restart_service", "restart_one", service="door", dry_run=False).success
    more = {"service": "store", "workload": "StatefulSet/store", "pods": 4, "dry_run": False}
    assert runs.run("scale_service", "scale_one", **more).success
    count = ("-n", "shop", "get", "sts", "store", "-o", "jsonpath={.spec.replicas}")
    assert plane.kubectl(*count) == "4"
    told = {"backup_to": str(tmp_path / "kept")}
    assert runs.run("teardown_platform", "tear_down_overlay", **told).success
    assert plane.kubectl("-n", "shop", "get", "deploy", "-o", "name").strip()
    assert runs.run("teardown_platform", "tear_down_overlay", dry_run=False, **told).success
    assert plane.kubectl("-n", "shop", "get", "deploy", "-o", "name") == ""
    assert len(list((tmp_path / "kept").glob("objects-*.yaml"))) == 1
