"""One request on a real socket: what is sent when, by a server that notes each byte."""

import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from carbon_pipelines.serving import http_exchange
from carbon_pipelines.serving.http_exchange import Body, Request, exchange

ROWS = b"row\n" * 100_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def once() -> None:
            connection, _ = server.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def head_of(connection: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(65536)
    return got


def body_of(connection: socket.socket) -> bytes:
    got = b""
    while len(got) < len(ROWS):
        got += connection.recv(65536)
    return got


def put(port: int, timeout: float = 10.0) -> Request:
    body = Body(io.BytesIO(ROWS), len(ROWS))
    return Request("PUT", "http", "127.0.0.1", port, "/x", body=body, timeout=timeout)


def test_the_body_comes_when_the_server_asks_for_it() -> None:
    seen: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        seen.append(head_of(connection))
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        seen.append(body_of(connection))
        connection.sendall(OK)

    with serving(answer) as port:
        assert exchange(put(port)).content == b"ok"
    assert b"expect: 100-continue" in seen[0].lower()
    assert seen[0].endswith(b"\r\n\r\n")
    assert seen[1] == ROWS


def test_a_server_that_does_not_know_the_question_gets_the_body_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_exchange, "CONTINUE_SECONDS", 0.1)
    seen: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        head_of(connection)
        seen.append(body_of(connection))
        connection.sendall(OK)

    with serving(answer) as port:
        assert exchange(put(port)).status == 200
    assert seen == [ROWS]


def test_a_server_that_answers_at_once_gets_no_body() -> None:
    rest: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\n\r\n")
        rest.append(connection.recv(10))

    with serving(answer) as port:
        assert exchange(put(port)).status == 307
    assert rest == [b""]


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"nonsense\r\n\r\n"])
def test_a_server_that_hangs_up_is_a_lost_answer(said: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(said)

    with serving(answer) as port, pytest.raises(ConnectionError):
        exchange(put(port))


def test_a_server_that_stays_silent_is_a_lost_answer() -> None:
    silent = threading.Event()

    def answer(connection: socket.socket) -> None:
        head_of(connection)
        silent.wait(5)

    with serving(answer) as port:
        request = Request("GET", "http", "127.0.0.1", port, "/x", timeout=0.2)
        with pytest.raises(TimeoutError):
            exchange(request)
        silent.set()


def test_of_an_endless_answer_only_the_beginning_is_read() -> None:
    def answer(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            for _ in range(1000):
                connection.sendall(b"x" * 65536)
        except OSError:
            return

    with serving(answer) as port:
        found = exchange(Request("GET", "http", "127.0.0.1", port, "/x"))
    assert len(found.content) == http_exchange.MOST_BYTES
