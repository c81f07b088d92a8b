"""From facts to a cause, above TCP: TLS, the protocol, the login, the right, and slowness.

What belongs here: what each of the probe's words means there, and the fix. What does not: anything
below (``doctor_causes_network.py``).
"""

from datetime import datetime

from carbon_pipelines.cluster.doctor_case import Case
from carbon_pipelines.cluster.doctor_causes_network import tell
from carbon_pipelines.cluster.doctor_findings import Cause, Diagnosis, Level, Seen, Target

_TLS: dict[str, Cause] = {
    "certificate_expired": "tls_expired",
    "certificate_early": "tls_early",
    "certificate_name": "tls_name",
    "certificate_untrusted": "tls_untrusted",
    "tls_missing": "tls_missing",
    "tls_refused": "tls_refused",
    "silent": "half_open",
    "closed": "hangs_up",
    "reset": "hangs_up",
}
_ABOVE: dict[str, Cause] = {
    "silent": "half_open",
    "closed": "hangs_up",
    "reset": "hangs_up",
    "wrong_protocol": "wrong_protocol",
    "bad_login": "bad_login",
    "login_missing": "login_missing",
    "unsupported": "unsupported_login",
    "no_right": "no_right",
    "not_found": "not_found",
    "advertised_away": "advertised_away",
    "clock": "clock",
}


def find_service_level_fault(case: Case, seen: Seen) -> Diagnosis | None:
    """The first level above TCP that is not reached, at the lowest level of any address."""
    order = ("tls", "protocol", "auth", "permission")
    failed = [target for target in seen.targets if target.failed in order]
    if not failed:
        return None
    worst = min(failed, key=lambda target: order.index(str(target.failed)))
    level = worst.levels[str(worst.failed)]
    words = _TLS if worst.failed == "tls" else _ABOVE
    cause = words.get(level.word, "server_error")
    sentence, fix = _explain(cause, case, worst, level)
    evidence = [tell(target) for target in failed]
    evidence += [f"{one.where}: every level is reached" for one in seen.targets if not one.failed]
    restart = cause in {"half_open"} and bool(case.workload)
    return Diagnosis(
        case.name,
        cause,
        sentence,
        (*evidence, f"seen from {seen.place}"),
        fix,
        ("restart_server",) if restart else (),
        workload=case.workload if restart else "",
        namespace=case.server_namespace,
    )


def find_slowness(case: Case, seen: Seen, *, slow_seconds: float) -> Diagnosis | None:
    """The slowest level, if it is slower than it may be."""
    if seen.dns.ok and seen.dns.seconds > slow_seconds:
        return Diagnosis(
            case.name,
            "dns_slow",
            f"the name {case.host} takes {seen.dns.seconds:.1f} s to be answered",
            (f"seen from {seen.place}",),
            "Look at the load of the DNS pods, and whether one of several name servers is away.",
            ("restart_dns",),
        )
    times = [
        (level.seconds, name, target)
        for target in seen.targets
        for name, level in target.levels.items()
        if level.ok
    ]
    seconds, name, target = max(times, key=lambda one: one[0], default=(0.0, "", None))
    if target is None or seconds <= slow_seconds:
        return None
    tcp = target.levels["tcp"].seconds
    network = tcp > slow_seconds
    return Diagnosis(
        case.name,
        "slow",
        f"{case.what} answers, and takes {seconds:.1f} s to: "
        + ("packets are lost or late on the way" if network else f"the server is slow ({name})"),
        (
            f"{target.where}: TCP in {tcp:.3f} s, {name} in {seconds:.3f} s",
            f"seen from {seen.place}",
        ),
        "Compare from pods on other nodes; look at drops on the node (ip -s link)."
        if network
        else "Look at the server's CPU throttling, its queue and its log.",
    )


def _explain(cause: Cause, case: Case, target: Target, level: Level) -> tuple[str, str]:
    what, who = case.what, case.account or case.secret or "our login"
    names = ", ".join(level.more.get("names", ())) or "no name"
    secret = f"Secret {case.client_namespace}/{case.secret}" if case.secret else "the login"
    told = {
        "tls_expired": (
            f"the certificate of {what} expired {_since(level)}",
            "Renew it (cert-manager: cmctl renew; else look why the Certificate is not Ready), "
            "then restart the server if it does not read the new one by itself.",
        ),
        "tls_early": (
            f"the certificate of {what} is not valid before {level.more.get('not_before')}",
            "Compare the clocks of both nodes.",
        ),
        "tls_name": (
            f"the certificate of {what} is for {names}, and clients ask for "
            f"{level.more.get('asked_for', case.host)}",
            "Add the name to dnsNames of the Certificate, or use a name that it has.",
        ),
        "tls_untrusted": (
            f"the certificate of {what} is signed by nobody we trust ({level.said})",
            "Give clients the CA that signed it (ca.crt in their Secret or trust bundle).",
        ),
        "tls_missing": (
            f"{what} speaks no TLS, and it is declared so",
            "Switch TLS on at the server, or correct tls in service.yaml.",
        ),
        "tls_refused": (
            f"{what} ends the TLS handshake ({level.said})",
            "Compare TLS versions, and whether the server asks for a client certificate.",
        ),
        "half_open": (
            f"{what} accepts connections and then says nothing ({target.failed})",
            "The process hangs, or waits for another protocol: look at its log and threads, then "
            "restart it.",
        ),
        "hangs_up": (
            f"{what} accepts connections and hangs up at once ({target.failed})",
            "Look at the server's log: a limit of connections, a proxy without a backend, or TLS "
            "where plain text is declared.",
        ),
        "wrong_protocol": (
            f"{what} does not speak {case.protocol} ({level.said})",
            "Compare the port: another server may listen there, or TLS is not declared.",
        ),
        "login_missing": (
            f"{what} asks for a login, and the edge declares none",
            "Declare account and secret of the use in service.yaml.",
        ),
        "bad_login": (
            f"{what} does not accept {who} ({level.said})",
            f"{secret} and the server disagree: read both again from the vault, then restart the "
            "client, which keeps what it started with.",
        ),
        "unsupported_login": (f"{level.said}", "Compare the authentication of both sides."),
        "no_right": (
            f"{who} is logged in at {what} and may not {case.may or 'do what the edge is for'} "
            f"({level.said})",
            "Grant it: the data-plane rights are generated from the service graph; apply them.",
        ),
        "not_found": (
            f"{what} does not have {case.resource or 'what is asked for'} ({level.said})",
            "Create it, or correct resource in service.yaml.",
        ),
        "advertised_away": (
            f"{what} answers, and brokers it names cannot be reached: {level.said}",
            "Correct advertised.listeners (Strimzi: advertisedHost), or allow their port.",
        ),
        "clock": (f"the clocks of here and {what} differ too much", "Set the clocks (NTP)."),
    }
    fallback = (f"{what} answers with an error: {level.said}", "Look at the server's log.")
    return told.get(cause, fallback)


def _since(level: Level) -> str:
    raw = level.more.get("not_after")
    return f"at {datetime.fromisoformat(str(raw)):%Y-%m-%d %H:%M} UTC" if raw else "already"
