"""A Python of its own that has DataHub's client, made once and kept among the downloads.

What belongs here: making it, from the lock beside this file, by hash. What does not: running
anything in it. ``acryl-datahub`` brings 64 packages along, of which 25 are none of ours: see
``carbon_pipelines/serving/datahub/__init__.py``.

A new lock is written by ``uv pip compile requirements.txt --output-file requirements.lock
--universal --python-version 3.11 --no-strip-extras --no-annotate --generate-hashes
--no-emit-index-url``.
"""

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from carbon_pipelines.embedded.endpoints import cache_directory

LOCK = Path(__file__).parent / "requirements.lock"
REAL_MODELS = Path(__file__).parent / "real_models.py"
"""What is run in it; it cannot be imported without DataHub's client."""
_SETTINGS = Path(__file__).resolve().parents[3] / ".ci" / "environment.py"


def datahub_python() -> Path:
    """The interpreter; made anew when the lock or our Python is another."""
    what = LOCK.read_bytes() + sys.version.encode()
    name = f"datahub-{hashlib.sha256(what).hexdigest()[:12]}"
    directory = cache_directory(os.environ) / "environments" / name
    python, done = directory / "bin" / "python", directory / "installed"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(directory)])
            sync = [str(Path(sys.executable).parent / "uv"), "pip", "sync", "--python", str(python)]
            _run([*sync, "--require-hashes", "--quiet", str(LOCK)], env=_uv_environ())
            done.touch()
    return python


def _uv_environ() -> dict[str, str]:
    """pip's settings under the names that uv reads, as for our own environment."""
    spec = importlib.util.spec_from_file_location("ci_environment", _SETTINGS)
    assert spec is not None
    assert spec.loader is not None
    settings: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(settings)
    settings.PYTHON = Path(sys.executable)
    return settings.uv_environ()


def _run(command: list[str], *, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, env=env, check=True)
