"""Which cluster, and where its manifests are: variables CARBON_CLUSTER_*.

What belongs here: reading them, and opening what they name. What does not: what is done there.
"""

import getpass
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from carbon_pipelines.cluster.api import Cluster, connect
from carbon_pipelines.cluster.load import load_graph
from carbon_pipelines.cluster.overlay import load_overlay
from carbon_pipelines.cluster.render import Rendered, render
from carbon_pipelines.cluster.tools import find_tools


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """``deploy`` holds the manifests; a kubeconfig or context of None means the usual one."""

    deploy: Path
    kubeconfig: str | None = None
    context: str | None = None

    def open(self) -> Cluster:
        """Connect.

        Raises:
            NoClusterError: Nothing answers there.
            ClusterCredentialsError: It does not accept who we are.
            ClusterVersionError: It is of a version that the manifests are not for.
        """
        return connect(self.kubeconfig, self.context)

    def render(self, overlay: str, environ: Mapping[str, str], *, charts: bool = True) -> Rendered:
        """Render an overlay.

        Raises:
            ClusterError: The overlay is unknown, wrong, or cannot be rendered here.
        """
        graph, wanted = load_graph(self.deploy), load_overlay(self.deploy, overlay)
        return render(self.deploy, wanted, graph, find_tools(environ), charts=charts)


def cluster_settings(environ: Mapping[str, str]) -> ClusterSettings:
    """As the environment says."""
    return ClusterSettings(
        deploy_directory(environ),
        environ.get("CARBON_CLUSTER_KUBECONFIG") or None,
        environ.get("CARBON_CLUSTER_CONTEXT") or None,
    )


def deploy_directory(environ: Mapping[str, str]) -> Path:
    """CARBON_CLUSTER_DEPLOY, else ``deploy`` beside the package, else in this directory."""
    if told := environ.get("CARBON_CLUSTER_DEPLOY"):
        return Path(told)
    beside = Path(__file__).resolve().parent.parent.parent / "deploy"
    return beside if beside.is_dir() else Path("deploy")


def who() -> str:
    """Who we are, for others who want to change the same cluster meanwhile."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return f"{user} on {socket.gethostname()} (process {os.getpid()})"
