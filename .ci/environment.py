"""Make ``.venv`` agree with ``requirements.lock``; with ``--lock``, make the lock anew.

What belongs here: everything between a bare Python and an environment that runs the project. It is
run by that bare Python, so it imports only the standard library, and of the project the one module
that does likewise. What does not: the rest of the project.

Every package is installed by hash. pip installs the pinned uv, uv installs the rest several times
faster. uv does not read pip's settings, so index, certificates and timeouts that pip
knows (PIP_* variables, pip.conf) are handed to it.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from carbon_pipelines.embedded.pip_settings import uv_environ  # noqa: E402  found by the line above

ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
UV = ENVIRONMENT / "bin" / "uv"
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
INSTALLED = ENVIRONMENT / "installed.sha256"
LINKED = ENVIRONMENT / "linked.sha256"


def main(arguments: list[str]) -> None:
    """Bring the environment up to date, then resolve the lock if asked to."""
    if arguments not in ([], ["--lock"]):
        sys.exit(f"unknown arguments {arguments}: give none, or --lock")
    ensure_environment()
    if arguments == ["--lock"]:
        resolve_lock()
        ensure_environment()


def ensure_environment() -> None:
    """Install what the lock says if it changed, and link the project if its settings changed."""
    wanted = fingerprint(LOCK.read_bytes(), sys.version.encode())
    if read(INSTALLED) != wanted or not PYTHON.exists():
        began = time.monotonic()
        say(f"environment: {LOCK.name} is new here; installs it into {ENVIRONMENT.name}")
        INSTALLED.unlink(missing_ok=True)
        LINKED.unlink(missing_ok=True)
        create()
        install_uv()
        sync = [UV, "pip", "sync", "--python", PYTHON, "--require-hashes", *bytecode(os.environ)]
        run([*sync, LOCK], env=uv_environ(PYTHON, ROOT))
        INSTALLED.write_text(wanted, encoding="ascii")
        say(f"environment: ready after {(time.monotonic() - began) / 60:.1f} minutes")
    linked = fingerprint(PROJECT.read_bytes(), str(ROOT).encode())
    if read(LINKED) != linked:
        link = [UV, "pip", "install", "--python", PYTHON, "--no-deps", "--no-build-isolation"]
        run([*link, "--quiet", "--editable", ROOT], env=uv_environ(PYTHON, ROOT))
        LINKED.write_text(linked, encoding="ascii")


def bytecode(environ: Mapping[str, str]) -> list[str]:
    """Have packages compiled where Python may not do so itself: each process would, every time."""
    return ["--compile-bytecode"] if environ.get("PYTHONDONTWRITEBYTECODE") else []


def create() -> None:
    """Make the virtual environment; one made by another Python is made anew."""
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=False, cwd=ROOT
    )
    if made.returncode != 0:
        sys.exit(
            f"{sys.executable} cannot make a virtual environment. On Debian: "
            "apt-get install python3-venv. Then run the same command again."
        )


def install_uv() -> None:
    """Install the uv that the lock names, by its hashes."""
    found = re.search(r"^uv==(.*\\\n)*.*$", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if found is None:
        sys.exit(f"{LOCK} names no uv: restore the file from the repository")
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as only_uv:
        only_uv.write(found.group(0) + "\n")
        only_uv.flush()
        pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        run([*pip, "--require-hashes", "--no-deps", "-r", only_uv.name])


def resolve_lock() -> None:
    """Write the newest versions that pyproject.toml allows, with hashes and no index address."""
    compile_lock = [
        UV,
        "pip",
        "compile",
        PROJECT.name,
        "--group",
        "dev",
        "--output-file",
        LOCK.name,
    ]
    shape = ["--universal", "--python-version", "3.11", "--no-strip-extras", "--no-annotate"]
    content = ["--generate-hashes", "--no-emit-index-url", "--custom-compile-command", "make lock"]
    run([*compile_lock, *shape, *content, "--quiet", "--upgrade"], env=uv_environ(PYTHON, ROOT))


def run(command: list[str | Path], *, env: dict[str, str] | None = None) -> None:
    """Run a step; its own words explain a failure."""
    ended = subprocess.run([str(word) for word in command], env=env, check=False, cwd=ROOT)
    if ended.returncode != 0:
        sys.exit(f"environment: {Path(command[0]).name} {command[1]} failed, see above")


def fingerprint(*contents: bytes) -> str:
    """SHA-256 over contents, in hexadecimal."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def read(path: Path) -> str | None:
    """Text of a file, or None when there is none."""
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def say(line: str) -> None:
    """Tell the person who waits."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
