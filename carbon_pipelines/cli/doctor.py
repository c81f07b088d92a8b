"""``carbon doctor``: who reaches whom, and if not, why and what to do.

What belongs here: options, where to look, and printing. What does not: looking and judging
(``cluster/doctor*.py``).
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli

if TYPE_CHECKING:
    from carbon_pipelines.cluster.doctor_findings import Findings
    from carbon_pipelines.cluster.doctor_kubectl import Kubectl
    from carbon_pipelines.cluster.doctor_remedies import Step

DEPLOY_VARIABLE = "CARBON_CLUSTER_DEPLOY"


@cli.command()
@click.option(
    "--edge",
    "edges",
    multiple=True,
    help="client->server, client.pods->server or client.pods->server/endpoint; may be repeated. "
    "On this machine: kafka, s3, catalog, source or trino.",
)
@click.option("--fix", is_flag=True, help="Show the steps that can be taken, in their order.")
@click.option("--apply", "apply_", is_flag=True, help="With --fix: take them, and look after each.")
@click.option("--backup", default="", help="Where the backup is; a node is not emptied without.")
@click.option("--json", "as_json", is_flag=True, help="The same facts for programs.")
@click.option("--here", is_flag=True, help="Look at the services of this machine.")
@click.option(
    "--deploy",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    envvar=DEPLOY_VARIABLE,
    help="Directory with the declared services: look at the cluster.",
)
@click.option("--context", default=None, envvar="CARBON_CLUSTER_CONTEXT", help="Of the kubeconfig.")
@click.option("--kubeconfig", default=None, envvar="CARBON_CLUSTER_KUBECONFIG")
@click.option(
    "--debug-image",
    default="",
    help="An image with Python 3.10 or newer: tries each edge from an ephemeral container beside "
    "the pod's own, which stays until the pod ends.",
)
def doctor(
    edges: tuple[str, ...],
    backup: str,
    deploy: Path | None,
    context: str | None,
    kubeconfig: str | None,
    debug_image: str,
    *,
    fix: bool,
    apply_: bool,
    as_json: bool,
    here: bool,
) -> None:
    """Try every edge between services level by level, and name the cause of what fails.

    Levels are DNS, TCP, TLS, the protocol, the login and the right. In a cluster (--deploy, or
    CARBON_CLUSTER_DEPLOY) each edge is tried from the pods that use it, at the pods' own addresses
    and at the Service's; else from here to the services of this machine.

    Exit codes: 0 every edge works; 1 the doctor could not look; 2 wrong options; 3 an edge is
    broken or slow; 4 none is, and some could not be tried.
    """
    from carbon_pipelines.cluster.doctor_text import describe, describe_steps, exit_code

    if apply_ and not fix:
        raise click.UsageError("--apply belongs to --fix")
    chatter = _tell_aside if as_json else click.echo
    in_cluster = deploy is not None and not here
    if in_cluster:
        assert deploy is not None
        kubectl = _kubectl(context, kubeconfig)
        look, plan = _in_cluster(deploy, kubectl, edges, debug_image, chatter)
    else:
        look, plan = _on_this_machine(edges)
    found = look()
    if not as_json:
        click.echo(describe(found))
    steps = plan(found) if fix and found.faults else ()
    if fix and found.faults:
        chatter(describe_steps(steps))
    if apply_ and steps:
        from carbon_pipelines.cluster.doctor_remedies import apply_remedies, run_command

        execute = run_command if in_cluster else _stack_command
        found = apply_remedies(steps, execute, look, chatter, backup=backup).found
        if not as_json:
            click.echo(describe(found))
    if as_json:
        document = {**found.document(), "steps": [step.describe() for step in steps]}
        click.echo(json.dumps(document, indent=2))
    raise SystemExit(exit_code(found))


def _in_cluster(
    deploy: Path,
    kubectl: "Kubectl",
    edges: tuple[str, ...],
    debug_image: str,
    report: Callable[[str], None],
) -> "tuple[Callable[[], Findings], Callable[[Findings], tuple[Step, ...]]]":
    from carbon_pipelines.cluster.doctor import KubectlAccess, choose_edges, examine
    from carbon_pipelines.cluster.doctor_remedies import plan_remedies
    from carbon_pipelines.cluster.load import load_graph

    graph = load_graph(deploy)
    choose_edges(graph, edges)  # an unknown edge is told before the cluster is asked
    access = KubectlAccess(kubectl, debug_image)

    def look() -> "Findings":
        return examine(graph, access, edges, report=report)

    def plan(found: "Findings") -> "tuple[Step, ...]":
        return plan_remedies(found.faults, access.state(), kubectl.command())

    return look, plan


def _on_this_machine(
    edges: tuple[str, ...],
) -> "tuple[Callable[[], Findings], Callable[[Findings], tuple[Step, ...]]]":
    from carbon_pipelines.cluster.doctor_local import examine_here
    from carbon_pipelines.cluster.doctor_remedies import plan_remedies
    from carbon_pipelines.cluster.doctor_state import ClusterState
    from carbon_pipelines.embedded.ports import describe_occupant

    def look() -> "Findings":
        endpoints = surroundings.endpoints()
        parts = surroundings.stack().status().parts if endpoints.embedded is not None else ()
        return examine_here(endpoints, parts, edges, occupant=describe_occupant)

    def plan(found: "Findings") -> "tuple[Step, ...]":
        return plan_remedies(found.faults, ClusterState(), ())

    return look, plan


def _stack_command(command: Sequence[str]) -> None:
    """``carbon up`` and ``carbon down`` of a step, in this process."""
    stack = surroundings.stack()
    if command[-1] == "up":
        stack.up(_tell_aside)
    else:
        stack.down(_tell_aside)


def _kubectl(context: str | None, kubeconfig: str | None) -> "Kubectl":
    from carbon_pipelines.cluster.doctor_kubectl import Kubectl

    program = os.environ.get("CARBON_CLUSTER_KUBECTL") or "kubectl"
    return Kubectl(program, context=context, kubeconfig=kubeconfig)


def _tell_aside(line: str) -> None:
    """To standard error: standard output is for programs."""
    click.echo(line, err=True)
