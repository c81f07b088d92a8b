"""The doctor in Dagster: a check per edge of the service graph, and the job that mends.

What belongs here: checks on ``cluster/<service>``, and the job ``repair_connectivity`` whose ops
are the remedies in their order. What does not: looking and judging (``cluster/doctor*.py``), and
the assets of services themselves.

A check sits on the client: it is the one that cannot work. One step looks at all edges that were
asked for, because the cluster's state is read once for all of them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from carbon_pipelines.cluster.doctor_findings import Diagnosis, Findings
from carbon_pipelines.cluster.graph import Edge, ServiceGraph
from carbon_pipelines.cluster.load import load_graph
from carbon_pipelines.defs.failures import as_failure

if TYPE_CHECKING:
    from carbon_pipelines.cluster.doctor import KubectlAccess

DEPLOY_VARIABLE = "CARBON_CLUSTER_DEPLOY"
LOOK_JOB = "examine_connectivity"
JOB = "repair_connectivity"
_REMEDIES = (
    ("restart_dns", "Restarts the cluster's DNS, pod by pod."),
    ("restart_server", "Restarts servers that hang or are not ready."),
    ("restart_kube_proxy", "Restarts kube-proxy on the nodes; its rules stay meanwhile."),
    ("restart_kubelet", "Restarts the kubelet of the node that drops packets; no pod stops."),
    ("recreate_node", "Empties the node, to be made anew; only after a backup."),
)


class DoctorResource(dg.ConfigurableResource):
    """How the doctor asks the cluster; None is kubectl's own choice."""

    kubectl: str = "kubectl"
    kubeconfig: str | None = None
    context: str | None = None
    debug_image: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "DoctorResource":
        """From CARBON_CLUSTER_KUBECTL, _KUBECONFIG, _CONTEXT and _DEBUG_IMAGE, where set."""
        told = {
            field: dg.EnvVar(variable)
            for field in cls.model_fields
            if environ.get(variable := f"CARBON_CLUSTER_{field.upper()}")
        }
        return cls(**told)

    def access(self) -> "KubectlAccess":
        """The cluster, to be examined."""
        from carbon_pipelines.cluster.doctor import KubectlAccess
        from carbon_pipelines.cluster.doctor_kubectl import Kubectl

        kubectl = Kubectl(self.kubectl, context=self.context, kubeconfig=self.kubeconfig)
        return KubectlAccess(kubectl, self.debug_image)


class RepairConfig(dg.Config):
    """Which edges, why, and whether to do it."""

    edges: list[str] = Field(
        default_factory=list, description="client->server, as carbon doctor takes it; none is all."
    )
    reason: str = Field(min_length=1, description="Why; it is written down with the run.")
    dry_run: bool = Field(default=True, description="Only show the steps. Set false to take them.")
    backup: str = Field(default="", description="Where the backup is; no node is emptied without.")


def service_key(name: str) -> dg.AssetKey:
    """``cluster/<service>``, with the name as a word."""
    return dg.AssetKey(["cluster", name.replace("-", "_")])


def check_name(edge: Edge) -> str:
    """A word for an edge of its client, like ``coordinator_reaches_db_sql``."""
    told = f"{edge.pods}_reaches_{edge.server.name}_{edge.endpoint_name}"
    return told.replace("-", "_")


def doctor(environ: Mapping[str, str]) -> dg.Definitions:
    """Checks and job for the declared services; nothing where no directory of them is named."""
    deploy = environ.get(DEPLOY_VARIABLE)
    if not deploy:
        return dg.Definitions()
    graph = load_graph(Path(deploy))
    if not graph.edges:
        return dg.Definitions()
    checks = edge_checks(graph)
    look = dg.define_asset_job(
        LOOK_JOB,
        selection=dg.AssetSelection.checks(checks),
        description="Try every edge between services; each is a check on the one that uses it.",
    )
    return dg.Definitions(
        asset_checks=[checks],
        jobs=[look, repair_job(graph)],
        resources={"doctor": DoctorResource.from_environment(environ)},
    )


def edge_checks(graph: ServiceGraph) -> dg.AssetChecksDefinition:
    """One check per edge, in one step."""
    edges = {(service_key(edge.client.name), check_name(edge)): edge for edge in graph.edges}

    @dg.multi_asset_check(
        name="examine_edges",
        specs=[
            dg.AssetCheckSpec(name, asset=key, description=f"{edge.name}: {edge.use.why}.")
            for (key, name), edge in edges.items()
        ],
        can_subset=True,
        pool="cluster",
    )
    def examine_edges(
        context: dg.AssetCheckExecutionContext, doctor: DoctorResource
    ) -> Iterator[dg.AssetCheckResult]:
        from carbon_pipelines.cluster.doctor import examine

        wanted = {
            edges[key.asset_key, key.name].name: key for key in context.selected_asset_check_keys
        }
        with as_failure():
            found = examine(graph, doctor.access(), list(wanted), report=context.log.info)
        for note in found.notes:
            context.log.warning("%s. %s", note.sentence, note.fix)
        for one in found.diagnoses:
            key = wanted[one.edge]
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=one.status == "works",
                severity=_severity(one),
                description=one.sentence,
                metadata=_metadata(one),
            )

    return examine_edges


def repair_job(graph: ServiceGraph) -> dg.JobDefinition:
    """The remedies in their order; each looks again, and is passed by once nothing is broken."""

    @dg.op(name="examine", description="Tries the edges, and says what is wrong.")
    def examine_op(
        context: dg.OpExecutionContext, config: RepairConfig, doctor: DoctorResource
    ) -> Findings:
        from carbon_pipelines.cluster.doctor import examine
        from carbon_pipelines.cluster.doctor_text import describe

        with as_failure():
            found = examine(graph, doctor.access(), config.edges, report=context.log.info)
        context.log.info(describe(found))
        context.add_output_metadata(
            {"carbon/faults": len(found.faults), "carbon/reason": config.reason}
        )
        return found

    ops = [_remedy_op(graph, remedy, about) for remedy, about in _REMEDIES]

    @dg.job(
        name=JOB,
        description="Mend what the doctor finds, gentlest step first. A dry run shows the steps.",
        tags={"carbon/job": JOB},
        config=dg.ConfigMapping(_same_for_all, config_schema=RepairConfig.to_config_schema()),
    )
    def repair_connectivity() -> None:
        found = examine_op()
        for op in ops:
            found = op(found)

    return repair_connectivity


def _same_for_all(config: Mapping[str, object]) -> Mapping[str, object]:
    """Every op is told the same."""
    names = ("examine", *(remedy for remedy, _ in _REMEDIES))
    return {"ops": {name: {"config": dict(config)} for name in names}}


def _remedy_op(graph: ServiceGraph, remedy: str, about: str) -> dg.OpDefinition:
    """One remedy: shows its steps, takes them if told to, and looks again."""

    @dg.op(name=remedy, description=about, pool="cluster")
    def take(
        context: dg.OpExecutionContext,
        config: RepairConfig,
        doctor: DoctorResource,
        found: Findings,
    ) -> Findings:
        from carbon_pipelines.cluster.doctor import examine
        from carbon_pipelines.cluster.doctor_remedies import (
            apply_remedies,
            plan_remedies,
            run_command,
        )

        with as_failure():
            if not found.faults:
                context.log.info("Nothing is broken: nothing to do.")
                return found
            access = doctor.access()
            command = access.kubectl.command()
            every = plan_remedies(found.faults, access.state(), command)
            steps = [step for step in every if step.remedy == remedy]
            plan = "\n".join(step.describe() for step in steps) or "Not for what was found."
            context.log.info(plan)
            context.add_output_metadata({"carbon/plan": dg.MetadataValue.md(f"```\n{plan}\n```")})
            if config.dry_run or not steps:
                return found
            return apply_remedies(
                steps,
                run_command,
                lambda: examine(graph, access, config.edges, report=context.log.info),
                context.log.info,
                backup=config.backup,
            ).found

    return take


def _severity(one: Diagnosis) -> dg.AssetCheckSeverity:
    severities = dg.AssetCheckSeverity
    return severities.ERROR if one.status == "broken" else severities.WARN


def _metadata(one: Diagnosis) -> dict[str, dg.MetadataValue]:
    listed = "\n".join(f"* {line}" for line in one.evidence)
    return {
        "carbon/cause": dg.MetadataValue.text(one.cause),
        "carbon/evidence": dg.MetadataValue.md(listed),
        "carbon/fix": dg.MetadataValue.text(one.fix),
    }
