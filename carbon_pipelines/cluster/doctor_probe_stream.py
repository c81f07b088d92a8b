"""What the doctor's probe says to Kafka and to Redis or Valkey.

What belongs here: the few messages that tell whether a server answers, lets us in, and lets us do
what we must. What does not: connections (``doctor_wire.py``). Only the standard library.

A Kafka client goes on from the bootstrap address to the addresses that brokers advertise, so each
of those is tried too. Sources: Kafka's protocol guide; Redis' protocol, RESP2.
"""

import shlex
import socket
import struct

from carbon_pipelines.cluster.doctor_probe_sql import Scram
from carbon_pipelines.cluster.doctor_wire import (
    WORDS,
    Dialer,
    Fact,
    Refused,
    Request,
    StopHere,
    Wire,
)

_METADATA, _HANDSHAKE, _VERSIONS, _AUTHENTICATE = 3, 17, 18, 36
_BAD_LOGIN, _NO_TOPIC, _NO_RIGHT = 58, 3, {29, 30, 31}


def kafka(dialer: Dialer, request: Request) -> None:
    """Versions, a login, a topic's description, and every broker that is advertised."""
    login = request.get("login") or {}
    wire = dialer.dial()
    with dialer.level("protocol"):
        answer = _call(wire, _VERSIONS, 0, b"")
        if len(answer) < 6 or answer[:2] not in {b"\0\0", struct.pack(">h", 35)}:
            raise Refused("wrong_protocol", f"not Kafka: it answered {answer[:20]!r}")
    if not login.get("user"):
        if not (request.get("sasl") or login.get("certificate")):
            _metadata(dialer, wire, request)
        return
    if not dialer.trusted:
        raise StopHere
    with dialer.level("auth"):
        _authenticate(wire, login)
    _metadata(dialer, wire, request)


def _call(wire: Wire, api: int, version: int, body: bytes) -> bytes:
    head = struct.pack(">hhih", api, version, 7, 13) + b"carbon-doctor"
    wire.send(struct.pack(">i", len(head) + len(body)) + head + body)
    size, correlation = struct.unpack(">ii", wire.read(8))
    if correlation != 7 or not 4 <= size <= 10_000_000:
        raise Refused("wrong_protocol", f"not Kafka: it answered size {size}, id {correlation}")
    return wire.read(size - 4)


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value.encode())) + value.encode()


def _authenticate(wire: Wire, login: dict[str, str]) -> None:
    method = login.get("mechanism") or "SCRAM-SHA-512"
    answer = _call(wire, _HANDSHAKE, 1, _text(method))
    if struct.unpack(">h", answer[:2])[0]:
        offered = ", ".join(_texts(answer[2:])) or "none"
        raise Refused("unsupported", f"the broker offers {offered}, not {method}")
    user, password = login["user"], login.get("password") or ""
    if method == "PLAIN":
        _token(wire, b"\0" + user.encode() + b"\0" + password.encode())
        return
    scram = Scram(user, password, "sha256" if method.endswith("256") else "sha512")
    _token(wire, scram.last(_token(wire, scram.first())))


def _token(wire: Wire, token: bytes) -> bytes:
    answer = _call(wire, _AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
    code, size = struct.unpack(">hh", answer[:4])
    at = 4 + max(size, 0)
    if code:
        said = answer[4:at].decode("utf-8", "replace") or f"error {code}"
        raise Refused("bad_login" if code == _BAD_LOGIN else "server_error", said)
    return answer[at + 4 :]


def _texts(encoded: bytes) -> list[str]:
    count, at = struct.unpack(">i", encoded[:4])[0], 4
    found: list[str] = []
    for _ in range(count):
        size = struct.unpack(">h", encoded[at : at + 2])[0]
        found.append(encoded[at + 2 : at + 2 + size].decode("utf-8", "replace"))
        at += 2 + size
    return found


class _Reader:
    """Reads Kafka's primitive types one after the other."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded, self.at = encoded, 0

    def number(self, form: str) -> int:
        """One of ``h``, ``i`` or ``b``."""
        (found,) = struct.unpack_from(">" + form, self.encoded, self.at)
        self.at += struct.calcsize(form)
        return int(found)

    def text(self) -> str:
        """A nullable string."""
        size = max(self.number("h"), 0)
        self.at += size
        return self.encoded[self.at - size : self.at].decode("utf-8", "replace")


def _metadata(dialer: Dialer, wire: Wire, request: Request) -> None:
    topic = request.get("resource")
    with dialer.level("permission") as fact:
        wanted = struct.pack(">i", 1) + _text(topic) if topic else struct.pack(">i", 0)
        reader = _Reader(_call(wire, _METADATA, 1, wanted))
        brokers: list[tuple[str, int]] = []
        for _ in range(reader.number("i")):
            reader.number("i")
            host, port = reader.text(), reader.number("i")
            reader.text()
            brokers.append((host, port))
        reader.number("i")
        codes = [reader.number("h") for _ in range(reader.number("i")) if topic][:1]
        fact["advertised"] = [_reach(host, port, dialer.timeout) for host, port in brokers[:9]]
        if codes and codes[0] in _NO_RIGHT:
            raise Refused("no_right", f"topic {topic}: not authorized ({codes[0]})")
        if codes == [_NO_TOPIC]:
            raise Refused("not_found", f"no topic {topic}, or no right to see it")
        away = [one for one in fact["advertised"] if not one["ok"]]
        if away:
            said = ", ".join(f"{one['host']}:{one['port']} ({one['word']})" for one in away)
            raise Refused("advertised_away", said)


def _reach(host: str, port: int, timeout: float) -> Fact:
    found: Fact = {"host": host, "port": port, "ok": False}
    try:
        with socket.create_connection((host, port), timeout):
            found["ok"] = True
    except TimeoutError:
        found["word"] = "timeout"
    except socket.gaierror:
        found["word"] = "no_such_name"
    except OSError as error:
        found["word"] = WORDS.get(error.errno or 0, "unreachable")
    return found


def redis(dialer: Dialer, request: Request) -> None:
    """PING, AUTH, and a command that only reads."""
    login = request.get("login") or {}
    wire = dialer.dial()
    with dialer.level("protocol") as fact:
        said = _ask(wire, "PING")
        if said[:1] not in {"+", "-"}:
            raise Refused("wrong_protocol", f"not Redis: it answered {said[:40]!r}")
        if said.startswith(("-LOADING", "-MASTERDOWN")):
            raise Refused("server_error", said[1:])
        fact["answer"] = said
    if not login.get("password"):
        if said.startswith("-NOAUTH"):
            with dialer.level("auth"):
                raise Refused("login_missing", "the server asks for a password")
        return
    if not dialer.trusted:
        raise StopHere
    with dialer.level("auth"):
        who = [login["user"]] if login.get("user") else []
        said = _ask(wire, "AUTH", *who, login["password"])
        if said.startswith("-"):
            raise Refused("bad_login", said[1:])
    with dialer.level("permission"):
        said = _ask(wire, *shlex.split(request.get("asks") or "PING"))
        if said.startswith("-"):
            word = "no_right" if said.startswith("-NOPERM") else "server_error"
            raise Refused(word, said[1:])


def _ask(wire: Wire, *words: str) -> str:
    """One command's first line; of a longer answer the rest is not needed."""
    sent = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    wire.send(sent.encode())
    return wire.read_line().decode("utf-8", "replace")
