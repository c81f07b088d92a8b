"""Jobs about services that run: upgrade, rollback, restart, scale, and taking them down.

What belongs here: run config, and showing what is planned and done. What does not: what is done
(``cluster/operations.py``, ``cluster/teardown.py``). Each shows its plan and does it only if told.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from carbon_pipelines.cluster.provision import Consent
from carbon_pipelines.defs.cluster.config import OverlayConfig, told_failure
from carbon_pipelines.defs.cluster.resources import HelmResource, KubernetesResource


class ServiceConfig(OverlayConfig):
    """One service of an overlay."""

    service: str = Field(description="As the overlay lists it.")


class RollbackConfig(ServiceConfig):
    """Which state to go back to."""

    revision: int | None = Field(
        default=None, description="Default: the newest that worked and is not there now."
    )


class ScaleConfig(ServiceConfig):
    """How many pods."""

    workload: str = Field(description="Kind/name, like StatefulSet/trino-worker.")
    pods: int = Field(ge=0, description="Until the next provisioning.")


class TeardownConfig(OverlayConfig):
    """What goes."""

    services: list[str] = Field(default=[], description="Only these; empty: all of the overlay.")
    delete_data: bool = Field(
        default=False, description="Also volumes, namespaces, databases and Secrets."
    )
    backup_to: str = Field(description="A directory that outlives the run, for the backup.")


def show(context: dg.OpExecutionContext, config: OverlayConfig, described: str) -> None:
    """The plan, in the log and beside the step."""
    context.log.info(described)
    facts: Mapping[str, Any] = {
        "carbon/plan": dg.MetadataValue.md(f"```\n{described}\n```"),
        "carbon/overlay": config.overlay,
        "carbon/reason": config.reason,
        "carbon/dry_run": config.dry_run,
    }
    context.add_output_metadata(facts)


@dg.op(description="Plans one service's upgrade; does it, between two gates, if told to.")
def upgrade_one(
    context: dg.OpExecutionContext,
    config: ServiceConfig,
    kubernetes: KubernetesResource,
    helm: HelmResource,
) -> None:
    """One service to its manifests; back by itself if it does not become ready."""
    from carbon_pipelines.cluster.operations import gate, upgrade
    from carbon_pipelines.cluster.plan import Choice, make_plan

    with told_failure():
        rendered = helm.rendered(config.overlay, charts=not config.without_charts)
        cluster, service = kubernetes.cluster(), config.service
        gate(cluster, rendered, service)
        plan = make_plan(cluster, rendered, Choice([service], alone=True))
        show(context, config, plan.describe())
        if not config.dry_run:
            lock = kubernetes.lock(context.run_id, config.overlay)
            consent, report = Consent(accept_dangers=config.accept_dangers), context.log.info
            upgrade(cluster, rendered, service, lock, consent, config.patience(), report)


@dg.op(description="Shows which state a service would go back to; puts it back if told to.")
def roll_back_one(
    context: dg.OpExecutionContext,
    config: RollbackConfig,
    kubernetes: KubernetesResource,
    helm: HelmResource,
) -> None:
    """One service to a recorded state."""
    from carbon_pipelines.cluster.operations import plan_rollback, restore

    with told_failure():
        rendered = helm.rendered(config.overlay, charts=not config.without_charts)
        cluster = kubernetes.cluster()
        chosen, plan = plan_rollback(cluster, rendered, config.service, config.revision)
        by = f"revision {chosen.number}, recorded by {chosen.by}"
        show(context, config, f"{by}\n{plan.describe()}")
        if not config.dry_run:
            lock = kubernetes.lock(context.run_id, config.overlay)
            restore(cluster, rendered, chosen, lock, config.patience())


@dg.op(description="Lists a service's workloads; makes their pods anew if told to.")
def restart_one(
    context: dg.OpExecutionContext,
    config: ServiceConfig,
    kubernetes: KubernetesResource,
    helm: HelmResource,
) -> None:
    """Workload after workload, each ready before the next."""
    from datetime import UTC, datetime

    from carbon_pipelines.cluster.operations import plan_restart, restart

    with told_failure():
        rendered = helm.rendered(config.overlay, charts=not config.without_charts)
        planned = [manifest.label for manifest in plan_restart(rendered, config.service)]
        show(context, config, "\n".join(f"{label}: its pods are made anew" for label in planned))
        if not config.dry_run:
            cluster = kubernetes.cluster()
            lock = kubernetes.lock(context.run_id, config.overlay)
            at = datetime.now(UTC)
            restart(cluster, rendered, config.service, lock, config.patience(), at)


@dg.op(description="Shows the number of pods that is declared; sets another if told to.")
def scale_one(
    context: dg.OpExecutionContext,
    config: ScaleConfig,
    kubernetes: KubernetesResource,
    helm: HelmResource,
) -> None:
    """One workload, until the next provisioning."""
    from carbon_pipelines.cluster.operations import plan_scale, scale

    with told_failure():
        rendered = helm.rendered(config.overlay, charts=not config.without_charts)
        scaling = plan_scale(rendered, config.service, config.workload, config.pods)
        show(context, config, scaling.sentence())
        if not config.dry_run:
            cluster = kubernetes.cluster()
            lock = kubernetes.lock(context.run_id, config.overlay)
            consent = Consent(accept_dangers=config.accept_dangers)
            scale(cluster, rendered, scaling, lock, consent, config.patience())


@dg.op(description="Lists what would go and what stays; backs up and removes if told to.")
def tear_down_overlay(
    context: dg.OpExecutionContext,
    config: TeardownConfig,
    kubernetes: KubernetesResource,
    helm: HelmResource,
) -> None:
    """A backup first; data stays unless it is said otherwise."""
    from carbon_pipelines.cluster.teardown import plan_teardown, tear_down

    with told_failure():
        rendered = helm.rendered(config.overlay, charts=not config.without_charts)
        cluster, chosen = kubernetes.cluster(), config.services or None
        plan = plan_teardown(cluster, rendered, chosen, delete_data=config.delete_data)
        show(context, config, plan.describe())
        if not config.dry_run:
            lock = kubernetes.lock(context.run_id, config.overlay)
            tear_down(cluster, plan, lock, Path(config.backup_to), context.log.info)


JOBS = {
    "upgrade_service": upgrade_one,
    "rollback_service": roll_back_one,
    "restart_service": restart_one,
    "scale_service": scale_one,
    "teardown_platform": tear_down_overlay,
}


def service_jobs() -> list[dg.JobDefinition]:
    """A job of one step for each."""
    return [_job(name, op) for name, op in JOBS.items()]


def _job(name: str, op: dg.OpDefinition) -> dg.JobDefinition:
    graph = dg.GraphDefinition(name=name, node_defs=[op])
    return graph.to_job(
        name=name,
        description=op.description,
        tags={"carbon/job": name},
        executor_def=dg.in_process_executor,
    )


def helm_from(environ: Mapping[str, str], deploy: Path) -> HelmResource:
    """Paths that the environment tells; the rest is looked up in a run."""
    told: dict[str, Any] = {
        field: dg.EnvVar(f"CARBON_CLUSTER_{field.upper()}")
        for field in ("kubectl", "helm", "charts")
        if environ.get(f"CARBON_CLUSTER_{field.upper()}")
    }
    return HelmResource(deploy=str(deploy), **told)


def kubernetes_from(environ: Mapping[str, str]) -> KubernetesResource:
    """The cluster that the environment tells."""
    told: dict[str, Any] = {
        field: dg.EnvVar(f"CARBON_CLUSTER_{field.upper()}")
        for field in ("kubeconfig", "context")
        if environ.get(f"CARBON_CLUSTER_{field.upper()}")
    }
    return KubernetesResource(**told)
