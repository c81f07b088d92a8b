"""Running dbt as a process of its own, and what it says came of it.

What belongs here: the command, its surroundings, and its results file. What does not: what to build
and what follows (``build.py``).

A process of its own, because dbt keeps global state and its adapters' settings in the environment;
none of ours changes. Nothing is downloaded and nothing told to anybody.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DBT = (sys.executable, "-c", "from dbt.cli.main import cli; cli()")
LAST_LINES = 20
_PUBLISHED = re.compile(r"published mart\.(\w+)$", re.MULTILINE)
_PASSED = frozenset({"success", "pass", "warn"})


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What became of one model, test or hook.

    Attributes:
        kind: ``model``, ``test``, ``unit_test`` or ``operation`` (a hook).
        status: dbt's word: success, pass, warn, fail, error, skipped.
        failures: Rows that a test selected; None if it was not asked.
    """

    kind: str
    name: str
    status: str
    message: str
    failures: int | None

    @property
    def passed(self) -> bool:
        """Whether nothing stands against going on."""
        return self.status in _PASSED


@dataclass(frozen=True, slots=True)
class DbtRun:
    """What became of each node, which marts were published at the end, and dbt's last words.

    The results file says nothing of a hook that fails, so what it said on the way is read.
    """

    exit_code: int
    nodes: tuple[NodeResult, ...]
    published: frozenset[str]
    said: str


def run_dbt(
    arguments: Sequence[str], *, project: Path, work: Path, environ: Mapping[str, str]
) -> DbtRun:
    """Run one dbt command in ``project``; what it writes goes below ``work``.

    Args:
        arguments: Of dbt.
        project: The directory of dbt_project.yml and profiles.yml, only read.
        work: An existing directory for its target and logs.
        environ: What it finds beside our own environment.
    """
    target = work / "target"
    settings = {
        "DBT_PROJECT_DIR": str(project),
        "DBT_PROFILES_DIR": str(project),
        "DBT_TARGET_PATH": str(target),
        "DBT_LOG_PATH": str(work / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_USE_COLORS": "false",
        "DBT_LOG_LEVEL_FILE": "none",
        "DO_NOT_TRACK": "1",
    }
    done = subprocess.run(
        [*DBT, *arguments],
        env={**os.environ, **settings, **environ},
        cwd=work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return DbtRun(
        done.returncode,
        load_results(target / "run_results.json"),
        frozenset(_PUBLISHED.findall(done.stdout)),
        last_words(done.stdout),
    )


def last_words(output: str) -> str:
    """The error that ended dbt, else its last lines."""
    _, _, error = output.rpartition("Encountered an error:\n")
    return " ".join("\n".join(error.strip().splitlines()[-LAST_LINES:]).split())


def load_results(file: Path) -> tuple[NodeResult, ...]:
    """Read ``run_results.json``; nothing if dbt did not come so far."""
    if not file.exists():
        return ()
    document = json.loads(file.read_text(encoding="utf-8"))
    return tuple(_node(result) for result in document["results"])


def _node(result: Mapping[str, Any]) -> NodeResult:
    kind, _, name = str(result["unique_id"]).split(".", 2)
    # A generic test's id ends with a digest of what it is about.
    name = name.partition(".")[0] if kind == "test" else name
    # The rest names a file of a directory that is gone by the time somebody reads this.
    said, _, _ = str(result.get("message") or "").partition("compiled code at ")
    message = " ".join(said.split())
    return NodeResult(kind, name, str(result["status"]), message, result.get("failures"))
