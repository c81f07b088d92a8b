"""What an evaluation of the sensor ``alerts`` costs.

``python -m carbon_pipelines_tests.benchmarks.alerts [--tables 500]``

A Dagster instance in memory, with a materialization and all checks of each lake table and its
score; then nothing new, one table that changed, and everything wrong at once, told to a real
receiver on this machine. What belongs here: making the events and measuring.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from carbon_pipelines.catalog.load import Catalog, load_catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.automation.alerts import alerts_sensor
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.keys import table_key
from carbon_pipelines_tests.alerts.receivers import recording
from carbon_pipelines_tests.catalog.declarations import declare, minimal

EXPECTS = "expectations:\n  - {kind: not_null, column: id}\n"
OWNERS = "default:\n  - {kind: webhook, url_variable: RECEIVER}\n"
SCORECARD = "| expectation | rows |\n" * 200
DATABASES = 5


def main(tables: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory, recording() as recorder:
        root = Path(directory)
        for number in range(DATABASES):
            names = [f"table_{table:03}" for table in range(tables // DATABASES)]
            texts = {name: minimal(name) + EXPECTS for name in names}
            declare(root, f"database_{number}", **texts)
        (root / "owners.yaml").write_text(OWNERS, encoding="utf-8")
        catalog = load_catalog(root)
        with dg.DagsterInstance.ephemeral(tempdir=directory) as instance:
            tick = ticking(catalog, root, instance, recorder.url)
            for table in catalog.tables:
                report(instance, table, good=True)
            tick("first look")
            tick("nothing new")
            report(instance, catalog.tables[0], good=True)
            tick("one table new")
            for table in catalog.tables:
                report(instance, table, good=False)
            tick("everything wrong")
            tick("everything still wrong")
        told = sum(len(body["alerts"]) for body in recorder.bodies)
        print(f"{told} alerts in {len(recorder.bodies)} messages")  # noqa: T201


def ticking(
    catalog: Catalog, root: Path, instance: dg.DagsterInstance, url: str
) -> Callable[[str], None]:
    """A function that evaluates the sensor once more, and prints what it took."""
    definitions = build_definitions({"CARBON_CATALOG_DIR": str(root)})
    repository = definitions.get_repository_def()
    repository.load_all_definitions()
    cursor: str | None = None
    now = datetime.now(UTC)
    sensor = alerts_sensor(catalog, running=False, environ={"RECEIVER": url}, clock=lambda: now)

    def tick(name: str) -> None:
        nonlocal cursor, now
        now = max(now, datetime.now(UTC)) + timedelta(seconds=30)
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, repository_def=repository
        )
        wall, cpu = time.perf_counter(), time.process_time()
        cursor = sensor.evaluate_tick(context).cursor
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        size = len(cursor or "") / 1024
        print(f"{name:24} {wall:5.2f} s {cpu:5.2f} CPU-s, cursor {size:4.0f} KiB")  # noqa: T201

    return tick


def report(instance: dg.DagsterInstance, table: TableSpec, *, good: bool) -> None:
    """A merge and a score of a table, with all checks."""
    lake, quality = table_key("lake", table), table_key("quality", table)
    scored = {
        "carbon/score": 99.0 if good else 70.0,
        "carbon/scorecard": dg.MetadataValue.md(SCORECARD),
    }
    for event in (
        dg.AssetMaterialization(lake, metadata={"dagster/row_count": 1}),
        dg.AssetCheckEvaluation(lake, "flowing", passed=good, description="It stands. Do this."),
        dg.AssetCheckEvaluation(lake, "dead_letters", passed=good),
        dg.AssetMaterialization(quality, metadata=scored),
        dg.AssetCheckEvaluation(quality, "passes", passed=good, description="70 of 100"),
    ):
        instance.report_runless_asset_event(event)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=500)
    main(parser.parse_args().tables)
