"""One object asked of the API server: what would become of it.

What belongs here: the question, and what each answer means. What does not: many objects
(``plan.py``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carbon_pipelines.cluster.api import APPLY, MANAGER, Cluster, Json, Kind
from carbon_pipelines.cluster.change import Change
from carbon_pipelines.cluster.diff import field_changes
from carbon_pipelines.cluster.manifest import Manifest
from carbon_pipelines.errors import ApiRefusalError

_WEBHOOK = re.compile(r'failed calling webhook "([^"]+)"')
_IMMUTABLE = re.compile(r"field is immutable|updates to statefulset spec|may not be changed")
_OWNER = re.compile(r'conflict with "([^"]+)"')
_ELSEWHERE = "default"
"""A namespace that every cluster has, to check an object whose own comes with the same plan."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What there is, what the plan brings, and whether fields of others are taken over."""

    namespaces: frozenset[str]
    coming: frozenset[str]
    defined: frozenset[tuple[str, str]]
    """(group, kind) of custom resources that the plan defines."""
    take_over: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says of one object; a change of None means it is as declared."""

    manifest: Manifest
    change: Change | None = None
    conflicts: tuple[tuple[str, str, str], ...] = ()
    refusal: str | None = None
    webhook: str | None = None

    @property
    def told(self) -> tuple[str, str, str]:
        """Service, object, and the server's words."""
        return (self.manifest.service, self.manifest.label, self.refusal or "")


def ask(cluster: Cluster, manifest: Manifest, surroundings: Surroundings) -> Answer:
    """Ask what would become of an object."""
    kind = cluster.kind(manifest.api_version, manifest.kind)
    if kind is None:
        note = "its kind comes with this plan, so it is checked then"
        return Answer(manifest, Change(manifest, "create", unchecked=note))
    namespace = manifest.namespace
    if kind.namespaced and namespace is None:
        return Answer(manifest, refusal="names no namespace, and its kind lives in one")
    if namespace and namespace not in surroundings.namespaces:
        if namespace not in surroundings.coming:
            return Answer(manifest, refusal=f"namespace {namespace} does not exist")
        return _ask_elsewhere(cluster, manifest, kind)
    live = cluster.get(kind.path(namespace, manifest.name))
    try:
        would_be = apply_object(cluster, manifest, dry_run=True, force=False)
    except ApiRefusalError as error:
        if error.code == 409 and error.causes:
            return _conflicting(cluster, manifest, live, error)
        return _refused(manifest, live, error)
    return Answer(manifest, _change(manifest, live, would_be))


def apply_object(
    cluster: Cluster,
    manifest: Manifest,
    *,
    dry_run: bool,
    force: bool,
    namespace: str | None = None,
) -> Json:
    """Server-side apply under our name; a field the schema does not know is refused.

    Raises:
        ApiRefusalError: The server refuses.
    """
    kind = cluster.kind(manifest.api_version, manifest.kind)
    if kind is None:
        message = f"the server knows no {manifest.kind} of {manifest.api_version}"
        raise ApiRefusalError(f"apply {manifest.label}", 404, "NotFound", message)
    body: Mapping[str, Any] = manifest.body
    if namespace is not None:
        body = {**body, "metadata": {**body["metadata"], "namespace": namespace}}
    query = {
        "fieldManager": MANAGER,
        "fieldValidation": "Strict",
        "force": str(force).lower(),
        **({"dryRun": "All"} if dry_run else {}),
    }
    path = kind.path(namespace or manifest.namespace, manifest.name)
    return cluster.request("PATCH", path, query=query, body=body, content_type=APPLY)


def _ask_elsewhere(cluster: Cluster, manifest: Manifest, kind: Kind) -> Answer:
    """Check the fields of an object whose namespace comes with the same plan."""
    note = f"namespace {manifest.namespace} comes with this plan"
    try:
        apply_object(cluster, manifest, dry_run=True, force=True, namespace=_ELSEWHERE)
    except ApiRefusalError as error:
        if error.code in {400, 422} or _WEBHOOK.search(error.message):
            return _refused(manifest, None, error)
        note += f"; {kind.name} is checked then"
    return Answer(manifest, Change(manifest, "create", unchecked=note))


def _conflicting(
    cluster: Cluster, manifest: Manifest, live: Json | None, error: ApiRefusalError
) -> Answer:
    conflicts = tuple(
        (manifest.label, owner[1], field.removeprefix("."))
        for reason, field, message in error.causes
        if reason == "FieldManagerConflict" and (owner := _OWNER.search(message))
    )
    try:
        would_be = apply_object(cluster, manifest, dry_run=True, force=True)
    except ApiRefusalError as refusal:
        return _refused(manifest, live, refusal)
    change = _change(manifest, live, would_be) or Change(manifest, "adopt")
    return Answer(manifest, change, conflicts)


def _refused(manifest: Manifest, live: Json | None, error: ApiRefusalError) -> Answer:
    if live is not None and manifest.kind == "Job" and _IMMUTABLE.search(error.message):
        fields = tuple(
            field
            for field in field_changes(live, {**live, "spec": manifest.body.get("spec", {})})
            if field.after is not None
        )
        return Answer(manifest, Change(manifest, "replace", fields))
    message = error.message
    if _IMMUTABLE.search(message):
        message += " (it would have to be deleted and created anew, which no plan does by itself)"
    webhook = _WEBHOOK.search(error.message)
    return Answer(manifest, refusal=message, webhook=webhook[1] if webhook else None)


def _change(manifest: Manifest, live: Json | None, would_be: Json) -> Change | None:
    if live is None:
        return Change(manifest, "create")
    fields = field_changes(live, would_be)
    replicas = live.get("spec", {}).get("replicas")
    if fields:
        return Change(manifest, "change", fields, live_replicas=replicas)
    ours = any(
        entry.get("manager") == MANAGER and entry.get("operation") == "Apply"
        for entry in live["metadata"].get("managedFields", ())
    )
    return None if ours else Change(manifest, "adopt")
