"""An instance, assets that do what a test says, and the sensor ``alerts`` with real receivers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.automation.alerts import alerts_sensor
from carbon_pipelines.defs.failures import as_failure
from carbon_pipelines.defs.lake.checks import flows, lacks, lake_checks, stands
from carbon_pipelines.errors import LakeError
from carbon_pipelines_tests.alerts.receivers import Recorder
from carbon_pipelines_tests.catalog.declarations import declare, minimal

LAKE = dg.AssetKey(["lake", "market", "credit"])
QUALITY = dg.AssetKey(["quality", "market", "credit"])
OWNERS = """\
default:
  - {kind: webhook, url_variable: EVERYBODY}
teams:
  team:market-data:
    - {kind: webhook, url_variable: MARKET}
"""


class World:
    """An instance, assets that do what the test says, and the sensor."""

    def __init__(self, root: Path, market: Recorder, everybody: Recorder) -> None:
        declare(root, "market", credit=minimal("credit") + CLASSIFIED)
        (root / "owners.yaml").write_text(OWNERS, encoding="utf-8")
        catalog = load_catalog(root)
        self.table: TableSpec = catalog.tables[0]
        self.market, self.everybody = market, everybody
        self.environ = {"MARKET": market.url, "EVERYBODY": everybody.url}
        self.environ["CARBON_ALERTS_UI_URI"] = "https://dagster.example.org"
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(root))
        self.now = datetime.now(UTC)
        self.fails: Exception | None = None
        self.checks: list[dg.AssetCheckResult] | None = None
        self.cursor: str | None = None

        @dg.asset(
            key=LAKE,
            owners=[self.table.owner],
            check_specs=lake_checks(self.table),
            freshness_policy=dg.FreshnessPolicy.time_window(fail_window=self.table.freshness),
            output_required=False,
        )
        def credit() -> Iterator[Any]:
            with as_failure():
                if self.fails is not None:
                    if isinstance(self.fails, LakeError):
                        yield stands(self.table, self.fails)
                    raise self.fails
                if self.checks is not None:
                    yield from self.checks
                    return
            yield dg.MaterializeResult(check_results=[flows(self.table), lacks(self.table, 0)])

        @dg.op
        def work() -> None:
            if self.fails is not None:
                with as_failure():
                    raise self.fails

        @dg.job(tags={"carbon/database": "market"})
        def replay() -> None:
            work()

        quality = dg.AssetSpec(QUALITY, owners=[self.table.owner])

        @dg.multi_asset(specs=[quality], name="quality__market__credit")
        def scored() -> None: ...

        self.asset, self.replay = credit, replay
        self.sensor = alerts_sensor(
            catalog,
            running=False,
            environ=self.environ,
            clock=lambda: self.now,
            sleep=lambda seconds: None,
        )
        self.defs = dg.Definitions(assets=[credit, scored], jobs=[replay], sensors=[self.sensor])

    def run(self, fails: Exception | None = None) -> str:
        self.fails = fails
        done = dg.materialize([self.asset], instance=self.instance, raise_on_error=False)
        return done.run_id

    def evaluated(self, *checks: dg.AssetCheckResult) -> None:
        self.checks = [*checks]
        self.run()
        self.checks = None

    def score(self, value: float, **told: Any) -> None:
        metadata = {"carbon/score": value, **{f"carbon/{k}": v for k, v in told.items()}}
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(QUALITY, metadata=metadata)
        )

    def tick(self, later: timedelta = timedelta(seconds=30)) -> list[tuple[str, str]]:
        """Alerts that the team's receiver was sent, as (status, name)."""
        self.now = max(self.now, datetime.now(UTC)) + later
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=self.defs
        )
        result = self.sensor.evaluate_tick(context)
        self.cursor, self.said = result.cursor, result.skip_message
        self.last = [alert for body in self.market.take() for alert in body["alerts"]]
        return sorted((alert["status"], alert["labels"]["alertname"]) for alert in self.last)


CLASSIFIED = "columns:\n  holder: {classification: confidential}\n"
