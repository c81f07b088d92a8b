"""From facts to a cause, up to TCP: names, Services, policies, kube-proxy and the pod's port.

What belongs here: one rule per cause, each a pure question about one place's view of one edge. What
does not: what only several edges together tell (``doctor_diagnosis.py``), and the levels above TCP
(``doctor_causes_service.py``).
"""

from dataclasses import replace

from carbon_pipelines.cluster.doctor_case import Case
from carbon_pipelines.cluster.doctor_findings import Diagnosis, Level, Seen, Target
from carbon_pipelines.cluster.doctor_policies import Connection, Verdict, judge
from carbon_pipelines.cluster.doctor_state import DNS_LABEL, SYSTEM, ClusterState

LOST = Diagnosis("", "pod_unreachable", "packets get no answer and no policy forbids them")
"""A place's own view of lost packets; which part of the network loses them, the edges together
tell."""


def find_service_fault(case: Case, state: ClusterState) -> Diagnosis | None:
    """What the API server alone tells: the Service is not there, or leads nowhere."""
    if case.external:
        return None
    service = state.service(case.server_namespace, case.service)
    place = f"{case.server_namespace}/{case.service}"
    if service is None:
        near = sorted(one.name for one in state.services if one.namespace == case.server_namespace)
        return Diagnosis(
            case.name,
            "service_missing",
            f"there is no Service {place}, so the name {case.host} leads nowhere",
            (f"Services in {case.server_namespace}: {', '.join(near) or 'none'}",),
            'Apply the service: "carbon cluster apply" does, or correct the name in service.yaml.',
        )
    if case.port not in service.ports:
        has = ", ".join(map(str, service.ports)) or "none"
        return Diagnosis(
            case.name,
            "service_port_missing",
            f"Service {place} has no port {case.port}",
            (f"its ports: {has}",),
            "Correct the port in the Service or in service.yaml, and apply.",
        )
    listed = state.endpoints.get((case.server_namespace, case.service), ())
    if any(ready for _, ready in listed) or not service.selector:
        return None
    chosen = state.select(case.server_namespace, service.selector)
    wanted = ",".join(f"{name}={value}" for name, value in sorted(service.selector.items()))
    if chosen:
        why = "; ".join(f"pod {pod.name}: {pod.trouble or 'ready'}" for pod in chosen[:4])
        ready = any(pod.ready for pod in chosen)
        reason = (
            f"its pods are ready and have no port called {service.ports[case.port]}"
            if ready
            else f"none of its {len(chosen)} pods is ready"
        )
        fix = f"kubectl -n {case.server_namespace} describe pod {chosen[0].name}"
        sentence = f"Service {place} has no endpoint to send to: {reason}"
        restart = case.workload if not ready else ""
        return Diagnosis(
            case.name,
            "no_endpoints",
            sentence,
            (why,),
            f"Look why: {fix}; then its log. A restart helps where its cause is gone.",
            ("restart_server",) if restart else (),
            workload=restart,
            namespace=case.server_namespace,
        )
    declared = state.select(case.server_namespace, case.server_labels) if case.server_labels else ()
    has = "; ".join(f"{pod.name} carries {dict(pod.labels)}" for pod in declared[:2])
    return Diagnosis(
        case.name,
        "no_endpoints",
        f"Service {place} has no endpoint: no pod carries {wanted}",
        (has or f"no pod of the declared labels {dict(case.server_labels)} runs either",),
        "Start the pods (kubectl get pods,events), or correct the Service's selector.",
    )


def find_name_fault(case: Case, state: ClusterState, seen: Seen) -> Diagnosis | None:
    """The name does not lead to the Service."""
    dns = seen.dns
    service = state.service(case.server_namespace, case.service)
    if dns.ok:
        answered = tuple(dns.more.get("addresses", ()))
        if service is None or not service.address or service.address in answered:
            return None
        return Diagnosis(
            case.name,
            "dns_wrong",
            f"{case.host} leads to {', '.join(answered)}, and the Service has {service.address}",
            (f"seen from {seen.place}",),
            "Look for the name in /etc/hosts (hostAliases) of the pod; else restart the DNS.",
            ("restart_dns",),
        )
    told = _servers_told(dns)
    if dns.word == "no_such_name":
        where = "which exists" if service is not None else "which is outside of the cluster"
        return Diagnosis(
            case.name,
            "name_unknown",
            f"the DNS answers and does not know {case.host}, {where}",
            (told, f"seen from {seen.place}"),
            "Correct the name, or the pod's dnsPolicy; then look at the log of the DNS pods "
            f"(kubectl -n {SYSTEM} logs -l {'='.join(DNS_LABEL)}).",
            ("restart_dns",) if service is not None else (),
        )
    if dns.word == "slow":
        return Diagnosis(
            case.name,
            "dns_slow",
            f"the name {case.host} is answered, but not within {dns.seconds:.1f} s",
            (told, f"seen from {seen.place}"),
            "One of several name servers is away, or the search list is long: see the servers.",
            ("restart_dns",),
        )
    pods = state.select(SYSTEM, dict([DNS_LABEL]))
    ready = [pod for pod in pods if pod.ready]
    blocked = [
        verdict
        for pod in ready
        for verdict in judge(state, Connection(seen.pod, pod, pod.address, 53, "UDP"))
        if not verdict.allowed
    ]
    if seen.pod is not None and ready and blocked:
        return Diagnosis(
            case.name,
            "dns_blocked",
            f"the DNS is up, and {describe_refusal(blocked[0], 'UDP 53', 'the DNS')}",
            (told, f"seen from {seen.place}"),
            f"Allow UDP and TCP 53 from {case.client_namespace} to the pods "
            f"{'='.join(DNS_LABEL)} of {SYSTEM} (the generated policy allow-dns does).",
        )
    state_of = "; ".join(f"{pod.name}: {pod.trouble or 'ready'}" for pod in pods[:4])
    return Diagnosis(
        case.name,
        "dns_down",
        f"no name server answers for {case.host}"
        + " (no DNS pod is ready)" * bool(pods and not ready),
        (told, *([f"DNS pods: {state_of}"] if pods else []), f"seen from {seen.place}"),
        f"kubectl -n {SYSTEM} get pods,events; then restart the DNS.",
        ("restart_dns",),
    )


def find_tcp_fault(case: Case, state: ClusterState, seen: Seen) -> Diagnosis | None:
    """TCP does not come about; ``LOST`` where more than this edge must be looked at."""
    pods = seen.kind("pod")
    refused = _verdicts(case, state, seen)
    fronts = (*seen.kind("service"), *seen.kind("name"))
    if refused and not any(target.connected() for target in (*pods, *fronts)):
        return _policy_fault(case, seen, refused)
    for target in pods:
        tcp = target.levels.get("tcp")
        if tcp is not None and tcp.word in {"refused", "reset"}:
            pod = state.pod_at(target.address)
            whose = pod.name if pod else target.address
            return Diagnosis(
                case.name,
                "not_listening",
                f"nothing listens on port {target.port} of pod {whose}",
                (f"{target.where}: {tcp.said}", f"seen from {seen.place}"),
                "Compare the Service's targetPort with the port that the log of the server names.",
            )
    connected = [target for target in pods if target.connected()]
    stuck = [target for target in fronts if not target.connected() and "tcp" in target.levels]
    if connected and stuck and len(connected) == len(pods):
        return _kube_proxy_fault(case, state, seen, stuck[0])
    lost = [target for target in pods if target.lost()]
    if lost:
        return replace(LOST, edge=case.name, evidence=tuple(map(tell, lost)))
    if not pods and stuck:
        return _outside_fault(case, seen, stuck)
    return None


def tell(target: Target) -> str:
    """One address and the level at which it ended, for people."""
    level = target.failed
    if level is None:
        return f"{target.where}: every level is reached"
    return f"{target.where}: {level}: {target.levels[level].said}"


def describe_refusal(verdict: Verdict, port: str, peer: str) -> str:
    """Which policy is in the way."""
    side = "leave" if verdict.direction == "Egress" else "come in"
    return (
        f"{verdict.direction.lower()} is closed by {', '.join(verdict.selecting)}: nothing lets "
        f"{port} {side} for {peer}"
    )


def _policy_fault(case: Case, seen: Seen, refused: list[tuple[Target, Verdict]]) -> Diagnosis:
    target, verdict = refused[0]
    port = f"{case.transport} {target.port}"
    chosen = f"{verdict.direction.lower()} policies that select the pod: " + ", ".join(
        verdict.selecting
    )
    would = [f"policy {name} would allow it and selects other pods" for name in verdict.elsewhere]
    evidence = (tell(target), chosen, *would, f"seen from {seen.place}")
    if verdict.other_ports:
        name, ports = next(iter(verdict.other_ports.items()))
        return Diagnosis(
            case.name,
            "policy_wrong_port",
            f"{verdict.direction.lower()} policy {name} allows {', '.join(ports)}, and the pods "
            f"listen on {port}",
            evidence,
            f"Have {name} name {port}: correct target_port in service.yaml, generate the policies "
            "again and apply them.",
        )
    peer = case.what if verdict.direction == "Egress" else case.name.partition("->")[0]
    return Diagnosis(
        case.name,
        "policy_missing",
        describe_refusal(verdict, port, peer),
        evidence,
        "Apply the policies that are generated from the service graph (deploy/policies); if the "
        "edge is not among them, declare the use in service.yaml first.",
    )


def _verdicts(case: Case, state: ClusterState, seen: Seen) -> list[tuple[Target, Verdict]]:
    """The refusals of policies on the way to each address that is a pod's, or outside."""
    if seen.pod is None:
        return []
    outside = seen.kind("name") if case.external else ()
    return [
        (target, verdict)
        for target in (*seen.kind("pod"), *outside)
        for verdict in judge(
            state,
            Connection(
                seen.pod,
                state.pod_at(target.address),
                target.address,
                target.port,
                case.transport,
                seen.pod.address,
            ),
        )
        if not verdict.allowed
    ]


def unenforced(case: Case, state: ClusterState, seen: Seen) -> tuple[str, ...]:
    """Connections that came about although policies forbid them."""
    return tuple(
        f"{case.name}: {target.where} is reached, though "
        + describe_refusal(verdict, f"{case.transport} {target.port}", "it")
        for target, verdict in _verdicts(case, state, seen)
        if target.connected()
    )


def _kube_proxy_fault(case: Case, state: ClusterState, seen: Seen, stuck: Target) -> Diagnosis:
    node = seen.pod.node if seen.pod else ""
    wanted, ready = state.daemons.get("kube-proxy", (0, 0))
    count = f"kube-proxy: {ready} of {wanted} ready" if wanted else "no DaemonSet kube-proxy"
    reached = ", ".join(f"{one.address}:{one.port}" for one in seen.kind("pod"))
    return Diagnosis(
        case.name,
        "kube_proxy",
        f"the pods answer at their own addresses and the Service's address {stuck.address} leads "
        f"nowhere: kube-proxy{f' on node {node}' if node else ''} has no rule for it",
        (f"reached: {reached}", tell(stuck), count, f"seen from {seen.place}"),
        "Restart kube-proxy; if that does not help, the kubelet; then recreate the node after a "
        "backup.",
        ("restart_kube_proxy", "restart_kubelet", "recreate_node"),
        node=node,
    )


def _outside_fault(case: Case, seen: Seen, stuck: list[Target]) -> Diagnosis:
    refused = stuck[0].levels["tcp"].word in {"refused", "reset"}
    return Diagnosis(
        case.name,
        "not_listening" if refused else "outside_unreachable",
        f"{case.what} {'refuses connections' if refused else 'does not answer'}",
        (*map(tell, stuck), f"seen from {seen.place}"),
        "See whether the host is up, and what stands between (a firewall, a NAT gateway, a proxy).",
    )


def _servers_told(dns: Level) -> str:
    told = ", ".join(f"{one['address']}: {one['word']}" for one in dns.more.get("servers", ()))
    return f"name servers: {told or 'none is configured'}"
