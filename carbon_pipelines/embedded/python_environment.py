"""A Python environment of its own for what cannot share ours.

What belongs here: naming one by what it is made of, and making it by hash. What does not: what
runs in it, and when it counts as made (its user writes a marker last).
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from carbon_pipelines.embedded.pip_settings import uv_environ


def environment_name(program: str, lock: str) -> str:
    """``<program>-<12 hexadecimal digits>``: of the lock and this Python."""
    return f"{program}-{hashlib.sha256(lock.encode() + sys.version.encode()).hexdigest()[:12]}"


def make_environment(target: Path, lock: str) -> None:
    """Make ``target`` hold exactly what ``lock`` names; what is there is made anew.

    Raises:
        CalledProcessError: uv cannot; what it said is in ``stderr`` and ``stdout``.
    """
    from uv import find_uv_bin

    uv, environ = find_uv_bin(), uv_environ(Path(sys.executable))
    python = target / "bin" / "python"
    requirements = target / "requirements.lock"
    make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(target)]
    sync = [uv, "pip", "sync", "--quiet", "--python", str(python), "--require-hashes"]

    def run(command: list[str]) -> None:
        subprocess.run(
            command, check=True, capture_output=True, text=True, env=environ, cwd=target.parent
        )

    run(make)
    requirements.write_text(lock, encoding="utf-8")
    run([*sync, str(requirements)])
