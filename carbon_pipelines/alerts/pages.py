"""Where an alert links to: Dagster's pages and the runbook.

What belongs here: addresses. What does not: what the pages say (``docs/``).

    CARBON_ALERTS_UI_URI      Dagster's UI, as people reach it; default the local one
    CARBON_ALERTS_DOCS_URI    where docs/ is published; without it a runbook is a path in the
    project
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from carbon_pipelines.errors import SettingUnknownError

LOCAL_DOCS = "docs"
UI_VARIABLE, DOCS_VARIABLE = "CARBON_ALERTS_UI_URI", "CARBON_ALERTS_DOCS_URI"

ALERTS_PAGE = "alerts.md#what-each-alert-means"
_BY_NAME: Mapping[str, str] = {
    "TableStands": "dead_letters.md#parked-tables",
    "DeadLettersPending": "dead_letters.md#putting-them-back",
    "ScoreFell": "quality.md#what-a-red-score-means",
    "ScoreTooLow": "quality.md#what-a-red-score-means",
    "CheckMissing": ALERTS_PAGE,
    "ReadersLate": "serving.md#where-the-time-goes",
    "ReceiverRefused": ALERTS_PAGE,
    "TestAlert": ALERTS_PAGE,
}
_BY_STAGE: Mapping[str, str] = {
    "source": "source.md#what-a-red-check-means",
    "stream": "stream.md#what-a-red-check-means",
    "lake": "lake.md#what-a-red-check-means",
    "quality": "quality.md#what-a-red-certification-means",
    "mart": "mart.md#what-a-red-check-means",
    "serving": "serving.md#what-a-red-run-means",
    "maintenance": "maintenance.md#what-an-error-means",
}
RUNBOOKS = frozenset({*_BY_NAME.values(), *_BY_STAGE.values(), ALERTS_PAGE})
"""Every page and heading that an alert may link to."""


@dataclass(frozen=True, slots=True)
class Pages:
    """The addresses of Dagster's UI and of the published docs."""

    ui: str = "http://127.0.0.1:3000"
    docs: str = LOCAL_DOCS

    def run(self, run_id: str) -> str:
        """A run's page."""
        return f"{self.ui}/runs/{quote(run_id, safe='')}"

    def asset(self, asset: str) -> str:
        """An asset's page."""
        return f"{self.ui}/assets/{quote(asset)}"

    def job(self, job: str) -> str:
        """The page of the runs, of one job."""
        return f"{self.ui}/runs?q[0]={quote(f'job:{job}', safe='')}"

    def runbook(self, name: str, stage: str | None) -> str:
        """What to do about an alert: by its name, else by the stage it is about."""
        return f"{self.docs}/{_BY_NAME.get(name) or _BY_STAGE.get(stage or '', ALERTS_PAGE)}"


def pages_of(environ: Mapping[str, str]) -> Pages:
    """The addresses that the environment names.

    Raises:
        SettingUnknownError: One is no http address, or holds a password.
    """
    port = environ.get("CARBON_UI_PORT") or "3000"
    ui = environ.get(UI_VARIABLE) or f"http://127.0.0.1:{port}"
    docs = environ.get(DOCS_VARIABLE) or ""
    for variable, address in ((UI_VARIABLE, ui), (DOCS_VARIABLE, docs)):
        if address:
            _check(variable, address)
    return Pages(ui.rstrip("/"), docs.rstrip("/") or LOCAL_DOCS)


def _check(variable: str, address: str) -> None:
    try:
        parts = urlsplit(address)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.password
    except ValueError:
        fits = False
    if not fits:
        form = ("http[s]://host[:port][/path], without a password",)
        raise SettingUnknownError(variable, "another kind of address", form) from None
