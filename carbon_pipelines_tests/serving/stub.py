"""A stand-in for Doris, declared as such: what its manual says of the protocol, over DuckDB.

What belongs here: an FE and a backend that speak HTTP in threads, labels with their states, and the
SQL that we send, run by DuckDB after sqlglot translated it from its ``doris`` dialect. What does
not: assertions. It shows that we keep to the manual; that the manual is right only a real Doris
shows.
"""

import base64
import json
import re
import threading
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import duckdb
import sqlglot

from carbon_pipelines.errors import StatementRefusedError
from carbon_pipelines.serving.clock import Clock
from carbon_pipelines.serving.doris_settings import DorisSettings

USER, PASSWORD = "carbon", "s3cret/pass"
ERROR_LINE = (
    "Reason: column_name[price], value is null while column is not nullable. src line [Zebra]; "
)


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.seconds += max(seconds, 0.001)


class StubDoris:
    """Tables, labels, and faults that the next loads meet, in order.

    Faults: ``lost`` (applied, and the answer is lost), ``cut`` (the connection breaks before
    anything), ``publish`` (committed; visible after two questions), ``busy`` (429), ``broken`` (500
    after it was applied), ``rows`` (a row does not fit), ``abort`` (given up for no fault of the
    rows), ``slow`` (its transaction runs for two questions more), ``short`` (a row is missing).
    """

    def __init__(self) -> None:
        self.engine = duckdb.connect()
        self.engine.execute(
            "CREATE MACRO conv(digits, a, b) AS CAST(CAST('0x' || digits AS UBIGINT) AS VARCHAR)"
        )
        self.engine.execute("CREATE SCHEMA mart")
        self.lock = threading.RLock()
        self.labels: dict[str, str] = {}
        self.pending: dict[str, int] = {}
        self.applied: list[str] = []
        self.faults: deque[str] = deque()
        self.statements: list[str] = []
        self.sql_faults: dict[str, Exception] = {}
        self.asked: list[tuple[str, str, bool]] = []
        self.bodies = 0
        self.redirect_to = ""
        self.error_url = True
        self.fe_port = self.be_port = 0

    def settings(self, **changes: Any) -> DorisSettings:
        known = {"host": "127.0.0.1", "user": USER, "password": PASSWORD, "replicas": 1}
        return DorisSettings(**{**known, "http_port": self.fe_port, **changes})

    def state(self, label: str) -> str:
        """What the FE says of a label; a transaction under way gets on by being asked about."""
        with self.lock:
            if self.pending.get(label, 0) > 0:
                self.pending[label] -= 1
                if self.pending[label] == 0:
                    self.labels[label] = "VISIBLE"
            return self.labels.get(label, "UNKNOWN")

    def run(self, statement: str) -> list[Mapping[str, Any]]:
        """The SQL side."""
        with self.lock:
            self.statements.append(statement)
            for start, error in list(self.sql_faults.items()):
                if re.match(start, statement):
                    del self.sql_faults[start]
                    if "after" in str(error.args):
                        self._execute(statement)
                    raise error
            try:
                return self._execute(statement)
            except duckdb.Error as error:
                told = str(error).partition("\n")[0]
                raise StatementRefusedError("Doris", statement[:60], told) from error

    def _execute(self, statement: str) -> list[Mapping[str, Any]]:
        name = r"`(\w+)`"
        if found := re.match(rf"ALTER TABLE {name}.{name} RENAME {name}", statement):
            self.engine.execute(f'ALTER TABLE {found[1]}."{found[2]}" RENAME TO "{found[3]}"')
            return []
        if found := re.match(rf"ALTER TABLE {name}.{name} REPLACE WITH TABLE {name}", statement):
            self.engine.execute(f'SELECT 1 FROM {found[1]}."{found[3]}"')
            self.engine.execute(f'DROP TABLE {found[1]}."{found[2]}"')
            self.engine.execute(f'ALTER TABLE {found[1]}."{found[3]}" RENAME TO "{found[2]}"')
            return []
        if statement.startswith("CREATE DATABASE"):
            return []
        if statement.startswith("CREATE TABLE"):
            made = sqlglot.parse_one(statement, dialect="doris")
            made.args["properties"] = None
            self.engine.execute(made.sql("duckdb"))
            return []
        plain = statement.replace("internal.", "").removesuffix(" FORCE")
        [translated] = sqlglot.transpile(plain, read="doris", write="duckdb")
        cursor = self.engine.execute(translated)
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        return self.engine.execute(f'SELECT * FROM mart."{table}" ORDER BY ALL').fetchall()

    def apply(self, table: str, label: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            columns = ", ".join(f'"{column}"' for column in line)
            marks = ", ".join("?" for _ in line)
            self.engine.execute(
                f'INSERT INTO mart."{table}" ({columns}) VALUES ({marks})', list(line.values())
            )
        self.applied.append(label)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: StubDoris

    def log_message(self, *args: Any) -> None:
        return

    def note(self, role: str) -> bool:
        wanted = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        right = self.headers.get("Authorization") == wanted
        self.stub.asked.append((role, self.command, right))
        return right

    def reply(self, status: int, document: Any, **headers: str) -> None:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True


class _Frontend(_Handler):
    def handle_expect_100(self) -> bool:
        return True  # it redirects, and asks for no body

    def do_PUT(self) -> None:
        if not self.note("fe"):
            self.reply(200, {"code": 401, "msg": "Unauthorized", "data": None})
            return
        if self.stub.faults and self.stub.faults[0] == "busy":
            self.stub.faults.popleft()
            self.reply(429, {}, Retry_After="7")
            return
        secret = quote(PASSWORD, safe=",;:$&+=")
        place = self.stub.redirect_to or f"http://{USER}:{secret}@127.0.0.1:{self.stub.be_port}"
        self.reply(307, b"", Location=f"{place}{self.path}?")

    def do_GET(self) -> None:
        if not self.note("fe"):
            self.reply(401, {})
            return
        [label] = parse_qs(urlsplit(self.path).query)["label"]
        self.reply(200, {"msg": "success", "code": 0, "data": self.stub.state(label), "count": 0})


class _Backend(_Handler):
    def handle_expect_100(self) -> bool:
        """As a backend does: the transaction begins before the body is asked for."""
        with self.stub.lock:
            label = self.headers["label"]
            self.fault = self.stub.faults.popleft() if self.stub.faults else ""
            if not self.note("be"):
                self.reply(200, {"Status": "Fail", "Message": "Access denied for user"})
                return False
            if self.fault == "cut":
                self.close_connection = True
                return False
            state = self.stub.labels.get(label, "UNKNOWN")
            if state not in ("UNKNOWN", "ABORTED"):
                running = state == "PREPARE"
                known = "RUNNING" if running else "FINISHED"
                self.reply(200, {"Status": "Label Already Exists", "ExistingJobStatus": known})
                return False
            self.stub.labels[label] = "PREPARE"
        return super().handle_expect_100()

    def do_PUT(self) -> None:
        with self.stub.lock:
            lines = self.rfile.read(int(self.headers["Content-Length"])).splitlines()
            self.stub.bodies += 1
            label, table = self.headers["label"], self.path.split("/")[3]
            rows = [json.loads(line) for line in lines]
            if self.fault in ("rows", "abort"):
                self.stub.labels[label] = "ABORTED"
                self.reply(200, self.failure())
                return
            if self.fault == "short":
                rows = rows[:-1]
            self.stub.apply(table, label, rows)
            self.stub.labels[label] = "VISIBLE"
            if self.fault in ("publish", "slow"):
                self.stub.labels[label] = "COMMITTED" if self.fault == "publish" else "PREPARE"
                self.stub.pending[label] = 2
        if self.fault in ("lost", "slow"):
            self.close_connection = True
        elif self.fault == "broken":
            self.reply(500, {})
        else:
            status = "Publish Timeout" if self.fault == "publish" else "Success"
            self.reply(200, {"Status": status, "NumberLoadedRows": len(rows)})

    def failure(self) -> Mapping[str, Any]:
        if self.fault == "abort":
            return {"Status": "Fail", "Message": "too many versions"}
        told = {"Status": "Fail", "Message": "too many filtered rows", "NumberFilteredRows": 1}
        url = f"http://127.0.0.1:{self.stub.be_port}/api/_load_error_log?file=x"
        return {**told, "ErrorURL": url} if self.stub.error_url else told

    def do_GET(self) -> None:
        self.stub.asked.append(("log", "GET", "Authorization" in self.headers))
        self.reply(200, (ERROR_LINE + "\n").encode() * 5000)


@contextmanager
def running_stub() -> Generator[StubDoris]:
    """A stand-in whose FE and backend listen on loopback."""
    stub = StubDoris()
    servers = [
        ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (kind,), {"stub": stub}))
        for kind in (_Frontend, _Backend)
    ]
    stub.fe_port, stub.be_port = (server.server_address[1] for server in servers)
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        for server in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield stub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
        stub.engine.close()
