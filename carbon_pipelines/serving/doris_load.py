"""Stream Load: rows sent to Doris over HTTP, applied exactly once or known not to be.

What belongs here: what the answers to a load mean, and going on from any of them, a lost one too.
What does not: HTTP itself (``doris_http.py``) and what the rows are (``doris_rows.py``).
Sources, by the names of Doris' manual pages: Stream Load (headers, return values), Get Load State,
Load Transaction and Label.

Invariants, and what keeps them:
* Never applied twice. Doris takes a label once. A load whose fate is not known is asked for, and
  sent again under the same label alone. Another label is used only after Doris said of every one
  before that it is ABORTED, which is final.
* Never called applied when it was not. Only ``Success`` with all rows, or the state VISIBLE of the
  label, counts. ``Publish Timeout`` and ``Label Already Exists`` are reasons to ask, no more.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from carbon_pipelines.errors import (
    LoadRefusedError,
    LoadUnfinishedError,
    ServiceAuthenticationError,
    ServiceUnavailableError,
)
from carbon_pipelines.serving.clock import Deadline
from carbon_pipelines.serving.doris_http import (
    DorisHttp,
    is_busy,
    load_path,
    read_json,
    seconds_to_wait,
    state_path,
)
from carbon_pipelines.serving.http_exchange import Body

MOST_SENDINGS = 5
"""Of the rows of one load, whatever became of those before."""
LOAD_SECONDS = 600
"""Doris gives a load up that takes longer, so that its label does not stay RUNNING."""
ERROR_ROWS = 3
ERROR_BYTES = 8192
ERROR_CHARACTERS = 200
_COLUMN = re.compile(r"column(?:_name|s?)?\s*[\[(=]\s*'?`?(\w+)", re.IGNORECASE)
_DENIED = re.compile(r"access denied|no valid basic auth|not_authorized", re.IGNORECASE)
FORMAT = {
    "format": "json",
    "read_json_by_line": "true",
    "strict_mode": "true",
    "max_filter_ratio": "0",
    "timezone": "+00:00",
    "timeout": str(LOAD_SECONDS),
}


class LabelState(StrEnum):
    """State of a label's transaction. UNKNOWN: Doris has none of it."""

    UNKNOWN = "UNKNOWN"
    PREPARE = "PREPARE"
    PRECOMMITTED = "PRECOMMITTED"
    COMMITTED = "COMMITTED"
    VISIBLE = "VISIBLE"
    ABORTED = "ABORTED"


@dataclass(frozen=True, slots=True)
class Load:
    """Rows on their way into a table.

    Attributes:
        label: Derived from the rows and the table: the same label is the same load.
        shows_rows: Whether an error may quote values; not where a column is classified.
    """

    database: str
    table: str
    label: str
    rows: int
    body: Body
    shows_rows: bool = True


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a sending was not taken; ``final`` if the rows themselves are at fault."""

    reason: str
    final: bool
    rows: tuple[str, ...] = ()


def label_of(label: str, attempt: int) -> str:
    """The label of an attempt, counted from 0."""
    return label if attempt == 0 else f"{label}_{attempt}"


@dataclass(slots=True)
class StreamLoader:
    """Loads into one Doris."""

    http: DorisHttp

    def state(self, database: str, label: str, deadline: Deadline) -> LabelState:
        """The state of a label.

        Raises:
            ServiceUnavailableError: Nobody tells (retryable).
        """
        told = self.http.ask(state_path(database, label), deadline)
        # Versions differ in where it stands.
        word = str(told.get("data") or told.get("state") or "").upper()
        if word not in LabelState.__members__:
            reason = f"it tells no state of the label {label}: {str(told.get('msg'))[:200]}"
            raise ServiceUnavailableError(self.http.settings.label, reason)
        return LabelState(word)

    def load(self, load: Load, deadline: Deadline, *, attempt: int = 0) -> str:
        """Bring rows into a table exactly once; they are visible on return. The label used.

        Args:
            load: What and where.
            deadline: Until when to wait for what is under way.
            attempt: The first label's number.

        Raises:
            LoadRefusedError: Doris does not take the rows.
            LoadUnfinishedError: What became of it is not known in time (retryable).
            ServiceUnavailableError: Nobody tells (retryable).
            RedirectRefusedError, ServiceAuthenticationError: As for `DorisHttp.send`.
        """
        refusal: _Refusal | None = None
        sendings = turn = 0
        while True:
            label = label_of(load.label, attempt)
            state = self.state(load.database, label, deadline)
            if state is LabelState.VISIBLE:
                return label
            ended = state in (LabelState.ABORTED, LabelState.UNKNOWN)
            if ended and refusal is not None and refusal.final:
                raise LoadRefusedError(label, refusal.reason, refusal.rows)
            if ended and sendings >= MOST_SENDINGS:
                raise self._given_up(label, state, refusal, deadline)
            if deadline.passed:
                raise LoadUnfinishedError(label, state, deadline.waited)
            if state is LabelState.ABORTED:
                attempt += 1
                continue
            if state is LabelState.UNKNOWN:
                sendings += 1
                done, refusal, wait = self._send(load, label)
                if done:
                    return label
                deadline.pause(sendings - 1, at_least=wait)
            else:
                deadline.pause(turn)
                turn += 1

    def _given_up(
        self, label: str, state: LabelState, refusal: _Refusal | None, deadline: Deadline
    ) -> LoadRefusedError | LoadUnfinishedError:
        if refusal is None:
            return LoadUnfinishedError(label, state, deadline.waited)
        return LoadRefusedError(label, f"{refusal.reason} ({MOST_SENDINGS} times)", refusal.rows)

    def _send(self, load: Load, label: str) -> tuple[bool, _Refusal | None, float]:
        """Send once: whether all is visible, why not if Doris says, and how long to wait."""
        headers = {**FORMAT, "label": label}
        path = load_path(load.database, load.table)
        timeout = LOAD_SECONDS + 30.0
        try:
            answer = self.http.send("PUT", path, headers=headers, body=load.body, timeout=timeout)
        except OSError:
            return False, None, 0.0
        if is_busy(answer):
            return False, None, seconds_to_wait(answer)
        told = read_json(answer)
        status = told.get("Status")
        if status == "Success":
            return self._all_rows(load, label, told), None, 0.0
        if status in ("Publish Timeout", "Label Already Exists"):
            return False, None, 0.0
        return False, self._refusal(load, answer.status, told), 0.0

    def _all_rows(self, load: Load, label: str, told: Mapping[str, Any]) -> bool:
        loaded = told.get("NumberLoadedRows")
        if loaded != load.rows or told.get("NumberFilteredRows"):
            reason = f"it took {loaded} of {load.rows} rows"
            raise LoadRefusedError(label, reason)
        return True

    def _refusal(self, load: Load, status: int, told: Mapping[str, Any]) -> _Refusal:
        message = " ".join(str(told.get("Message") or told.get("msg") or "").split())
        if _DENIED.search(message):
            settings = self.http.settings
            raise ServiceAuthenticationError(settings.label, settings.user, message[:200])
        url = str(told.get("ErrorURL") or "")
        final = bool(url or told.get("NumberFilteredRows"))
        rows = self._error_rows(url, load) if url else ()
        if final and not load.shows_rows:
            return _Refusal("rows do not fit the table", final, rows)
        shown = message[:ERROR_CHARACTERS] if load.shows_rows else _without_values(message)
        return _Refusal(shown or f"HTTP status {status}", final, rows)

    def _error_rows(self, url: str, load: Load) -> tuple[str, ...]:
        """What Doris says of the first rows; of classified ones, only which column it is."""
        lines = self.http.read_page(url, ERROR_BYTES).splitlines()
        said = [" ".join(line.split()) for line in lines if line.strip()][:ERROR_ROWS]
        if load.shows_rows:
            return tuple(line[:ERROR_CHARACTERS] for line in said)
        return tuple(_without_values(line) for line in said)


def _without_values(line: str) -> str:
    found = _COLUMN.search(line)
    where = f"column {found[1]}" if found else "a column"
    return f"{where} (the rest is not shown: the mart has classified columns)"
