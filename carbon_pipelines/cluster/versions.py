"""``deploy/versions.yaml``: every image, chart and operator, by version and by whether it lives.

What belongs here: the fields, and reading them with file and line. What does not: which service
uses which (``service.py``), and the manifests.
"""

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ValidationError, model_validator

from carbon_pipelines.catalog.document import Document, load_document
from carbon_pipelines.catalog.findings import Problem, as_problem, unknown_field
from carbon_pipelines.catalog.values import Declared, Name, Text, mistake
from carbon_pipelines.errors import DeclarationError

VERSIONS_FILE = "versions.yaml"
_UNKNOWN = "unknown"


def _digest(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"sha256:[0-9a-f]{64}|unknown", value):
        return value
    reason = "must be sha256: and 64 hex digits as a registry gave it, or unknown"
    raise mistake(reason)


def _day(value: object) -> object:
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        reason = "must be a day, like 2026-03-31"
        raise mistake(reason) from None


Digest = Annotated[str, BeforeValidator(_digest)]
Day = Annotated[date, BeforeValidator(_day)]


class EndedSpec(Declared):
    """Why something that has ended is listed, and what takes its place."""

    since: Day
    reason: Text
    replacement: Text


class ComponentSpec(Declared):
    """One image, chart or package.

    ``version`` is an image's tag; ``none`` where nothing of it is used. ``licence`` is an SPDX
    identifier; ``seen`` says where the version was read.
    """

    kind: Literal["image", "chart", "package"]
    name: Name
    version: Name
    repository: Name | None = None
    digest: Digest | None = None
    licence: Name
    status: Literal["alive", "ended"]
    seen: Text
    ended: EndedSpec | None = None

    @property
    def reference(self) -> str:
        """How a manifest names an image: with its digest, where that is known."""
        known = self.digest is not None and self.digest != _UNKNOWN
        return f"{self.name}:{self.version}" + (f"@{self.digest}" if known else "")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.status == "ended") != (self.ended is not None):
            reason = "what ended says since when, why it is here and what replaces it (ended)"
            raise mistake(reason, ("status",))
        if (self.kind == "image") != (self.digest is not None):
            reason = "is what images have, and only they: a digest, or unknown"
            raise mistake(reason, ("digest",) if self.digest is not None else ())
        if (self.kind == "chart") != (self.repository is not None):
            reason = "is what charts have, and only they"
            raise mistake(reason, ("repository",) if self.repository is not None else ())
        if self.kind == "image" and re.fullmatch(r"(.*-)?latest", self.version):
            reason = "must be a version; latest is another one tomorrow"
            raise mistake(reason, ("version",))
        return self


def load_versions(deploy: Path) -> Mapping[str, ComponentSpec]:
    """All components by name.

    Raises:
        DeclarationError: With every mistake of the file.
    """
    document = load_document(deploy / VERSIONS_FILE)
    problems: list[Problem] = [
        (document.path, document.line((field,)), unknown_field(field, ["components"]))
        for field in document.fields
        if field != "components"
    ]
    listed = document.fields.get("components")
    if not isinstance(listed, dict):
        reason = '"components" is missing; it holds one entry for each image, chart and package'
        raise DeclarationError([*problems, (document.path, 1, reason)])
    found: dict[str, ComponentSpec] = {}
    for name, fields in listed.items():
        try:
            found[name] = ComponentSpec.model_validate(fields)
        except ValidationError as error:
            problems.extend(_problems(document, name, error))
    if problems:
        raise DeclarationError(sorted(problems, key=lambda problem: problem[1]))
    return found


def _problems(document: Document, name: str, error: ValidationError) -> list[Problem]:
    """Findings about one entry, at the lines of the whole file."""
    known = sorted(ComponentSpec.model_fields)
    place = ("components", name)
    inside = {loc[2:]: line for loc, line in document.lines.items() if loc[:2] == place}
    part = Document(document.path, {}, inside)
    return [
        (path, line, f"{name}: {reason}")
        for path, line, reason in (as_problem(part, known, detail) for detail in error.errors())
    ]
