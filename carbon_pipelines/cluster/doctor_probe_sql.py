"""What the doctor's probe says to PostgreSQL and to MySQL's protocol (Doris).

What belongs here: the few messages that tell whether a server answers, lets us in, and lets us do
what we must. What does not: connections (``doctor_wire.py``). Only the standard library.

Sources: PostgreSQL's manual, "Frontend/Backend Protocol"; MySQL's "Client/Server Protocol".
"""

import base64
import hashlib
import hmac
import os
import struct

from carbon_pipelines.cluster.doctor_wire import Dialer, Refused, Request, StopHere, Wire

_LOGIN_CODES = {"28P01", "28000"}
_RIGHT_CODES = {"42501"}
_MISSING_CODES = {"3D000", "42P01", "3F000"}
_TLS = 0x00000800
_CAPABILITIES = 0x00000200 | 0x00008000 | 0x00080000
"""Protocol 4.1, a salt of 20 bytes, and methods of authentication by name."""


class Scram:
    """The client's half of SCRAM (RFC 5802), for PostgreSQL and Kafka."""

    def __init__(self, user: str, password: str, digest: str) -> None:
        self.digest, self.password = digest, password.encode()
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self.bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={self.nonce}"

    def first(self) -> bytes:
        """What is sent first."""
        return f"n,,{self.bare}".encode()

    def last(self, challenge: bytes) -> bytes:
        """The proof, from what the server answered.

        Raises:
            Refused: The server did not take up our nonce.
        """
        told = dict(part.split("=", 1) for part in challenge.decode().split(","))
        if not told.get("r", "").startswith(self.nonce):
            raise Refused("wrong_protocol", "the server answered another SCRAM nonce than ours")
        bare = f"c=biws,r={told['r']}"
        salted = hashlib.pbkdf2_hmac(
            self.digest, self.password, base64.b64decode(told["s"]), int(told["i"])
        )
        key = hmac.digest(salted, b"Client Key", self.digest)
        signed = f"{self.bare},{challenge.decode()},{bare}".encode()
        signature = hmac.digest(hashlib.new(self.digest, key).digest(), signed, self.digest)
        proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()


def postgres(dialer: Dialer, request: Request) -> None:
    """A startup, a login, and a statement that only reads."""
    login = request.get("login") or {}
    user = login.get("user") or "carbon_doctor"
    database = request.get("resource") or login.get("database") or "postgres"
    wire = dialer.dial(_ask_for_tls)
    fields = [b"user", user.encode(), b"database", database.encode()]
    startup = struct.pack(">i", 196608) + b"\0".join(fields) + b"\0\0"
    with dialer.level("protocol") as fact:
        wire.send(struct.pack(">i", len(startup) + 4) + startup)
        kind, body = _message(wire)
        if kind not in b"RE":
            raise Refused("wrong_protocol", f"not PostgreSQL: it answered {kind + body[:20]!r}")
        if kind == b"E" and _field(body, b"C") in {"57P03", "53300"}:
            raise Refused("server_error", _field(body, b"M"))
        fact["answer"] = _field(body, b"M") if kind == b"E" else "asks who we are"
    if not login.get("user"):
        return
    if not dialer.trusted:
        raise StopHere
    with dialer.level("auth"):
        _authenticate(wire, kind, body, login)
    with dialer.level("permission"):
        _run(wire, "SET default_transaction_read_only = on")
        _run(wire, request.get("asks") or "SELECT 1")


def _ask_for_tls(wire: Wire) -> None:
    wire.send(struct.pack(">ii", 8, 80877103))
    if wire.read(1) != b"S":
        raise Refused("tls_missing", "the server offers no TLS")


def _message(wire: Wire) -> tuple[bytes, bytes]:
    kind, size = struct.unpack(">ci", wire.read(5))
    if not 4 <= size <= 1_000_000:
        raise Refused("wrong_protocol", f"not PostgreSQL: it answered {kind!r}")
    return kind, wire.read(size - 4)


def _field(body: bytes, name: bytes) -> str:
    for part in body.split(b"\0"):
        if part[:1] == name:
            return part[1:].decode("utf-8", "replace")
    return ""


def _refusal(body: bytes) -> Refused:
    code, said = _field(body, b"C"), _field(body, b"M")
    word = "bad_login" if code in _LOGIN_CODES else "server_error"
    word = "no_right" if code in _RIGHT_CODES else word
    return Refused("not_found" if code in _MISSING_CODES else word, f"{said} ({code})")


def _authenticate(wire: Wire, kind: bytes, body: bytes, login: dict[str, str]) -> None:
    user, password = login["user"], login.get("password") or ""
    scram = Scram("", password, "sha256")
    while True:
        if kind == b"E":
            raise _refusal(body)
        if kind == b"Z":
            return
        method = struct.unpack(">i", body[:4])[0] if kind == b"R" else 0
        if method == 3:
            _say(wire, password.encode() + b"\0")
        elif method == 5:
            inner = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
            outer = hashlib.md5(inner.encode() + body[4:8], usedforsecurity=False).hexdigest()
            _say(wire, b"md5" + outer.encode() + b"\0")
        elif method == 10:
            first = scram.first()
            _say(wire, b"SCRAM-SHA-256\0" + struct.pack(">i", len(first)) + first)
        elif method == 11:
            _say(wire, scram.last(body[4:]))
        elif method not in {0, 12}:
            raise Refused("unsupported", f"the server asks for authentication method {method}")
        kind, body = _message(wire)


def _say(wire: Wire, body: bytes) -> None:
    wire.send(b"p" + struct.pack(">i", len(body) + 4) + body)


def _run(wire: Wire, statement: str) -> None:
    body = statement.encode() + b"\0"
    wire.send(b"Q" + struct.pack(">i", len(body) + 4) + body)
    refusal: Refused | None = None
    while True:
        kind, body = _message(wire)
        if kind == b"E":
            refusal = _refusal(body)
        elif kind == b"Z":
            if refusal is not None:
                raise refusal
            return


def mysql(dialer: Dialer, request: Request) -> None:
    """A greeting, a login and a statement that only reads."""
    login = request.get("login") or {}
    greeting = b""

    def ask_for_tls(wire: Wire) -> None:
        nonlocal greeting
        greeting = _greeting(wire)
        _, _, rest = greeting[1:].partition(b"\0")
        if not int.from_bytes(rest[13:15], "little") & _TLS:
            raise Refused("tls_missing", "the server offers no TLS")
        wire.send(struct.pack("<IIIB23x", 32 | 1 << 24, _CAPABILITIES | _TLS, 1 << 24, 45))

    wire = dialer.dial(ask_for_tls)
    with dialer.level("protocol") as fact:
        greeting = greeting or _greeting(wire)
        version, _, rest = greeting[1:].partition(b"\0")
        fact["answer"] = version.decode("ascii", "replace")
    if not login.get("user"):
        return
    if not dialer.trusted:
        raise StopHere
    with dialer.level("auth"):
        tls = _TLS if request.get("tls") else 0
        _log_in(wire, login, request.get("resource") or "", rest[4:12] + rest[31:43], tls)
    with dialer.level("permission"):
        statement = (request.get("asks") or "SELECT 1").encode()
        wire.send(struct.pack("<I", len(statement) + 1) + b"\x03" + statement)
        _ok(_packet(wire)[1])


def _greeting(wire: Wire) -> bytes:
    _, greeting = _packet(wire)
    if greeting[:1] == b"\xff":
        raise Refused("server_error", greeting[3:].decode("utf-8", "replace"))
    if greeting[:1] != b"\x0a":
        raise Refused("wrong_protocol", f"not MySQL's protocol: {greeting[:20]!r}")
    return greeting


def _packet(wire: Wire) -> tuple[int, bytes]:
    head = wire.read(4)
    size = int.from_bytes(head[:3], "little")
    if size > 65_535:
        raise Refused("wrong_protocol", f"not MySQL's protocol: {head!r}")
    return head[3], wire.read(size)


def _log_in(wire: Wire, login: dict[str, str], database: str, salt: bytes, tls: int) -> None:
    capabilities = _CAPABILITIES | tls | (0x8 if database else 0)
    answer = _scramble(login.get("password") or "", salt)
    body = struct.pack("<IIB23x", capabilities, 1 << 24, 45)
    body += login["user"].encode() + b"\0" + bytes([len(answer)]) + answer
    body += (database.encode() + b"\0" if database else b"") + b"mysql_native_password\0"
    wire.send(struct.pack("<I", len(body) | (2 if tls else 1) << 24) + body)
    number, found = _packet(wire)
    if found[:1] == b"\xfe":  # it wants another method, with another salt
        method, _, salt = found[1:].partition(b"\0")
        if method != b"mysql_native_password":
            raise Refused("unsupported", f"the server asks for {method.decode('ascii', 'replace')}")
        answer = _scramble(login.get("password") or "", salt[:20])
        wire.send(struct.pack("<I", len(answer) | (number + 1) << 24) + answer)
        _, found = _packet(wire)
    _ok(found)


def _scramble(password: str, salt: bytes) -> bytes:
    if not password:
        return b""
    once = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    twice = hashlib.sha1(once, usedforsecurity=False).digest()
    mask = hashlib.sha1(salt + twice, usedforsecurity=False).digest()
    return bytes(one ^ other for one, other in zip(once, mask, strict=True))


def _ok(packet: bytes) -> None:
    if packet[:1] != b"\xff":
        return
    code = int.from_bytes(packet[1:3], "little")
    said = packet[9:].decode("utf-8", "replace")
    word = {1045: "bad_login", 1049: "not_found", 1146: "not_found"}.get(code, "server_error")
    raise Refused("no_right" if code in {1044, 1142, 1143, 1227} else word, f"{said} ({code})")
