"""Whether what people look at is as fresh as is promised, and if not, which stage holds it up.

What belongs here: the check ``in_time`` of views in Trino and of marts, and the sensor that looks
by itself. What does not: the stages (``serving/freshness.py``), and telling people (``alerts.py``,
which reads the check as any other).

One check for each table and mart, whatever shows it: a cause that holds several services up is told
once. Views are looked at only where there is a Trino: what is not configured is neither late nor in
time. The sensor tells Dagster what has changed, and what a run made meanwhile; it asks for no runs,
for those that would help are asked for already.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.failures import as_failure
from carbon_pipelines.defs.keys import mart_key, served_key
from carbon_pipelines.defs.quality.tables import scored_tables
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.mart.project import Mart

if TYPE_CHECKING:
    from carbon_pipelines.serving.freshness import Freshness

CHECK = "in_time"
SENSOR = "readers_in_time"
INTERVAL_SECONDS = 60
AT_ONCE = 40
"""Tables and marts that one look is about; of more, looks take turns."""
AGAIN_SECONDS = 3600.0
"""What has not changed is told so often, so that the page is not older."""

Subject = TableSpec | Mart


def in_time(catalog: Catalog, marts: Sequence[Mart], *, running: bool) -> dg.Definitions:
    """The check of every view and every mart, and the sensor."""
    subjects = subjects_of(catalog, marts)
    if not subjects:
        return dg.Definitions()
    return dg.Definitions(
        asset_checks=[in_time_check(catalog, subjects)],
        sensors=[in_time_sensor(catalog, subjects, running=running)],
    )


def subjects_of(catalog: Catalog, marts: Sequence[Mart]) -> Mapping[dg.AssetKey, Subject]:
    """What is looked at, by the asset that bears the check."""
    tables = {
        served_key("trino", *table.identifier): table
        for database in catalog.databases
        for table in scored_tables(database)
    }
    return {**tables, **{mart_key(mart.name): mart for mart in marts if mart.sources}}


def in_time_check(
    catalog: Catalog, subjects: Mapping[dg.AssetKey, Subject]
) -> dg.AssetChecksDefinition:
    """The check, as a step that runs behind the assets, or by itself."""

    @dg.multi_asset_check(
        name=CHECK,
        specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=key,
                blocking=False,
                description="Changes of the source are where people look as soon as is promised.",
            )
            for key in subjects
        ],
        can_subset=True,
    )
    def look(
        context: dg.AssetCheckExecutionContext, endpoints: EndpointsResource
    ) -> Iterator[dg.AssetCheckResult]:
        chosen = {
            key.asset_key: subjects[key.asset_key] for key in context.selected_asset_check_keys
        }
        with as_failure():
            for key, found in read(catalog, chosen, endpoints).items():
                yield dg.AssetCheckResult(asset_key=key, check_name=CHECK, **judged(found))

    return look


def in_time_sensor(
    catalog: Catalog, subjects: Mapping[dg.AssetKey, Subject], *, running: bool
) -> dg.SensorDefinition:
    """The sensor that looks without a run."""
    statuses = dg.DefaultSensorStatus

    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=statuses.RUNNING if running else statuses.STOPPED,
        description="Says of tables and marts whether people see them as fresh as is promised.",
    )
    def look(context: dg.SensorEvaluationContext, endpoints: EndpointsResource) -> dg.SensorResult:
        before = decode_looks(context.cursor)
        now = datetime.now(UTC).timestamp()
        turn = choose_turn([key.to_user_string() for key in subjects], before)
        chosen = {key: one for key, one in subjects.items() if key.to_user_string() in turn}
        with as_failure():
            found = read(catalog, chosen, endpoints)
        looks = dict(before)
        told: list[dg.AssetCheckEvaluation] = []
        for key, one in found.items():
            made = context.instance.get_latest_materialization_event(key)
            state = one.held_by.name if one.held_by is not None else ""
            name = key.to_user_string()
            known = before.get(name)
            if known is None or known.is_due(state, now, made.timestamp if made else 0.0):
                told.append(dg.AssetCheckEvaluation(asset_key=key, check_name=CHECK, **judged(one)))
                known = Look(state, told_at=now, at=now)
            looks[name] = Look(state, told_at=known.told_at, at=now)
        late = sum(one.held_by is not None for one in found.values())
        return dg.SensorResult(
            asset_events=told,
            skip_reason=f"Looked at {len(found)}; {late} later than promised.",
            cursor=encode_looks(looks),
        )

    return look


def read(
    catalog: Catalog, chosen: Mapping[dg.AssetKey, Subject], endpoints: EndpointsResource
) -> Mapping[dg.AssetKey, "Freshness"]:
    """How fresh the chosen ones are; of views only where there is a Trino."""
    from carbon_pipelines.serving.freshness_reading import Asked, read_freshness

    resolved = endpoints.resolve()
    viewed = resolved.has_trino
    tables = {key: one for key, one in chosen.items() if viewed and isinstance(one, TableSpec)}
    marts = {key: one for key, one in chosen.items() if isinstance(one, Mart)}
    asked = Asked(tuple(tables.values()), tuple(marts.values()))
    found = read_freshness(catalog, asked, resolved)
    return dict(zip((*tables, *marts), found, strict=True))


def judged(found: "Freshness") -> dict[str, Any]:
    """What the check says."""
    from carbon_pipelines.serving.freshness_page import page, verdict

    held = found.held_by
    return {
        "passed": held is None,
        "severity": dg.AssetCheckSeverity.ERROR,
        "description": verdict(found),
        "metadata": {
            "carbon/freshness": dg.MetadataValue.md(page(found)),
            "carbon/held_by": held.name if held is not None else "",
            "carbon/promised_seconds": found.promise.total_seconds(),
            **numbers(found),
        },
    }


def numbers(found: "Freshness") -> dict[str, float]:
    """One number for each stage that is known, to plot."""
    behind = {
        f"carbon/{stage.name}_behind_seconds": round(stage.behind_seconds, 2)
        for stage in found.stages
        if stage.behind_seconds is not None
    }
    arrived = {
        f"carbon/{stage.name}_arrived_after_seconds": round(stage.arrived_after_seconds, 2)
        for stage in found.stages
        if stage.arrived_after_seconds is not None
    }
    return {**behind, **arrived}


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one table or mart last: the stage that held it up, or nothing.

    ``told_at`` is when Dagster was told, ``at`` when somebody looked; both epoch seconds.
    """

    state: str
    told_at: float
    at: float

    def is_due(self, state: str, now: float, made_at: float) -> bool:
        """Whether Dagster is to be told again."""
        changed = state != self.state or made_at > self.told_at
        return changed or now - self.told_at >= AGAIN_SECONDS


def choose_turn(names: Sequence[str], looks: Mapping[str, Look]) -> Collection[str]:
    """Those that were looked at longest ago."""
    in_order = sorted(names, key=lambda name: looks[name].at if name in looks else 0.0)
    return frozenset(in_order[:AT_ONCE])


def encode_looks(looks: Mapping[str, Look]) -> str:
    """The sensor's cursor."""
    seen = {name: [one.state, one.told_at, one.at] for name, one in looks.items()}
    return json.dumps({"format": 1, "looks": seen})


def decode_looks(cursor: str | None) -> Mapping[str, Look]:
    """Read a cursor; one of another format is forgotten, which tells everything once more."""
    document = json.loads(cursor) if cursor else {}
    if document.get("format") != 1:
        return {}
    return {name: Look(*seen) for name, seen in document["looks"].items()}
