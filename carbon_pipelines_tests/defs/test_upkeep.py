"""Upkeep is asked for where the last look at a table says so, and once for each look."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster_k8s.job import get_user_defined_k8s_config

from carbon_pipelines.catalog.load import Catalog, load_catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.defs.automation.upkeep import (
    EXPIRED_ENOUGH,
    POD_TAG,
    request_of,
    upkeep_sensor,
    weekly_schedule,
)
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.defs.jobs.erasure import erasure_schedule
from carbon_pipelines.defs.keys import table_key
from carbon_pipelines.defs.maintenance.actions import ACTIONS, COMPACTION, EXPIRY
from carbon_pipelines.defs.maintenance.health import EXPIRED, GAIN
from carbon_pipelines_tests.catalog.declarations import declare, minimal


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    declare(tmp_path, "market", credit=minimal("credit"), tick=minimal("tick"))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path))
    return load_catalog(tmp_path)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def looked(
    instance: dg.DagsterInstance, table: TableSpec, *, gain: bool = False, expired: int = 0
) -> None:
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            table_key("maintenance", table), metadata={GAIN: gain, EXPIRED: expired}
        )
    )


def asked(catalog: Catalog, instance: dg.DagsterInstance) -> list[tuple[str | None, str]]:
    tick = upkeep_sensor(catalog, running=False).evaluate_tick(
        dg.build_sensor_context(instance=instance, definitions=build_definitions(os.environ))
    )
    return [
        (request.partition_key, key.path[-1])
        for request in tick.run_requests or []
        for key in request.asset_selection or []
    ]


def began(
    instance: dg.DagsterInstance,
    request: dg.RunRequest,
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.FAILURE,
) -> None:
    instance.add_run(dg.DagsterRun(job_name="upkeep", tags=dict(request.tags), status=status))


def test_a_table_that_gains_nothing_costs_no_run(
    catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    assert asked(catalog, instance) == []
    for table in catalog.tables:
        looked(instance, table, gain=False, expired=EXPIRED_ENOUGH - 1)

    assert asked(catalog, instance) == []


def test_what_a_look_asks_for_is_asked_for_once_however_it_ends(
    catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    credit, tick = catalog.tables
    looked(instance, credit, gain=True)
    looked(instance, tick, gain=True, expired=EXPIRED_ENOUGH)
    wanted = [("market/credit", "compaction"), ("market/tick", "compaction")]
    assert asked(catalog, instance) == [*wanted, ("market/tick", "expiry")]

    began(instance, request_of(tick, COMPACTION))
    began(instance, request_of(tick, EXPIRY), dg.DagsterRunStatus.SUCCESS)
    assert asked(catalog, instance) == [("market/credit", "compaction")]

    looked(instance, tick, gain=True)
    assert asked(catalog, instance) == wanted


def test_an_action_that_has_not_ended_is_not_asked_for_again(
    catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    credit, _ = catalog.tables
    began(instance, request_of(credit, COMPACTION), dg.DagsterRunStatus.STARTED)
    looked(instance, credit, gain=True)

    assert asked(catalog, instance) == []


def test_once_a_week_every_table_has_everything_done(catalog: Catalog) -> None:
    context = dg.build_schedule_context(
        repository_def=build_definitions(os.environ).get_repository_def(),
        scheduled_execution_time=datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=4),
    )
    requests = weekly_schedule(catalog, running=False).evaluate_tick(context).run_requests or []

    assert [request.partition_key for request in requests] == ["market/credit", "market/tick"]
    for request in requests:
        assert request.asset_selection == list(ACTIONS)
        assert all(not op["config"]["dry_run"] for op in request.run_config["ops"].values())


def test_erasures_whose_date_has_come_are_tried_every_four_hours_and_all_at_night(
    catalog: Catalog,
) -> None:
    definitions = build_definitions(os.environ)
    due_only: list[bool] = []
    for hour in (2, 6, 22):
        context = dg.build_schedule_context(
            repository_def=definitions.get_repository_def(),
            scheduled_execution_time=datetime(2026, 11, 1, hour, 41, tzinfo=UTC),
        )
        [request] = erasure_schedule(running=False).evaluate_tick(context).run_requests or []
        job = definitions.resolve_job_def("erase_due")
        assert dg.validate_run_config(job, request.run_config)
        config = request.run_config["ops"]["erase_from_tables"]["config"]
        assert not config["dry_run"]
        due_only.append(config["due_only"])

    assert due_only == [False, True, True]


def test_a_request_is_a_run_that_dagster_can_make(catalog: Catalog) -> None:
    job = build_definitions(os.environ).resolve_job_def("upkeep")
    request = request_of(catalog.tables[0], COMPACTION)

    assert dg.validate_run_config(
        job.get_subset(asset_selection=set(request.asset_selection or ())), request.run_config
    )
    assert job.partitions_def is not None
    assert job.partitions_def.has_partition_key(str(request.partition_key))


def test_the_run_of_a_big_table_is_a_pod_of_its_own_size(tmp_path: Path) -> None:
    big = minimal("tick") + "pod: {cpu: 2, memory: 8Gi}\n"
    declare(tmp_path, "market", credit=minimal("credit"), tick=big)
    credit, tick = sorted(load_catalog(tmp_path).tables, key=lambda table: table.name)

    assert POD_TAG not in request_of(credit, COMPACTION).tags
    made = get_user_defined_k8s_config(request_of(tick, COMPACTION).tags)
    assert made.container_config == {
        "resources": {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"memory": "8Gi"}}
    }


def test_without_a_table_there_is_nothing_to_keep_up(tmp_path: Path) -> None:
    definitions = build_definitions({"CARBON_CATALOG_DIR": str(tmp_path)})

    assert not list(definitions.resolve_all_asset_specs())
