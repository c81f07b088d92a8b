"""One HTTP request and its answer, with a body that is sent only when the server asks for it.

What belongs here: a connection, ``Expect: 100-continue`` and reading the answer. What does not:
redirects and what an answer means (``doris_http.py``). Source: RFC 9110, 10.1.1 and 15.2.1.

Nothing is repeated here: whoever asked knows whether that is safe.
"""

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

import h11

CHUNK_BYTES = 256 * 1024
MOST_BYTES = 1024 * 1024
"""Of an answer; the rest is not read."""
CONNECT_SECONDS = 10.0
CONTINUE_SECONDS = 5.0
"""So long a server may take to ask for the body, or to refuse it; then it is sent anyway."""


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent: ``size`` bytes of ``content`` from its beginning."""

    content: BinaryIO
    size: int


@dataclass(frozen=True, slots=True)
class Request:
    """A request; ``target`` is path and query. Its headers hold a password."""

    method: str
    scheme: str
    host: str
    port: int
    target: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: Body | None = None
    timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers by their names in small letters, and the first ``MOST_BYTES``."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def exchange(request: Request) -> Answer:
    """Send a request and read its answer.

    Raises:
        OSError: There was no connection, or it broke; the request may have been carried out.
    """
    machine = h11.Connection(our_role=h11.CLIENT)
    try:
        with _connect(request) as connection:
            connection.sendall(_bytes(machine.send(_head(request))))
            early = _send_body(machine, connection, request)
            return _read(machine, connection, early)
    except h11.ProtocolError as error:
        reason = f"the answer is no HTTP: {error}"
        raise ConnectionError(reason) from error


def _connect(request: Request) -> socket.socket:
    seconds = min(CONNECT_SECONDS, request.timeout)
    plain = socket.create_connection((request.host, request.port), timeout=seconds)
    plain.settimeout(request.timeout)
    if request.scheme != "https":
        return plain
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=request.host)
    except BaseException:
        plain.close()
        raise


def _head(request: Request) -> h11.Request:
    host = f"[{request.host}]" if ":" in request.host else request.host
    headers = {"Host": f"{host}:{request.port}", "Connection": "close", **request.headers}
    if request.body is not None:
        headers |= {"Content-Length": str(request.body.size), "Expect": "100-continue"}
    return h11.Request(method=request.method, target=request.target, headers=list(headers.items()))


def _send_body(
    machine: h11.Connection, connection: socket.socket, request: Request
) -> h11.Response | None:
    """Send the body; the answer's head instead if the server did not want it."""
    if request.body is not None:
        connection.settimeout(min(CONTINUE_SECONDS, request.timeout))
        try:
            refused = _next_head(machine, connection, interim=True)
        except TimeoutError:
            refused = None
        connection.settimeout(request.timeout)
        if refused is not None:
            return refused
        request.body.content.seek(0)
        try:
            while chunk := request.body.content.read(CHUNK_BYTES):
                connection.sendall(_bytes(machine.send(h11.Data(data=chunk))))
        except (BrokenPipeError, ConnectionResetError):
            # It may have answered before it hung up.
            return _next_head(machine, connection)
    connection.sendall(_bytes(machine.send(h11.EndOfMessage())))
    return None


def _read(machine: h11.Connection, connection: socket.socket, early: h11.Response | None) -> Answer:
    head = early or _next_head(machine, connection)
    if head is None:
        reason = "there is no answer"
        raise ConnectionError(reason)
    content = bytearray()
    while len(content) < MOST_BYTES:
        event = _next_event(machine, connection)
        if isinstance(event, h11.Data):
            content += event.data
        else:
            break
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    return Answer(head.status_code, headers, bytes(content[:MOST_BYTES]))


def _next_head(
    machine: h11.Connection, connection: socket.socket, *, interim: bool = False
) -> h11.Response | None:
    """The answer's head; None at "100 Continue" if that is waited for."""
    while True:
        event = _next_event(machine, connection)
        if isinstance(event, h11.Response):
            return event
        if isinstance(event, h11.InformationalResponse):
            if interim and event.status_code == 100:
                return None
            continue
        reason = "the connection was closed before an answer"
        raise ConnectionResetError(reason)


def _next_event(machine: h11.Connection, connection: socket.socket) -> object:
    while (event := machine.next_event()) is h11.NEED_DATA:
        machine.receive_data(connection.recv(CHUNK_BYTES))
    return event


def _bytes(data: bytes | None) -> bytes:
    return data or b""
