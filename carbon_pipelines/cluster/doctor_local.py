"""The doctor on one machine without Kubernetes: from our processes to the services of a stack.

What belongs here: which edges there are, from the addresses that our processes use, and what a
part's own state adds to a cause. What does not: the levels and their causes, which are the same as
in a cluster.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from psycopg import conninfo

from carbon_pipelines.cluster.doctor import Patience
from carbon_pipelines.cluster.doctor_case import Case, Login, make_request
from carbon_pipelines.cluster.doctor_diagnosis import diagnose
from carbon_pipelines.cluster.doctor_findings import Diagnosis, Findings, parse_seen
from carbon_pipelines.cluster.doctor_places import Here, run_probe
from carbon_pipelines.cluster.doctor_state import ClusterState
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.embedded.status import PartStatus
from carbon_pipelines.errors import UnknownEdgeError

PARTS = {
    "here->source": "postgres",
    "here->catalog": "postgres",
    "here->kafka": "kafka",
    "here->s3": "s3",
    "here->trino": "trino",
}
_VERIFIED = {"verify-ca", "verify-full"}


def local_cases(endpoints: Endpoints) -> Sequence[tuple[Case, Login | None]]:
    """Every edge from our processes, with its login."""
    found: list[tuple[Case, Login | None]] = []
    if endpoints.embedded is not None:
        found.append(_postgres("here->source", endpoints.embedded.dsn("postgres")))
    for variable, dsn in sorted(endpoints.source_dsns.items()):
        name = variable.removeprefix("CARBON_SOURCE_").removesuffix("_DSN").lower()
        found.append(_postgres(f"here->source_{name}", dsn))
    found += [
        (_case("here->kafka" + f"_{index}" * bool(index), address, 9092, "kafka"), None)
        for index, address in enumerate(endpoints.stream_bootstrap.split(","))
    ]
    lake = endpoints.lake
    if lake.catalog_type == "sql":
        found.append(_postgres("here->catalog", lake.catalog_uri.replace("+psycopg", "", 1)))
    else:
        user, _, password = lake.catalog_credential.partition(":")
        login = Login(user=user, password=password) if password else None
        found.append((_case("here->catalog", lake.catalog_uri, 8181, "iceberg"), login))
    bucket = urlsplit(lake.warehouse).netloc
    store = replace(_case("here->s3", lake.s3_endpoint, 443, "s3"), resource=bucket, path="/")
    more = {"region": lake.s3_region}
    found.append((store, Login(lake.s3_access_key, lake.s3_secret_key, more)))
    if endpoints.named_trino or (endpoints.embedded and endpoints.embedded.trino_port):
        trino = endpoints.trino
        address = f"{trino.scheme}://{trino.host}:{trino.port}"
        found.append((replace(_case("here->trino", address, 8080, "http"), path="/v1/info"), None))
    return found


def examine_here(
    endpoints: Endpoints,
    parts: Sequence[PartStatus],
    wanted: Sequence[str] = (),
    *,
    patience: Patience | None = None,
    occupant: Callable[[int], str] = str,
    place: Here | None = None,
) -> Findings:
    """Try the edges from this machine.

    Args:
        endpoints: The addresses of this moment.
        parts: The embedded parts as they are; none where every address is named otherwise.
        wanted: Names of edges (``here->kafka``, or ``kafka``); none is all of them.
        patience: Time limits.
        occupant: Names the process that holds a port.
        place: Where the probe runs, None: here.

    Raises:
        UnknownEdgeError: A name fits no edge.
        ProbeFailedError: The probe could not be run.
    """
    limits, here = patience or Patience(), place or Here()
    by_name = {part.name: part for part in parts}
    known = {
        case.name: (case, login)
        for case, login in local_cases(endpoints)
        if case.name != "here->trino" or _wants_trino(endpoints, by_name, wanted)
    }
    for name in wanted:
        if name not in known and f"here->{name}" not in known:
            raise UnknownEdgeError(name, known=known)
    chosen = [one for name, one in known.items() if not wanted or {name, name[6:]} & set(wanted)]
    found = _look(chosen, limits, here)
    doubtful = {one.edge for one in found.faults}
    if doubtful:
        again = _look([one for one in chosen if one[0].name in doubtful], limits, here)
        second = {one.edge: one for one in again.diagnoses}
        found = Findings(tuple(second.get(one.edge, one) for one in found.diagnoses))
    return Findings(tuple(_with_part(one, by_name, occupant) for one in found.diagnoses))


def _look(chosen: Sequence[tuple[Case, Login | None]], patience: Patience, place: Here) -> Findings:
    state = ClusterState()
    requests = [
        make_request(case, state, login, timeout_seconds=patience.timeout_seconds)
        for case, login in chosen
    ]
    told = run_probe(place, requests, python=place.python)
    seen = [parse_seen(told[case.name], place=place.label, pod=None) for case, _ in chosen]
    cases = [replace(case, seen=(one,)) for (case, _), one in zip(chosen, seen, strict=True)]
    return diagnose(cases, state, slow_seconds=patience.slow_seconds)


def _with_part(
    one: Diagnosis, parts: Mapping[str, PartStatus], occupant: Callable[[int], str]
) -> Diagnosis:
    """What the state of the embedded part adds: it is stopped, hangs, or another has its port."""
    part = parts.get(PARTS.get(one.edge, ""))
    if part is None or one.status != "broken":
        return one
    log = f"log: {part.log}"
    if part.state == "stopped" and one.cause not in {"not_listening", "outside_unreachable"}:
        sentence = (
            f"{part.name} is stopped, and port {part.port} belongs to {occupant(part.port or 0)}"
        )
        fix = "Stop that process, then start the stack: carbon up"
        return replace(one, cause="port_taken", sentence=sentence, fix=fix, remedies=())
    if part.state == "stopped":
        return replace(
            one,
            cause="part_stopped",
            sentence=f"{part.name} does not run",
            evidence=(*one.evidence, log),
            fix="Start it: carbon up",
            remedies=("start_stack",),
        )
    if part.state == "silent":
        return replace(
            one,
            cause="part_silent",
            sentence=f"{part.name} runs (pid {part.pid}) and does not answer: {one.sentence}",
            evidence=(*one.evidence, log),
            fix="Look at its log, then restart the stack: carbon down, carbon up",
            remedies=("restart_stack",),
        )
    return replace(one, evidence=(*one.evidence, log))


def _wants_trino(
    endpoints: Endpoints, parts: Mapping[str, PartStatus], wanted: Sequence[str]
) -> bool:
    """The embedded Trino is looked at where it runs or is asked for: nobody needs it to run."""
    if endpoints.named_trino or {"trino", "here->trino"} & set(wanted):
        return True
    return "trino" in parts and parts["trino"].state != "stopped"


def _case(name: str, address: str, port: int, protocol: str) -> Case:
    parts = urlsplit(address if "://" in address else f"//{address}")
    tls = parts.scheme == "https"
    host, at = parts.hostname or "", parts.port or (443 if tls else port)
    path = (parts.path.rstrip("/") + "/v1/config") if protocol == "iceberg" else ""
    return Case(name, host, at, at, protocol, tls, path=path)


def _postgres(name: str, dsn: str) -> tuple[Case, Login]:
    told = conninfo.conninfo_to_dict(dsn)
    mode = str(told.get("sslmode") or "prefer")
    port = int(told.get("port") or 5432)
    case = Case(
        name,
        host=str(told.get("host") or "127.0.0.1"),
        port=port,
        pod_port=port,
        protocol="postgres",
        tls=mode in {"require", *_VERIFIED},
        verify=mode in _VERIFIED,
        resource=unquote(str(told.get("dbname") or "postgres")),
        account=str(told.get("user") or ""),
    )
    root = told.get("sslrootcert")
    authority = Path(str(root)).read_text(encoding="utf-8") if root and root != "system" else ""
    return case, Login(case.account, str(told.get("password") or ""), ca=authority)
