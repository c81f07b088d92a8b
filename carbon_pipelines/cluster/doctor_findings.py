"""What the doctor has seen of an edge, and what it concludes: values, nothing else.

What belongs here: the probe's facts as types, a diagnosis, and their JSON form. What does not: how
one follows from the other (``doctor_causes*.py``, ``doctor_diagnosis.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from carbon_pipelines.cluster.doctor_state import PodState

LEVELS = ("dns", "tcp", "tls", "protocol", "auth", "permission")

Status = Literal["works", "slow", "broken", "untested"]

Cause = Literal[
    "works",
    "untested",
    "slow",
    "dns_down",
    "dns_blocked",
    "dns_slow",
    "dns_wrong",
    "name_unknown",
    "service_missing",
    "service_port_missing",
    "no_endpoints",
    "policy_missing",
    "policy_wrong_port",
    "node_drops_forwarded",
    "nodes_apart",
    "pod_unreachable",
    "outside_unreachable",
    "kube_proxy",
    "not_listening",
    "half_open",
    "hangs_up",
    "wrong_protocol",
    "tls_expired",
    "tls_early",
    "tls_name",
    "tls_untrusted",
    "tls_missing",
    "tls_refused",
    "login_missing",
    "bad_login",
    "unsupported_login",
    "no_right",
    "not_found",
    "advertised_away",
    "clock",
    "server_error",
    "addresses_overlap",
    "policy_not_enforced",
    "part_stopped",
    "part_silent",
    "port_taken",
]
"""A word for each cause; ``docs/cluster/connectivity.md`` has a line for each."""

Remedy = Literal[
    "restart_dns",
    "restart_kube_proxy",
    "restart_kubelet",
    "recreate_node",
    "restart_server",
    "start_stack",
    "restart_stack",
]


_STATUSES: Mapping[Cause, Status] = {
    "works": "works",
    "untested": "untested",
    "slow": "slow",
    "dns_slow": "slow",
}


@dataclass(frozen=True, slots=True)
class Level:
    """One level at one address."""

    ok: bool
    word: str = ""
    said: str = ""
    seconds: float = 0.0
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Target:
    """One address that was tried: a pod's, the Service's, or one that only DNS knows."""

    kind: Literal["pod", "service", "name"]
    address: str
    port: int
    levels: Mapping[str, Level]

    @property
    def failed(self) -> str | None:
        """The first level that was not reached."""
        return next(
            (name for name in LEVELS if name in self.levels and not self.levels[name].ok), None
        )

    @property
    def where(self) -> str:
        """``kind address:port`` for people."""
        kind = {"pod": "pod IP", "service": "Service IP", "name": "address"}[self.kind]
        return f"{kind} {self.address}:{self.port}"

    def lost(self) -> bool:
        """Whether packets got no answer at all."""
        tcp = self.levels.get("tcp")
        return tcp is not None and not tcp.ok and tcp.word in {"timeout", "unreachable"}

    def connected(self) -> bool:
        """Whether TCP came about."""
        tcp = self.levels.get("tcp")
        return tcp is not None and tcp.ok


@dataclass(frozen=True, slots=True)
class Seen:
    """What one place saw of an edge; ``pod`` is None where the place is this machine."""

    place: str
    pod: PodState | None
    dns: Level
    targets: tuple[Target, ...]

    def kind(self, kind: str) -> tuple[Target, ...]:
        """Targets of one kind."""
        return tuple(target for target in self.targets if target.kind == kind)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One edge: what is wrong, how that is known, and what to do."""

    edge: str
    cause: Cause
    sentence: str
    evidence: tuple[str, ...] = ()
    fix: str = ""
    remedies: tuple[Remedy, ...] = ()
    node: str = ""
    """The node that remedies of a node are for."""
    workload: str = ""
    """``Kind/name`` that a restart is for, with ``namespace``."""
    namespace: str = ""

    @property
    def status(self) -> Status:
        """In a word."""
        return _STATUSES.get(self.cause, "broken")

    def document(self) -> Mapping[str, object]:
        """The same as plain JSON values."""
        return {
            "edge": self.edge,
            "status": self.status,
            "cause": self.cause,
            "sentence": self.sentence,
            "evidence": list(self.evidence),
            "fix": self.fix,
            "remedies": list(self.remedies),
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """All edges that were looked at, and what concerns no single one of them."""

    diagnoses: tuple[Diagnosis, ...]
    notes: tuple[Diagnosis, ...] = ()

    @property
    def faults(self) -> tuple[Diagnosis, ...]:
        """Those that are broken or slow, notes included."""
        both = (*self.notes, *self.diagnoses)
        return tuple(one for one in both if one.status in {"broken", "slow"})

    def document(self) -> Mapping[str, object]:
        """The same as plain JSON values."""
        return {
            "edges": [one.document() for one in self.diagnoses],
            "notes": [one.document() for one in self.notes],
            "faults": len(self.faults),
        }


def parse_seen(told: Mapping[str, Any], *, place: str, pod: PodState | None) -> Seen:
    """One edge of what the probe printed."""
    return Seen(
        place=place,
        pod=pod,
        dns=_level(told["dns"]),
        targets=tuple(
            Target(
                kind=each["kind"],
                address=each["address"],
                port=int(each["port"]),
                levels={name: _level(level) for name, level in each["levels"].items()},
            )
            for each in told["targets"]
        ),
    )


def _level(fact: Mapping[str, Any]) -> Level:
    known = {"ok", "word", "said", "seconds"}
    return Level(
        ok=bool(fact["ok"]),
        word=str(fact.get("word", "")),
        said=str(fact.get("said", "")),
        seconds=float(fact.get("seconds", 0.0)),
        more={name: value for name, value in fact.items() if name not in known},
    )
