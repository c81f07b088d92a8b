"""One Kubernetes object as it should be.

What belongs here: its names, whose it is, and where it stands among others of its service. What
does not: where objects come from (``render.py``) and what is on a cluster (``plan.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SERVICE_LABEL = "carbon-pipelines/service"
PART_OF = ("app.kubernetes.io/part-of", "carbon-pipelines")

_FIRST = (
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "StorageClass",
    "ResourceQuota",
    "LimitRange",
    "NetworkPolicy",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Service",
    "PodDisruptionBudget",
)
_LAST = ("Ingress", "APIService", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object that somebody declared, and the service it belongs to."""

    service: str
    body: Mapping[str, Any]

    @property
    def api_version(self) -> str:
        """``v1`` or ``<group>/<version>``."""
        return str(self.body["apiVersion"])

    @property
    def group(self) -> str:
        """Empty for the core's kinds."""
        return self.api_version.rpartition("/")[0]

    @property
    def kind(self) -> str:
        """As in the manifest."""
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        """Of the object."""
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str | None:
        """None for kinds that live in none."""
        return self.body["metadata"].get("namespace")

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What no two objects of a cluster share; versions of one group are the same kind."""
        return (self.group, self.kind, self.namespace or "", self.name)

    @property
    def label(self) -> str:
        """``Kind namespace/name``, for people."""
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"

    @property
    def rank(self) -> tuple[int, str, str, str]:
        """Order within a service: what others need first, then workloads, then who may refuse."""
        if self.kind in _FIRST:
            place = _FIRST.index(self.kind)
        elif self.kind in _LAST:
            place = len(_FIRST) + 2 + _LAST.index(self.kind)
        else:
            place = len(_FIRST) + (1 if self.is_custom else 0)
        return (place, self.kind, self.namespace or "", self.name)

    @property
    def is_custom(self) -> bool:
        """Whether an operator makes something of it.

        ``apps`` and ``batch`` have no dot; groups of Kubernetes itself end with ``.k8s.io``.
        """
        return "." in self.group and not self.group.endswith(".k8s.io")
