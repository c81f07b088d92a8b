"""A recorded HTTP sink: it takes what DataHub takes, keeps it, answers questions, fails on demand.

What belongs here: the four requests that we make of DataHub's metadata service. What does not:
assertions. It is no DataHub; that its answers are what DataHub's own client understands is shown by
``integration/test_datahub_models.py``.
"""

import json
import ssl
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from carbon_pipelines.serving.clock import Clock
from carbon_pipelines.serving.datahub.server import DataHubServer
from carbon_pipelines.serving.datahub.settings import DataHubSettings
from carbon_pipelines_tests.serving.stub import FakeTime

TOKEN = "a-token-nobody-may-see"
CONFIG = {"noCode": "true", "versions": {"acryldata/datahub": {"version": "v1.7.0"}}}
EVENTS = frozenset(
    {"assertionRunEvent", "operation", "datasetProfile", "dataProcessInstanceRunEvent"}
)


class Sink:
    """What was told, and how the next requests are answered.

    Attributes:
        aspects: Newest value by urn and aspect.
        events: All values of a series, each once, by urn and aspect.
        requests: Method, path and body of each request.
        faults: Of the next requests, in turn: a status; ``lost`` (it is carried out, and the answer
            never comes); ``html`` (a page of somebody else's).
        refuses: Urn and aspect to the status and reason that they are refused with.
    """

    def __init__(self) -> None:
        self.aspects: dict[tuple[str, str], Any] = {}
        self.events: dict[tuple[str, str], list[Any]] = {}
        self.proposals: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.faults: deque[int | str] = deque()
        self.refuses: dict[tuple[str, str], tuple[int, str]] = {}
        self.config: Any = CONFIG
        self.url = ""
        self.time = FakeTime()
        self.lock = threading.Lock()

    def server(self) -> DataHubServer:
        """Ours, told to talk to this."""
        return DataHubServer(self.settings(), clock=self.time.clock())

    def settings(self) -> DataHubSettings:
        return DataHubSettings(self.url, TOKEN)

    def clock(self) -> Clock:
        return self.time.clock()

    def sent(self) -> list[list[dict[str, Any]]]:
        """The proposals of each request that told something."""
        return [
            body["proposals"] for _, path, body in self.requests if "ingestProposalBatch" in path
        ]

    def take(self, proposals: list[dict[str, Any]]) -> tuple[int, Any]:
        """Keep proposals; none if one of them is refused."""
        for one in proposals:
            refusal = self.refuses.get((one["entityUrn"], one["aspectName"]))
            if refusal is not None:
                status, reason = refusal
                return status, {"status": status, "message": reason}
        for one in proposals:
            at = (one["entityUrn"], one["aspectName"])
            value = json.loads(one["aspect"]["value"])
            self.proposals.append(one)
            if one["aspectName"] not in EVENTS:
                self.aspects[at] = value
            elif value not in self.events.setdefault(at, []):
                self.events[at].append(value)
        return 200, {"value": "ok"}

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        """What DataHub answers."""
        parts = urlsplit(path)
        action = parse_qs(parts.query).get("action", [""])[0]
        if parts.path == "/config":
            return 200, self.config
        if action == "ingestProposalBatch":
            return self.take(body["proposals"])
        if action == "getTimeseriesAspectValues":
            return 200, {"value": {"values": self._newest(body)}}
        if parts.path.endswith("/batchGet"):
            return 200, [self._entity(one) for one in body]
        return 404, {"status": 404, "message": f"nothing is at {path}"}

    def _newest(self, body: Any) -> list[Any]:
        found = self.events.get((body["urn"], body["aspect"]), [])
        newest = sorted(found, key=lambda value: -value["timestampMillis"])[: body["limit"]]
        return [
            {"aspect": {"value": json.dumps(value), "contentType": "application/json"}}
            for value in newest
        ]

    def _entity(self, asked: dict[str, Any]) -> dict[str, Any]:
        urn = asked["urn"]
        known = {
            aspect: {"value": value}
            for (of, aspect), value in self.aspects.items()
            if of == urn and aspect in asked
        }
        return {"urn": urn, **known}


@contextmanager
def running_sink(certificate: tuple[Path, Path] | None = None) -> Generator[Sink]:
    """A sink on 127.0.0.1; with a certificate and its key, on https://localhost."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            with sink.lock:
                sink.requests.append((self.command, self.path, body))
                sink.headers.append(dict(self.headers))
                fault = sink.faults.popleft() if sink.faults else None
                if isinstance(fault, int):
                    status, told = fault, {"status": fault, "message": "come again"}
                else:
                    status, told = sink.answer(self.path, body)
            if fault == "lost":
                self.close_connection = True
                return
            content = b"<html>" if fault == "html" else json.dumps(told).encode()
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("Location", f"{sink.url}/elsewhere")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sink.url = f"http://127.0.0.1:{server.server_port}"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        sink.url = f"https://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
