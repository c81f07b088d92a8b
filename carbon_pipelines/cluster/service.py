"""One service of the platform: what it is, which pods answer where, and whom they talk to.

What belongs here: the fields of ``deploy/*/<service>/service.yaml`` and the rules within one
file. What does not: the rules between files (``graph.py``), reading them (``load.py``), and how
many pods, images or volumes there are, which the manifests say.

Names are Kubernetes' own (RFC 1123 labels). A use is an edge of the service graph: network policies
allow exactly the edges, and the doctor tests each of them from the pods that use it.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from carbon_pipelines.catalog.values import Declared, Name, Team, Text, mistake

Protocol = Literal[
    "tcp", "http", "dns", "postgres", "kafka", "redis", "mysql", "s3", "iceberg", "ldap", "udp"
]
"""What is spoken at an endpoint, once TCP (and TLS) are there; ``tcp`` says nothing of it."""

Kind = Literal["operator", "chart", "manifests", "external"]
"""Who makes the pods: an operator's own installation, a chart with our values, manifests of ours
(custom resources for an operator among them), or nobody here (``external``)."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PLACE = re.compile(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*")
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


def _label(value: object) -> object:
    """Accept an RFC 1123 label, which a namespace, a Service and a port's name have to be."""
    if isinstance(value, str) and _LABEL.fullmatch(value):
        return value
    reason = "must hold only a-z, 0-9 and -, begin and end with a letter or digit, and be short"
    raise mistake(reason)


def _place(value: object) -> object:
    """Accept ``service/endpoint``."""
    if isinstance(value, str) and _PLACE.fullmatch(value):
        return value
    reason = "must name a service and one of its endpoints, like kafka/broker"
    raise mistake(reason)


def _host(value: object) -> object:
    """Accept a host's name or address; a first part ``*`` stands for any name under the rest."""
    if isinstance(value, str) and _HOST.fullmatch(value):
        return value
    reason = "must be a host, like region1.v2.argotunnel.com"
    raise mistake(reason)


def _port(value: object) -> object:
    """Accept a TCP or UDP port."""
    if re.fullmatch("[1-9][0-9]{0,4}", str(value)) and int(str(value)) < 65_536:
        return int(str(value))
    reason = "must be a port, like 8181"
    raise mistake(reason)


Label = Annotated[str, BeforeValidator(_label)]
Place = Annotated[str, BeforeValidator(_place)]
Host = Annotated[str, BeforeValidator(_host)]
Port = Annotated[int, BeforeValidator(_port)]


class PodsSpec(Declared):
    """Pods of a service that are alike: what selects them, and the workload that keeps them.

    ``labels`` are those that the pods carry, whoever makes them. ``workload`` is ``Kind/name`` as
    Kubernetes has it in the end (``StatefulSet/trino-worker``), or None where an operator keeps
    pods without one. ``container`` is where the doctor runs its tests; None means the first.
    """

    labels: Annotated[Mapping[Name, Name], Field(min_length=1)]
    workload: Name | None = None
    container: Label | None = None
    service_account: Label | None = None


class EndpointSpec(Declared):
    """Where a service answers.

    ``service`` is the name of the Kubernetes Service in front of ``pods``, and ``port`` its port;
    ``target_port`` is the pods' (None: the same). Policies speak of the pods' port, clients of the
    Service's. Of an external service ``hosts`` are names outside of the cluster instead. ``path``
    is asked by HTTP and answers with ``status``. ``ca`` is the Secret and its key, in the service's
    namespace, with the authority that signs the certificate (None: one that systems know).
    """

    pods: Label | None = None
    service: Label | None = None
    hosts: tuple[Host, ...] = ()
    port: Port
    target_port: Port | None = None
    protocol: Protocol
    tls: bool = False
    ca: Text | None = None
    path: Text | None = None
    status: Annotated[tuple[int, ...], Field(min_length=1)] = (200,)

    @property
    def pod_port(self) -> int:
        """The port that the pods listen on."""
        return self.target_port or self.port

    @property
    def transport(self) -> Literal["TCP", "UDP"]:
        """The word of a NetworkPolicy for what carries the protocol."""
        return "UDP" if self.protocol in {"dns", "udp"} else "TCP"

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if bool(self.hosts) == bool(self.service):
            reason = "needs either a Service in the cluster or hosts outside of it"
            raise mistake(reason, ("service",))
        if self.service and not self.pods:
            reason = "is missing; it says which pods are behind the Service"
            raise mistake(reason, ("pods",))
        return self


class UseSpec(Declared):
    """One edge: these pods use that endpoint.

    ``secret`` is the Kubernetes Secret with what they log in with (None: they do not), ``account``
    who they are there, and ``may`` what they must be able to do there, in words. ``resource`` is
    what the doctor opens to see that they may: a database, topic, bucket, warehouse or path.
    ``asks`` is a statement that only reads, or a command of Redis, and must succeed there.
    """

    endpoint: Place
    pods: Annotated[tuple[Label, ...], Field(min_length=1)]
    account: Name | None = None
    secret: Label | None = None
    may: Text | None = None
    resource: Text | None = None
    asks: Text | None = None
    why: Text


class ServiceSpec(Declared):
    """One service.

    ``versions`` are its entries in ``deploy/versions.yaml``. ``needs`` are services that must be
    ready before it is applied, beside those it uses: the operator of its resources, say.
    ``optional`` ones are chosen by an overlay.
    """

    name: Label
    title: Text
    about: Text
    kind: Kind
    namespace: Label | None = None
    owner: Team
    versions: tuple[Name, ...] = ()
    needs: tuple[Label, ...] = ()
    optional: bool = False
    pods: Mapping[Label, PodsSpec] = Field(default_factory=dict)
    endpoints: Mapping[Label, EndpointSpec] = Field(default_factory=dict)
    uses: tuple[UseSpec, ...] = ()

    @model_validator(mode="after")
    def _as_its_kind(self) -> Self:
        if self.kind == "external":
            if self.namespace or self.pods or self.uses:
                reason = "is outside of the cluster: it has no namespace, pods or uses there"
                raise mistake(reason, ("kind",))
        elif self.namespace is None:
            reason = "is missing; every service in the cluster has one"
            raise mistake(reason, ("namespace",))
        for name, endpoint in self.endpoints.items():
            if (self.kind == "external") != bool(endpoint.hosts):
                reason = "hosts belong to external services, a Service to those in the cluster"
                raise mistake(reason, ("endpoints", name))
            if endpoint.pods and endpoint.pods not in self.pods:
                reason = f'the service has no pods called "{endpoint.pods}"'
                raise mistake(reason, ("endpoints", name, "pods"))
        for index, use in enumerate(self.uses):
            for pods in use.pods:
                if pods not in self.pods:
                    reason = f'the service has no pods called "{pods}"'
                    raise mistake(reason, ("uses", index, "pods"))
        return self
