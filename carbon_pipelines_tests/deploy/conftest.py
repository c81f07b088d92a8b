"""A real control plane for the tests of this directory, and provisioning on it.

What belongs here: fixtures. What does not: starting the processes (``control_plane.py``).
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from carbon_pipelines.cluster.api import Cluster, connect
from carbon_pipelines.cluster.change import Plan
from carbon_pipelines.cluster.load import load_graph
from carbon_pipelines.cluster.lock import Lock, acquire, locked, release
from carbon_pipelines.cluster.overlay import load_overlay
from carbon_pipelines.cluster.provision import Consent, plan_overlay, provision
from carbon_pipelines.cluster.render import Rendered, render
from carbon_pipelines.cluster.tools import Tools
from carbon_pipelines.cluster.wait import Patience
from carbon_pipelines_tests.deploy.cleaning import empty_again
from carbon_pipelines_tests.deploy.control_plane import ControlPlane, control_plane
from carbon_pipelines_tests.deploy.operators import stand_in_operators
from carbon_pipelines_tests.deploy.programs import Programs, ensure_programs, say_aloud

SMALL = Path(__file__).parent / "small"
QUICK = Patience(deadline=timedelta(seconds=40), stuck=timedelta(seconds=2))
"""Enough for pods that become ready at once on a busy machine; failures are told after 2 s."""


@pytest.fixture(scope="session")
def programs() -> Programs:
    """Programs of a control plane; building them takes minutes, once on a machine."""
    return ensure_programs(os.environ, say_aloud)


@pytest.fixture(scope="session")
def plane(programs: Programs) -> Iterator[ControlPlane]:
    """A control plane, up for the session."""
    with control_plane(programs) as started:
        yield started


@pytest.fixture(scope="session")
def cluster(plane: ControlPlane) -> Iterator[Cluster]:
    """A connection to it, as its administrator; custom resources get their Ready condition."""
    opened = connect(str(plane.kubeconfig))
    with stand_in_operators(opened):
        yield opened


@pytest.fixture(scope="session")
def tools(programs: Programs) -> Tools:
    """kubectl and helm."""
    return Tools(programs["kubectl"], programs["helm"])


Edit = Callable[[dict[str, Any]], None]


@dataclass
class Shop:
    """The small overlay, copied, on the cluster of this session."""

    deploy: Path
    cluster: Cluster
    tools: Tools
    said: list[str] = field(default_factory=list)

    def rendered(self) -> Rendered:
        """What its files say now."""
        return render(
            self.deploy, load_overlay(self.deploy, "small"), load_graph(self.deploy), self.tools
        )

    def edit(self, service: str, kind: str, change: Edit) -> None:
        """Change the object of a kind in a service's file; the namespaces' file is ``small``."""
        path = next(self.deploy.glob(f"*/{service}/objects.yaml"), None)
        path = path or self.deploy / "overlays" / "small" / "namespaces.yaml"
        bodies = list(yaml.safe_load_all(path.read_text()))
        (body,) = [each for each in bodies if each["kind"] == kind]
        change(body)
        path.write_text(yaml.safe_dump_all(bodies))

    def plan(self, *services: str, **consent: bool) -> Plan:
        """The plan of these services, or all."""
        return plan_overlay(self.cluster, self.rendered(), services or None, Consent(**consent))

    def provision(self, *services: str, patience: Patience = QUICK, **consent: bool) -> Plan:
        """Provision these services, or all, under the lock."""
        with locked(self.cluster, "test", "small") as lock:
            return self.go_on(lock, *services, patience=patience, **consent)

    def go_on(
        self, lock: Lock, *services: str, patience: Patience = QUICK, **consent: bool
    ) -> Plan:
        """Provision under a lock that is held already."""
        rendered, chosen = self.rendered(), services or None
        told, said = Consent(**consent), self.said.append
        return provision(self.cluster, rendered, chosen, lock, told, patience, said)

    def lock(self) -> Lock:
        """The cluster's lock; ``unlock`` gives it back."""
        return acquire(self.cluster, "test", "small")

    def unlock(self, lock: Lock) -> None:
        """Give the lock back."""
        release(lock)


@pytest.fixture
def shop(cluster: Cluster, tools: Tools, tmp_path: Path, plane: ControlPlane) -> Iterator[Shop]:
    """The small overlay on an empty cluster; what it made is gone after the test."""
    deploy = tmp_path / "deploy"
    shutil.copytree(SMALL, deploy)
    yield Shop(deploy, cluster, tools)
    empty_again(plane)
