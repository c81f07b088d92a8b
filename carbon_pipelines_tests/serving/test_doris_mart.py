"""A mart from its snapshot to what the stand-in for Doris shows: its SQL run by DuckDB."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from carbon_pipelines.errors import (
    LoadRefusedError,
    NotVisibleError,
    ServedMartMissingError,
    ServedValueError,
    ServiceUnavailableError,
    StatementRefusedError,
)
from carbon_pipelines.mart.lake_table import replace_rows
from carbon_pipelines.mart.project import Mart
from carbon_pipelines.serving.doris_http import DorisHttp
from carbon_pipelines.serving.doris_mart import Doris, ServedMart, serve_mart, wait_for_lake
from carbon_pipelines_tests.lake.local_lake import open_local
from carbon_pipelines_tests.serving.stub import FakeTime, StubDoris, running_stub

COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "market": (pa.string(), ["carbon", None, "", 'a\n"ü\\N']),
    "is_open": (pa.bool_(), [True, False, None, True]),
    "quotes": (pa.int64(), [2**63 - 1, None, -1, 0]),
    "rank": (pa.int32(), [1, 2, 3, None]),
    "cost": (
        pa.decimal128(38, 7),
        [
            Decimal("1234567890123456789012345678901.2345678"),
            None,
            Decimal("-0.0000001"),
            Decimal(0),
        ],
    ),
    "energy": (pa.float64(), [0.1, -2.5, None, 0.0]),
    "day": (pa.date32(), [date(2025, 9, 1), date(1, 1, 1), None, date(9999, 12, 31)]),
    "hour_at": (
        pa.timestamp("us", tz="UTC"),
        [datetime(2025, 9, 1, 10, 0, 0, 123456, UTC), None, datetime(1, 1, 1, tzinfo=UTC), None],
    ),
    "local_at": (
        pa.timestamp("us"),
        [
            datetime.fromisoformat("2025-09-01T10:00:00"),
            None,
            datetime.fromisoformat("9999-12-31T23:59:59.999999"),
            None,
        ],
    ),
}
ROWS = pa.table({name: pa.array(values, kind) for name, (kind, values) in COLUMNS.items()})


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = open_local(tmp_path)
    publish(catalog, ROWS)
    return catalog


@pytest.fixture
def stub() -> Iterator[StubDoris]:
    with running_stub() as running:
        yield running


def publish(catalog: Catalog, rows: pa.Table) -> None:
    replace_rows(catalog, ("mart", "prices"), lambda: rows.to_reader(), {})


def mart(*classifications: str) -> Mart:
    return Mart("prices", "", "team:a", {}, frozenset(classifications), (), ())


def doris(stub: StubDoris) -> Doris:
    settings = stub.settings()
    return Doris(settings, stub, DorisHttp(settings), FakeTime().clock())


def serve(stub: StubDoris, catalog: Catalog, **options: Any) -> ServedMart:
    return serve_mart(doris(stub), catalog, mart(), **options)


def wanted(rows: pa.Table) -> list[tuple[Any, ...]]:
    plain = rows.set_column(
        rows.column_names.index("hour_at"), "hour_at", rows["hour_at"].cast(pa.timestamp("us"))
    )
    return sorted((tuple(row.values()) for row in plain.to_pylist()), key=repr)


def shown(stub: StubDoris) -> list[tuple[Any, ...]]:
    return sorted(stub.rows("prices"), key=repr)


def tables(stub: StubDoris) -> list[str]:
    found = stub.engine.execute("SELECT table_name FROM information_schema.tables").fetchall()
    return sorted(name for (name,) in found)


def test_a_mart_is_shown_exactly_and_its_sum_is_the_one_that_sql_makes(
    stub: StubDoris, catalog: Catalog
) -> None:
    served = serve(stub, catalog)

    assert shown(stub) == wanted(ROWS)
    assert served.changed
    assert served.rows.rows == ROWS.num_rows
    assert served.label == stub.applied[0]
    assert tables(stub) == ["prices"]


def test_what_is_shown_already_is_not_sent_again(stub: StubDoris, catalog: Catalog) -> None:
    serve(stub, catalog)

    again = serve(stub, catalog)

    assert (again.changed, again.label, stub.bodies) == (False, None, 1)


def test_other_rows_take_the_place_of_those_before(stub: StubDoris, catalog: Catalog) -> None:
    serve(stub, catalog)
    publish(catalog, ROWS.slice(1))

    assert serve(stub, catalog).changed
    assert shown(stub) == wanted(ROWS.slice(1))
    assert tables(stub) == ["prices"]


def test_columns_that_went_are_gone_though_all_others_agree(
    stub: StubDoris, catalog: Catalog
) -> None:
    serve(stub, catalog)
    publish(catalog, ROWS.drop_columns(["energy"]))

    assert serve(stub, catalog).changed
    assert shown(stub) == wanted(ROWS.drop_columns(["energy"]))


def test_rows_that_somebody_changed_in_doris_are_put_right(
    stub: StubDoris, catalog: Catalog
) -> None:
    serve(stub, catalog)
    stub.engine.execute("UPDATE mart.prices SET cost = cost + 0.0000001")

    assert serve(stub, catalog).changed
    assert shown(stub) == wanted(ROWS)


def test_a_mart_without_rows_is_shown_without_rows(stub: StubDoris, catalog: Catalog) -> None:
    publish(catalog, ROWS.slice(0, 0))

    served = serve(stub, catalog)

    assert (served.rows.rows, served.label, stub.rows("prices")) == (0, None, [])


def test_what_a_run_left_that_died_before_the_swap_is_not_loaded_again(
    stub: StubDoris, catalog: Catalog
) -> None:
    stub.sql_faults["ALTER TABLE"] = ServiceUnavailableError("Doris", "gone")
    with pytest.raises(ServiceUnavailableError):
        serve(stub, catalog)
    assert "prices" not in tables(stub)

    assert serve(stub, catalog).changed
    assert shown(stub) == wanted(ROWS)
    assert stub.bodies == 1


@pytest.mark.parametrize("before", [False, True])
def test_a_swap_whose_answer_was_lost_counts_if_its_rows_are_shown(
    stub: StubDoris, catalog: Catalog, *, before: bool
) -> None:
    if before:
        serve(stub, catalog)
        publish(catalog, ROWS.slice(2))
    stub.sql_faults["ALTER TABLE"] = ServiceUnavailableError("Doris", "after it was done")

    assert serve(stub, catalog).changed
    assert shown(stub) == wanted(ROWS.slice(2) if before else ROWS)


def test_a_table_dropped_by_hand_is_loaded_anew_though_its_label_is_used(
    stub: StubDoris, catalog: Catalog
) -> None:
    first = serve(stub, catalog)
    stub.engine.execute("DROP TABLE mart.prices")

    second = serve(stub, catalog)

    assert second.label == f"{first.label}_1"
    assert shown(stub) == wanted(ROWS)


def test_rows_that_are_not_the_snapshots_never_come_before_readers(
    stub: StubDoris, catalog: Catalog
) -> None:
    serve(stub, catalog)
    publish(catalog, ROWS.slice(1))
    apply = stub.apply
    stub.apply = lambda table, label, lines: apply(table, label, lines[:-1])  # type: ignore[method-assign]

    with pytest.raises(NotVisibleError, match="it has 2 rows, and the snapshot 3"):
        serve(stub, catalog)

    assert shown(stub) == wanted(ROWS)
    assert tables(stub) == ["prices"]


def test_a_load_that_is_refused_leaves_readers_what_they_saw(
    stub: StubDoris, catalog: Catalog
) -> None:
    serve(stub, catalog)
    publish(catalog, ROWS.slice(1))
    stub.faults.append("rows")

    with pytest.raises(LoadRefusedError) as refused:
        serve_mart(doris(stub), catalog, mart("internal", "confidential"))

    assert "Zebra" not in str(refused.value)
    assert shown(stub) == wanted(ROWS)


def test_doris_can_fetch_the_snapshot_from_the_lake_itself(
    stub: StubDoris, catalog: Catalog
) -> None:
    stub.engine.register(
        "lake_rows", ROWS.set_column(7, "hour_at", ROWS["hour_at"].cast(pa.timestamp("us")))
    )
    snapshot = catalog.load_table(("mart", "prices")).current_snapshot()
    assert snapshot is not None
    execute = stub._execute

    def with_lake(statement: str) -> list[Any]:
        place = f"`lake`.`mart`.`prices` FOR VERSION AS OF {snapshot.snapshot_id}"
        if statement.startswith("REFRESH"):
            return []
        return execute(statement.replace(place, "lake_rows"))

    stub._execute = with_lake  # type: ignore[method-assign]

    served = serve(stub, catalog, way="insert_select")

    assert shown(stub) == wanted(ROWS)
    assert (served.label, stub.asked) == (None, [])
    assert "REFRESH TABLE `lake`.`mart`.`prices`" in stub.statements


def test_a_lake_that_doris_shows_old_is_waited_for_and_then_told(
    stub: StubDoris, catalog: Catalog
) -> None:
    stub.engine.register("lake_rows", ROWS.slice(1))
    execute = stub._execute

    def with_lake(statement: str) -> list[Any]:
        if statement.startswith("REFRESH"):
            return []
        return execute(statement.replace("`lake`.`mart`.`prices`", "lake_rows"))

    stub._execute = with_lake  # type: ignore[method-assign]

    with pytest.raises(NotVisibleError, match=r"lake\.mart\.prices does not show table snapshot"):
        wait_for_lake(doris(stub), catalog, mart())


def test_a_table_of_another_kind_in_its_place_is_told(stub: StubDoris, catalog: Catalog) -> None:
    stub.engine.execute("CREATE TABLE mart.prices (x INTEGER)")
    stub.sql_faults["ALTER TABLE"] = StatementRefusedError("Doris", "ALTER", "not an OLAP table")

    with pytest.raises(StatementRefusedError, match="not an OLAP table"):
        serve(stub, catalog)


def test_a_mart_that_was_never_published_says_how(stub: StubDoris, tmp_path: Path) -> None:
    with pytest.raises(ServedMartMissingError, match='"carbon marts build prices"'):
        serve(stub, open_local(tmp_path))


def test_a_value_that_doris_cannot_hold_is_told_and_nothing_sent(
    stub: StubDoris, catalog: Catalog
) -> None:
    publish(catalog, pa.table({"energy": pa.array([1.0, float("nan")])}))

    with pytest.raises(ServedValueError, match="column energy has a value that DOUBLE lacks"):
        serve(stub, catalog)
    assert stub.statements == []
