"""What is in the bucket beside what a table needs, seen without the code under test.

What belongs here: listing with pyarrow, what PyIceberg's own walk reaches, reading any snapshot
with DuckDB, and a store that fails on request. What does not: what a test does to a table.
"""

import re
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

from pyarrow.fs import FileSelector, S3FileSystem
from pyiceberg.table import Table

from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines_tests.oracle import oracle


def store_of(table: Table) -> S3FileSystem:
    """The table's bucket."""
    properties = table.io.properties
    return S3FileSystem(
        endpoint_override=properties["s3.endpoint"],
        access_key=properties["s3.access-key-id"],
        secret_key=properties["s3.secret-access-key"],
        region=properties["s3.region"],
    )


def objects_of(table: Table) -> set[str]:
    """Every object under the table's location."""
    prefix = table.location().removeprefix("s3://")
    selector = FileSelector(prefix, recursive=True, allow_not_found=True)
    return {f"s3://{one.path}" for one in store_of(table).get_file_info(selector) if one.is_file}


def needed_by(table: Table) -> set[str]:
    """Every file that the table's metadata names, found the plain way."""
    metadata = table.metadata
    found = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    found |= {one.statistics_path for one in (*metadata.statistics, *metadata.partition_statistics)}
    for snapshot in metadata.snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            found.add(manifest.manifest_path)
            entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
            found |= {entry.data_file.file_path for entry in entries}
    return found


def put(table: Table, path: str, content: bytes = b"x") -> None:
    """Write an object."""
    with store_of(table).open_output_stream(path.partition("://")[2]) as stream:
        stream.write(content)


def take(table: Table, path: str) -> None:
    """Delete an object behind everybody's back."""
    store_of(table).delete_file(path.removeprefix("s3://"))


def snapshot_rows(endpoints: Endpoints, table: Table, snapshot_id: int) -> list[tuple[Any, ...]]:
    """The rows of any snapshot, as DuckDB reads them."""
    with oracle(endpoints) as engine:
        scan = f"iceberg_scan('{table.metadata_location}', snapshot_from_id={snapshot_id}::UBIGINT)"
        return sorted(engine.execute(f"SELECT * FROM {scan}").fetchall(), key=repr)


@contextmanager
def failing_store(address: str, fails: Callable[[str, str], str | None]) -> Generator[str]:
    """The object store behind a relay; ``fails(method, path)`` names the failure of a request.

    ``slow down`` is S3's answer to too many requests, ``hang up`` none at all.
    """
    host, _, port = address.removeprefix("http://").partition(":")

    class Relay(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(port))) as upstream:
                back = threading.Thread(target=relay, args=(upstream, self.request), daemon=True)
                back.start()
                while data := self.request.recv(65_536):
                    began = re.match(rb"([A-Z]+) (\S+) HTTP/1.1\r\n", data)
                    failure = fails(*(part.decode() for part in began.groups())) if began else None
                    if failure == "slow down":
                        self.request.sendall(SLOW_DOWN)
                    if failure is not None:
                        break
                    upstream.sendall(data)

    with ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def relay(source: socket.socket, target: socket.socket) -> None:
    """Pass on all that comes, until either end closes."""
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)


REFUSAL = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"
SLOW_DOWN = b"\r\n".join(
    [
        b"HTTP/1.1 503 Slow Down",
        b"Content-Type: application/xml",
        b"Connection: close",
        b"Content-Length: %d" % len(REFUSAL),
        b"",
        REFUSAL,
    ]
)
