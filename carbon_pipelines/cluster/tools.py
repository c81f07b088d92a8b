"""kubectl and helm, the programs that render manifests.

What belongs here: finding them, whether they are new enough, and running them. What does not: what
is rendered (``render.py``). Nothing here talks to a cluster.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from carbon_pipelines.errors import RenderError, ToolMissingError

_OLDEST = {"kubectl": (1, 30), "helm": (3, 14)}
"""kubectl before 1.30 has a kustomize that renders ``labels`` otherwise; helm before 3.14 cannot
leave a chart's schema unchecked, and some fetch theirs from the internet."""

_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the programs are, and a directory with charts that need not be fetched."""

    kubectl: str
    helm: str
    charts: Path | None = None

    def run(self, tool: str, arguments: Sequence[str], what: str) -> str:
        """What a program prints; it gets no kubeconfig, because rendering needs no cluster.

        Raises:
            RenderError: It failed; its last words are told.
        """
        command = [self.kubectl if tool == "kubectl" else self.helm, *arguments]
        try:
            ended = subprocess.run(
                command,
                text=True,
                check=False,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise RenderError(what, f"{tool} did not end within {_SECONDS} s") from error
        if ended.returncode != 0:
            raise RenderError(what, ended.stderr or ended.stdout)
        return ended.stdout


def find_tools(environ: Mapping[str, str]) -> Tools:
    """The programs of the PATH, or those named by CARBON_CLUSTER_KUBECTL and _HELM.

    Raises:
        ToolMissingError: One is missing or too old.
    """
    charts = environ.get("CARBON_CLUSTER_CHARTS")
    return Tools(
        kubectl=_found("kubectl", environ),
        helm=_found("helm", environ),
        charts=Path(charts) if charts else None,
    )


def _found(tool: str, environ: Mapping[str, str]) -> str:
    told = environ.get(f"CARBON_CLUSTER_{tool.upper()}")
    path = told or shutil.which(tool, path=environ.get("PATH"))
    if path is None:
        raise ToolMissingError(tool, "it is not on the PATH")
    version = (
        [path, "version", "--client", "--output=json"]
        if tool == "kubectl"
        else [path, "version", "--template={{.Version}}"]
    )
    try:
        said = subprocess.run(
            version, text=True, check=False, capture_output=True, timeout=30
        ).stdout.strip()
    except OSError as error:
        raise ToolMissingError(tool, f"{path} does not run: {error.strerror}") from error
    if tool == "kubectl":
        said = str(json.loads(said or "{}").get("clientVersion", {}).get("gitVersion", ""))
    number = re.match(r"v(\d+)\.(\d+)", said)
    if number is None:
        raise ToolMissingError(tool, f"{path} does not tell its version")
    if (int(number[1]), int(number[2])) < _OLDEST[tool]:
        oldest = ".".join(map(str, _OLDEST[tool]))
        raise ToolMissingError(tool, f"{path} is {said}; {oldest} or newer is needed")
    return path
