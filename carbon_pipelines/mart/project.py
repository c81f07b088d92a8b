"""What the dbt project says about its marts, read without dbt.

What belongs here: where the project is, and the facts that Dagster's graph shows of each mart:
what it reads, whose it is, its tests and columns. What does not: building (``build.py``).

dbt itself takes seconds to import and writes files when it parses. A mart's SQL names what it reads
in ``ref()`` and ``source()``, and its YAML the rest; a test holds this to what dbt makes of it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from carbon_pipelines.errors import (
    MartProjectError,
    MartProjectMissingError,
    SettingUnknownError,
    UnknownMartError,
)

DIRECTORY_VARIABLE = "CARBON_DBT_DIR"
TARGET_VARIABLE = "CARBON_MART_TARGET"
TARGETS = ("embedded", "cluster")
"""Targets of the dbt profile: DuckDB in this process's place, or Trino."""
NAMESPACE = "mart"
"""Iceberg namespace of what is published."""

_REF = re.compile(r"""\bref\(\s*['"](\w+)['"]\s*\)""")
_SOURCE = re.compile(r"""\bsource\(\s*['"](\w+)['"]\s*,\s*['"](\w+)['"]\s*\)""")
_COMMENT = re.compile(r"\{#.*?#\}|--[^\n]*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MartTest:
    """A test of a mart, under dbt's name; ``blocks`` unless dbt is only to warn."""

    name: str
    description: str
    blocks: bool


@dataclass(frozen=True, slots=True)
class Mart:
    """A model of ``models/marts``.

    Attributes:
        columns: Name to description.
        classifications: Of its columns that declare one.
        column_classes: The same, by column.
        sources: ``(database, table)`` of each table that it reads, through other models too.
    """

    name: str
    description: str
    owner: str
    columns: Mapping[str, str]
    classifications: frozenset[str]
    sources: tuple[tuple[str, str], ...]
    tests: tuple[MartTest, ...]
    column_classes: Mapping[str, str] = field(default_factory=dict[str, str])


def project_directory(environ: Mapping[str, str]) -> Path | None:
    """The dbt project: CARBON_DBT_DIR, else the checkout's, else what a wheel brings; or None.

    Raises:
        MartProjectMissingError: CARBON_DBT_DIR names none.
    """
    named = environ.get(DIRECTORY_VARIABLE)
    places = [Path(named).absolute()] if named else _usual_places()
    for place in places:
        if (place / "dbt_project.yml").is_file():
            return place
    if named:
        raise MartProjectMissingError(places)
    return None


def require_project(environ: Mapping[str, str]) -> Path:
    """The dbt project.

    Raises:
        MartProjectMissingError: There is none.
    """
    directory = project_directory(environ)
    if directory is None:
        raise MartProjectMissingError(_usual_places())
    return directory


def _usual_places() -> list[Path]:
    here = Path(__file__).resolve().parent
    return [here.parent.parent / "dbt", here / "dbt"]


def mart_target(environ: Mapping[str, str]) -> str:
    """The dbt target: CARBON_MART_TARGET, else ``embedded``.

    Raises:
        SettingUnknownError: It is none of ``TARGETS``.
    """
    target = environ.get(TARGET_VARIABLE) or TARGETS[0]
    if target not in TARGETS:
        raise SettingUnknownError(TARGET_VARIABLE, target, TARGETS)
    return target


def select_marts(marts: Sequence[Mart], names: Sequence[str]) -> tuple[Mart, ...]:
    """Marts of the given names, in the project's order; without names, all.

    Raises:
        UnknownMartError: A name is none of theirs.
    """
    known = [mart.name for mart in marts]
    for name in names:
        if name not in known:
            raise UnknownMartError(name, known)
    return tuple(mart for mart in marts if not names or mart.name in names)


def load_marts(directory: Path) -> tuple[Mart, ...]:
    """Every mart of a dbt project, by name.

    Raises:
        MartProjectError: A mart lacks its description, an owner, or the name of a test; or a model
            reads what is not there.
    """
    texts = {file.stem: (file, _without_comments(file)) for file in _files(directory, "models")}
    singular = [(file, _without_comments(file)) for file in sorted(directory.glob("tests/*.sql"))]
    described = dict(_described(directory))
    marts = [
        _mart(name, *described.get(name, (texts[name][0], {})), texts, singular)
        for name, (file, _) in texts.items()
        if file.parent.name == "marts"
    ]
    for file, text in singular:
        if len(_of_marts(text, texts)) != 1:
            reason = "a test has to look at exactly one mart, beside what that is made of"
            raise MartProjectError(file, reason)
    return tuple(sorted(marts, key=lambda mart: mart.name))


Texts = Mapping[str, tuple[Path, str]]


def _mart(
    name: str,
    file: Path,
    node: Mapping[str, Any],
    texts: Texts,
    singular: Sequence[tuple[Path, str]],
) -> Mart:
    owner = _meta(node).get("owner")
    if not node.get("description") or not isinstance(owner, str):
        reason = f"{name} needs a description and, as config.meta.owner, a team"
        raise MartProjectError(file, reason)
    columns = cast("list[dict[str, Any]]", node.get("columns") or [])
    declared = [*_tests(node, file), *(one for column in columns for one in _tests(column, file))]
    own = [
        MartTest(test.stem, _title(test), blocks=True)
        for test, text in singular
        if name in _of_marts(text, texts)
    ]
    classes = {
        str(column["name"]): str(_meta(column)["classification"])
        for column in columns
        if "classification" in _meta(column)
    }
    return Mart(
        name=name,
        description=" ".join(str(node["description"]).split()),
        owner=owner,
        columns={str(c["name"]): " ".join(str(c["description"]).split()) for c in columns},
        classifications=frozenset(classes.values()),
        column_classes=classes,
        sources=tuple(sorted(set(_sources(name, texts)))),
        tests=tuple(sorted((*declared, *own), key=lambda test: test.name)),
    )


def _tests(node: Mapping[str, Any], file: Path) -> Iterator[MartTest]:
    """Generic tests that a model or column declares."""
    for declared in node.get("data_tests") or []:
        [(kind, about)] = declared.items() if isinstance(declared, dict) else [(declared, {})]
        name = (about or {}).get("name")
        if name is None:
            reason = f'test {kind} of {node["name"]} needs a "name": its check is called so'
            raise MartProjectError(file, reason)
        blocks = (about.get("config") or {}).get("severity", "error") == "error"
        column = "" if "columns" in node else f" of {node['name']}"
        yield MartTest(str(name), f"dbt test {kind}{column}.", blocks=blocks)


def _title(test: Path) -> str:
    """What a singular test says first of itself."""
    first = test.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("--").strip() if first.startswith("--") else "A dbt test."


def _sources(name: str, texts: Texts) -> Iterator[tuple[str, str]]:
    """Tables that a model reads, through the models that it refers to."""
    file, text = texts[name]
    yield from _SOURCE.findall(text)
    for other in _REF.findall(text):
        if other not in texts:
            reason = f"refers to {other}, and there is no such model"
            raise MartProjectError(file, reason)
        yield from _sources(other, texts)


def _of_marts(text: str, texts: Texts) -> list[str]:
    """Marts that a test's text refers to."""
    refs = dict.fromkeys(_REF.findall(text))
    return [name for name in refs if name in texts and texts[name][0].parent.name == "marts"]


def _described(directory: Path) -> Iterator[tuple[str, tuple[Path, Mapping[str, Any]]]]:
    """What YAML says about models, by their names."""
    for file in sorted((directory / "models").rglob("*.yml")):
        try:
            document = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise MartProjectError(file, " ".join(str(error).split())) from error
        for node in document.get("models") or []:
            yield str(node["name"]), (file, node)


def _meta(node: Mapping[str, Any]) -> Mapping[str, Any]:
    return (node.get("config") or {}).get("meta") or {}


def _files(directory: Path, folder: str) -> list[Path]:
    return sorted((directory / folder).rglob("*.sql"))


def _without_comments(file: Path) -> str:
    return _COMMENT.sub("", file.read_text(encoding="utf-8"))
