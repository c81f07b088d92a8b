"""A real control plane on loopback: etcd, API server, controllers, scheduler, and nodes by KWOK.

What belongs here: starting it, knowing that it is up, and stopping it. What does not: getting the
programs (``programs.py``) and what is put on it.

Nodes are fake: no container runs, and pods become ready by ``kwok.yaml``, which also says how a
pod can be made to fail. Everything else is real: admission, quota, garbage collection, rollouts.
The processes end with this one, however it ends (the kernel sends them SIGKILL), and all that they
wrote lies in one directory.
"""

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests
import yaml

from carbon_pipelines.embedded.ports import choose_port
from carbon_pipelines_tests.deploy.pki import LOOPBACK, Authority, make_authority
from carbon_pipelines_tests.deploy.programs import Programs

KWOK_STAGES = Path(__file__).with_name("kwok.yaml")
NODES = 3
STARTED_SECONDS = 120.0
"""A busy machine may need this long; a quiet one needs six seconds."""

ADMISSION = "NodeRestriction,PodSecurity,ResourceQuota,LimitRanger,ValidatingAdmissionPolicy"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A control plane that is up."""

    programs: Programs
    directory: Path
    server: str
    authority: Authority
    kubeconfig: Path
    """Of an administrator."""

    def user(self, name: str, *groups: str, expired: bool = False) -> Path:
        """The kubeconfig of a user, whose certificate may have expired already."""
        lasts = timedelta(seconds=-60 if expired else 86_400)
        self.authority.sign(name, name, *groups, lasts=lasts)
        return self.authority.kubeconfig(name, self.server)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints as the administrator; it fails where kubectl does."""
        command = [self.programs["kubectl"], "--kubeconfig", str(self.kubeconfig), *arguments]
        ended = subprocess.run(
            command, input=stdin, text=True, check=False, capture_output=True, timeout=60
        )
        assert ended.returncode == 0, f"kubectl {' '.join(arguments)}: {ended.stderr}"
        return ended.stdout

    def request(self, method: str, path: str, **more: Any) -> requests.Response:
        """Ask the API server as the administrator."""
        at = self.authority.directory
        return requests.request(
            method,
            f"{self.server}{path}",
            cert=(str(at / "admin.crt"), str(at / "admin.key")),
            verify=str(at / "ca.crt"),
            timeout=30,
            **more,
        )


@contextmanager
def control_plane(programs: Programs) -> Iterator[ControlPlane]:
    """Start all, wait until the nodes are ready, and stop all at the end."""
    with ExitStack() as opened:
        directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="carbon-plane-")))
        ports = _ports()
        server = f"https://{LOOPBACK}:{ports['api']}"
        authority = make_authority(directory / "pki")
        authority.sign("apiserver", "kube-apiserver", server=True)
        authority.sign("kubelet-client", "apiserver-kubelet", "system:masters")
        authority.sign("kwok-server", "kwok", server=True)
        for file, name, groups in (
            ("admin", "admin", ("system:masters",)),
            ("controllers", "system:kube-controller-manager", ()),
            ("scheduler", "system:kube-scheduler", ()),
        ):
            authority.sign(file, name, *groups)
            authority.kubeconfig(file, server)
        plane = ControlPlane(
            programs, directory, server, authority, directory / "pki" / "admin.kubeconfig"
        )
        _start(opened, plane, "etcd", _etcd(plane, ports))
        _start(opened, plane, "kube-apiserver", _apiserver(plane, ports))
        _await(plane, "kube-apiserver", lambda: plane.request("GET", "/readyz").text == "ok")
        _start(opened, plane, "kube-controller-manager", _controllers(plane, ports))
        _start(opened, plane, "kube-scheduler", _scheduler(plane, ports))
        _start(opened, plane, "kwok", _kwok(plane, ports))
        for number in range(NODES):
            _make_node(plane, number)
        _await(plane, "kube-controller-manager", lambda: _has_default_account(plane))
        _await(plane, "kwok", lambda: _ready_nodes(plane) == NODES)
        yield plane


def _ports() -> dict[str, int]:
    chosen: dict[str, int] = {}
    for name in ("etcd", "etcd_peer", "api", "controllers", "scheduler", "kwok"):
        chosen[name] = choose_port(chosen.values())
    return chosen


def _etcd(plane: ControlPlane, ports: Mapping[str, int]) -> list[str]:
    client = f"http://{LOOPBACK}:{ports['etcd']}"
    peer = f"http://{LOOPBACK}:{ports['etcd_peer']}"
    return [
        "--name=test",
        f"--data-dir={plane.directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=test={peer}",
        "--unsafe-no-fsync",
    ]


def _apiserver(plane: ControlPlane, ports: Mapping[str, int]) -> list[str]:
    pki = plane.authority.directory
    return [
        f"--etcd-servers=http://{LOOPBACK}:{ports['etcd']}",
        f"--bind-address={LOOPBACK}",
        f"--advertise-address={LOOPBACK}",
        f"--secure-port={ports['api']}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        "--authorization-mode=Node,RBAC",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--allow-privileged=true",
        "--endpoint-reconciler-type=none",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        f"--enable-admission-plugins={ADMISSION}",
        # Debian's etcd 3.4 cannot stream a list; clients that ask for it see changes seconds late.
        "--feature-gates=WatchList=false",
    ]


def _controllers(plane: ControlPlane, ports: Mapping[str, int]) -> list[str]:
    pki = plane.authority.directory
    return [
        *_component(plane, "controllers", ports["controllers"]),
        f"--service-account-private-key-file={pki / 'sa.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        "--use-service-account-credentials=true",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--allocate-node-cidrs=true",
        "--cluster-cidr=10.244.0.0/16",
        "--service-cluster-ip-range=10.96.0.0/16",
    ]


def _scheduler(plane: ControlPlane, ports: Mapping[str, int]) -> list[str]:
    return _component(plane, "scheduler", ports["scheduler"])


def _component(plane: ControlPlane, user: str, port: int) -> list[str]:
    kubeconfig = plane.authority.directory / f"{user}.kubeconfig"
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        "--leader-elect=false",
    ]


def _kwok(plane: ControlPlane, ports: Mapping[str, int]) -> list[str]:
    """The fake kubelet; it also serves the log of every container, from ``container.log``."""
    log = plane.directory / "container.log"
    said = ("starting", "fatal: cannot reach the catalog")
    lines = [f"2026-01-01T00:00:00.000000000Z stderr F {line}\n" for line in said]
    log.write_text("".join(lines), encoding="utf-8")
    logs = {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "ClusterLogs",
        "metadata": {"name": "all"},
        "spec": {"logs": [{"logsFile": str(log)}]},
    }
    config = plane.directory / "kwok.yaml"
    stages = KWOK_STAGES.read_text(encoding="utf-8")
    config.write_text(f"{stages}---\n{yaml.safe_dump(logs)}", encoding="utf-8")
    pki = plane.authority.directory
    return [
        f"--kubeconfig={plane.kubeconfig}",
        "--manage-all-nodes=true",
        "--node-lease-duration-seconds=40",
        f"--node-ip={LOOPBACK}",
        f"--node-port={ports['kwok']}",
        f"--server-address={LOOPBACK}:{ports['kwok']}",
        f"--tls-cert-file={pki / 'kwok-server.crt'}",
        f"--tls-private-key-file={pki / 'kwok-server.key'}",
        f"--config={config}",
    ]


def _make_node(plane: ControlPlane, number: int) -> None:
    room = {"cpu": "64", "memory": "256Gi", "pods": "250", "ephemeral-storage": "1Ti"}
    name = f"node-{number}"
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": f"zone-{number}",
    }
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": room, "capacity": room},
    }
    answer = plane.request("POST", "/api/v1/nodes", json=node)
    assert answer.status_code == 201, answer.text


def _has_default_account(plane: ControlPlane) -> bool:
    path = "/api/v1/namespaces/default/serviceaccounts/default"
    return plane.request("GET", path).status_code == 200


def _ready_nodes(plane: ControlPlane) -> int:
    nodes = plane.request("GET", "/api/v1/nodes").json()["items"]
    return sum(
        condition["type"] == "Ready" and condition["status"] == "True"
        for node in nodes
        for condition in node["status"].get("conditions", ())
    )


def _start(opened: ExitStack, plane: ControlPlane, name: str, arguments: list[str]) -> None:
    """Start a program that ends when this process does; its output goes to ``<name>.log``."""
    with (plane.directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [plane.programs[name], *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=plane.directory,
            env={"PATH": os.defpath, "HOME": str(plane.directory)},
            preexec_fn=_end_with_parent,
        )
    opened.callback(_stop, process)


def _end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends (prctl(2))."""
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def _await(plane: ControlPlane, name: str, condition: Callable[[], bool]) -> None:
    """Wait for a program; the end of its log says why it is not there."""
    deadline = time.monotonic() + STARTED_SECONDS
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except requests.RequestException:
            pass
        time.sleep(0.05)
    log = (plane.directory / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    lines = "\n".join(log.splitlines()[-15:])
    raise TimeoutError(f"{name} is not ready after {STARTED_SECONDS:.0f} s; its log ends:\n{lines}")
