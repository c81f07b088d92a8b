"""A small cluster of real network namespaces: a node with a bridge, pods on it, kube-proxy's rules.

What belongs here: making it, breaking it and taking it away. What does not: what runs in its pods
(``lab_servers.py``) and what is said of it (``lab_world.py``).

All packets stay in its own namespaces. A pod's packets to another pod pass the node's ``forward``
hook, as the bridge hands them to netfilter (``bridge-nf-call-iptables``), and a Service's address
is translated in ``prerouting``: what kube-proxy and a CNI's policies do on a node, in nftables.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from carbon_pipelines.cluster.doctor_places import Here
from carbon_pipelines.embedded.endpoints import cache_directory

GATEWAY = "10.244.0.1"
NAME_SERVER = "169.254.20.10"
"""Where a node-local DNS cache listens: asking it needs no forwarding."""
_PACKAGES = (
    "nftables", "libnftables1", "libnftnl11", "libmnl0", "libjansson4", "libxtables12", "libedit2",
    "libbsd0", "libgmp10", "libmd0",
)  # fmt: skip


def find_nft() -> tuple[str, dict[str, str]] | None:
    """``nft`` and the environment it needs: installed, or unpacked from Debian's packages."""
    installed = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if installed:
        return installed, {}
    home = cache_directory(os.environ) / "nftables"
    program = home / "usr/sbin/nft"
    if not program.exists() and not _unpack(home):
        return None
    libraries = ":".join(str(path.parent) for path in home.glob("**/libmnl.so.0"))
    libraries += f":{home}/usr/lib/x86_64-linux-gnu"
    return str(program), {"LD_LIBRARY_PATH": libraries}


def _unpack(home: Path) -> bool:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return False
    draft = home.with_name(f"nftables.{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        get = ["apt-get", "download", "-qq", *_PACKAGES]
        if subprocess.run(get, cwd=draft, capture_output=True, check=False).returncode:
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
            if subprocess.run(get, cwd=draft, capture_output=True, check=False).returncode:
                return False
        for package in draft.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, draft / "root"], check=True)
        (draft / "root").rename(home)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


class NetworkLab:
    """One node; use it as a context manager, and everything it made goes with it."""

    def __init__(self, directory: Path, nft: tuple[str, dict[str, str]]) -> None:
        self.directory, self._nft = directory, nft
        self._name = f"doc{os.getpid()}"
        self._made: list[str] = []
        self._processes: list[subprocess.Popen[str]] = []
        self.addresses: dict[str, str] = {}

    def __enter__(self) -> "NetworkLab":
        _sweep()
        try:
            self._make_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            self.end(process)
        for space in self._made:
            _run(["ip", "netns", "del", space], check=False)
            shutil.rmtree(f"/etc/netns/{space}", ignore_errors=True)

    def space(self, name: str) -> str:
        """The namespace of the node or of a pod."""
        return f"{self._name}-{name}"

    def add_pod(self, name: str) -> str:
        """A pod on the bridge; returns its address."""
        address = f"10.244.0.{10 + len(self.addresses)}"
        self.addresses[name] = address
        space, node = self._add_space(name), self.space("node")
        _ip(node, f"link add v-{name} type veth peer name eth0 netns {space}")
        _ip(node, f"link set v-{name} master cni0 up")
        _run(["bridge", "-n", node, "link", "set", "dev", f"v-{name}", "hairpin", "on"])
        _ip(space, f"addr add {address}/24 dev eth0")
        _ip(space, "link set eth0 up")
        _ip(space, f"route add default via {GATEWAY}")
        return address

    def place(self, name: str) -> Here:
        """Where the probe of a pod runs."""
        before = ("ip", "netns", "exec", self.space(name))
        return Here(f"pod {name}", before, sys.executable)

    def start(self, name: str, *command: str) -> "subprocess.Popen[str]":
        """Run a server in a pod or on the node, and wait until it says that it is ready."""
        before = self.place(name).before
        process = subprocess.Popen([*before, *command], stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", command
        return process

    def adopt(self, process: "subprocess.Popen[str]") -> None:
        """End a process with the lab, at the latest."""
        self._processes.append(process)

    def end(self, process: "subprocess.Popen[str]") -> None:
        """End a server that we started."""
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()

    def set_link(self, name: str, state: str) -> None:
        """Put a pod's end at the bridge ``up`` or ``down``."""
        _ip(self.space("node"), f"link set v-{name} {state}")

    def expose(self, services: dict[tuple[str, int], tuple[str, int]]) -> None:
        """Rules of kube-proxy: a Service's address and port to a pod's; replaces all of before."""
        rules = "\n".join(
            f"ip daddr {service} tcp dport {port} dnat to {pod}:{pod_port}"
            for (service, port), (pod, pod_port) in services.items()
        )
        self._rules("kube_proxy", "type nat hook prerouting priority -100;", rules)

    def drop(self, *rules: str) -> None:
        """Forwarded packets that the node drops, as nftables matches; replaces all of before."""
        dropped = "\n".join(f"{rule} drop" for rule in rules)
        self._rules("policies", "type filter hook forward priority 0;", dropped)

    def drop_incoming(self, *rules: str) -> None:
        """Packets to the node itself that it drops; replaces all of before."""
        dropped = "\n".join(f"{rule} drop" for rule in rules)
        self._rules("own", "type filter hook input priority 0;", dropped)

    def _rules(self, table: str, hook: str, rules: str) -> None:
        text = f"table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n"
        text += f" chain rules {{\n  {hook}\n{rules}\n }}\n}}\n"
        program, environment = self._nft
        _run(
            ["ip", "netns", "exec", self.space("node"), program, "-f", "-"],
            stdin=text,
            environment=environment,
        )

    def _add_space(self, name: str) -> str:
        space = self.space(name)
        _run(["ip", "netns", "add", space])
        self._made.append(space)
        _ip(space, "link set lo up")
        resolver = Path("/etc/netns") / space / "resolv.conf"
        resolver.parent.mkdir(parents=True)
        resolver.write_text(f"nameserver {NAME_SERVER}\nsearch cluster.local\noptions ndots:5\n")
        return space

    def _make_node(self) -> None:
        node = self._add_space("node")
        _ip(node, "link add cni0 type bridge")
        _ip(node, f"addr add {GATEWAY}/24 dev cni0")
        _ip(node, f"addr add {NAME_SERVER}/32 dev lo")
        _ip(node, "link set cni0 up")
        settings = "net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"
        for name in settings:
            write = f"echo 1 > /proc/sys/{name}"
            _run(["ip", "netns", "exec", node, "sh", "-c", write])


def _sweep() -> None:
    """Take away namespaces of a run that was killed."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        name = re.match(r"doc([0-9]+)-[a-z]+", line)
        if name and not Path("/proc", name[1]).exists():
            _run(["ip", "netns", "del", name[0]], check=False)
            shutil.rmtree(f"/etc/netns/{name[0]}", ignore_errors=True)


def _ip(space: str, command: str) -> None:
    _run(["ip", "-n", space, *command.split()])


def _run(
    command: Sequence[str],
    *,
    stdin: str = "",
    environment: dict[str, str] | None = None,
    check: bool = True,
) -> None:
    done = subprocess.run(
        list(command),
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    assert done.returncode == 0 or not check, f"{command}: {done.stderr}"
