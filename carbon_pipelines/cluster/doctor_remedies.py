"""What to do about a cause: steps in their order, each a plan that can be read before it is run.

What belongs here: which steps, their commands (ours, and by hand on kind and on managed nodes), and
running them one by one with a look after each. What does not: finding causes.

The order never changes: the step that interrupts least comes first. A node is made anew only when
somebody has said where the backup is.
"""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from carbon_pipelines.cluster.doctor_findings import Diagnosis, Findings, Remedy
from carbon_pipelines.cluster.doctor_state import SYSTEM, ClusterState
from carbon_pipelines.errors import RemedyFailedError, RemedyRefusedError

Execute = Callable[[Sequence[str]], None]
ORDER: tuple[Remedy, ...] = (
    "start_stack",
    "restart_stack",
    "restart_dns",
    "restart_server",
    "restart_kube_proxy",
    "restart_kubelet",
    "recreate_node",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One remedy: what it does and interrupts, and its commands."""

    remedy: Remedy
    title: str
    interrupts: str
    commands: tuple[tuple[str, ...], ...]
    """What we run, in this order; empty where only a person can do it."""
    by_hand: tuple[str, ...] = ()
    """The same, or what is left of it, as a person runs it: a line for each kind of node."""
    needs_backup: bool = False

    def describe(self) -> str:
        """The plan, for people."""
        lines = [f"{self.title} ({self.interrupts})"]
        lines += [f"  {' '.join(command)}" for command in self.commands]
        lines += [f"  by hand, {line}" for line in self.by_hand]
        if self.needs_backup:
            lines.append("  only after a backup: name it with --backup")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Healed:
    """What was done, in order, and what the doctor found after the last step."""

    done: tuple[Remedy, ...]
    found: Findings


def plan_remedies(
    faults: Sequence[Diagnosis],
    state: ClusterState,
    kubectl: Sequence[str],
    *,
    debug_image: str = "busybox:1.37",
) -> tuple[Step, ...]:
    """The steps for all faults, each once, those first that interrupt least.

    Args:
        faults: What the doctor found.
        state: The cluster, to know whose nodes they are.
        kubectl: The program with its context.
        debug_image: An image with a shell, for a command on a node.
    """
    found: dict[tuple[str, ...], Step] = {}
    for fault in faults:
        for remedy in fault.remedies:
            step = _step(remedy, fault, state, tuple(kubectl), debug_image)
            found.setdefault((remedy, *(word for one in step.commands for word in one)), step)
    return tuple(sorted(found.values(), key=lambda step: ORDER.index(step.remedy)))


def apply_remedies(
    steps: Sequence[Step],
    execute: Execute,
    look: Callable[[], Findings],
    report: Callable[[str], None],
    *,
    backup: str = "",
) -> Healed:
    """Run the steps one by one and look after each; stop as soon as nothing is broken.

    Raises:
        RemedyRefusedError: A step needs a backup and none is named, or only a person can do it.
        RemedyFailedError: A command ended with an error.
    """
    done: list[Remedy] = []
    found = Findings(())
    for step in steps:
        if step.needs_backup and not backup:
            reason = "the steps before it did not help, and no backup is named"
            next_step = "Make one, then name where it is: --backup."
            raise RemedyRefusedError(step.title, reason, next_step)
        report(step.title)
        for command in step.commands:
            execute(command)
        done.append(step.remedy)
        found = look()
        if not found.faults:
            break
        report(f"after that {len(found.faults)} faults are left")
        if step.by_hand and step.needs_backup:
            reason = "the node is empty now, and only who runs the node can make it anew"
            raise RemedyRefusedError(step.title, reason, "Run: " + "; ".join(step.by_hand))
    return Healed(tuple(done), found)


def run_command(command: Sequence[str], *, timeout_seconds: float = 600.0) -> None:
    """Run one command of a step.

    Raises:
        RemedyFailedError: It ended with an error.
    """
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RemedyFailedError(command[0], " ".join(command), str(error)) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-300:] or f"exit code {done.returncode}"
        raise RemedyFailedError(command[0], " ".join(command), said)


def _step(
    remedy: Remedy,
    fault: Diagnosis,
    state: ClusterState,
    kubectl: tuple[str, ...],
    debug_image: str,
) -> Step:
    system = (*kubectl, "-n", SYSTEM)
    if remedy == "start_stack":
        return Step(remedy, "start what has stopped", "nothing", (("carbon", "up"),))
    if remedy == "restart_stack":
        commands = (("carbon", "down"), ("carbon", "up"))
        return Step(remedy, "restart the stack", "everything on this machine", commands)
    if remedy == "restart_dns":
        pick = ("deployment", "-l", "k8s-app=kube-dns")
        commands = ((*system, "rollout", "restart", *pick), (*system, "rollout", "status", *pick))
        return Step(remedy, "restart the cluster's DNS", "nothing, pod by pod", commands)
    if remedy == "restart_server":
        own = (*kubectl, "-n", fault.namespace, "rollout")
        workload = fault.workload
        commands = ((*own, "restart", workload), (*own, "status", workload, "--timeout=5m"))
        title = f"restart {workload} in {fault.namespace}"
        return Step(remedy, title, "its clients, for the time of a restart", commands)
    if remedy == "restart_kube_proxy":
        name = next((d for d in ("kube-proxy", "cilium") if d in state.daemons), "kube-proxy")
        pick = (f"daemonset/{name}",)
        commands = (
            (*system, "rollout", "restart", *pick),
            (*system, "rollout", "status", *pick, "--timeout=3m"),
        )
        return Step(remedy, f"restart {name}", "nothing; its rules stay meanwhile", commands)
    node, provider = fault.node or "NODE", state.provider
    if remedy == "restart_kubelet":
        on_node = ("chroot", "/host", "systemctl", "restart", "kubelet")
        debug = ("debug", f"node/{node}", "--profile=sysadmin", f"--image={debug_image}", "-q")
        command = (*kubectl, *debug, "--", *on_node)
        if provider == "kind":
            command = ("docker", "exec", node, "systemctl", "restart", "kubelet")
        hand = _kubelet_by_hand(node)
        return Step(remedy, f"restart the kubelet of {node}", "no pod", (command,), hand)
    drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=10m")
    return Step(
        "recreate_node",
        f"empty node {node} and make it anew",
        "every pod of the node moves; on kind the whole cluster is made anew, and its volumes go",
        ((*kubectl, *drain),),
        _node_by_hand(node),
        needs_backup=True,
    )


def _kubelet_by_hand(node: str) -> tuple[str, ...]:
    return (
        f"kind: docker exec {node} systemctl restart kubelet",
        f"EKS: aws ssm send-command --document-name AWS-RunShellScript --instance-ids "
        f"$(kubectl get node {node} -o jsonpath='{{.spec.providerID}}' | sed 's|.*/||') "
        "--parameters commands='systemctl restart kubelet'",
        f"GKE: gcloud compute ssh {node} --command 'sudo systemctl restart kubelet'",
        f"AKS: kubectl debug node/{node} -it --profile=sysadmin --image=busybox:1.37 -- chroot "
        "/host systemctl restart kubelet",
    )


def _node_by_hand(node: str) -> tuple[str, ...]:
    return (
        "kind: kind delete cluster && kind create cluster --config deploy/overlays/local/kind.yaml,"
        " then provision and restore",
        f"EKS: aws ec2 terminate-instances --instance-ids $(kubectl get node {node} -o "
        "jsonpath='{.spec.providerID}' | sed 's|.*/||')",
        f"GKE: gcloud compute instances delete {node}",
        f"AKS: az aks nodepool delete-machines --resource-group GROUP --cluster-name CLUSTER "
        f"--nodepool-name POOL --machine-names {node}",
    )
