"""What an overlay asks for: its kustomization and its charts, split by service.

What belongs here: rendering, and giving each object to its service. What does not: a cluster.

The kustomization of an overlay holds everything that is ours; a service made by a chart has a
``chart.yaml`` and ``values.yaml`` beside its ``service.yaml``, and an overlay may add
``values/<service>.yaml``. Charts are rendered and applied as all the rest is: helm installs nothing
here, so that one diff, one lock and one field manager hold for all. A chart's hooks become plain
objects; its tests are left out.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from carbon_pipelines.catalog.document import load_document
from carbon_pipelines.catalog.findings import as_problem
from carbon_pipelines.catalog.values import Declared, Name
from carbon_pipelines.cluster.graph import ServiceGraph
from carbon_pipelines.cluster.load import PLACES
from carbon_pipelines.cluster.manifest import PART_OF, SERVICE_LABEL, Manifest
from carbon_pipelines.cluster.overlay import OverlaySpec
from carbon_pipelines.cluster.service import Label
from carbon_pipelines.cluster.tools import Tools
from carbon_pipelines.errors import (
    ChartUnavailableError,
    DeclarationError,
    ObjectsMisfitError,
    RenderError,
)

FOUNDATION = "foundation"
"""Objects that all services stand on (namespaces, quotas, policies, rights) may have no service's
label; they are applied before every service."""

_SHARED = frozenset(
    [
        "Namespace",
        "CustomResourceDefinition",
        "PriorityClass",
        "StorageClass",
        "ResourceQuota",
        "LimitRange",
        "NetworkPolicy",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ]
)
_WITHOUT_NAMESPACE = frozenset(
    [
        "Namespace",
        "Node",
        "PersistentVolume",
        "StorageClass",
        "PriorityClass",
        "IngressClass",
        "APIService",
        "CustomResourceDefinition",
        "RuntimeClass",
        "CSIDriver",
        "VolumeSnapshotClass",
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ]
)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ChartSpec(Declared):
    """A chart by reference: ``chart.yaml`` beside ``service.yaml``."""

    repository: Name
    chart: Name
    version: Name
    release: Label
    namespace: Label


@dataclass(frozen=True, slots=True)
class Rendered:
    """All objects of an overlay, by service in the order to apply them."""

    overlay: str
    graph: ServiceGraph
    services: Mapping[str, tuple[Manifest, ...]]
    without_chart: tuple[str, ...] = ()
    """Services whose chart was not rendered because the caller said so."""

    @property
    def manifests(self) -> Iterator[Manifest]:
        """Every object, in the order to apply them."""
        return (manifest for manifests in self.services.values() for manifest in manifests)


def render(
    deploy: Path, overlay: OverlaySpec, graph: ServiceGraph, tools: Tools, *, charts: bool = True
) -> Rendered:
    """Render an overlay; ``charts=False`` leaves charts out and says of which services.

    Raises:
        RenderError: kubectl or helm cannot render.
        ChartUnavailableError: A chart is neither at hand nor can it be fetched.
        ObjectsMisfitError: An object belongs to no service of the overlay, or is there twice.
    """
    part = overlay.within(graph)
    directory = deploy / "overlays" / overlay.name
    text = tools.run("kubectl", ["kustomize", str(directory)], f"overlay {overlay.name}")
    found = [
        Manifest(_service_of(body), body) for body in parse_objects(text, f"overlay {overlay.name}")
    ]
    left_out: list[str] = []
    for name in overlay.services:
        folder = service_folder(deploy, name)
        if not (folder / "chart.yaml").exists():
            continue
        if charts:
            found.extend(_render_chart(name, folder, directory / "values", tools))
        else:
            left_out.append(name)
    _refuse_misfits(overlay, found)
    ordered = (FOUNDATION, *(name for wave in part.waves() for name in wave))
    by_service: dict[str, list[Manifest]] = {name: [] for name in ordered}
    for manifest in found:
        by_service[manifest.service].append(manifest)
    services = {
        name: tuple(sorted(manifests, key=lambda manifest: manifest.rank))
        for name, manifests in by_service.items()
        if manifests
    }
    return Rendered(overlay.name, part, services, tuple(left_out))


def service_folder(deploy: Path, name: str) -> Path:
    """Where a service's files lie."""
    return next(
        (deploy / place / name for place in PLACES if (deploy / place / name).is_dir()),
        deploy / PLACES[-1] / name,
    )


def load_chart(folder: Path) -> ChartSpec:
    """Read a service's ``chart.yaml``.

    Raises:
        DeclarationError: With every mistake of the file.
    """
    document = load_document(folder / "chart.yaml")
    try:
        return ChartSpec.model_validate(document.fields)
    except ValidationError as error:
        fields = sorted(ChartSpec.model_fields)
        problems = [as_problem(document, fields, detail) for detail in error.errors()]
        raise DeclarationError(sorted(problems, key=lambda found: found[1])) from error


def parse_objects(text: str, what: str) -> Iterator[Mapping[str, Any]]:
    """Objects of a YAML stream; items of a List one by one.

    Raises:
        RenderError: Something in it is no object.
    """
    try:
        for body in yaml.load_all(text, Loader=_LOADER):
            if body is None:
                continue
            if not isinstance(body, dict) or "kind" not in body or "apiVersion" not in body:
                raise RenderError(what, f"a document is no object: {str(body)[:200]}")
            if str(body["kind"]).endswith("List") and isinstance(body.get("items"), list):
                yield from cast("list[Mapping[str, Any]]", body["items"])
            else:
                yield cast("Mapping[str, Any]", body)
    except yaml.YAMLError as error:
        raise RenderError(what, str(error)) from error


def _service_of(body: Mapping[str, Any]) -> str:
    """The service whose label an object carries; else the foundation, if it is of a shared kind."""
    label = (body["metadata"].get("labels") or {}).get(SERVICE_LABEL)
    return str(label or (FOUNDATION if body["kind"] in _SHARED else ""))


def _render_chart(name: str, folder: Path, values: Path, tools: Tools) -> list[Manifest]:
    chart = load_chart(folder)
    arguments = ["template", chart.release, str(_chart_archive(name, chart, tools))]
    arguments += ["--namespace", chart.namespace, "--include-crds", "--skip-tests"]
    for path in (folder / "values.yaml", values / f"{name}.yaml"):
        if path.exists():
            arguments += ["--values", str(path)]
    what = f"chart {chart.chart} {chart.version} of {name}"
    bodies = list(parse_objects(tools.run("helm", arguments, what), what))
    cluster_wide = {
        body["spec"]["names"]["kind"]
        for body in bodies
        if body["kind"] == "CustomResourceDefinition" and body["spec"]["scope"] == "Cluster"
    }
    return [Manifest(name, _adopted(body, name, chart.namespace, cluster_wide)) for body in bodies]


def _chart_archive(name: str, chart: ChartSpec, tools: Tools) -> Path:
    """The chart from the directory of charts, fetched into it when it is not there."""
    if tools.charts is not None:
        archive = tools.charts / f"{chart.chart}-{chart.version}.tgz"
        if archive.exists():
            return archive
    told = f"{chart.chart} {chart.version} ({chart.repository})"
    if tools.charts is None:
        raise ChartUnavailableError(name, told, None, "no directory of charts is named")
    source = (
        [f"{chart.repository}/{chart.chart}"]
        if chart.repository.startswith("oci://")
        else [chart.chart, "--repo", chart.repository]
    )
    pull = ["pull", *source, "--version", chart.version, "--destination", str(tools.charts)]
    try:
        tools.run("helm", pull, told)
    except RenderError as error:
        said = (error.said.strip().splitlines() or ["helm pull failed"])[-1]
        raise ChartUnavailableError(name, told, tools.charts, said) from error
    return tools.charts / f"{chart.chart}-{chart.version}.tgz"


def _adopted(
    body: Mapping[str, Any], service: str, namespace: str, cluster_wide: set[str]
) -> Mapping[str, Any]:
    """A chart's object with our labels, and a namespace where its template wrote none."""
    metadata = {key: value for key, value in body["metadata"].items() if value is not None}
    metadata["labels"] = {
        **(metadata.get("labels") or {}),
        SERVICE_LABEL: service,
        PART_OF[0]: PART_OF[1],
    }
    kind = str(body["kind"])
    nowhere = kind in _WITHOUT_NAMESPACE | cluster_wide or (
        kind.startswith("Cluster") and kind != "Cluster"
    )
    if not nowhere:
        metadata.setdefault("namespace", namespace)
    return {**body, "metadata": metadata}


def _refuse_misfits(overlay: OverlaySpec, found: Iterable[Manifest]) -> None:
    mistakes: list[str] = []
    seen: dict[tuple[str, str, str, str], str] = {}
    known = {*overlay.services, FOUNDATION}
    for manifest in found:
        if manifest.service not in known:
            whose = f'label says "{manifest.service}"' if manifest.service else "has no label"
            mistakes.append(f"{manifest.label}: {whose}")
        if manifest.identity in seen:
            both = f"{seen[manifest.identity]} and {manifest.service}"
            mistakes.append(f"{manifest.label}: is there twice, in {both}")
        seen[manifest.identity] = manifest.service
    if mistakes:
        raise ObjectsMisfitError(overlay.name, mistakes)
