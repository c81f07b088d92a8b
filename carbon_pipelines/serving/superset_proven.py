"""What a dashboard says of how far its numbers are proven.

What belongs here: the certificates of the snapshots that marts were built from, and the text made
of them. What does not: certifying (``quality``), and bringing the text to Superset.

A mart tells the snapshots that it was built from in its own snapshot's summary; the certificate of
each says when the source was compared with it and how good it was. A dashboard is as far as the
table that is least far, and as good as the worst. What nobody wrote down is said to be unknown.
"""

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.errors import DashboardFilesError
from carbon_pipelines.lake.certificate import (
    Certificate,
    find_certified,
    past_certificates,
    shown_time,
)
from carbon_pipelines.lake.connection import load_table
from carbon_pipelines.mart.duckdb_plugin import BUILT_FROM
from carbon_pipelines.serving.superset_code import DashboardCode

CELL = "MARKDOWN-proven"
"""Id of the place in a dashboard where this is said."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A table that marts of a dashboard were built from, and what is written of that snapshot."""

    table: str
    certificate: Certificate | None

    def sentence(self) -> str:
        """As a row of the dashboard's table."""
        if self.certificate is None:
            return f"| {self.table} | unknown | unknown |"
        proven, score = shown_time(self.certificate.verified_at), self.certificate.score
        return f"| {self.table} | {proven} | {score:.1f} |"


@dataclass(frozen=True, slots=True)
class Proven:
    """How far all of a dashboard is proven."""

    proofs: tuple[Proof, ...]

    def headline(self) -> str:
        """When, and how good."""
        known = [one.certificate for one in self.proofs if one.certificate is not None]
        if not known or len(known) < len(self.proofs):
            return "unknown: of some table nothing is written of what was compared"
        oldest = min(one.verified_at for one in known)
        return f"{shown_time(oldest)}, score {min(one.score for one in known):.1f} of 100"

    def markdown(self) -> str:
        """What the dashboard says."""
        rows = "\n".join(one.sentence() for one in self.proofs)
        head = "| table | equal to its source at | score |\n|---|---|---|"
        return f"### Proven as of {self.headline()}\n\n{head}\n{rows}"


def load_proven(catalog: Catalog, marts: Mapping[str, Table]) -> Proven:
    """What is written of the snapshots that these tables of marts were built from."""
    read: dict[str, set[int]] = {}
    unknown = False
    for table in marts.values():
        snapshots = _built_from(table)
        unknown = unknown or not snapshots
        for name, snapshot_id in snapshots.items():
            read.setdefault(name, set()).add(snapshot_id)
    found = [
        Proof(name, _certificate(catalog, name, snapshot_id))
        for name, snapshots in sorted(read.items())
        for snapshot_id in sorted(snapshots)
    ]
    if unknown:
        found.append(Proof("a mart that does not say what it was built from", None))
    return Proven(tuple(found))


def _built_from(table: Table) -> Mapping[str, int]:
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot is not None else None
    told = summary.additional_properties.get(BUILT_FROM) if summary is not None else None
    return json.loads(told) if told else {}


def _certificate(catalog: Catalog, name: str, snapshot_id: int) -> Certificate | None:
    namespace, _, table = name.partition(".")
    loaded = load_table(catalog, (namespace, table))
    if loaded is None:
        return None
    label = f"{namespace}/{table}"
    standing = find_certified(loaded.metadata, label)
    now = [standing.certificate] if standing is not None and standing.certificate else []
    return _first((*now, *past_certificates(loaded.metadata, label)), snapshot_id)


def _first(told: Iterable[Certificate], snapshot_id: int) -> Certificate | None:
    return next((one for one in told if one.snapshot_id == snapshot_id), None)


def say_proven(code: DashboardCode, proven: Proven) -> DashboardCode:
    """The dashboard with what is proven in its place for that.

    Raises:
        DashboardFilesError: It has no such place.
    """
    fields: dict[str, Any] = copy.deepcopy(dict(code.dashboard.fields))
    cell = dict(fields.get("position") or {}).get(CELL)
    if not isinstance(cell, dict) or cell.get("type") != "MARKDOWN":
        reason = f'has no text "{CELL}", where what is proven is said'
        raise DashboardFilesError(f'the dashboard "{code.name}"', reason)
    cell["meta"] = {**cell.get("meta", {}), "code": proven.markdown()}
    return replace(code, dashboard=replace(code.dashboard, fields=fields))


def score_of(proofs: Sequence[Proof]) -> float | None:
    """The lowest; None if one is unknown."""
    scores = [one.certificate.score for one in proofs if one.certificate is not None]
    return min(scores) if scores and len(scores) == len(proofs) else None
