"""The doctor: every edge of the service graph, tried from the pods that use it, and why one fails.

What belongs here: which places try which edges, in which order, and when to look a second time.
What does not: what a place does (``doctor_probe.py``), what the facts mean
(``doctor_diagnosis.py``), remedies (``doctor_remedies.py``) and the stack on one machine
(``doctor_local.py``).

Looking changes nothing: no object is written, and only with a debug image does an ephemeral
container stay behind in a pod. An edge is called broken or slow only if it was so twice.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from carbon_pipelines.cluster.doctor_case import (
    SLOW_SECONDS,
    TIMEOUT_SECONDS,
    Case,
    Login,
    clients,
    make_case,
    make_request,
)
from carbon_pipelines.cluster.doctor_diagnosis import diagnose
from carbon_pipelines.cluster.doctor_findings import Findings, Seen, parse_seen
from carbon_pipelines.cluster.doctor_kubectl import Kubectl, PodPlace
from carbon_pipelines.cluster.doctor_login import make_login
from carbon_pipelines.cluster.doctor_places import Runner, run_probe, run_shell_probe
from carbon_pipelines.cluster.doctor_state import ClusterState, PodState, parse_state
from carbon_pipelines.cluster.graph import Edge, ServiceGraph
from carbon_pipelines.errors import ClusterError, ProbeFailedError, UnknownEdgeError

PARALLEL_PLACES = 6


class Access(Protocol):
    """A cluster to be examined: kubectl, or network namespaces that stand for pods."""

    def state(self) -> ClusterState:
        """Everything at this moment."""
        ...

    def place(self, pod: PodState, container: str) -> Runner:
        """Where the probe of a pod's edges runs."""
        ...

    def login(self, case: Case) -> Login | None:
        """With what an edge logs in; None: it does not, or its Secret may not be read."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a level may take until it counts as not answered, and as slow."""

    timeout_seconds: float = TIMEOUT_SECONDS
    slow_seconds: float = SLOW_SECONDS


@dataclass(frozen=True, slots=True)
class KubectlAccess:
    """A real cluster."""

    kubectl: Kubectl
    debug_image: str = ""
    secrets: dict[tuple[str, str], Mapping[str, str]] = field(
        default_factory=dict[tuple[str, str], Mapping[str, str]], repr=False, compare=False
    )
    """Read once: many edges log in with the same."""

    def state(self) -> ClusterState:
        """Everything at this moment."""
        return parse_state(self.kubectl.objects())

    def place(self, pod: PodState, container: str) -> Runner:
        """The named container of the pod, or its first."""
        chosen = container or next(iter(pod.containers), "")
        return PodPlace(self.kubectl, pod.namespace, pod.name, chosen, self.debug_image)

    def login(self, case: Case) -> Login | None:
        """From the use's Secret, and the endpoint's CA."""
        ca = ""
        if case.ca:
            name, _, key = case.ca.partition("/")
            ca = self._secret(case.server_namespace, name).get(key or "ca.crt", "")
        secret = self._secret(case.client_namespace, case.secret) if case.secret else {}
        if not secret:
            return Login(ca=ca) if ca else None
        return make_login(secret, account=case.account, ca=ca)

    def _secret(self, namespace: str, name: str) -> Mapping[str, str]:
        if (namespace, name) not in self.secrets:
            try:
                self.secrets[namespace, name] = self.kubectl.secret(namespace, name)
            except ClusterError:  # the levels that were reached are told, and end before the login
                self.secrets[namespace, name] = {}
        return self.secrets[namespace, name]


def choose_edges(graph: ServiceGraph, wanted: Sequence[str]) -> tuple[Edge, ...]:
    """Edges by their whole names, or ``client->server`` and ``client.pods->server``; none is all.

    Raises:
        UnknownEdgeError: A name fits no edge; close ones are offered.
    """
    edges = graph.edges
    if not wanted:
        return edges
    chosen: dict[str, Edge] = {}
    for name in wanted:
        found = [edge for edge in edges if _fits(edge, name)]
        if not found:
            raise UnknownEdgeError(name, known=[edge.name for edge in edges])
        chosen |= {edge.name: edge for edge in found}
    return tuple(chosen.values())


def _fits(edge: Edge, name: str) -> bool:
    client, arrow, server = name.replace(" ", "").partition("->")
    return bool(
        arrow
        and client in {edge.client.name, f"{edge.client.name}.{edge.pods}"}
        and server in {edge.server.name, f"{edge.server.name}/{edge.endpoint_name}"}
    )


def examine(
    graph: ServiceGraph,
    access: Access,
    wanted: Sequence[str] = (),
    *,
    patience: Patience | None = None,
    report: Callable[[str], None] = lambda _line: None,
) -> Findings:
    """Try edges and say why they fail.

    Args:
        graph: All services.
        access: The cluster.
        wanted: Names of edges; none is all of them.
        patience: Time limits.
        report: Told a line for what takes long.

    Raises:
        UnknownEdgeError: A name fits no edge.
        ClusterError: The API server does not answer or does not let us look.
    """
    limits = patience or Patience()
    edges = choose_edges(graph, wanted)
    state = access.state()
    cases = look([make_case(edge) for edge in edges], state, access, limits, report)
    found = diagnose(cases, state, slow_seconds=limits.slow_seconds)
    if wanted and any(one.cause == "pod_unreachable" for one in found.diagnoses):
        report("packets are lost: looks at the other edges, to tell what part of the network it is")
        names = {case.name for case in cases}
        others = [make_case(edge) for edge in graph.edges if edge.name not in names]
        cases = [*cases, *look(others, state, access, limits, report)]
        found = _only(diagnose(cases, state, slow_seconds=limits.slow_seconds), names)
    return _confirm(found, cases, state, access, limits, report)


def look(
    cases: Sequence[Case],
    state: ClusterState,
    access: Access,
    patience: Patience,
    report: Callable[[str], None],
) -> list[Case]:
    """Run the probe at every place, once for all edges that begin there."""
    by_pod: dict[str, PodState] = {}
    asked: defaultdict[str, list[tuple[Case, dict[str, Any]]]] = defaultdict(list)
    for case in cases:
        if case.host.startswith("*"):
            continue
        request = make_request(
            case, state, access.login(case), timeout_seconds=patience.timeout_seconds
        )
        for pod in clients(case, state):
            by_pod[pod.label] = pod
            asked[pod.label].append((case, request))
    report(f"tries {len(cases)} edges from {len(asked)} pods")

    def visit(label: str) -> Mapping[str, Seen | str]:
        return _visit(by_pod[label], asked[label], access, patience)

    with ThreadPoolExecutor(max_workers=PARALLEL_PLACES) as pool:
        answers = list(pool.map(visit, asked))
    return [_with_answers(case, answers) for case in cases]


def _visit(
    pod: PodState,
    asked: Sequence[tuple[Case, dict[str, Any]]],
    access: Access,
    patience: Patience,
) -> Mapping[str, Seen | str]:
    place = access.place(pod, asked[0][0].client_container)
    requests = [request for _, request in asked]
    limit = 30 + 10 * patience.timeout_seconds
    try:
        told = run_probe(place, requests, timeout_seconds=limit)
    except ProbeFailedError as no_python:
        try:
            told = run_shell_probe(place, requests, timeout_seconds=limit)
        except ProbeFailedError:
            return {case.name: str(no_python) for case, _ in asked}
    return {name: parse_seen(fact, place=place.label, pod=pod) for name, fact in told.items()}


def _with_answers(case: Case, answers: Iterable[Mapping[str, Seen | str]]) -> Case:
    found = [answer[case.name] for answer in answers if case.name in answer]
    untested = [one for one in found if isinstance(one, str)]
    if case.host.startswith("*"):
        untested.append(f"{case.host} is a pattern: no name to try")
    return replace(
        case,
        seen=tuple(one for one in found if not isinstance(one, str)),
        untested=tuple(untested),
    )


def _confirm(
    found: Findings,
    cases: Sequence[Case],
    state: ClusterState,
    access: Access,
    patience: Patience,
    report: Callable[[str], None],
) -> Findings:
    """Look again at what seemed broken or slow: a hiccup is no fault."""
    doubtful = {one.edge for one in found.diagnoses if one.status in {"broken", "slow"}}
    if not doubtful:
        return found
    report(f"looks a second time at {len(doubtful)} edges")
    again = look([c for c in cases if c.name in doubtful], state, access, patience, report)
    known = {case.name: case for case in again}
    merged = [known.get(case.name, case) for case in cases]
    second = diagnose(merged, state, slow_seconds=patience.slow_seconds)
    return _only(second, {one.edge for one in found.diagnoses})


def _only(found: Findings, names: set[str]) -> Findings:
    kept = tuple(one for one in found.diagnoses if one.edge in names)
    return replace(found, diagnoses=kept)
