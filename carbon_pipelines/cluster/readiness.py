"""Whether one object works, by what the cluster says of it.

What belongs here: a verdict on one object's own status, kind by kind. What does not: waiting
(``wait.py``) and finding out why (``diagnosis.py``).

Kubernetes' own kinds are judged as ``kubectl rollout status`` does. Of custom resources the
``Ready`` condition counts, or what the table below says; a kind that nobody reports on is ready as
soon as it is there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it works; if not, what it waits for, and whether waiting longer can help."""

    ready: bool
    why: str
    final: bool = False


READY = Verdict(ready=True, why="ready")


def waits(why: str) -> Verdict:
    """Not ready yet."""
    return Verdict(ready=False, why=why)


def failed(why: str) -> Verdict:
    """Not ready, and never will be by itself."""
    return Verdict(ready=False, why=why, final=True)


def is_judged(group: str, kind: str) -> bool:
    """Whether objects of a kind can be there and not work."""
    served = (group, kind) in _RULES or (group, kind) == ("", "Service")
    return served or ("." in group and not group.endswith(".k8s.io"))


def judge(body: Body) -> Verdict:
    """The verdict on a live object."""
    group = str(body.get("apiVersion", "")).rpartition("/")[0]
    rule = _RULES.get((group, str(body.get("kind"))))
    if rule is not None:
        return rule(body)
    if "." in group and not group.endswith(".k8s.io"):
        return _custom(body)
    return READY


def condition(body: Body, name: str) -> Body | None:
    """A condition of the object's status."""
    for found in _status(body).get("conditions") or ():
        if found.get("type") == name:
            return found
    return None


def _status(body: Body) -> Body:
    return body.get("status") or {}


def _unseen(body: Body) -> bool:
    """Whether the status is of an older spec than the one that is there."""
    seen = _status(body).get("observedGeneration")
    return seen is not None and seen < body.get("metadata", {}).get("generation", 0)


def _deployment(body: Body) -> Verdict:
    refused = _refused(body)
    if refused is not None:
        return waits(refused)
    if _status(body).get("observedGeneration", 0) < body["metadata"].get("generation", 0):
        return waits("its controller has not seen it yet")
    progressing = condition(body, "Progressing")
    if progressing and progressing.get("reason") == "ProgressDeadlineExceeded":
        return failed(f"Progressing is False: {progressing.get('message', '')}")
    wanted = body["spec"].get("replicas", 1)
    return _counted(body, wanted, updated="updatedReplicas", ready="availableReplicas")


def _stateful_set(body: Body) -> Verdict:
    refused = _refused(body)
    if refused is not None:
        return waits(refused)
    if _status(body).get("observedGeneration", 0) < body["metadata"].get("generation", 0):
        return waits("its controller has not seen it yet")
    wanted = body["spec"].get("replicas", 1)
    strategy = body["spec"].get("updateStrategy") or {}
    partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
    if strategy.get("type") == "OnDelete" or partition:
        return _counted(body, wanted, updated=None, ready="readyReplicas")
    return _counted(body, wanted, updated="updatedReplicas", ready="readyReplicas")


def _daemon_set(body: Body) -> Verdict:
    if _status(body).get("observedGeneration", 0) < body["metadata"].get("generation", 0):
        return waits("its controller has not seen it yet")
    wanted = _status(body).get("desiredNumberScheduled", 0)
    return _counted(body, wanted, updated="updatedNumberScheduled", ready="numberAvailable")


def _counted(body: Body, wanted: int, *, updated: str | None, ready: str) -> Verdict:
    status = _status(body)
    if updated is not None and status.get(updated, 0) < wanted:
        return waits(f"{status.get(updated, 0)} of {wanted} pods are of the new template")
    if status.get(ready, 0) < wanted:
        return waits(f"{status.get(ready, 0)} of {wanted} pods are ready")
    if status.get("replicas", wanted) > wanted:
        return waits(f"{status['replicas'] - wanted} old pods have not ended")
    return READY


def _refused(body: Body) -> str | None:
    """What the server said when the controller wanted to make pods (a quota, say)."""
    failure = condition(body, "ReplicaFailure")
    if failure and failure.get("status") == "True":
        return f"ReplicaFailure: {failure.get('message', '')}"
    return None


def _job(body: Body) -> Verdict:
    failure = condition(body, "Failed")
    if failure and failure.get("status") == "True":
        return failed(f"Failed: {failure.get('reason', '')}: {failure.get('message', '')}")
    done = condition(body, "Complete")
    if done and done.get("status") == "True":
        return READY
    if body["spec"].get("suspend"):
        return READY
    return waits(f"{_status(body).get('succeeded', 0)} of its pods have completed")


def _claim(body: Body) -> Verdict:
    phase = _status(body).get("phase", "Pending")
    if phase == "Bound":
        return READY
    if phase == "Lost":
        return failed("its volume is lost")
    return waits(f"it is {phase}, not Bound")


def _namespace(body: Body) -> Verdict:
    phase = _status(body).get("phase", "Active")
    return READY if phase == "Active" else waits(f"it is {phase}")


def _when(name: str) -> Callable[[Body], Verdict]:
    """Ready when a condition is True, and told of the present spec."""

    def rule(body: Body) -> Verdict:
        found = condition(body, name)
        if found is None:
            return waits(f"its operator has not said that it is {name}")
        if _unseen(body) or _older(found, body):
            return waits("its operator has not seen the present spec yet")
        if found.get("status") == "True":
            return READY
        return waits(_told(found))

    return rule


def _custom(body: Body) -> Verdict:
    """A custom resource of a kind without a rule: what it says of itself, if anything."""
    for name in ("Ready", "Available"):
        if condition(body, name) is not None:
            return _when(name)(body)
    return READY


def _older(found: Body, body: Body) -> bool:
    seen = found.get("observedGeneration")
    return seen is not None and seen < body.get("metadata", {}).get("generation", 0)


def _told(found: Body) -> str:
    words = [f"{found.get('type')} is {found.get('status')}"]
    words += [str(found[key]) for key in ("reason", "message") if found.get(key)]
    return ": ".join(words)


def _doris(body: Body) -> Verdict:
    """Of each part that is asked for the operator tells a phase."""
    parts = {"feSpec": "feStatus", "beSpec": "beStatus", "cnSpec": "cnStatus"}
    for asked, told in parts.items():
        if not body.get("spec", {}).get(asked):
            continue
        phase = ((_status(body).get(told) or {}).get("componentCondition") or {}).get("phase")
        if phase != "available":
            return waits(f"{told} is {phase or 'not told yet'}, not available")
    return READY


def _applied(body: Body) -> Verdict:
    """Database, Publication and the like: an operator writes them into PostgreSQL."""
    applied = _status(body).get("applied")
    if applied is True and not _unseen(body):
        return READY
    return waits(str(_status(body).get("message") or "its operator has not applied it yet"))


_STRIMZI = ("Kafka", "KafkaConnect", "KafkaConnector", "KafkaTopic", "KafkaUser", "KafkaBridge")
_RULES: Mapping[tuple[str, str], Callable[[Body], Verdict]] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Namespace"): _namespace,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _when("Established"),
    ("apiregistration.k8s.io", "APIService"): _when("Available"),
    **{("kafka.strimzi.io", kind): _when("Ready") for kind in _STRIMZI},
    ("postgresql.cnpg.io", "Cluster"): _when("Ready"),
    ("postgresql.cnpg.io", "Database"): _applied,
    ("postgresql.cnpg.io", "Publication"): _applied,
    ("cert-manager.io", "Issuer"): _when("Ready"),
    ("cert-manager.io", "ClusterIssuer"): _when("Ready"),
    ("cert-manager.io", "Certificate"): _when("Ready"),
    ("external-secrets.io", "SecretStore"): _when("Ready"),
    ("external-secrets.io", "ClusterSecretStore"): _when("Ready"),
    ("external-secrets.io", "ExternalSecret"): _when("Ready"),
    ("monitoring.coreos.com", "Prometheus"): _when("Available"),
    ("monitoring.coreos.com", "Alertmanager"): _when("Available"),
    ("doris.selectdb.com", "DorisCluster"): _doris,
}
