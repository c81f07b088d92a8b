"""Why an object is not ready: its pods' conditions, the newest warning, and a line of a log.

What belongs here: looking. What does not: deciding whether to wait on. The network between pods is
the doctor's matter.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from carbon_pipelines.cluster.api import Cluster, Json
from carbon_pipelines.cluster.manifest import Manifest
from carbon_pipelines.errors import ApiRefusalError

_STUCK = frozenset(
    [
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "Unschedulable",
        "FailedCreate",
        "ReplicaFailure",
    ]
)
"""What does not go away by itself; a pod that is merely slow is waited for until the deadline."""

_TELLING = re.compile(r"fatal|error|exception|panic|denied|refused", re.IGNORECASE)
_TAIL = 50
_PODS_READ = 5


@dataclass(frozen=True, slots=True)
class Reason:
    """What was found; each None when there is nothing."""

    condition: str | None = None
    event: str | None = None
    log_line: str | None = None
    stuck: bool = False


def diagnose(cluster: Cluster, unready: Sequence[tuple[Manifest, Json | None]]) -> Reason:
    """The most telling condition, event and log line of objects that are not ready."""
    for manifest, live in unready:
        if live is None:
            continue
        pods = list(_pods(cluster, live))[:_PODS_READ]
        named = [live, *_owned_sets(cluster, live), *pods]
        event = _newest_warning(cluster, manifest.namespace, named)
        condition, container = next(
            ((told, at) for pod in pods for told, at in _pod_trouble(pod)), (None, None)
        )
        if condition or event:
            log_line = _log_line(cluster, pods, container)
            words = f"{condition} {event}"
            stuck = any(word in words for word in _STUCK)
            return Reason(condition, event, log_line, stuck=stuck)
    return Reason()


def _pods(cluster: Cluster, live: Json) -> Iterator[Json]:
    """Pods of a workload that are not ready, by its selector; or those that carry its labels."""
    namespace = live["metadata"].get("namespace")
    selector = (live.get("spec") or {}).get("selector") or {}
    labels = selector.get("matchLabels", selector if live.get("kind") == "Service" else {})
    if not namespace or not labels:
        return
    chosen = ",".join(f"{key}={value}" for key, value in labels.items())
    for pod in cluster.items(f"/api/v1/namespaces/{namespace}/pods", chosen):
        conditions = pod.get("status", {}).get("conditions") or ()
        if not any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
            yield pod


def _owned_sets(cluster: Cluster, live: Json) -> list[Json]:
    """ReplicaSets of a Deployment: their events say why no pod could be made."""
    if live.get("kind") != "Deployment":
        return []
    namespace, uid = live["metadata"]["namespace"], live["metadata"]["uid"]
    listed = cluster.items(f"/apis/apps/v1/namespaces/{namespace}/replicasets")
    return [
        each
        for each in listed
        if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences", ()))
    ]


def _pod_trouble(pod: Json) -> Iterator[tuple[str, str | None]]:
    """(what is said, container) of each trouble, the most telling first."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    statuses = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
    for container in statuses:
        waiting = (container.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason") not in {"PodInitializing", "ContainerCreating"}:
            restarts = container.get("restartCount", 0)
            again = f", {restarts} restarts" if restarts else ""
            ended = (container.get("lastState") or {}).get("terminated") or {}
            code = f", exit code {ended['exitCode']}" if "exitCode" in ended else ""
            told = f"{waiting.get('reason')}: {waiting.get('message', '')}{again}{code}"
            yield f"pod {name}, container {container['name']}: {told}", container["name"]
    for condition in status.get("conditions") or ():
        if condition.get("status") == "False" and condition.get("reason") == "Unschedulable":
            yield f"pod {name}: Unschedulable: {condition.get('message', '')}", None
    for container in statuses:
        if not container.get("ready") and (container.get("state") or {}).get("running"):
            told = "runs, but its readiness probe does not succeed"
            yield f"pod {name}, container {container['name']}: {told}", container["name"]


def _newest_warning(cluster: Cluster, namespace: str | None, objects: Sequence[Json]) -> str | None:
    uids = {each["metadata"]["uid"] for each in objects}
    events = cluster.items(f"/api/v1/namespaces/{namespace or 'default'}/events")
    about = [
        event
        for event in events
        if event.get("type") == "Warning" and event["involvedObject"].get("uid") in uids
    ]
    if not about:
        return None
    newest = max(about, key=lambda event: event.get("lastTimestamp") or event["eventTime"] or "")
    subject = newest["involvedObject"]
    return f"{newest['reason']} on {subject['kind']} {subject['name']}: {newest['message']}"


def _log_line(cluster: Cluster, pods: Sequence[Json], container: str | None) -> str | None:
    """The last line of a log that tells of an error, or just the last."""
    for pod in pods:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        asked = container or pod["spec"]["containers"][0]["name"]
        for previous in ("true", "false"):
            query = {"container": asked, "tailLines": str(_TAIL), "previous": previous}
            path = f"/api/v1/namespaces/{namespace}/pods/{name}/log"
            try:
                text = cluster.text("GET", path, query)
            except ApiRefusalError:
                continue  # it has not run (yet), or its node does not answer
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            telling = [line for line in lines if _TELLING.search(line)]
            if lines:
                return f"{name}/{asked}: {(telling or lines)[-1][:300]}"
    return None
