"""TLS and a name to be known by, before a service that has neither.

What belongs here: a proxy that ends TLS, knows a password and a token, gives that token to an OAuth
2 client, and passes everything else on. What does not: assertions.
"""

import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

USER, PASSWORD, TOKEN = "ann", "s3cret", "t0ken"
CLIENT, CLIENT_SECRET, SCOPE = "carbon", "cl1ent", "trino"
_KEPT = {"connection", "host", "authorization", "accept-encoding", "content-length"}
"""Headers that are each connection's own."""


def basic(user: str, password: str) -> str:
    """What a password is sent as."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    behind = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust us hangs up; that is for it to say."""


class _Handler(BaseHTTPRequestHandler):
    server: _Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing is printed."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/token":
            self._give_token(body)
        else:
            self._pass_on("POST", body)

    def do_GET(self) -> None:
        self._pass_on("GET", None)

    def do_DELETE(self) -> None:
        self._pass_on("DELETE", None)

    def _give_token(self, body: bytes) -> None:
        asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        known = self.headers.get("Authorization") == basic(CLIENT, CLIENT_SECRET)
        wanted = {"grant_type": "client_credentials", "scope": SCOPE}
        if known and asked == wanted:
            self._answer(200, json.dumps({"access_token": TOKEN, "expires_in": 60}).encode())
        else:
            self._answer(400, b'{"error": "invalid_client"}')

    def _pass_on(self, method: str, body: bytes | None) -> None:
        if self.headers.get("Authorization") not in (basic(USER, PASSWORD), f"Bearer {TOKEN}"):
            self._answer(401, b"Unauthorized")
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _KEPT}
        inner = HTTPConnection("127.0.0.1", self.server.behind)
        try:
            inner.request(method, self.path, body, headers)
            answer = inner.getresponse()
            content = answer.read()
        finally:
            inner.close()
        outside = f"https://localhost:{self.server.server_address[1]}".encode()
        content = content.replace(f"http://127.0.0.1:{self.server.behind}".encode(), outside)
        told = {k: v for k, v in answer.getheaders() if k.lower().startswith("x-trino")}
        self._answer(answer.status, content, {"Content-Type": "application/json", **told})

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def tls_before(port: int, certificate: Path, key: Path) -> Generator[int]:
    """The port at which what listens on ``port`` answers with TLS to who is known."""
    server = _Proxy(("127.0.0.1", 0), _Handler)
    server.behind = port
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
