"""Remedies come in their order, are only shown unless told, and are looked after one by one."""

from collections.abc import Sequence

import pytest

from carbon_pipelines.cluster.doctor_findings import Diagnosis, Findings
from carbon_pipelines.cluster.doctor_remedies import apply_remedies, plan_remedies, run_command
from carbon_pipelines.cluster.doctor_state import ClusterState, NodeState
from carbon_pipelines.errors import RemedyFailedError, RemedyRefusedError

LADDER = ("restart_kube_proxy", "restart_kubelet", "recreate_node")
DROPS = Diagnosis("a->b", "node_drops_forwarded", "lost", remedies=LADDER, node="node-1")
HANGS = Diagnosis(
    "a->c",
    "half_open",
    "hangs",
    remedies=("restart_server",),
    workload="Deployment/c",
    namespace="data",
)
BROKEN, FINE = Findings((DROPS,)), Findings(())


def node(provider: str) -> NodeState:
    return NodeState("node-1", ready=True, address="", pod_networks=(), provider=provider)


MANAGED = ClusterState(nodes=(node("aws"),))
KIND = ClusterState(nodes=(node("kind"),))


class Taken:
    """Commands that were run, and what the doctor finds after each step."""

    def __init__(self, *found: Findings) -> None:
        self.commands: list[str] = []
        self.found = list(found)

    def execute(self, command: Sequence[str]) -> None:
        self.commands.append(" ".join(command))

    def look(self) -> Findings:
        return self.found.pop(0)


def test_the_step_that_interrupts_least_comes_first_and_each_comes_once() -> None:
    steps = plan_remedies([DROPS, HANGS, DROPS], KIND, ["kubectl"])
    assert [step.remedy for step in steps] == ["restart_server", *LADDER]
    assert steps[0].commands[0] == (
        *("kubectl", "-n", "data", "rollout", "restart"),
        "Deployment/c",
    )


def test_a_kubelet_is_restarted_by_docker_on_kind_and_from_a_debug_pod_elsewhere() -> None:
    assert plan_remedies([DROPS], KIND, ["kubectl"])[1].commands == (
        ("docker", "exec", "node-1", "systemctl", "restart", "kubelet"),
    )
    (command,) = plan_remedies([DROPS], MANAGED, ["kubectl"])[1].commands
    assert " ".join(command) == (
        "kubectl debug node/node-1 --profile=sysadmin --image=busybox:1.37 -q -- chroot /host "
        "systemctl restart kubelet"
    )


def test_the_first_step_that_helps_is_the_last() -> None:
    taken = Taken(BROKEN, FINE)
    steps = plan_remedies([DROPS], KIND, ["kubectl"])
    healed = apply_remedies(steps, taken.execute, taken.look, [].append)
    assert healed.done == ("restart_kube_proxy", "restart_kubelet")
    assert taken.commands[-1] == "docker exec node-1 systemctl restart kubelet"
    assert not any("drain" in command for command in taken.commands)


def test_a_node_is_not_emptied_without_a_backup() -> None:
    taken = Taken(BROKEN, BROKEN)
    steps = plan_remedies([DROPS], KIND, ["kubectl"])
    with pytest.raises(RemedyRefusedError, match="no backup is named"):
        apply_remedies(steps, taken.execute, taken.look, [].append)
    assert not any("drain" in command for command in taken.commands)


def test_with_a_backup_the_node_is_emptied_and_the_rest_is_told() -> None:
    taken = Taken(BROKEN, BROKEN, BROKEN)
    steps = plan_remedies([DROPS], MANAGED, ["kubectl"])
    with pytest.raises(RemedyRefusedError, match="aws ec2 terminate-instances"):
        apply_remedies(steps, taken.execute, taken.look, [].append, backup="s3://backups/today")
    assert taken.commands[-1].startswith("kubectl drain node-1 ")


def test_a_command_that_fails_ends_the_remedies() -> None:
    with pytest.raises(RemedyFailedError, match='"sh -c echo no >&2; exit 3" said: no'):
        run_command(["sh", "-c", "echo no >&2; exit 3"])
    with pytest.raises(RemedyFailedError, match="No such file"):
        run_command(["/nowhere/program"])
