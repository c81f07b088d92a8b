"""One object's change, and a plan of many.

What belongs here: what a plan says and how it reads. What does not: asking the cluster for it
(``plan.py``) and carrying it out (``apply.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from carbon_pipelines.cluster.diff import FieldChange
from carbon_pipelines.cluster.manifest import Manifest

Act = Literal["create", "change", "adopt", "replace", "remove"]
_SIGNS: dict[Act, str] = {
    "create": "+",
    "change": "~",
    "adopt": "=",
    "replace": "±",
    "remove": "-",
}
_WORDS: dict[Act, str] = {
    "create": "created",
    "change": "changed",
    "adopt": "taken under our name",
    "replace": "deleted and created anew",
    "remove": "removed",
}
_FIELDS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one object.

    ``adopt`` changes no field: the object is already as declared, but nobody's field manager says
    that it is ours. ``replace`` is for Jobs, whose template cannot change. ``unchecked`` says why
    the server could not be asked about it yet.
    """

    manifest: Manifest
    act: Act
    fields: tuple[FieldChange, ...] = ()
    unchecked: str | None = None
    live_replicas: int | None = None

    @property
    def restarts(self) -> bool:
        """Whether pods are made anew."""
        return self.act == "change" and any(
            field.path.startswith("spec.template.") for field in self.fields
        )

    def lines(self) -> list[str]:
        """The object, and below it each changed field."""
        note = f"  ({self.unchecked})" if self.unchecked else ""
        secret = self.manifest.kind == "Secret"
        shown = [f"      {field.line(secret=secret)}" for field in self.fields[:_FIELDS_SHOWN]]
        if len(self.fields) > _FIELDS_SHOWN:
            shown.append(f"      and {len(self.fields) - _FIELDS_SHOWN} more fields")
        return [f"  {_SIGNS[self.act]} {self.manifest.label}{note}", *shown]


@dataclass(frozen=True, slots=True)
class Plan:
    """Every change of the chosen services, in the order to make them; ``checked`` objects in all.

    Removals are in ``removals``: they are made only if asked for.
    """

    overlay: str
    server: str
    version: str
    services: tuple[str, ...]
    changes: tuple[Change, ...]
    removals: tuple[Change, ...]
    checked: int
    conflicts: tuple[tuple[str, str, str], ...] = ()
    """(object, manager, field) of fields that others own; taken over because we were told to."""
    dangers: tuple[str, ...] = ()
    removal_dangers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    without_chart: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether the cluster is as declared."""
        return not (self.changes or self.removals)

    def of(self, service: str) -> tuple[Change, ...]:
        """A service's changes."""
        return tuple(change for change in self.changes if change.manifest.service == service)

    def sentence(self) -> str:
        """The plan in one line."""
        everything = (*self.changes, *self.removals)
        counts: dict[Act, int] = {
            act: sum(change.act == act for change in everything) for act in _WORDS
        }
        told = [f"{count} {_WORDS[act]}" for act, count in counts.items() if count]
        return f"overlay {self.overlay}: " + (
            f"{', '.join(told)} of {self.checked} objects"
            if told
            else f"nothing to do, all {self.checked} objects are as declared"
        )

    def describe(self) -> str:
        """The plan as a person reads it."""
        lines = [f"{self.server} (Kubernetes {self.version})", self.sentence()]
        for service in self.services:
            changes = [*self.of(service)]
            changes += [gone for gone in self.removals if gone.manifest.service == service]
            if changes:
                lines.append(f"{service}:")
                lines.extend(line for change in changes for line in change.lines())
        restarted = [
            f"{change.manifest.label}"
            + (f" ({change.live_replicas} pods)" if change.live_replicas is not None else "")
            for change in self.changes
            if change.restarts
        ]
        lines.extend(_section("Restarts", restarted))
        lines.extend(_section("Dangerous", self.dangers))
        lines.extend(_section("No longer declared (kept unless --prune)", self.removal_dangers))
        taken = [f"{name}: {manager} owns {field}" for name, manager, field in self.conflicts]
        lines.extend(_section("Taken over from others", taken))
        lines.extend(_section("To know", self.notes))
        lines.extend(_section("Without their charts, so not planned", self.without_chart))
        return "\n".join(lines)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}:", *(f"  {line}" for line in lines)] if lines else []
