"""The job ``provision_platform``: its graph is the service graph.

What belongs here: ops made from the declarations, wired as the services need one another. What does
not: what a step does (``cluster/provision.py``). The first op plans everything and shows it; only
if it is told that this is no dry run do the services follow, each in three steps: apply, ready,
verified. A service that was not chosen, or that the overlay does not hold, passes at once.
"""

from collections.abc import Mapping

import dagster as dg

from carbon_pipelines.cluster.graph import ServiceGraph
from carbon_pipelines.cluster.render import FOUNDATION
from carbon_pipelines.defs.cluster.config import ProvisionConfig, told_failure
from carbon_pipelines.defs.cluster.resources import HelmResource, KubernetesResource

Told = dict[str, object]
"""A ``ProvisionConfig`` as plain values: what the first op hands to every other."""


def word(service: str) -> str:
    """A service's name as Dagster takes it."""
    return service.replace("-", "_")


def provision_job(graph: ServiceGraph) -> dg.JobDefinition:
    """The job over every declared service."""
    inside = {each.name: each.title for each in graph.services if each.kind != "external"}
    titles = {FOUNDATION: "Namespaces, quotas, policies, rights", **inside}
    before = graph.before()
    go = dg.DependencyDefinition("plan", "go")
    nodes: list[dg.OpDefinition | dg.GraphDefinition] = [_plan_op()]
    wired: dict[str, Mapping[str, dg.DependencyDefinition | dg.MultiDependencyDefinition]] = {}
    for name, title in titles.items():
        first = sorted({FOUNDATION, *before.get(name, ())} & titles.keys() - {name})
        alone = name == FOUNDATION
        nodes.append(_service_graph(name, title, after=not alone))
        wired[word(name)] = {"go": go}
        if not alone:
            after = [dg.DependencyDefinition(word(each), "done") for each in first]
            wired[word(name)] = {"go": go, "after": dg.MultiDependencyDefinition(after)}
    return dg.GraphDefinition(
        name="provision_platform", node_defs=nodes, dependencies=wired
    ).to_job(
        name="provision_platform",
        description=(
            "Brings a cluster to an overlay: plan, then service after service apply, ready, "
            "verified. A dry run only shows the plan; re-running changes nothing."
        ),
        tags={"carbon/job": "provision_platform"},
        executor_def=dg.in_process_executor,
    )


def _plan_op() -> dg.OpDefinition:
    @dg.op(
        name="plan",
        description="Asks the API server what would become of every object; changes nothing.",
        out={"go": dg.Out(dict, is_required=False)},
    )
    def plan(
        context: dg.OpExecutionContext,
        config: ProvisionConfig,
        kubernetes: KubernetesResource,
        helm: HelmResource,
    ):
        from carbon_pipelines.cluster.apply import refuse_dangers
        from carbon_pipelines.cluster.provision import plan_overlay

        with told_failure():
            rendered = helm.rendered(config.overlay, charts=not config.without_charts)
            cluster, consent = kubernetes.cluster(), config.consent()
            if not config.dry_run:
                kubernetes.lock(
                    context.run_id, config.overlay, change_overlay=config.change_overlay
                )
            made = plan_overlay(cluster, rendered, config.services or None, consent)
            described = made.describe()
            context.log.info(described)
            if not config.dry_run:
                refuse_dangers(made, accept_dangers=config.accept_dangers, prune=config.prune)
        facts = {
            "carbon/plan": dg.MetadataValue.md(f"```\n{described}\n```"),
            "carbon/overlay": config.overlay,
            "carbon/reason": config.reason,
            "carbon/cluster": cluster.server,
            "carbon/kubernetes": cluster.version,
            "carbon/objects": made.checked,
            "carbon/changes": len(made.changes),
            "carbon/removals": len(made.removals),
            "carbon/dangers": list(made.dangers),
        }
        context.log_event(dg.AssetObservation(asset_key=["cluster", "platform"], metadata=facts))
        if config.dry_run:
            context.log.info("dry run: nothing was changed; set dry_run to false to do it")
        else:
            yield dg.Output(config.model_dump(), "go", metadata=facts)

    return plan


def _service_graph(service: str, title: str, *, after: bool) -> dg.GraphDefinition:
    """Apply, ready, verified of one service."""
    name = word(service)
    apply, ready, verified = f"{name}_apply", f"{name}_ready", f"{name}_verified"
    inputs = ["go", "after"] if after else ["go"]
    mappings = [
        dg.InputMapping(graph_input_name=each, mapped_node_name=apply, mapped_node_input_name=each)
        for each in inputs
    ]
    step = {"told": dg.DependencyDefinition(apply, "told")}
    last = {"told": dg.DependencyDefinition(ready, "told")}
    return dg.GraphDefinition(
        name=name,
        description=title,
        node_defs=[
            _apply_op(service, apply, inputs),
            _ready_op(service, ready),
            _verified_op(service, verified),
        ],
        dependencies={ready: step, verified: last},
        input_mappings=mappings,
        output_mappings=[
            dg.OutputMapping(
                graph_output_name="done",
                mapped_node_name=verified,
                mapped_node_output_name="done",
            )
        ],
    )


def _passes(told: Told, service: str, helm: HelmResource) -> bool:
    """Whether there is nothing to do for a service in this run."""
    config = ProvisionConfig.model_validate(told)
    chosen = not config.services or service in {*config.services, FOUNDATION}
    rendered = helm.rendered(config.overlay, charts=not config.without_charts)
    return not chosen or service not in rendered.services


def _apply_op(service: str, name: str, inputs: list[str]) -> dg.OpDefinition:
    ins = {each: dg.In(dg.Nothing if each == "after" else dict) for each in inputs}

    @dg.op(name=name, ins=ins, out={"told": dg.Out(dict)}, description=f"Writes {service}.")
    def apply(
        context: dg.OpExecutionContext,
        go: dict,
        kubernetes: KubernetesResource,
        helm: HelmResource,
    ) -> dict:
        from carbon_pipelines.cluster.provision import apply_planned

        with told_failure():
            if _passes(go, service, helm):
                context.log.info("%s: not part of this run", service)
                return go
            config = ProvisionConfig.model_validate(go)
            rendered = helm.rendered(config.overlay, charts=not config.without_charts)
            lock = kubernetes.lock(context.run_id, config.overlay)
            done = apply_planned(kubernetes.cluster(), rendered, service, lock, config.consent())
            context.log.info(done.sentence())
        context.add_output_metadata(
            {
                "carbon/service": service,
                "carbon/changes": len(done.changes),
                "carbon/restarted": [
                    change.manifest.label for change in done.changes if change.restarts
                ],
                "carbon/written": dg.MetadataValue.md(
                    "\n".join(line for change in done.changes for line in change.lines())
                    or "nothing: it is as declared"
                ),
            }
        )
        return go

    return apply


def _ready_op(service: str, name: str) -> dg.OpDefinition:
    @dg.op(
        name=name,
        ins={"told": dg.In(dict)},
        out={"told": dg.Out(dict)},
        description=f"Waits until every object of {service} works.",
    )
    def ready(
        context: dg.OpExecutionContext,
        told: dict,
        kubernetes: KubernetesResource,
        helm: HelmResource,
    ) -> dict:
        from carbon_pipelines.cluster.provision import finish_service

        with told_failure():
            if _passes(told, service, helm):
                return told
            config = ProvisionConfig.model_validate(told)
            rendered = helm.rendered(config.overlay, charts=not config.without_charts)
            lock = kubernetes.lock(context.run_id, config.overlay)
            took, revision = finish_service(
                kubernetes.cluster(), rendered, service, lock, config.consent(), config.patience()
            )
            context.log.info("%s: ready after %.1f s", service, took.total_seconds())
        context.add_output_metadata(
            {
                "carbon/service": service,
                "carbon/objects": len(rendered.services[service]),
                "carbon/ready_after_seconds": took.total_seconds(),
                **({} if revision is None else {"carbon/revision": revision}),
            }
        )
        return told

    return ready


def _verified_op(service: str, name: str) -> dg.OpDefinition:
    @dg.op(
        name=name,
        ins={"told": dg.In(dict)},
        out={"done": dg.Out(dg.Nothing)},
        description=f"Makes sure that somebody answers at every endpoint of {service}.",
    )
    def verified(
        context: dg.OpExecutionContext,
        told: dict,
        kubernetes: KubernetesResource,
        helm: HelmResource,
    ) -> None:
        from carbon_pipelines.cluster.provision import verify_service

        with told_failure():
            if _passes(told, service, helm):
                return
            config = ProvisionConfig.model_validate(told)
            rendered = helm.rendered(config.overlay, charts=not config.without_charts)
            count = verify_service(kubernetes.cluster(), rendered, service, config.patience())
            context.log.info("%s: %d endpoints answer", service, count)
        facts = {"carbon/endpoints": count, "carbon/overlay": config.overlay}
        key = ["cluster", word(service)]
        context.log_event(dg.AssetObservation(asset_key=key, metadata=facts))

    return verified
