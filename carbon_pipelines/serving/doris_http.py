"""HTTP with Doris: who is asked, whom the password goes to, and what its answers mean.

What belongs here: redirects followed by hand, refusals of our user, and asking again where that is
safe. What does not: the bytes (``http_exchange.py``) and loads (``doris_load.py``).
Sources, by the names of Doris' manual pages: Stream Load (the FE answers 307, and the client goes
to the backend with its password), Get Load State.

Rules of a redirect:
* the password and the rows go to the FE's host and those of CARBON_DORIS_BACKENDS, and to no other;
* never from https to http;
* the password that the FE writes into the new address is left out, and told to nobody.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, urljoin, urlsplit

from carbon_pipelines.errors import (
    RedirectRefusedError,
    ServiceAuthenticationError,
    ServiceUnavailableError,
)
from carbon_pipelines.serving.clock import Deadline
from carbon_pipelines.serving.doris_settings import DorisSettings
from carbon_pipelines.serving.http_exchange import Answer, Body, Request, exchange

MOST_REDIRECTS = 4
"""FE to its master, to a backend, and one to spare each."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
DENIED = frozenset({401, 403})
TOO_MANY = 429
SERVER_ERROR = 500

Exchange = Callable[[Request], Answer]


@dataclass(frozen=True, slots=True)
class DorisHttp:
    """The HTTP side of a Doris."""

    settings: DorisSettings
    exchange: Exchange = exchange

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        timeout: float = 60.0,
    ) -> Answer:
        """One request to the FE, and to where that redirects; nothing is repeated.

        Raises:
            RedirectRefusedError: It redirects to where our password must not go.
            ServiceAuthenticationError: It refuses our user.
            OSError: The answer is lost.
        """
        settings = self.settings
        address = f"{settings.scheme}://{_host(settings.host)}:{settings.http_port}{path}"
        asked = {**(headers or {}), "Authorization": self._password()}
        for _ in range(MOST_REDIRECTS + 1):
            answer = self.exchange(_request(method, address, asked, body, timeout))
            if answer.status not in REDIRECTS:
                self._refuse_denied(answer)
                return answer
            address = self._next_address(address, answer.headers.get("location", ""))
        raise RedirectRefusedError(settings.label, shown_place(address), "and so on in a circle")

    def ask(self, path: str, deadline: Deadline) -> Mapping[str, Any]:
        """What a question that changes nothing is answered, asked again until the deadline.

        Raises:
            ServiceUnavailableError: No answer until then (retryable).
            RedirectRefusedError, ServiceAuthenticationError: As for `send`.
        """
        turn = 0
        while True:
            wait = 0.0
            try:
                answer = self.send("GET", path, timeout=30.0)
            except OSError as error:
                reason = str(error) or type(error).__name__
            else:
                if not is_busy(answer):
                    return read_json(answer)
                reason = f"HTTP status {answer.status}"
                wait = seconds_to_wait(answer)
            if deadline.passed:
                raise ServiceUnavailableError(self.settings.label, reason)
            deadline.pause(turn, at_least=wait)
            turn += 1

    def read_page(self, url: str, most_bytes: int) -> str:
        """The beginning of a page that Doris names, without our password; empty if not to be had.

        Only of hosts that are trusted: what a stranger says is no error of Doris.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not self.settings.trusts(parts.hostname or ""):
            return ""
        try:
            answer = self.exchange(_request("GET", url, {}, None, 10.0))
        except (OSError, ValueError):
            return ""
        return answer.content[:most_bytes].decode("utf-8", "replace")

    def _next_address(self, before: str, location: str) -> str:
        label = self.settings.label
        try:
            parts = urlsplit(urljoin(before, location))
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise RedirectRefusedError(label, "somewhere", "an address without meaning") from None
        place = shown_place(f"{parts.scheme}://{_host(host)}:{port or ''}")
        if parts.scheme not in ("http", "https") or not host:
            raise RedirectRefusedError(label, place, "which is no address of HTTP")
        if before.startswith("https:") and parts.scheme != "https":
            raise RedirectRefusedError(label, place, "which gives up the encryption")
        if not self.settings.trusts(host):
            raise RedirectRefusedError(label, place, "which is none of its hosts that we know")
        query = f"?{parts.query}" if parts.query else ""
        shown_port = port or (443 if parts.scheme == "https" else 80)
        return f"{parts.scheme}://{_host(host)}:{shown_port}{parts.path}{query}"

    def _refuse_denied(self, answer: Answer) -> None:
        code = answer.status
        if code not in DENIED:
            # The FE says "401" in a body, too, under the status 200.
            told = read_json(answer).get("code")
            code = told if isinstance(told, int) else code
        if code in DENIED:
            settings = self.settings
            raise ServiceAuthenticationError(settings.label, settings.user, f"HTTP status {code}")

    def _password(self) -> str:
        pair = f"{self.settings.user}:{self.settings.password}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


def load_path(database: str, table: str) -> str:
    """Where a Stream Load goes."""
    return f"/api/{quote(database)}/{quote(table)}/_stream_load"


def state_path(database: str, label: str) -> str:
    """Where the state of a load's label is told."""
    return f"/api/{quote(database)}/get_load_state?label={quote(label)}"


def is_busy(answer: Answer) -> bool:
    """Whether to come again later."""
    return answer.status == TOO_MANY or answer.status >= SERVER_ERROR


def seconds_to_wait(answer: Answer) -> float:
    """What ``Retry-After`` asks for; a date counts as nothing."""
    told = answer.headers.get("retry-after", "")
    return float(told) if told.isascii() and told.isdigit() else 0.0


def read_json(answer: Answer) -> Mapping[str, Any]:
    """The object that an answer is; empty if it is none."""
    try:
        found = json.loads(answer.content)
    except ValueError:
        return {}
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def shown_place(address: str) -> str:
    """Scheme, host and port of an address: no user, no password, no query."""
    parts = urlsplit(address)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{_host(parts.hostname or '')}{port}"


def _request(
    method: str, address: str, headers: Mapping[str, str], body: Body | None, timeout: float
) -> Request:
    parts = urlsplit(address)
    query = f"?{parts.query}" if parts.query else ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Request(
        method=method,
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=port,
        target=f"{parts.path or '/'}{query}",
        headers=headers,
        body=body,
        timeout=timeout,
    )


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
