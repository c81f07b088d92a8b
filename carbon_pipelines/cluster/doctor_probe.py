"""The program that the doctor runs where an edge begins; it prints facts and judges nothing.

What belongs here: names (DNS), which protocol is spoken to whom, and the program itself. What does
not: connections (``doctor_wire.py``), protocols (``doctor_probe_*.py``), sending it somewhere
(``doctor_places.py``) and what the facts mean (``doctor_causes*.py``).

Only the standard library. A request has ``host`` (the name that clients use), ``port``,
``protocol``, ``tls``, ``targets`` (addresses to try, each with ``kind`` and ``port``) and a login;
of the login nothing is ever printed.
"""

import contextlib
import json
import os
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from carbon_pipelines.cluster.doctor_probe_http import http, iceberg, s3
from carbon_pipelines.cluster.doctor_probe_sql import mysql, postgres
from carbon_pipelines.cluster.doctor_probe_stream import kafka, redis
from carbon_pipelines.cluster.doctor_wire import Dialer, Fact, Refused, Request, StopHere

FORMAT = 1
_CODES = {2: "server_error", 3: "no_such_name", 5: "refused"}


def only_connect(dialer: Dialer, _request: Request) -> None:
    """Of a protocol that is not spoken here: TCP, and TLS if it is declared."""
    dialer.dial()


PROTOCOLS: dict[str, Callable[[Dialer, Request], None]] = {
    "http": http,
    "iceberg": iceberg,
    "s3": s3,
    "postgres": postgres,
    "mysql": mysql,
    "kafka": kafka,
    "redis": redis,
}


def resolve(name: str, timeout: float) -> Fact:
    """How this machine's own resolver answers; if it does not, each name server is asked too."""
    began = time.monotonic()
    if _is_address(name):
        return {"ok": True, "addresses": [name], "seconds": 0.0, "literal": True}
    found: list[object] = []

    def ask() -> None:
        try:
            infos = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
            found.append(sorted({str(info[4][0]) for info in infos}))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)  # it has no time limit of its own
    thread.start()
    thread.join(timeout)
    fact: Fact = {"ok": False, "seconds": time.monotonic() - began}
    if found and isinstance(found[0], list):
        fact.update(ok=True, addresses=found[0])
        return fact
    servers, search = _resolver()
    fact["servers"] = [_ask_server(server, name, search, timeout) for server in servers[:3]]
    fact["word"] = _dns_word(fact["servers"], answered=bool(found))
    fact["said"] = str(found[0]) if found else f"no answer within {timeout:g} s"
    return fact


def _dns_word(servers: list[Fact], *, answered: bool) -> str:
    words = [str(server["word"]) for server in servers]
    if not words:
        return "no_server"
    if "answers" in words:
        return "slow"
    if "no_such_name" in words:
        return "no_such_name"
    return words[0] if answered or len(set(words)) == 1 else "timeout"


def _is_address(name: str) -> bool:
    with contextlib.suppress(OSError):
        socket.inet_pton(socket.AF_INET6 if ":" in name else socket.AF_INET, name)
        return True
    return False


def _resolver() -> tuple[list[str], list[str]]:
    servers: list[str] = []
    search: list[str] = []
    with contextlib.suppress(OSError):
        for line in Path("/etc/resolv.conf").read_text().splitlines():
            words = line.split()
            if words[:1] == ["nameserver"] and len(words) > 1:
                servers.append(words[1])
            elif words[:1] == ["search"]:
                search = words[1:]
    return servers, search


def _ask_server(server: str, name: str, search: list[str], timeout: float) -> Fact:
    """What one name server says to the name under each search domain: the best of its answers."""
    began, word = time.monotonic(), "timeout"
    for full in [*(f"{name}.{domain}" for domain in search), name]:
        try:
            code, answers = _query(server, full, timeout)
        except TimeoutError:
            break
        except OSError as error:
            word = "refused" if isinstance(error, ConnectionRefusedError) else "unreachable"
            break
        word = "answers" if code == 0 and answers else _CODES.get(code, "no_such_name")
        if word == "answers":
            break
    return {"address": server, "word": word, "seconds": time.monotonic() - began}


def _query(server: str, name: str, timeout: float) -> tuple[int, int]:
    """The response code and the number of answers to a question for an A record (RFC 1035)."""
    number = random.getrandbits(16)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.strip(".").split("."))
    question = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\x01\0\x01"
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(timeout)
        asking.connect((server, 53))
        asking.send(question)
        answer = asking.recv(4096)
    if len(answer) < 12 or answer[:2] != question[:2]:
        return 2, 0
    return answer[3] & 15, int.from_bytes(answer[6:8], "big")


def probe(request: Request) -> Fact:
    """Everything about one edge, as seen from here."""
    timeout = float(request.get("timeout", 3.0))
    dns = resolve(str(request["host"]), timeout)
    targets = [dict(target) for target in request.get("targets", [])]
    known = {target["address"] for target in targets}
    targets += [
        {"kind": "name", "address": address, "port": request["port"]}
        for address in dns.get("addresses", [])[:2]
        if address not in known
    ]
    if request["protocol"] == "dns":
        return {"edge": request["edge"], "dns": dns, "targets": [_name_server(t) for t in targets]}
    if request["protocol"] == "udp":  # nothing answers to an unknown datagram
        return {"edge": request["edge"], "dns": dns, "targets": []}
    with ThreadPoolExecutor(max_workers=6) as pool:
        tried = list(pool.map(lambda target: try_target(request, target), targets))
    return {"edge": request["edge"], "dns": dns, "targets": tried}


def try_target(request: Request, target: Fact) -> Fact:
    """One address, level by level, up to the first that is not reached."""
    dialer = Dialer(str(target["address"]), int(target["port"]), request)
    try:
        PROTOCOLS.get(str(request["protocol"]), only_connect)(dialer, request)
    except StopHere:
        pass
    except Refused as no:  # between two levels: the connection was lost
        dialer.levels.setdefault("protocol", {"ok": False, "word": no.word, "said": no.said})
    except (ValueError, LookupError, struct.error) as error:
        said = f"its answer cannot be understood ({type(error).__name__})"
        dialer.levels["protocol"] = {"ok": False, "word": "wrong_protocol", "said": said}
    finally:
        dialer.close()
    return {**target, "levels": dialer.levels}


def _name_server(target: Fact) -> Fact:
    found = _ask_server(str(target["address"]), "kubernetes.default.svc.cluster.local", [], 3.0)
    ok = found["word"] in {"answers", "no_such_name"}
    return {**target, "levels": {"protocol": {**found, "ok": ok, "said": found["word"]}}}


def main(requests: list[Request]) -> None:
    """Print the facts of all requests in one line that says what it is."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        facts = list(pool.map(probe, requests))
    told = {"format": FORMAT, "host": socket.gethostname(), "edges": facts}
    sys.stdout.write("\nCARBON-DOCTOR " + _without_secrets(json.dumps(told), requests) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a resolver that never answers must not hold us


def _without_secrets(text: str, requests: list[Request]) -> str:
    """A server may repeat a password in what it says; it is cut out."""
    for request in requests:
        for field in ("password", "token", "key"):
            secret = (request.get("login") or {}).get(field)
            if secret and len(secret) > 3:
                text = re.sub(re.escape(json.dumps(secret)[1:-1]), "***", text)
    return text
