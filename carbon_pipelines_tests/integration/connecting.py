"""A database that a real Debezium connector captures, from PostgreSQL to the lake.

What belongs here: the connector's life over the worker's REST interface, and the pipeline around
it. What does not: what a test does to the source.
"""

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.names import EMBEDDED_PASSWORD_VARIABLE
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.stream.capture import prepare
from carbon_pipelines.stream.consumer import read_batches
from carbon_pipelines.stream.debezium_config import connector_config
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import topic_of
from carbon_pipelines_tests.conftest import SourceDatabase, silent
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.streaming import wait_until


class DebeziumPipeline(Pipeline):
    """One database from PostgreSQL to the lake by way of a connector of its own."""

    def __init__(
        self,
        stack: Stack,
        source: SourceDatabase,
        *,
        values: DebeziumSpec | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(stack, source)
        self.connector = self.name
        self._port = self.start_worker()
        self.values, self.settings = values or DebeziumSpec(), dict(settings or {})

    @property
    def database(self) -> DatabaseSpec:
        tables = tuple(self.tables.values())
        return DatabaseSpec(
            name=self.name,
            owner="team:tests",
            capture="debezium",
            debezium=self.values,
            tables=tables,
        )

    def declare(self, name: str, key: Sequence[str] = ("id",), **more: Any) -> TableSpec:
        return super().declare(name, key, debezium=self.values, **more)

    def start_worker(self) -> int | None:
        """Have the worker running; its port, which stays the same."""
        return self.stack.up(silent, with_=frozenset({"connect"})).part("connect").port

    def connect_debezium(self) -> None:
        """Set up the source, then start the connector with what "carbon debezium config" prints."""
        prepare(self.database, self.endpoints)
        reference = f"${{env:{EMBEDDED_PASSWORD_VARIABLE}}}"
        config = connector_config(self.database, self.dsn, password=reference)
        self.request("PUT", f"/connectors/{self.connector}/config", {**config, **self.settings})
        self.wait_until_running()

    def wait_until_running(self) -> None:
        def runs() -> bool:
            tasks = self.status()["tasks"]
            assert all(task["state"] != "FAILED" for task in tasks), tasks[0]["trace"]
            return bool(tasks) and tasks[0]["state"] == "RUNNING"

        wait_until(runs, seconds=60)

    def status(self) -> dict[str, Any]:
        try:
            return self.request("GET", f"/connectors/{self.connector}/status")
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in (404, 409):  # not there yet, or the group is rebalancing
                    raise
            return {"tasks": []}

    def close(self) -> None:
        """Take the connector away too: its slot can be dropped then."""
        self.start_worker()
        self.disconnect()
        super().close()

    def disconnect(self) -> None:
        try:
            self.request("DELETE", f"/connectors/{self.connector}")
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 404:  # a test that failed before it had one
                    raise

    def messages(self, name: str) -> list[dict[str, Any]]:
        """What the connector wrote of a table, tombstones left out."""
        bootstrap, topic = self.endpoints.stream_bootstrap, topic_of(self.tables[name])
        state = load_topic_state(bootstrap, topic)
        batches = read_batches(bootstrap, topic, state.low, state.high)
        return [json.loads(value) for batch in batches for value in batch.values if value]

    def request(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = response.read()
        return json.loads(answer) if answer else None


class KeptConnector:
    """A connector that an operator looks after: a dead worker and a failed task are started again.

    Attributes:
        failures: How often its task failed, by the first cause.
    """

    def __init__(self, pipeline: DebeziumPipeline) -> None:
        self._pipeline = pipeline
        self.failures: Counter[str] = Counter()

    def kill(self) -> None:
        """End the worker at once."""
        self._pipeline.stack.kill("connect")

    def tail(self) -> str:
        """Its state, its failures and what the worker said last."""
        log = self._pipeline.stack.status().part("connect").log
        said = log.read_text(errors="replace")[-6000:]
        return f"{self._pipeline.status()}\n{dict(self.failures)}\n{said}"

    def keep(self) -> None:
        """Start again what has ended."""
        try:
            tasks = self._pipeline.status()["tasks"]
            failed = [task["trace"] for task in tasks if task["state"] == "FAILED"]
            self.failures.update(trace.split("Caused by: ")[-1].split("\n")[0] for trace in failed)
            if failed:
                name = self._pipeline.connector
                path = f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true"
                self._pipeline.request("POST", path)
        except (OSError, HTTPException):
            self._pipeline.start_worker()
