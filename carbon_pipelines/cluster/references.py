"""What pods of a plan refer to: Secrets that nobody has made yet, settings that are read at start.

What belongs here: finding such references and saying what follows. What does not: refusing a plan
for them: an operator may make a Secret in time.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carbon_pipelines.cluster.api import Cluster
from carbon_pipelines.cluster.change import Change
from carbon_pipelines.cluster.manifest import Manifest
from carbon_pipelines.cluster.render import Rendered


def notes_of(
    cluster: Cluster, rendered: Rendered, chosen: Sequence[Manifest], changes: Sequence[Change]
) -> Iterator[str]:
    """Sentences about references of the chosen objects."""
    yield from _missing(cluster, rendered, chosen)
    changed = {
        change.manifest.identity
        for change in changes
        if change.act == "change" and change.manifest.kind in {"ConfigMap", "Secret"}
    }
    restarted = {change.manifest.identity for change in changes if change.restarts}
    for manifest in chosen:
        if manifest.identity in restarted:
            continue
        for kind, name, _ in references(manifest):
            if ("", kind, manifest.namespace or "", name) in changed:
                yield (
                    f"{manifest.label} uses {kind} {name}, which changes, and does not restart by "
                    f'itself: "carbon cluster restart {manifest.service}" does it'
                )


def _missing(cluster: Cluster, rendered: Rendered, chosen: Sequence[Manifest]) -> Iterator[str]:
    declared = {manifest.identity for manifest in rendered.manifests}
    wanted: dict[tuple[str, str, str], list[str]] = {}
    for manifest in chosen:
        for kind, name, optional in references(manifest):
            namespace = manifest.namespace or ""
            if not optional and ("", kind, namespace, name) not in declared:
                wanted.setdefault((kind, namespace, name), []).append(manifest.label)
    for (kind, namespace, name), users in sorted(wanted.items()):
        plural = "secrets" if kind == "Secret" else "configmaps"
        if cluster.get(f"/api/v1/namespaces/{namespace}/{plural}/{name}") is None:
            made = _makers(rendered, namespace, name)
            whose = f"{made} makes it" if made else "nothing of this overlay makes it"
            yield f"{kind} {namespace}/{name} is not there; {users[0]} waits for it, {whose}"


def _makers(rendered: Rendered, namespace: str, name: str) -> str | None:
    """An object whose operator makes a Secret of this name."""
    for manifest in rendered.manifests:
        spec: Mapping[str, Any] = manifest.body.get("spec") or {}
        if manifest.namespace != namespace or not manifest.is_custom:
            continue
        target = (
            (spec.get("target") or {}).get("name") if manifest.kind == "ExternalSecret" else None
        )
        if name in {target, spec.get("secretName"), manifest.name} or name.startswith(
            f"{manifest.name}-"
        ):
            return manifest.label
    return None


def references(manifest: Manifest) -> Iterator[tuple[str, str, bool]]:
    """(kind, name, optional) of ConfigMaps and Secrets that pods of a workload use."""
    spec: Mapping[str, Any] = manifest.body.get("spec") or {}
    if manifest.kind == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    if manifest.group not in {"apps", "batch"}:
        return
    pod: Mapping[str, Any] = spec["template"]["spec"]
    for volume in pod.get("volumes") or ():
        yield from _of_sources([volume, *(volume.get("projected") or {}).get("sources", ())])
    for container in (*pod.get("containers", ()), *(pod.get("initContainers") or ())):
        for source in container.get("envFrom") or ():
            yield from _named("Secret", source.get("secretRef"))
            yield from _named("ConfigMap", source.get("configMapRef"))
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            yield from _named("Secret", source.get("secretKeyRef"))
            yield from _named("ConfigMap", source.get("configMapKeyRef"))


def _of_sources(sources: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, bool]]:
    for source in sources:
        yield from _named("Secret", source.get("secret"))
        yield from _named("ConfigMap", source.get("configMap"))


def _named(kind: str, reference: Mapping[str, Any] | None) -> Iterator[tuple[str, str, bool]]:
    if reference:
        name = reference.get("secretName") or reference.get("name")
        if name:
            yield (kind, str(name), bool(reference.get("optional")))
