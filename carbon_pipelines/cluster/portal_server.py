"""Serving the portal's page: read the files, ask each application whether it is well, answer.

What belongs here: HTTP. What does not: the page and who may see what (``portal.py``).

The groups of a person come in a header that the ingress sets. It decides only what is shown: each
application is guarded by itself, so nobody gains by sending another. Without the header, as behind
Cloudflare, all are shown. Applications are asked at most once in a
while, by whoever comes first, so that a page that is reloaded does not become load for all of them.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from carbon_pipelines.cluster.portal import Application, Table, portal_page

GROUPS_HEADER = "X-Auth-Request-Groups"
_ASKED_SECONDS = 3.0
_KEPT_SECONDS = 15.0
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def load_portal(path: Path) -> tuple[Application, ...]:
    """The applications that ``portal.json`` lists."""
    listed = json.loads(path.read_text("utf-8"))["applications"]
    return tuple(Application.from_json(fields) for fields in listed)


def load_tables(path: Path | None) -> tuple[Table, ...] | None:
    """Scores from a JSON list of ``{table, score, verified_through}``; None if there is no file."""
    if path is None or not path.exists():
        return None
    return tuple(
        Table(entry["table"], entry.get("score"), entry.get("verified_through"))
        for entry in json.loads(path.read_text("utf-8"))
    )


def is_well(application: Application) -> bool:
    """Whether the application answers as its service says, within seconds."""
    request = urllib.request.Request(application.health)
    try:
        with urllib.request.urlopen(request, timeout=_ASKED_SECONDS) as answer:
            return answer.status in application.status
    except urllib.error.HTTPError as error:
        return error.code in application.status
    except OSError:
        return False


class Health:
    """The last answers of all applications; asked again once they are old."""

    def __init__(
        self,
        applications: Sequence[Application],
        ask: Callable[[Application], bool] = is_well,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._applications, self._ask, self._clock = applications, ask, clock
        self._lock = Lock()
        self._known: Mapping[str, bool] = {}
        self._asked_at: float | None = None

    def now(self) -> Mapping[str, bool]:
        """Whether each is well, by name."""
        with self._lock:
            now = self._clock()
            if self._asked_at is None or now - self._asked_at >= _KEPT_SECONDS:
                with ThreadPoolExecutor(max_workers=8) as pool:
                    answers = list(pool.map(self._ask, self._applications))
                names = [application.name for application in self._applications]
                self._known = dict(zip(names, answers, strict=True))
                self._asked_at = now
            return self._known


def make_server(
    address: tuple[str, int],
    applications: Sequence[Application],
    health: Health,
    tables: Path | None,
) -> ThreadingHTTPServer:
    """A server that answers ``/`` with the page and ``/healthz`` with ``ok``; the rest is 404."""

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "portal", ""

        def do_GET(self) -> None:
            if self.path == "/healthz":
                self._answer(200, "text/plain", "ok\n")
            elif self.path.split("?")[0] == "/":
                told = self.headers.get(GROUPS_HEADER)
                groups = None if told is None else [group.strip() for group in told.split(",")]
                page = portal_page(applications, health.now(), load_tables(tables), groups)
                self._answer(200, "text/html; charset=utf-8", page)
            else:
                self._answer(404, "text/plain", "nothing here; the portal is at /\n")

        def _answer(self, status: int, kind: str, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Security-Policy", _POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Write nothing: the proxy in front writes down who asked for what."""

    return ThreadingHTTPServer(address, Handler)
