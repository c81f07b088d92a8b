"""Which cluster, and what renders its manifests, as Dagster resources.

What belongs here: addresses and paths that may be shown, and what is open during one run. What does
not: credentials; those are in the kubeconfig, or the pod's own token.
"""

import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import PrivateAttr

if TYPE_CHECKING:
    from carbon_pipelines.cluster.api import Cluster
    from carbon_pipelines.cluster.lock import Lock
    from carbon_pipelines.cluster.render import Rendered
    from carbon_pipelines.cluster.tools import Tools


class KubernetesResource(dg.ConfigurableResource):
    """One cluster; None is the usual kubeconfig, or the pod's own token.

    A run opens one connection, and takes the cluster's lock once, until it ends: with it, what one
    run does between two steps is seen by nobody else.
    """

    kubeconfig: str | None = None
    context: str | None = None

    _opened: "Cluster | None" = PrivateAttr(default=None)
    _lock: "Lock | None" = PrivateAttr(default=None)
    _stack: ExitStack = PrivateAttr(default_factory=ExitStack)

    @contextmanager
    def yield_for_execution(
        self,
        context: dg.InitResourceContext,  # noqa: ARG002
    ) -> Generator["KubernetesResource"]:
        """What is taken during a run is given back at its end."""
        with ExitStack() as stack:
            self._stack = stack
            yield self
            self._opened, self._lock = None, None

    def cluster(self) -> "Cluster":
        """The connection of this run.

        Raises:
            NoClusterError: Nothing answers there.
            ClusterCredentialsError: It does not accept who we are.
        """
        if self._opened is None:
            from carbon_pipelines.cluster.api import connect

            self._opened = connect(self.kubeconfig, self.context)
        return self._opened

    def lock(self, run_id: str, overlay: str, *, change_overlay: bool = False) -> "Lock":
        """The cluster's lock, held until the run ends.

        Raises:
            ProvisionLockedError: Somebody else holds it.
            OverlayMismatchError: The cluster was provisioned from another overlay.
        """
        if self._lock is None:
            from carbon_pipelines.cluster.lock import locked

            holder = f"Dagster run {run_id}"
            opened = locked(self.cluster(), holder, overlay, change_overlay=change_overlay)
            self._lock = self._stack.enter_context(opened)
        return self._lock


class HelmResource(dg.ConfigurableResource):
    """kubectl and helm, which render; None: those of the PATH. ``charts`` holds fetched charts."""

    kubectl: str | None = None
    helm: str | None = None
    charts: str | None = None
    deploy: str

    _rendered: dict[tuple[str, bool], "Rendered"] = PrivateAttr(default_factory=dict)

    def tools(self) -> "Tools":
        """The programs.

        Raises:
            ToolMissingError: One is missing or too old.
        """
        from carbon_pipelines.cluster.tools import find_tools

        told = {
            f"CARBON_CLUSTER_{field.upper()}": value
            for field in ("kubectl", "helm", "charts")
            if (value := getattr(self, field)) is not None
        }
        return find_tools({**os.environ, **told})

    def rendered(self, overlay: str, *, charts: bool = True) -> "Rendered":
        """An overlay's objects; rendered once in a process.

        Raises:
            ClusterError: The overlay is unknown or cannot be rendered.
        """
        if (overlay, charts) not in self._rendered:
            from carbon_pipelines.cluster.load import load_graph
            from carbon_pipelines.cluster.overlay import load_overlay
            from carbon_pipelines.cluster.render import render

            deploy = Path(self.deploy)
            self._rendered[overlay, charts] = render(
                deploy, load_overlay(deploy, overlay), load_graph(deploy), self.tools(),
                charts=charts,
            )  # fmt: skip
        return self._rendered[overlay, charts]
