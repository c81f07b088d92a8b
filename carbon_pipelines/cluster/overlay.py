"""An overlay: which services a cluster holds, ``deploy/overlays/<overlay>/overlay.yaml``.

What belongs here: the file's fields, and whether its services can do without the rest. What does
not: rendering it (``render.py``).
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from carbon_pipelines.catalog.document import load_document
from carbon_pipelines.catalog.findings import as_problem
from carbon_pipelines.catalog.values import Declared, Name, Text
from carbon_pipelines.cluster.graph import ServiceGraph, service_graph
from carbon_pipelines.cluster.service import Label
from carbon_pipelines.errors import DeclarationError, OverlayMistakesError, UnknownOverlayError

OVERLAY_FILE = "overlay.yaml"


class BudgetSpec(Declared):
    """What all pods together may request, as Kubernetes writes quantities."""

    cpu: Name
    memory: Name
    storage: Name


class OverlaySpec(Declared):
    """One overlay; ``components`` are those of ``deploy/components`` that it uses."""

    name: Label
    title: Text
    services: Annotated[tuple[Label, ...], Field(min_length=1)]
    components: tuple[Name, ...] = ()
    budget: BudgetSpec | None = None

    def within(self, graph: ServiceGraph) -> ServiceGraph:
        """The part of the graph that the overlay holds, external services included.

        Raises:
            OverlayMistakesError: It lists what nobody declared, or a service lacks what it needs.
        """
        by_name = {service.name: service for service in graph.services}
        mistakes = [f'services: "{name}" is not declared' for name in self.services
                    if name not in by_name]  # fmt: skip
        outside = {name for name, service in by_name.items() if service.kind == "external"}
        held = {*self.services, *outside} & by_name.keys()
        mistakes += [
            f'services: {name} needs {need}, which is not among them: add "{need}"'
            for name in self.services
            if name in by_name
            for need in by_name[name].needs
            if need not in held
        ]
        if mistakes:
            raise OverlayMistakesError(self.name, mistakes)
        kept = [
            by_name[name].model_copy(
                update={
                    "uses": tuple(
                        use for use in by_name[name].uses if use.endpoint.split("/")[0] in held
                    )
                }
            )
            for name in sorted(held)
        ]
        return service_graph(kept)


def overlay_names(deploy: Path) -> list[str]:
    """Every overlay under ``deploy/overlays``."""
    return sorted(path.parent.name for path in (deploy / "overlays").glob(f"*/{OVERLAY_FILE}"))


def load_overlay(deploy: Path, name: str) -> OverlaySpec:
    """Read an overlay; its name is its directory's.

    Raises:
        UnknownOverlayError: There is none of that name.
        DeclarationError: Its file has mistakes.
    """
    known = overlay_names(deploy)
    if name not in known:
        raise UnknownOverlayError(name, deploy / "overlays", known=known)
    document = load_document(deploy / "overlays" / name / OVERLAY_FILE)
    try:
        return OverlaySpec.model_validate({"name": name, **document.fields})
    except ValidationError as error:
        fields = sorted(set(OverlaySpec.model_fields) - {"name"})
        problems = [as_problem(document, fields, detail) for detail in error.errors()]
        raise DeclarationError(sorted(problems, key=lambda found: found[1])) from error
