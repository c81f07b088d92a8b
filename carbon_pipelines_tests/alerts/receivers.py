"""Receivers on 127.0.0.1 that write down what they are sent, and answer as they are told."""

import json
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Recorder:
    """What came, newest last. ``answers`` are given in turn, then 200."""

    url: str = ""
    bodies: list[Any] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    answers: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)
    always: int = 200

    def take(self) -> list[Any]:
        """What came since it was taken last."""
        taken, self.bodies[:] = list(self.bodies), []
        return taken


@contextmanager
def recording() -> Generator[Recorder]:
    """A receiver of JSON."""
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers = recorder.answers.pop(0) if recorder.answers else (recorder.always, {})
            recorder.paths.append(self.path)
            recorder.headers.append(dict(self.headers))
            if 200 <= status < 300:
                recorder.bodies.append(json.loads(body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    recorder.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
