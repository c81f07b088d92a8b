"""Superset's own Python environment, kept in the cache directory.

What belongs here: installing what the lock names, by hash, and an empty metadata database of that
version. What does not: running it (``superset.py``).

Superset wants versions that the project cannot have, so the two never share an environment. It is
named by what it is made of: the lock and the Python. A marker is written last; without it, what is
there is made anew. Migrating an empty metadata database takes longer than installing, so it is done
once and copied into each stack; nothing in it is secret, and it has no user.
"""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from carbon_pipelines.embedded.downloads import locked
from carbon_pipelines.embedded.process import bare_environment
from carbon_pipelines.embedded.python_environment import environment_name, make_environment
from carbon_pipelines.embedded.state import Report
from carbon_pipelines.errors import SupersetInstallError

_MIGRATE = """\
from superset.cli.main import superset

for command in (["db", "upgrade"], ["init"]):
    superset(command, standalone_mode=False)
"""
"""Python text: both of Superset's commands in one process, for loading it takes longer."""

_EMPTY_CONFIG = """\
SECRET_KEY = "of a database without secrets, which is replaced by that of each stack"
SQLALCHEMY_DATABASE_URI = "sqlite:///{database}"
"""


def environment_directory(cache: Path) -> Path:
    """Where the environment of this lock and this Python is, or will be."""
    return cache / environment_name("superset", _lock())


def superset_python(cache: Path) -> Path:
    """Its interpreter."""
    return environment_directory(cache) / "bin" / "python"


def empty_database(cache: Path) -> Path:
    """A metadata database of this version, migrated, with roles and no user."""
    return environment_directory(cache) / "metadata.db"


def ensure_superset(cache: Path, report: Report) -> Path:
    """Directory of the environment, from the cache or installed into it.

    Raises:
        SupersetInstallError: It cannot be installed.
    """
    target = environment_directory(cache)
    marker = target / "installed"
    if marker.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / ".superset.lock"):
        if not marker.exists():
            _install(target, report)
            report("superset: makes its metadata database, once")
            _migrate_empty(target)
            marker.touch()
    return target


def migrate(python: Path, config: Path, directory: Path) -> None:
    """Bring a metadata database to this version, and its roles.

    Args:
        python: Superset's.
        config: ``superset_config.py`` that names the database.
        directory: Where it runs.

    Raises:
        SupersetInstallError: It fails.
    """
    environ = {**bare_environment(), **run_variables(config, directory)}
    _run((str(python), "-c", _MIGRATE), environ, directory)


def run_variables(config: Path, directory: Path) -> dict[str, str]:
    """What Superset reads from its environment."""
    return {
        "FLASK_APP": "superset.app:create_app()",
        "HOME": str(directory),
        "SUPERSET_CONFIG_PATH": str(config),
        "SUPERSET_HOME": str(directory),
    }


def _install(target: Path, report: Report) -> None:
    shutil.rmtree(target, ignore_errors=True)
    report(f"superset: installs apache-superset into {target} (about 700 MB)")
    with _refusals_told():
        make_environment(target, _lock())


def _migrate_empty(target: Path) -> None:
    work = target / "first"
    work.mkdir()
    config = work / "superset_config.py"
    database = target / "metadata.db"
    config.write_text(_EMPTY_CONFIG.format(database=database), encoding="utf-8")
    migrate(target / "bin" / "python", config, work)
    shutil.rmtree(work)


def _run(command: tuple[str, ...], environ: Mapping[str, str], directory: Path) -> None:
    with _refusals_told():
        subprocess.run(
            command, check=True, capture_output=True, text=True, env=dict(environ), cwd=directory
        )


@contextmanager
def _refusals_told() -> Iterator[None]:
    """The end of what a command said that failed, as an error of ours."""
    try:
        yield
    except subprocess.CalledProcessError as error:
        said = str(error.stderr or error.stdout).strip().splitlines()[-6:]
        name = Path(error.cmd[0]).name
        raise SupersetInstallError(name, " / ".join(said)[-1500:]) from error


def _lock() -> str:
    package = files("carbon_pipelines.embedded")
    return (package / "superset_requirements.lock").read_text(encoding="utf-8")
