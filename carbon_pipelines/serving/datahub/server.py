"""The metadata service of DataHub over HTTP: what it knows, and telling it more.

What belongs here: requests, their answers, and which of these are worth another try. What does not:
what to tell (``plan.py``).

Writing is Rest.li's ``ingestProposalBatch``, as DataHub's own client writes; reading is OpenAPI v3
and, for events, Rest.li. A request may have been carried out though its answer was lost. All of
them may be repeated: an aspect that is written twice is there once, and so is an event, whose
name in DataHub is made of what it says and when.

The token goes to the address of CARBON_DATAHUB_URL and nowhere else: redirects are not followed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from carbon_pipelines.errors import (
    DataHubAccessError,
    DataHubAnswerError,
    DataHubUnavailableError,
)
from carbon_pipelines.serving.clock import Clock
from carbon_pipelines.serving.datahub.proposal import TIME, Proposal, written
from carbon_pipelines.serving.datahub.settings import DataHubSettings

TIMEOUTS_SECONDS = (5.0, 60.0)
"""To connect, and to answer."""
RETRY_SECONDS = 60.0
"""So long one request is tried again."""
STUMBLES = 2
"""So often a request is tried again that DataHub answers 500 to."""
BATCH_ASPECTS = 100
BATCH_BYTES = 4 * 1024 * 1024
"""Of a request; DataHub takes 16 MB, and gives up on what takes it too long."""
BATCH_URNS = 100
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_WORDS = 300
_BROKEN = "it answers 500"


@dataclass(frozen=True, slots=True)
class Refused:
    """That the service does not take a request, and will not."""

    reason: str


@dataclass(slots=True)
class DataHubServer:
    """A DataHub. ``told`` counts the aspects that it took."""

    settings: DataHubSettings
    clock: Clock = field(default_factory=Clock)
    told: int = 0

    def check(self) -> str:
        """Whether it is one; its version.

        Raises:
            DataHubAnswerError: Something else answers, like the frontend's pages.
            DataHubUnavailableError, DataHubAccessError: As for every request.
        """
        found = self._ask("GET", "/config")
        config = self._fields(found, "/config")
        if config.get("noCode") != "true":
            reason = "/config is another's"
            raise DataHubAnswerError(self.settings.label, reason)
        versions = config.get("versions") or {}
        return str((versions.get("acryldata/datahub") or {}).get("version") or "unknown")

    def read(self, wanted: Sequence[Proposal]) -> dict[tuple[str, str], Any]:
        """What it knows of the aspects, by urn and aspect; what it does not know is left out."""
        by_entity: dict[str, dict[str, list[str]]] = {}
        for one in wanted:
            by_entity.setdefault(one.entity, {}).setdefault(one.urn, []).append(one.aspect)
        known: dict[tuple[str, str], Any] = {}
        for entity, aspects in by_entity.items():
            urns = list(aspects)
            for at in range(0, len(urns), BATCH_URNS):
                chunk = urns[at : at + BATCH_URNS]
                body = [{"urn": urn, **{name: {} for name in aspects[urn]}} for urn in chunk]
                path = f"/openapi/v3/entity/{entity}/batchGet"
                known.update(_known(self._list(self._ask("POST", path, body), path)))
        return known

    def last_event(self, entity: str, urn: str, aspect: str) -> int | None:
        """The time of the newest event of a series; None if it has none."""
        path = f"/aspects?{urlencode({'action': 'getTimeseriesAspectValues'})}"
        body = {"urn": urn, "entity": entity, "aspect": aspect, "limit": 1}
        found = self._fields(self._ask("POST", path, body), path)
        values = (found.get("value") or {}).get("values") or []
        times: list[int] = []
        for one in values:
            event = json.loads((one.get("aspect") or {}).get("value") or "{}")
            if isinstance(event.get(TIME), int):
                times.append(event[TIME])
        return max(times, default=None)

    def tell(self, proposals: Sequence[Proposal]) -> list[tuple[Proposal, str]]:
        """Have it take aspects, in their order; those that it refuses come back with its reason.

        It refuses a whole request for one aspect, so a refused one is halved until it is found.

        Raises:
            DataHubUnavailableError: It does not answer; what it took before stays.
        """
        refused: list[tuple[Proposal, str]] = []
        for batch in batches(proposals):
            found = self._tell(batch)
            if len(found) == len(batch) > 1 and all(_BROKEN in reason for _, reason in found):
                # It stumbles over everything: that is it, and none of what it was told.
                raise DataHubUnavailableError(self.settings.label, found[0][1], told=self.told)
            refused += found
        return refused

    def _tell(self, batch: Sequence[Proposal]) -> list[tuple[Proposal, str]]:
        path = f"/aspects?{urlencode({'action': 'ingestProposalBatch'})}"
        body = {"proposals": [one.to_wire() for one in batch], "async": "false"}
        found = self._ask("POST", path, body, may_refuse=True)
        if not isinstance(found, Refused):
            self.told += len(batch)
            return []
        if len(batch) == 1:
            return [(batch[0], found.reason)]
        middle = len(batch) // 2
        return [*self._tell(batch[:middle]), *self._tell(batch[middle:])]

    def _ask(self, method: str, path: str, body: Any = None, *, may_refuse: bool = False) -> Any:
        """One request until it is answered; JSON, or that it was refused."""
        deadline = self.clock.deadline(RETRY_SECONDS)
        turn = 0
        while True:
            reason, later = "", 0.0
            try:
                answer = self._send(method, path, body)
            except OSError as error:  # of requests and of sockets; their words may hold the URL
                reason = f"it cannot be reached ({type(error).__name__})"
            else:
                if answer.status_code not in _LATER:
                    return self._judge(answer, path, may_refuse=may_refuse)
                reason = f"it answers {answer.status_code} to {path}"
                later = _seconds(answer.headers.get("Retry-After"))
                if answer.status_code == 500 and may_refuse and turn >= STUMBLES:
                    # What it stumbles over again and again may be one aspect of many.
                    return Refused(_words(answer.content, answer.status_code))
            if deadline.passed:
                raise DataHubUnavailableError(self.settings.label, reason, told=self.told)
            deadline.pause(turn, at_least=later)
            turn += 1

    def _send(self, method: str, path: str, body: Any) -> Any:
        import requests

        headers = {"X-RestLi-Protocol-Version": "2.0.0", "Content-Type": "application/json"}
        if self.settings.token:
            headers["Authorization"] = f"Bearer {self.settings.token}"
        with requests.Session() as session:
            session.trust_env = False  # no proxy and no .netrc decide where the token goes
            return session.request(
                method,
                f"{self.settings.url}{path}",
                data=None if body is None else written(body).encode(),
                headers=headers,
                timeout=TIMEOUTS_SECONDS,
                allow_redirects=False,
                verify=self.settings.authorities or True,
            )

    def _judge(self, answer: Any, path: str, *, may_refuse: bool) -> Any:
        status = answer.status_code
        if status in (401, 403):
            raise DataHubAccessError(self.settings.label, f"it answers {status} to {path}")
        if 200 <= status < 300:
            try:
                return answer.json() if answer.content else None
            except ValueError:
                reason = f"{path} is answered by something else than JSON"
                raise DataHubAnswerError(self.settings.label, reason) from None
        if may_refuse and status in (400, 413, 422):
            return Refused(_words(answer.content, status))
        raise DataHubAnswerError(self.settings.label, f"it answers {status} to {path}")

    def _fields(self, found: Any, path: str) -> Mapping[str, Any]:
        if not isinstance(found, Mapping):
            reason = f"{path} is answered by something else than fields"
            raise DataHubAnswerError(self.settings.label, reason)
        return found

    def _list(self, found: Any, path: str) -> Sequence[Any]:
        if not isinstance(found, list):
            reason = f"{path} is answered by something else than a list"
            raise DataHubAnswerError(self.settings.label, reason)
        return found


def batches(proposals: Sequence[Proposal]) -> Iterator[list[Proposal]]:
    """Proposals as requests of a bounded size, in their order."""
    batch: list[Proposal] = []
    size = 0
    for one in proposals:
        more = len(one.text) + len(one.urn)
        if batch and (len(batch) == BATCH_ASPECTS or size + more > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += more
    if batch:
        yield batch


def _known(entities: Sequence[Any]) -> Iterator[tuple[tuple[str, str], Any]]:
    for entity in entities:
        for aspect, found in entity.items():
            if aspect != "urn" and isinstance(found, Mapping) and "value" in found:
                yield (str(entity["urn"]), str(aspect)), found["value"]


def _words(content: bytes, status: int) -> str:
    """What it says of a refusal, in one line."""
    try:
        told = json.loads(content)
        message = str(told.get("message") or told.get("error") or "") if told else ""
    except (ValueError, AttributeError):
        message = content.decode(errors="replace")
    line = " ".join(message.split())[:_MOST_WORDS]
    return f"it answers {status}: {line}" if line else f"it answers {status}"


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.strip().isdigit() else 0.0
