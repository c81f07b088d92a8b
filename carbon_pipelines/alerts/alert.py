"""An alert: one thing that is wrong, as a value.

What belongs here: its fields and what makes two alerts the same one. What does not: when it fires
(``firing.py``) and who is told (``routing.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from carbon_pipelines.catalog.owners import AlertSeverity

_FNV_OFFSET, _FNV_PRIME, _SEPARATOR = 14695981039346656037, 1099511628211, b"\xff"


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is wrong, or was.

    Attributes:
        name: Its kind, like ``TableStale``.
        labels: What it is about: ``team``, ``stage``, ``database``, ``table``, ``asset``,
        ``check``,
            ``job``, ``step``, ``receiver``, each only where there is one. Never a value that
            changes while the same thing stays wrong, so no run.
        summary: What happened and the next step, for people; no row's values, no secrets.
        since: Epoch seconds.
        link: The page of the run, or of the asset, in Dagster.
        runbook: The page and heading that say what to do.
        run_id: The run that showed it, if one did.
    """

    name: str
    severity: AlertSeverity
    labels: Mapping[str, str]
    summary: str
    since: float
    link: str = ""
    runbook: str = ""
    run_id: str | None = None
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", fingerprint_of(self.all_labels))

    @property
    def all_labels(self) -> Mapping[str, str]:
        """The labels as Alertmanager has them: with name and severity."""
        return {"alertname": self.name, "severity": self.severity, **self.labels}

    @property
    def annotations(self) -> Mapping[str, str]:
        """What is told beside the labels and may change."""
        told = {"summary": self.summary, "runbook_url": self.runbook, "link": self.link}
        if self.run_id is not None:
            told["run"] = self.run_id
        return {name: value for name, value in told.items() if value}

    @property
    def about(self) -> str:
        """What it is about, in a word: the asset, else whatever else it names."""
        for name in ("asset", "job", "receiver", "table", "database"):
            if name in self.labels:
                return self.labels[name]
        return self.labels.get("team", "")


def fingerprint_of(labels: Mapping[str, str]) -> str:
    """What Alertmanager identifies an alert by: 64-bit FNV-1a over its sorted labels.

    16 hex digits, the same as ``model.LabelSet.Fingerprint`` of prometheus/common, so that a
    receiver knows an alert again whether Alertmanager told it or we did.
    """
    total = _FNV_OFFSET
    for name in sorted(labels):
        for part in (name.encode(), _SEPARATOR, labels[name].encode(), _SEPARATOR):
            for byte in part:
                total = ((total ^ byte) * _FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return f"{total:016x}"
