"""A Python of its own that has DataHub's client, made once and kept among the downloads.

What belongs here: making it, from the lock beside this file, by hash. What does not: running
anything in it. ``acryl-datahub`` brings 64 packages along, of which 25 are none of ours: see
``carbon_pipelines/serving/datahub/__init__.py``.

A new lock is written by ``uv pip compile requirements.txt --output-file requirements.lock
--universal --python-version 3.11 --no-strip-extras --no-annotate --generate-hashes
--no-emit-index-url``.
"""

import os
from pathlib import Path

from carbon_pipelines.embedded.downloads import locked
from carbon_pipelines.embedded.endpoints import cache_directory
from carbon_pipelines.embedded.python_environment import environment_name, make_environment

LOCK = Path(__file__).parent / "requirements.lock"
REAL_MODELS = Path(__file__).parent / "real_models.py"
"""What is run in it; it cannot be imported without DataHub's client."""


def datahub_python() -> Path:
    """The interpreter; made anew when the lock or our Python is another."""
    lock = LOCK.read_text(encoding="utf-8")
    directory = cache_directory(os.environ) / "environments" / environment_name("datahub", lock)
    done = directory / "installed"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(directory.with_name(f"{directory.name}.lock")):
        if not done.exists():
            make_environment(directory, lock)
            done.touch()
    return directory / "bin" / "python"
