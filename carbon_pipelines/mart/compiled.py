"""The SQL that dbt makes of every model, kept until the project changes.

What belongs here: compiling for the embedded engine, which needs no service, and the file that
keeps what came of it. What does not: what the SQL says (``lineage.py``).
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

from carbon_pipelines.errors import MartCompileError
from carbon_pipelines.mart.dbt_run import run_dbt
from carbon_pipelines.mart.project import TARGET_VARIABLE, TARGETS

_WRITTEN_BY_DBT = frozenset({"target", "logs", "dbt_packages"})


def load_compiled(project: Path, cache: Path) -> Mapping[str, str]:
    """SQL of each model by its relation, ``schema.name``.

    Starting dbt takes seconds, so what it said of the same files is kept below ``cache``.

    Raises:
        MartCompileError: dbt does not compile the project.
    """
    kept = cache / "dbt" / f"{project_digest(project)}-{_versions()}.json"
    try:
        return json.loads(kept.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        models = compile_models(project)
    kept.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: another process may read it meanwhile.
    with NamedTemporaryFile("w", dir=kept.parent, delete=False, encoding="utf-8") as file:
        json.dump(models, file, indent=1, sort_keys=True)
    Path(file.name).replace(kept)
    return models


def compile_models(project: Path) -> dict[str, str]:
    """Have dbt compile every model.

    Raises:
        MartCompileError: It does not.
    """
    environ = {"CARBON_MART_CERTIFIED": "{}", TARGET_VARIABLE: TARGETS[0]}
    with TemporaryDirectory(prefix="carbon-mart-") as work:
        command = ["compile", "--no-introspect"]
        run = run_dbt(command, project=project, work=Path(work), environ=environ)
        manifest = Path(work) / "target" / "manifest.json"
        if run.exit_code != 0 or not manifest.exists():
            raise MartCompileError(project, run.said or "dbt said nothing")
        nodes = json.loads(manifest.read_text(encoding="utf-8"))["nodes"].values()
    return {
        f"{node['schema']}.{node['alias']}": node["compiled_code"]
        for node in nodes
        if node["resource_type"] == "model"
    }


def project_digest(project: Path) -> str:
    """What a dbt project's files say, as 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in sorted(project.rglob("*")):
        place = file.relative_to(project)
        if file.is_file() and not _WRITTEN_BY_DBT & set(place.parts):
            digest.update(f"{place.as_posix()}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _versions() -> str:
    return "-".join(version(name) for name in ("dbt-core", "dbt-duckdb"))
