"""A small server that answers as Superset's front door does: logins, tokens, CSRF, and busy times.

What belongs here: what a real Superset does too seldom to wait for. What does not: dashboards,
which are tested against a real one.
"""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from carbon_pipelines.serving.superset_settings import SupersetSettings

LIST = "/api/v1/thing/"
CSRF_GONE = {"message": "400 Bad Request: The CSRF token has expired."}


@dataclass
class StubSuperset:
    """What it does next, and what it was asked."""

    port: int = 0
    password: str = "right"
    things: int = 7
    most_on_a_page: int = 3
    next_answers: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    """Given before any other, once each; None: the connection is closed without an answer."""
    asked: list[str] = field(default_factory=list)
    logins: int = 0
    token: str = "token-0"
    csrf: str = "csrf-0"
    written: list[Any] = field(default_factory=list)

    @property
    def settings(self) -> SupersetSettings:
        """Where it is."""
        return SupersetSettings(f"http://127.0.0.1:{self.port}", "carbon", "right")

    def expire(self) -> None:
        """Forget every token; those that were given are refused from now on."""
        self.token = f"token-{self.logins + 1}-later"

    def answer(
        self, verb: str, path: str, headers: Any, body: bytes
    ) -> tuple[int, dict[str, str], Any] | None:
        """Status, headers and document."""
        place = urlsplit(path)
        if place.path == "/api/v1/security/login":
            if json.loads(body)["password"] != self.password:
                return 401, {}, {"message": "Not authorized"}
            self.logins += 1
            self.token = f"token-{self.logins}"
            return 200, {}, {"access_token": self.token}
        if headers["Authorization"] != f"Bearer {self.token}":
            return 401, {}, {"msg": "Token has expired"}
        if place.path == "/api/v1/security/csrf_token/":
            return 200, {}, {"result": self.csrf}
        self.asked.append(f"{verb} {place.path}")
        if self.next_answers:
            status, told, document = self.next_answers.pop(0)
            return None if status == 0 else (status, told, document)
        if verb == "GET" and place.path == LIST:
            query = json.loads(parse_qs(place.query)["q"][0])
            size = min(query["page_size"], self.most_on_a_page)
            first = query["page"] * size
            found = [{"id": n} for n in range(first, min(first + size, self.things))]
            return 200, {}, {"count": self.things, "result": found}
        if headers.get("X-CSRFToken") != self.csrf and verb != "GET":
            return 400, {}, CSRF_GONE
        if verb != "GET":
            self.written.append(json.loads(body))
        return 200, {}, {"result": "done"}


@contextmanager
def running_superset_stub() -> Generator[StubSuperset]:
    """It listens until the end of the block."""
    stub = StubSuperset()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = stub.answer(self.command, self.path, self.headers, body)
            if answer is None:
                self.close_connection = True
                return
            status, told, document = answer
            content = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {**told, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - as the base class asks

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stub.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
