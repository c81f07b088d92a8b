"""Readers of ``certified`` see a snapshot that was proven and scored, whatever becomes of main."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from trino.dbapi import Cursor

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.cli import cli
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.embedded.endpoints import source_variable
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import CertifiedMovedError
from carbon_pipelines.lake import certified
from carbon_pipelines.lake.certificate import find_certified
from carbon_pipelines.lake.certified import CANDIDATE
from carbon_pipelines.maintenance.expiry_run import expire_table
from carbon_pipelines.maintenance.retention import Retention
from carbon_pipelines.quality import certification
from carbon_pipelines.quality.certification import Certification, certify_table
from carbon_pipelines.quality.lake_scores import open_scores
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.pipeline import Killed, Pipeline
from carbon_pipelines_tests.integration.quality_bench import Rows, damage_rows
from carbon_pipelines_tests.integration.quality_writers import SteadyChanges, captured
from carbon_pipelines_tests.oracle import differences

pytestmark = pytest.mark.integration

ROUNDS = 50 if os.environ.get("CARBON_NIGHTLY") else 5
BUSY_ROWS = 20_000
LOST_ROW = 20_001
"""Nobody writes to it, so that nothing but its loss can be found."""

SCHEMA = (
    "CREATE TABLE plant (id integer PRIMARY KEY, name text)",
    "CREATE TABLE reading (id integer PRIMARY KEY, name text, code text, plant integer,"
    " mw numeric(9,3), at timestamptz NOT NULL)",
    "INSERT INTO plant SELECT n, 'plant ' || n FROM generate_series(1, 9) n",
    "INSERT INTO reading SELECT n, 'reading ' || n, 'c' || n, 1 + n % 9, n % 90, now()"
    " FROM generate_series(1, 500) n",
)
DATABASE = "owner: team:tests\n"
PLANT = """
source_table: plant
key: [id]
owner: team:tests
freshness: 1h
description: A plant.
"""
READING = """
source_table: reading
key: [id]
owner: team:tests
freshness: 1h
description: What a plant gave.
expectations:
  - {kind: not_null, column: name, severity: critical}
  - {kind: unique, columns: [code], severity: critical}
  - {kind: references, columns: [plant], table: plant, severity: critical}
  - {kind: between, column: mw, min: 0, max: 100, severity: critical}
  - {kind: fresh, column: at, at_most: 1d, severity: critical}
  - kind: query
    name: codes_are_of_ids
    sql: SELECT id FROM reading WHERE code NOT LIKE 'c%'
    severity: critical
"""


class Certified(Pipeline):
    """Tables ``plant`` and ``reading``, declared on disk, and looked at as Dagster does."""

    directory: Path

    def declare_on_disk(self, directory: Path) -> None:
        home = directory / self.name
        home.mkdir()
        for name, text in (("_database", DATABASE), ("plant", PLANT), ("reading", READING)):
            (home / f"{name}.yaml").write_text(text)
        self.directory = directory
        self.tables = {
            table.name: table for table in load_catalog(directory).database(self.name).tables
        }

    def certify(self, **more: object) -> Certification:
        with open_scores(self.endpoints.lake) as scores:
            return certify_table(
                self.tables["reading"],
                self.database,
                self.endpoints,
                scores,
                by="a test",
                **more,  # pyright: ignore[reportArgumentType]
            )

    @property
    def seen(self) -> int | None:
        """The snapshot that readers see."""
        standing = find_certified(self.iceberg("reading").metadata, "reading")
        return standing.snapshot_id if standing is not None else None

    def run_gate(self) -> tuple[dict[str, tuple[bool, str]], set[str]]:
        """Materialize the score and its reader; the checks by name, and what was made."""
        path = [self.name, "reading"]

        @dg.asset(key=dg.AssetKey(["mart", *path]), deps=[dg.AssetKey(["quality", *path])])
        def reader() -> None:
            pass

        definitions = dg.Definitions.merge(
            build_definitions(os.environ), dg.Definitions(assets=[reader])
        )
        job = definitions.resolve_implicit_global_asset_job_def()
        selected = [dg.AssetKey([stage, *path]) for stage in ("quality", "mart")]
        with dg.DagsterInstance.ephemeral() as instance:
            result = job.execute_in_process(
                instance=instance, asset_selection=selected, raise_on_error=False
            )
        made = {event.asset_key.path[0] for event in result.get_asset_materialization_events()}
        assert result.success == ("mart" in made)
        found = {
            one.check_name: (one.passed, one.description or "")
            for one in result.get_asset_check_evaluations()
        }
        return found, made


@pytest.fixture
def lake(
    stack: Stack, source: SourceDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Certified]:
    made = Certified(stack, source)
    made.execute(*SCHEMA)
    made.declare_on_disk(tmp_path)
    monkeypatch.setenv("CARBON_HOME", str(stack.home))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path))
    monkeypatch.setenv(source_variable(made.name), made.dsn)
    made.drain()
    made.sync("plant")
    yield made
    made.close()


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.trino
def test_damage_of_every_dimension_is_found_explained_and_blocks_and_readers_see_none_of_it(
    lake: Certified, trino: Cursor
) -> None:
    found, made = lake.run_gate()
    assert {name: passed for name, (passed, _) in found.items()} == {
        "reconciled": True,
        "passes": True,
    }, found
    assert made == {"quality", "mart"}
    good = read_certified(lake, trino)
    assert len(good) == 500

    for check, said, damage, mend in damages(lake):
        damage()
        lake.sync("reading")
        before = lake.seen
        found, made = lake.run_gate()
        assert [name for name, (passed, _) in found.items() if not passed] == [check], said
        assert said in " ".join(found[check][1].split()), found
        assert "mart" not in made
        assert lake.seen == before
        assert read_certified(lake, trino) == good
        mend()
        lake.sync("reading")
        found, made = lake.run_gate()
        assert all(passed for passed, _ in found.values()), found
        assert "mart" in made
        good = read_certified(lake, trino)
    assert differences(lake.endpoints, lake.tables["reading"]) == 0


def damages(
    lake: Certified,
) -> Iterator[tuple[str, str, Callable[[], None], Callable[[], None]]]:
    """The check that fails, what it says, what is broken, and what mends it."""

    def source(*statements: str) -> Callable[[], None]:
        def act() -> None:
            lake.execute(*statements)
            lake.drain()

        return act

    for said, damage, mend in (
        ("not_null(name)", "name = NULL WHERE id = 7", "name = 'n' WHERE id = 7"),
        ("unique(code)", "code = 'c1' WHERE id = 2", "code = 'c2' WHERE id = 2"),
        ("references(plant)", "plant = 77 WHERE id = 3", "plant = 3 WHERE id = 3"),
        ("between(mw)", "mw = 500 WHERE id = 4", "mw = 5 WHERE id = 4"),
        ("fresh(at)", "at = now() - interval '2 days'", "at = now()"),
        ("codes_are_of_ids", "code = 'x5' WHERE id = 5", "code = 'c5' WHERE id = 5"),
    ):
        yield (
            "passes",
            f"critical: {said}",
            source(f"UPDATE reading SET {damage}"),
            source(f"UPDATE reading SET {mend}"),
        )

    def drop_row(rows: Rows) -> Rows:
        return [row for row in rows if row["id"] != 11]

    def change_byte(rows: Rows) -> Rows:
        return [row | {"name": "reading 1Z"} if row["id"] == 12 else row for row in rows]

    def damaged(change: Callable[[Rows], Rows]) -> Callable[[], None]:
        return lambda: damage_rows(lake.iceberg("reading"), change)

    def repair() -> None:
        run("verify", f"{lake.name}/reading", "--repair", "--yes", "--reason", "a test")

    yield "reconciled", "(11): missing in lake", damaged(drop_row), repair
    yield "reconciled", "(12)", damaged(change_byte), repair


def read_certified(lake: Certified, trino: Cursor) -> list[list[object]]:
    """The rows that readers of ``certified`` see in Trino."""
    return trino.execute(
        f"SELECT id, name, code, plant, mw, at FROM lake.{lake.name}.reading"
        " FOR VERSION AS OF 'certified' ORDER BY id"
    ).fetchall()


def test_a_flipped_byte_of_a_data_file_is_not_certified(lake: Certified) -> None:
    assert lake.certify().what == "moved"
    lake.execute("UPDATE reading SET mw = 1 WHERE id = 1")
    lake.drain()
    lake.sync("reading")
    iceberg = lake.iceberg("reading")
    before, path = lake.seen, next(iter(iceberg.scan().plan_files())).file.file_path
    whole = bytearray(iceberg.io.new_input(path).open().read())
    whole[len(whole) // 4] ^= 0x10
    with iceberg.io.new_output(path).create(overwrite=True) as stream:
        stream.write(bytes(whole))

    found, made = lake.run_gate()

    assert [passed for passed, _ in found.values()].count(False) >= 1, found
    assert "mart" not in made
    assert lake.seen == before


def test_between_full_proofs_only_changed_keys_are_compared_and_damage_there_is_found(
    lake: Certified,
) -> None:
    first = lake.certify()
    assert (first.what, first.verification and first.verification.changed_keys) == ("moved", None)
    again = lake.certify()
    assert again.what == "renewed"
    assert again.verification is not None
    assert again.verification.changed_keys == 0

    lake.execute(
        "UPDATE reading SET mw = mw + 1 WHERE id <= 20",
        "DELETE FROM reading WHERE id = 30",
        "UPDATE reading SET id = 1000 WHERE id = 40",
        "INSERT INTO reading"
        " SELECT n, 'new', 'c' || n, 1, 1, now() FROM generate_series(501, 505) n",
    )
    lake.drain()
    changed = lake.certify()
    assert changed.what == "moved"
    assert changed.verification is not None
    assert changed.verification.changed_keys == 28
    assert changed.standing is not None
    assert changed.standing.certificate is not None
    assert changed.standing.certificate.full_at == first.standing.certificate.full_at  # pyright: ignore[reportOptionalMemberAccess]
    assert differences(lake.endpoints, lake.tables["reading"]) == 0

    lake.execute("UPDATE reading SET mw = 7 WHERE id = 50")
    lake.drain()
    lake.sync("reading")
    damage_rows(
        lake.iceberg("reading"),
        lambda rows: [row | {"mw": 8} if row["id"] == 60 else row for row in rows],
    )
    # A foreign commit lies between: everything is compared, and the key that no event names found.
    foreign = lake.certify()
    assert foreign.what == "unequal"
    assert "(60)" in foreign.proof()
    assert lake.seen == changed.scored.snapshot_id
    run("verify", f"{lake.name}/reading", "--repair", "--yes", "--reason", "a test")
    assert lake.certify().what == "moved"

    lake.execute("TRUNCATE reading", "INSERT INTO reading SELECT 1, 'n', 'c1', 1, 1, now()")
    lake.drain()
    truncated = lake.certify()
    assert truncated.what == "moved"
    assert truncated.verification is not None
    assert truncated.verification.changed_keys is None


def test_all_rows_are_compared_after_upkeep_and_once_a_day(lake: Certified) -> None:
    lake.certify()
    lake.execute("UPDATE reading SET mw = 1 WHERE id = 1")
    lake.drain()
    lake.certify()
    run("compact", f"{lake.name}/reading", "--apply", "--min-files", "2", "--delete-ratio", "0.001")
    rewritten = lake.certify()
    assert rewritten.verification is not None
    assert rewritten.verification.changed_keys is None

    tomorrow = datetime.now(UTC) + timedelta(days=1, minutes=1)
    lake.execute("UPDATE reading SET at = now() + interval '1 day'")
    lake.drain()
    full = lake.certify(now=lambda: tomorrow)
    assert full.verification is not None
    assert full.verification.changed_keys is None


def test_a_source_that_is_away_leaves_readers_where_they_are_and_the_score_is_kept(
    lake: Certified, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.certify()
    before = lake.seen
    lake.execute("UPDATE reading SET mw = 1 WHERE id = 1")
    lake.drain()
    lake.sync("reading")
    away = lake.dsn.replace(f"/{lake.name}", "/nowhere_at_all")
    monkeypatch.setenv(source_variable(lake.name), away)
    monkeypatch.setattr(lake, "dsn", away)

    found, made = lake.run_gate()

    assert not found["reconciled"][0]
    assert "NOT compared with its source" in found["reconciled"][1]
    assert found["passes"][0]
    assert made == {"quality"}
    assert lake.seen == before


def test_readers_are_set_back_and_stay_until_they_are_let_go_on(lake: Certified) -> None:
    label = f"{lake.name}/reading"
    run("certify", label)
    first = lake.seen
    lake.execute("UPDATE reading SET mw = 1 WHERE id = 1")
    run("sync", label)
    run("certify", label)
    second = lake.seen
    assert "Nothing was changed" in run("rollback", label)
    assert lake.seen == second

    run("rollback", label, "--yes", "--reason", "the new ones are wrong")
    assert lake.seen == first
    held = run("certify", label, code=1)
    assert "held by" in held
    assert "the new ones are wrong" in held
    assert lake.seen == first
    expire_table(
        lake.catalog,
        lake.tables["reading"].identifier,
        Retention(max_age=timedelta(microseconds=1), at_least=1),
        datetime.now(UTC),
    )
    assert lake.seen == first
    assert "and those that they saw and that are there: none" not in run("certified", label)

    run("resume", label, "--reason", "they are right")
    assert "certified; readers see" in run("certify", label)
    assert lake.seen not in {first, None}
    assert "they are right" in run("certified", label) or "the new ones" in run("certified", label)
    assert "nobody set it back" in run("resume", label, "--reason", "again", code=1)


def test_the_jobs_show_where_readers_would_be_set_and_set_them_when_told_to(
    lake: Certified,
) -> None:
    definitions = build_definitions(os.environ)

    def job(name: str, op: str, *tables: str, **more: object) -> dg.ExecuteInProcessResult:
        labels = [f"{lake.name}/{table}" for table in tables or ["reading"]]
        config = {"tables": labels, "reason": "the new ones are wrong", **more}
        return definitions.resolve_job_def(name).execute_in_process(
            run_config={"ops": {op: {"config": config}}}, raise_on_error=False
        )

    def shown(result: dg.ExecuteInProcessResult) -> dict[str, object]:
        assert result.success
        [output] = [
            event.step_output_data
            for event in result.all_events
            if event.event_type_value == "STEP_OUTPUT"
        ]
        return {name: entry.value for name, entry in output.metadata.items()}

    lake.certify()
    first = lake.seen
    lake.execute("UPDATE reading SET mw = 1 WHERE id = 1")
    lake.drain()
    lake.certify()
    second = lake.seen

    assert shown(job("rollback", "roll_back"))["carbon/rolled_back"] is False
    assert lake.seen == second
    assert not job("rollback", "roll_back", "reading", "plant", dry_run=False).success
    assert lake.seen == second
    done = shown(job("rollback", "roll_back", to=str(first), dry_run=False))
    assert (done["carbon/rolled_back"], done["carbon/tables"]) == (True, [f"{lake.name}/reading"])
    assert lake.seen == first
    assert lake.certify().what == "held"

    assert shown(job("resume", "let_go_on"))["carbon/resumed"] is False
    assert lake.certify().what == "held"
    assert shown(job("resume", "let_go_on", dry_run=False))["carbon/resumed"] is True
    assert lake.certify().what == "moved"
    assert not job("resume", "let_go_on", dry_run=False).success


def test_two_who_certify_at_once_exclude_each_other_and_a_dead_one_holds_nobody_up(
    lake: Certified, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.certify()
    real = certification.certify

    def other_first(*arguments: object, **more: object) -> object:
        monkeypatch.setattr(certification, "certify", real)
        lake.execute("UPDATE reading SET mw = 3 WHERE id = 3")
        lake.drain()
        assert lake.certify().what == "moved"
        return real(*arguments, **more)  # pyright: ignore[reportArgumentType]

    lake.execute("UPDATE reading SET mw = 2 WHERE id = 2")
    lake.drain()
    monkeypatch.setattr(certification, "certify", other_first)
    with pytest.raises(CertifiedMovedError, match="somebody else moved it"):
        lake.certify()

    def dies(*_: object, **__: object) -> object:
        raise Killed

    monkeypatch.setattr(certification, "certify", dies)
    monkeypatch.setattr(certification, "release_candidate", lambda *_: None)
    lake.execute("UPDATE reading SET mw = 4 WHERE id = 4")
    lake.drain()
    with pytest.raises(Killed):
        lake.certify()
    assert CANDIDATE in lake.iceberg("reading").metadata.refs
    monkeypatch.setattr(certification, "certify", real)
    monkeypatch.setattr(certification, "release_candidate", certified.release_candidate)
    assert lake.certify().what == "moved"
    assert CANDIDATE not in lake.iceberg("reading").metadata.refs


@pytest.mark.timeout(120 * ROUNDS)
def test_no_false_alarm_beside_2000_changes_a_second_and_then_one_row_is_found(
    lake: Certified,
) -> None:
    lake.execute(
        "INSERT INTO reading SELECT n, 'r', 'c' || n, 1 + n % 9, 1, now()"
        f" FROM generate_series(501, {LOST_ROW}) n",
    )
    lake.drain()
    lake.certify()
    compared: list[int | None] = []
    began = time.monotonic()
    with captured(lake), SteadyChanges(lake.dsn, "reading", keys=BUSY_ROWS, rows=2000) as busy:
        for number in range(ROUNDS):
            done = lake.certify(full=number % 2 == 0)
            assert done.verification is not None, done.proof()
            assert not done.verification.differs, done.proof()
            assert done.what in {"moved", "renewed", "unproven"}, done.sentence()
            compared.append(done.verification.changed_keys)
        rate = busy.changed / (time.monotonic() - began)
        damage_rows(
            lake.iceberg("reading"), lambda rows: [row for row in rows if row["id"] != LOST_ROW]
        )
        found = lake.certify()
    sys.stderr.write(f"{rate:,.0f} changes a second, {ROUNDS} rounds, compared {compared}\n")
    assert rate > 500  # on a busy machine; what it is, is printed
    assert None in compared
    assert any(compared)
    assert found.what == "unequal", found.sentence()
    assert f"({LOST_ROW}): missing in lake" in found.proof()
