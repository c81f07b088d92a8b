"""Where pip gets packages from, under the names that uv reads.

What belongs here: that translation. What does not: installing anything. ``.ci/environment.py``
imports this by a bare Python before any package is there, so it imports only the standard library.
"""

import os
import subprocess
from pathlib import Path

# pip's name of a setting, and the variable uv reads it from.
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}


def uv_environ(python: Path, directory: Path | None = None) -> dict[str, str]:
    """Our environment, and the settings of ``python``'s pip, asked in ``directory``."""
    environ = dict(os.environ)
    for name, value in load_pip_settings(python, directory).items():
        variable = UV_VARIABLES.get(name)
        if variable is None or variable in environ:
            continue
        places = value.split()
        if name == "find-links":  # pip passes over a directory that is not there, uv stops
            places = [place for place in places if "://" in place or Path(place).exists()]
        if places:
            environ[variable] = ("," if name == "find-links" else " ").join(places)
    environ.setdefault("UV_SYSTEM_CERTS", "1")
    environ.pop("VIRTUAL_ENV", None)
    return environ


def load_pip_settings(python: Path, directory: Path | None = None) -> dict[str, str]:
    """Settings of pip by name; those of PIP_* variables win over those of files."""
    listed = subprocess.run(
        [str(python), "-m", "pip", "config", "list"],
        check=True,
        capture_output=True,
        text=True,
        cwd=directory,
    ).stdout
    by_rank: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        key, _, quoted = line.partition("=")
        section, _, name = key.partition(".")
        if section in by_rank:
            by_rank[section][name] = quoted.strip().strip("'\"").replace("\\n", " ")
    return {**by_rank["global"], **by_rank["install"], **by_rank[":env:"]}
