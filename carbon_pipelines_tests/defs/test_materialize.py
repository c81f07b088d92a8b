"""What an asset makes of the facts of its domain call; the calls themselves are faked here."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.defs.lake.tables import lake_table
from carbon_pipelines.defs.resources.endpoints import EndpointsResource
from carbon_pipelines.defs.stream.databases import stream_database
from carbon_pipelines.lake import sync
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream import drain
from carbon_pipelines_tests.catalog.declarations import PRICE_TICK, declare
from carbon_pipelines_tests.cli.nowhere import NOWHERE
from carbon_pipelines_tests.lake.local_lake import START

SYNCED = sync.TableSynced(
    identifier=("market", "price_tick"),
    snapshot_id=2**62,
    committed=True,
    copied_rows=0,
    upserted_rows=3,
    deleted_rows=1,
    events=5,
    first_offset=10,
    last_offset=15,
    lag_offsets=0,
    position=Position(0x16B3748, 3),
    row_count=42,
    column_schema=(("instrument_id", "long"), ("price", "decimal(18, 4)")),
    progress=START,
    seconds_by_step={"merge": 0.5},
)


@pytest.fixture(autouse=True)
def endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)


def materialized(asset: dg.AssetsDefinition, **config: object) -> dict[str, object]:
    result = dg.materialize(
        [asset],
        resources={"endpoints": EndpointsResource()},
        run_config={"ops": {asset.op.name: {"config": config}}} if config else None,
    )
    [event] = result.asset_materializations_for_node(asset.op.name)
    return {name: entry.value for name, entry in event.metadata.items()}


def test_a_lake_table_shows_its_merge_under_the_agreed_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = load_catalog(declare(tmp_path, "market", price_tick=PRICE_TICK)).databases[0]
    monkeypatch.setattr(sync, "sync_table", lambda *_, **__: SYNCED)

    metadata = materialized(lake_table(database.tables[0], database))

    schema = metadata.pop("dagster/column_schema")
    assert isinstance(schema, dg.TableSchema)
    assert [(column.name, column.type) for column in schema.columns] == list(SYNCED.column_schema)
    assert metadata == {
        "dagster/row_count": 42,
        "carbon/snapshot_id": str(2**62),
        "carbon/position": "0/16B3748-3",
        "carbon/first_offset": 10,
        "carbon/last_offset": 15,
        "carbon/lag_offsets": 0,
        "carbon/dead_letters": 0,
        "carbon/committed": True,
        "carbon/copied_rows": 0,
        "carbon/upserted_rows": 3,
        "carbon/deleted_rows": 1,
        "carbon/seconds_by_step": {"merge": 0.5},
    }


@pytest.mark.parametrize(
    ("key", "warned"),
    [
        (("instrument_id", "traded_at"), False),
        (("traded_at", "instrument_id"), False),
        (("instrument", "traded_at"), True),
    ],
)
def test_a_key_column_that_the_source_calls_otherwise_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: tuple[str, ...], *, warned: bool
) -> None:
    database = load_catalog(declare(tmp_path, "market", price_tick=PRICE_TICK)).databases[0]
    monkeypatch.setattr(sync, "sync_table", lambda *_, **__: replace(SYNCED, key=key))

    metadata = materialized(lake_table(database.tables[0], database))

    said = "key column instrument_id is called instrument in its source now"
    assert (said in str(metadata.get("carbon/renamed_key"))) == warned


def test_a_drain_gets_its_timeout_from_the_run_and_shows_where_kafka_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = load_catalog(declare(tmp_path, "market", price_tick=PRICE_TICK)).databases[0]
    timeouts: list[timedelta] = []

    def drained(*_: object, timeout: timedelta) -> drain.Drained:
        timeouts.append(timeout)
        return drain.Drained(
            Position(0x10, 1),
            marker_lsn=16,
            events=7,
            seconds=0.2,
            by="self",
            generation=1,
            advice=("name it",),
        )

    monkeypatch.setattr(drain, "drain", drained)

    metadata = materialized(stream_database(database), timeout_seconds=5.0)

    assert timeouts == [timedelta(seconds=5)]
    assert metadata == {
        "carbon/position": "0/10-1",
        "carbon/events": 7,
        "carbon/seconds": 0.2,
        "carbon/captured_by": "self",
        "carbon/generation": 1,
        "carbon/advice": ["name it"],
    }


def test_a_missing_stack_fails_the_run_with_the_variable_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CARBON_STREAM_BOOTSTRAP")
    monkeypatch.setenv("CARBON_HOME", str(tmp_path / "none"))
    database = load_catalog(declare(tmp_path, "market", price_tick=PRICE_TICK)).databases[0]

    with pytest.raises(dg.Failure, match="CARBON_STREAM_BOOTSTRAP"):
        materialized(lake_table(database.tables[0], database))
