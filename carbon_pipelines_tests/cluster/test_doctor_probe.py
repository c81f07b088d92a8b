"""The probe speaks protocols as servers do, within its time, and tells no secret."""

import base64
import hashlib
import hmac
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from mysql_mimic import IdentityProvider, MysqlServer, NativePasswordAuthPlugin, Session, User
from mysql_mimic.errors import MysqlError

from carbon_pipelines.cluster.doctor_findings import LEVELS
from carbon_pipelines.cluster.doctor_places import (
    Here,
    make_program,
    read_shell,
    run_probe,
    run_shell_probe,
)
from carbon_pipelines.cluster.doctor_probe import probe, try_target
from carbon_pipelines.cluster.doctor_probe_sql import Scram
from carbon_pipelines.cluster.doctor_wire import describe_certificate
from carbon_pipelines_tests.alerts.certificates import make_certificate

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """A server on loopback that handles each connection in a thread of its own; its port."""
    handlers: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                handlers.append(threading.Thread(target=handle, args=(connection,), daemon=True))
                handlers[-1].start()

        def handle(connection: socket.socket) -> None:
            with connection:
                try:
                    serve(connection)
                except (OSError, ValueError):
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        for each in (thread, *handlers):
            each.join(5)


def ask(port: int, protocol: str, **more: Any) -> dict[str, Any]:
    """What the probe finds of a server, by level."""
    request = {"edge": "e", "host": "localhost", "port": port, "protocol": protocol, "timeout": 1.0}
    request |= {"tls": False, **more}
    return try_target(request, {"kind": "pod", "address": "127.0.0.1", "port": port})["levels"]


def word(levels: dict[str, Any]) -> tuple[str, str]:
    """The last level, and why it was not reached."""
    name = [name for name in LEVELS if name in levels][-1]
    return name, levels[name].get("word", "")


def redis(connection: socket.socket) -> None:
    """AUTH, ACLs and PING as Redis answers them."""
    let_in = False
    with connection.makefile("rb") as file:
        while line := file.readline():
            words: list[str] = []
            for _ in range(int(line[1:])):
                file.readline()
                words.append(file.readline().strip().decode())
            if words[0] == "AUTH":
                let_in = words[1:] == ["lake", "right"]
                answer = "+OK" if let_in else "-WRONGPASS invalid password"
            elif not let_in:
                answer = "-NOAUTH Authentication required."
            elif words[0] == "GET":
                answer = "-NOPERM no permissions to run the 'get' command"
            else:
                answer = "+PONG"
            connection.sendall(answer.encode() + b"\r\n")


def test_redis_login_and_right() -> None:
    login = {"user": "lake", "password": "right"}
    with serving(redis) as port:
        assert word(ask(port, "redis")) == ("auth", "login_missing")
        assert word(ask(port, "redis", login=login | {"password": "no"})) == ("auth", "bad_login")
        assert word(ask(port, "redis", login=login)) == ("permission", "")
        assert word(ask(port, "redis", login=login, asks="GET key")) == ("permission", "no_right")


def test_silence_hanging_up_and_another_protocol_are_told_apart() -> None:
    with serving(lambda connection: connection.recv(9999) and threading.Event().wait(0.6)) as port:
        assert word(ask(port, "redis", timeout=0.3)) == ("protocol", "silent")
    with serving(lambda connection: None) as port:
        assert word(ask(port, "http"))[1] in {"closed", "reset"}
    with serving(redis) as port:
        assert word(ask(port, "http"))[0] == "protocol"

    def refuse(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")
        connection.recv(9999)  # closing on what was not read would reset the connection

    with serving(refuse) as port:
        for protocol in ("postgres", "kafka", "redis", "mysql"):
            assert word(ask(port, protocol)) == ("protocol", "wrong_protocol"), protocol
        assert word(ask(port, "http")) == ("protocol", "status")
        assert word(ask(port, "http", tls=True)) == ("tls", "tls_missing")


DENIED: Any = IntEnum("Code", {"TABLEACCESS_DENIED_ERROR": 1142}).TABLEACCESS_DENIED_ERROR


class Reader(Session):
    """Answers statements; one table is not ours."""

    async def query(self, expression: Any, sql: str, attrs: Any) -> Any:
        if "secret" in sql:
            raise MysqlError("SELECT command denied", DENIED)
        return [(1,)], ["1"]


class Known(IdentityProvider):
    """One user."""

    def get_plugins(self) -> list[Any]:
        return [NativePasswordAuthPlugin()]

    async def get_user(self, username: str) -> User | None:
        stored = NativePasswordAuthPlugin.create_auth_string("right")
        return User(name=username, auth_string=stored) if username == "lake" else None


def test_mysql_login_and_right() -> None:
    import asyncio

    async def serve() -> list[tuple[str, str]]:
        server = MysqlServer(session_factory=Reader, identity_provider=Known())
        await server.start_server(host="127.0.0.1", port=0)
        port = server.sockets()[0].getsockname()[1]
        login = {"user": "lake", "password": "right"}
        told = [
            await asyncio.to_thread(ask, port, "mysql", login=login | {"password": "no"}),
            await asyncio.to_thread(ask, port, "mysql", login=login),
            await asyncio.to_thread(ask, port, "mysql", login=login, asks="SELECT * FROM secret"),
        ]
        server.close()
        await server.wait_closed()
        return [word(levels) for levels in told]

    assert asyncio.run(serve()) == [
        ("auth", "bad_login"),
        ("permission", ""),
        ("permission", "no_right"),
    ]


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def kafka(advertised: int) -> Serve:
    """A broker with SASL PLAIN, that advertises an address."""

    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            answer_all(connection, file)

    def answer_all(connection: socket.socket, file: Any) -> None:
        while head := file.read(4):
            body = file.read(struct.unpack(">i", head)[0])
            api, _, correlation = struct.unpack(">hhi", body[:8])
            answer = struct.pack(">hi", 0, 0)
            if api == 17:
                answer = struct.pack(">hi", 0, 1) + text("PLAIN")
            elif api == 36:
                right = body.endswith(b"\0lake\0right")
                answer = struct.pack(">h", 0 if right else 58) + text("refused") + b"\0\0\0\0"
            elif api == 3:
                wanted = body[-6:].decode("latin-1")
                answer = struct.pack(">ii", 1, 0) + text("127.0.0.1")
                answer += struct.pack(">i", advertised) + text("") + struct.pack(">ii", 0, 1)
                answer += struct.pack(">h", {"denied": 29, "nobody": 3}.get(wanted, 0))
            connection.sendall(struct.pack(">ii", len(answer) + 4, correlation) + answer)

    return serve


def test_kafka_login_right_and_the_address_that_brokers_advertise() -> None:
    login = {"user": "lake", "password": "right", "mechanism": "PLAIN"}
    with serving(kafka(1)) as away, serving(kafka(away)) as port:
        assert word(ask(port, "kafka", login=login | {"password": "no"})) == ("auth", "bad_login")
        assert word(ask(port, "kafka", login=login, resource="prices")) == ("permission", "")
        assert word(ask(port, "kafka", login=login, resource="denied"))[1] == "no_right"
        assert word(ask(port, "kafka", login=login, resource="nobody"))[1] == "not_found"
        assert word(ask(away, "kafka", login=login)) == ("permission", "advertised_away")


def test_a_password_is_not_sent_where_the_certificate_is_not_trusted(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            while heard_now := secured.recv(999):
                heard.append(heard_now)
                secured.sendall(b"+PONG\r\n")

    login = {"user": "lake", "password": "right"}
    with serving(serve) as port:
        levels = ask(port, "redis", tls=True, login=login)
        assert levels["tls"]["word"] == "certificate_untrusted"
        assert levels["protocol"]["ok"]
        assert "auth" not in levels
        assert b"right" not in b"".join(heard)
        trusted = ask(port, "redis", tls=True, login=login, ca=certificate.read_text())
        assert trusted["tls"]["names"] == ["localhost"]
        assert trusted["permission"]["ok"]


def test_scram_proves_the_password_as_the_rfc_has_it() -> None:
    """The server's side, from the formulas of RFC 5802."""
    scram = Scram("user", "pencil", "sha256")
    salt = b"0123456789abcdef"
    challenge = f"r={scram.nonce}more,s={base64.b64encode(salt).decode()},i=4096"
    bare, proof = scram.last(challenge.encode()).decode().split(",p=")
    key = hmac.digest(hashlib.pbkdf2_hmac("sha256", b"pencil", salt, 4096), b"Client Key", "sha256")
    stored = hashlib.sha256(key).digest()
    message = f"{scram.first().decode()[3:]},{challenge},{bare}"
    signature = hmac.digest(stored, message.encode(), "sha256")
    restored = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
    assert hashlib.sha256(restored).digest() == stored


def test_a_certificate_that_is_no_certificate_says_nothing() -> None:
    assert describe_certificate(b"\x30\x03nonsense") == {"names": []}


def test_the_program_runs_where_nothing_of_ours_is_installed_and_prints_no_secret() -> None:
    refuses = b"-WRONGPASS the password is not secret-word\r\n"

    def serve(connection: socket.socket) -> None:
        while connection.recv(999):
            connection.sendall(refuses)

    with serving(serve) as port:
        request = {"edge": "a->b/c", "host": "localhost", "port": port, "protocol": "redis"}
        request |= {"tls": False, "timeout": 1.0, "login": {"password": "secret-word"}}
        assert "secret-word" in make_program([request])
        told = run_probe(Here(), [request], python=["/usr/bin/env", "python3"][-1])
    said = told["a->b/c"]["targets"][0]["levels"]["auth"]["said"]
    assert said == "WRONGPASS the password is not ***"


def test_a_name_that_nobody_has_is_told_with_each_server_that_was_asked() -> None:
    dns = probe({"edge": "e", "host": "no.such.invalid", "port": 1, "protocol": "tcp"})["dns"]
    assert not dns["ok"]
    assert dns["word"] in {"no_such_name", "no_server", "timeout", "refused", "unreachable"}


def test_the_shell_probe_tells_names_and_tcp() -> None:
    with serving(redis) as port:
        target = {"kind": "pod", "address": "127.0.0.1"}
        targets = [target | {"port": port}, target | {"port": 1}]
        request = {"edge": "a->b/c", "host": "localhost", "timeout": 1, "targets": targets}
        told = run_shell_probe(Here(), [request])["a->b/c"]
    assert told["dns"] == {"ok": True, "addresses": ["127.0.0.1"]}
    assert [one["levels"]["tcp"]["word"] for one in told["targets"]] == ["", "refused"]


@pytest.mark.parametrize(("code", "expected"), [("124", "timeout"), ("1", "refused"), ("0", "")])
def test_exit_codes_of_the_shell_probe(code: str, expected: str) -> None:
    printed = f"CARBON-DOCTOR-SH dns e\nCARBON-DOCTOR-SH tcp e service 10.0.0.1 80 {code}\n"
    told = read_shell(printed, [{"edge": "e"}])["e"]
    assert not told["dns"]["ok"]
    assert told["targets"][0]["levels"]["tcp"]["word"] == expected
