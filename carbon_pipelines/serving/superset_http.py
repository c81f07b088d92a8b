"""Superset's REST API: who we are, what is asked again, and what its answers mean.

What belongs here: login, tokens, CSRF, retries and pages. What does not: databases, datasets,
charts and dashboards. Source: Superset's own OpenAPI document, ``/api/v1/_openapi``.

Rules:
* an access token lives some minutes; when it is refused we log in once more and ask again. A second
  refusal is one of our rights, and is told;
* whatever changes something needs a CSRF token beside the session's cookie; one that ran out is
  fetched anew once;
* 429, 5xx and lost answers are asked again until the deadline, as late as ``Retry-After`` says,
  where asking twice does no harm: reading, and writing a state that is the same the second time.
  429 and 503 say that nothing was done, so that everything is asked again after them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self, cast

import requests

from carbon_pipelines.errors import (
    ServiceUnavailableError,
    SupersetLoginError,
    SupersetRefusedError,
)
from carbon_pipelines.serving.clock import Clock
from carbon_pipelines.serving.superset_settings import SupersetSettings

ANSWER_SECONDS = 120.0
"""So long one answer may take: charts are computed in it."""
PATIENCE_SECONDS = 120.0
"""So long Superset is asked again."""
PAGE = 100
"""Objects of a page; a server may give fewer."""
NOT_DONE = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a form, and the fields beside it."""

    name: str
    filename: str
    content: bytes = field(repr=False)
    fields: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


class SupersetApi:
    """One user's session with a Superset."""

    def __init__(self, settings: SupersetSettings, *, clock: Clock | None = None) -> None:
        """Nothing is asked yet."""
        self.settings = settings
        self.clock = clock or Clock()
        self._session = requests.Session()
        self._session.trust_env = False
        self._token = ""
        self._csrf = ""

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of its connections."""
        self._session.close()

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """What is at a path; ``query`` is Superset's ``q``.

        Raises:
            SupersetLoginError: It refuses our user.
            SupersetRefusedError: It refuses the request; status 404 is one.
            ServiceUnavailableError: No answer until the deadline (retryable).
        """
        return self._json(self._ask("GET", path, params=_query(query)), "GET", path)

    def find(self, path: str, query: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
        """As `get`; None if there is nothing."""
        try:
            return self.get(path, query)
        except SupersetRefusedError as refusal:
            if refusal.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def download(self, path: str, query: Any) -> bytes:
        """A file."""
        return self._ask("GET", path, params=_query(query)).content

    def pages(
        self, path: str, *, order: str, query: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every object of a list, however many pages it takes; ``order`` is a column of it."""
        asked = {"order_column": order, "order_direction": "asc", "page_size": PAGE}
        asked |= query or {}
        number = seen = 0
        while True:
            answer = self.get(path, {**asked, "page": number})
            found = cast("list[dict[str, Any]]", answer.get("result", []))
            yield from found
            seen += len(found)
            if not found or seen >= int(answer.get("count", 0)):
                return
            number += 1

    def send(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        again: bool = True,
    ) -> Mapping[str, Any]:
        """POST, PUT or DELETE.

        Args:
            method: The verb.
            path: From the root.
            document: Sent as JSON.
            query: ``q`` or other parameters.
            again: Whether to do it twice does no harm.

        Raises:
            SupersetLoginError, SupersetRefusedError, ServiceUnavailableError: As for `get`.
        """
        answer = self._ask(method, path, document=document, params=query, again=again)
        return self._json(answer, method, path)

    def upload(self, path: str, upload: Upload) -> Mapping[str, Any]:
        """Send a file; it is one that does the same the second time.

        Status 500 is a refusal here: Superset's import has no other for a file that it cannot read.

        Raises:
            SupersetLoginError, SupersetRefusedError, ServiceUnavailableError: As for `get`.
        """
        return self._json(self._ask("POST", path, upload=upload), "POST", path)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        document: Any = None,
        params: Mapping[str, Any] | None = None,
        upload: Upload | None = None,
        again: bool = True,
    ) -> requests.Response:
        deadline = self.clock.deadline(PATIENCE_SECONDS)
        turn = renewed = 0
        while True:
            wait = 0.0
            try:
                if not self._token:
                    self._log_in()
                if method != "GET" and not self._csrf:
                    self._csrf = self._fetch_csrf()
                answer = self._send(method, path, document, params, upload)
            except (requests.ConnectionError, requests.Timeout) as error:
                reason = type(error).__name__
                if not again:
                    raise ServiceUnavailableError(self.settings.label, reason) from error
            else:
                if self._is_outdated(answer) and renewed < 2:
                    renewed += 1
                    self._token = self._csrf = ""
                    continue
                if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                    raise SupersetLoginError(
                        self.settings.label, self.settings.user, f"{method} {path}: {_said(answer)}"
                    )
                failed = answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
                if not _is_busy(answer) or (upload is not None and failed):
                    return answer
                reason = f"HTTP status {answer.status_code}"
                wait = _seconds_to_wait(answer)
                if not again and answer.status_code not in NOT_DONE:
                    raise ServiceUnavailableError(self.settings.label, reason)
            if deadline.passed:
                raise ServiceUnavailableError(self.settings.label, reason)
            deadline.pause(turn, at_least=wait)
            turn += 1

    def _send(
        self,
        method: str,
        path: str,
        document: Any,
        params: Mapping[str, Any] | None,
        upload: Upload | None,
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {self._token}", "Referer": self.settings.url}
        if method != "GET":
            headers["X-CSRFToken"] = self._csrf
        form: dict[str, Any] = {"json": document}
        if upload is not None:
            file = {upload.name: (upload.filename, upload.content)}
            form = {"files": file, "data": dict(upload.fields)}
        return self._session.request(
            method,
            f"{self.settings.url}{path}",
            params=params,
            headers=headers,
            timeout=ANSWER_SECONDS,
            allow_redirects=False,
            **form,
        )

    def _log_in(self) -> None:
        settings = self.settings
        asked = {"username": settings.user, "password": settings.password}
        answer = self._session.post(
            f"{settings.url}/api/v1/security/login",
            json={**asked, "provider": settings.provider, "refresh": False},
            timeout=ANSWER_SECONDS,
            allow_redirects=False,
        )
        if _is_busy(answer):
            raise requests.ConnectionError(f"HTTP status {answer.status_code} at the login")
        token = _document(answer).get("access_token")
        if not isinstance(token, str):
            reason = f"login: {_said(answer)}"
            raise SupersetLoginError(settings.label, settings.user, reason)
        self._token = token

    def _fetch_csrf(self) -> str:
        answer = self._send("GET", "/api/v1/security/csrf_token/", None, None, None)
        return str(_document(answer).get("result", ""))

    def _is_outdated(self, answer: requests.Response) -> bool:
        """Whether a token of ours ran out: the status says so, or the words of Flask-WTF."""
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            return True
        return answer.status_code == HTTPStatus.BAD_REQUEST and "CSRF" in answer.text[:2000]

    def _json(self, answer: requests.Response, method: str, path: str) -> Mapping[str, Any]:
        if answer.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise SupersetRefusedError(
                self.settings.label, f"{method} {path}", answer.status_code, _said(answer)
            )
        return _document(answer)


def _query(query: Any) -> dict[str, str] | None:
    """Superset takes ``q`` as Rison, of which JSON is understood too."""
    return {"q": json.dumps(query)} if query is not None else None


def _is_busy(answer: requests.Response) -> bool:
    status = answer.status_code
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _seconds_to_wait(answer: requests.Response) -> float:
    told = answer.headers.get("Retry-After", "")
    return float(told) if told.isascii() and told.isdigit() else 0.0


def _document(answer: requests.Response) -> Mapping[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def _said(answer: requests.Response) -> str:
    """What an answer says of why, in one line and not all of it."""
    told = _document(answer)
    words = told.get("message") or told.get("msg") or told.get("errors") or answer.reason
    text = words if isinstance(words, str) else json.dumps(words)
    return f"HTTP status {answer.status_code}, {' '.join(text.split())[:600]}"
