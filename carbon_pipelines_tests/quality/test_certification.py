"""Readers go forward to what is good, back only by people, and never to what is gone."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pyiceberg.table.metadata import TableMetadata

from carbon_pipelines.errors import (
    CertifiedMovedError,
    CertifiedRefusedError,
    NotCertifiedError,
    RollbackRefusedError,
    StateFormatError,
)
from carbon_pipelines.lake.certificate import (
    HISTORY,
    KEPT_MOVES,
    PROPERTY,
    Certificate,
    Standing,
    find_certified,
    is_ahead,
    past_certificates,
    without_reasons,
)
from carbon_pipelines.lake.certified import (
    CANDIDATE,
    certify,
    keep_candidate,
    release_candidate,
)
from carbon_pipelines.lake.connection import load_lake_table
from carbon_pipelines.maintenance.expiry_run import expire_table
from carbon_pipelines.maintenance.retention import Retention
from carbon_pipelines.quality.certification import judge
from carbon_pipelines.quality.rollback import (
    apply_resume,
    apply_rollback,
    plan_resume,
    plan_rollback,
)
from carbon_pipelines.quality.scoring import ScoredTable
from carbon_pipelines.quality.verification import Verification
from carbon_pipelines_tests.lake.local_lake import LocalLake

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def certificate(snapshot_id: int, **more: Any) -> Certificate:
    found = Certificate(snapshot_id, "0/10-1", 5, 98.5, "0/10-1", NOW, NOW, NOW, "a test")
    return replace(found, **more)


class Readers(RuleBasedStateMachine):
    """One table whose readers are moved forward, set back, and let go on, while it is tended."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory(prefix="carbon-readers-")
        self.lake = LocalLake(Path(self.directory.name), {"id": "int8", "n": "int8"}, ["id"])
        self.lake.load([{"id": 1, "n": 0}])
        self.seen: int | None = None
        self.saw: list[int] = []
        self.held = False

    def teardown(self) -> None:
        self.lake.catalog.close()
        self.directory.cleanup()

    @property
    def metadata(self) -> TableMetadata:
        return self.lake.fresh().metadata

    @property
    def standing(self) -> Standing | None:
        return find_certified(self.metadata, "t")

    def certify(self, snapshot_id: int) -> None:
        certify(
            self.lake.catalog,
            self.lake.spec.identifier,
            certificate(snapshot_id),
            expected=self.seen,
        )

    @rule(n=st.integers(1, 9))
    def merge(self, n: int) -> None:
        self.lake.merge([{"op": "u", "after": {"id": 1, "n": n}}])

    @rule()
    def look_at_the_newest(self) -> None:
        head = self.metadata.current_snapshot()
        assert head is not None
        keep_candidate(self.lake.catalog, self.lake.spec.identifier, head.snapshot_id)
        if self.held or not (
            head.snapshot_id == self.seen
            or is_ahead(self.metadata, head.snapshot_id, self.standing)
        ):
            release_candidate(self.lake.catalog, self.lake.spec.identifier, head.snapshot_id)
            return
        self.certify(head.snapshot_id)
        if self.seen not in {None, head.snapshot_id}:
            self.saw.append(cast("int", self.seen))
        self.seen = head.snapshot_id

    @rule()
    def move_it_from_where_it_is_not(self) -> None:
        head = self.metadata.current_snapshot()
        assert head is not None
        with pytest.raises(CertifiedMovedError, match="somebody else moved it"):
            certify(
                self.lake.catalog,
                self.lake.spec.identifier,
                certificate(head.snapshot_id),
                expected=1,
            )

    @rule()
    def move_it_to_what_is_gone(self) -> None:
        with pytest.raises(CertifiedRefusedError, match="no snapshot 1 any more"):
            self.certify(1)

    @rule(to_last=st.booleans())
    def set_back(self, *, to_last: bool) -> None:
        past = [
            one.snapshot_id
            for one in past_certificates(self.metadata, "t")
            if one.snapshot_id != self.seen
        ]
        catalog, table = self.lake.catalog, self.lake.spec
        if self.seen is None:
            with pytest.raises(NotCertifiedError):
                plan_rollback(catalog, table)
            return
        if not past:
            with pytest.raises(RollbackRefusedError, match="are there: none"):
                plan_rollback(catalog, table)
            return
        assert set(past) <= set(self.saw)
        to = past[0] if to_last else past[-1]
        plan = plan_rollback(catalog, table, None if to_last else to)
        assert plan.target.snapshot_id == to
        assert self.standing == plan.standing
        apply_rollback(catalog, plan, by="somebody", reason="it is wrong", now=NOW)
        self.saw.append(self.seen)
        self.seen, self.held = to, True

    @rule()
    def let_go_on(self) -> None:
        catalog, table = self.lake.catalog, self.lake.spec
        if not self.held:
            with pytest.raises((RollbackRefusedError, NotCertifiedError)):
                plan_resume(catalog, table)
            return
        apply_resume(catalog, plan_resume(catalog, table), by="somebody", reason="it is right")
        self.held = False

    @precondition(lambda self: self.seen is not None)
    @rule()
    def expire(self) -> None:
        retention = Retention(max_age=timedelta(microseconds=1), at_least=1)
        expire_table(self.lake.catalog, self.lake.spec.identifier, retention, datetime.now(UTC))

    @invariant()
    def readers_see_what_was_said(self) -> None:
        standing = self.standing
        assert (standing.snapshot_id if standing else None) == self.seen
        if standing is not None:
            assert standing.certificate is not None
            assert standing.held == self.held
            assert self.metadata.snapshot_by_id(standing.snapshot_id) is not None
            assert (standing.certificate.reason == "it is wrong") >= self.held

    @invariant()
    def nothing_is_kept_that_nobody_looks_at(self) -> None:
        assert CANDIDATE not in self.metadata.refs


TestReaders = pytest.mark.integration(Readers.TestCase)
TestReaders.settings = settings(max_examples=12, stateful_step_count=14, deadline=None)


def test_a_candidate_is_kept_and_let_go(tmp_path: Path) -> None:
    lake = LocalLake(tmp_path, {"id": "int8", "n": "int8"}, ["id"])
    lake.load([{"id": 1, "n": 0}])
    first = lake.fresh().metadata.current_snapshot_id
    assert first is not None
    keep_candidate(lake.catalog, lake.spec.identifier, first)
    lake.merge([{"op": "u", "after": {"id": 1, "n": 1}}])
    lake.merge([{"op": "u", "after": {"id": 1, "n": 2}}])
    retention = Retention(max_age=timedelta(microseconds=1), at_least=1)

    expire_table(lake.catalog, lake.spec.identifier, retention, datetime.now(UTC))
    assert lake.fresh().metadata.snapshot_by_id(first) is not None

    release_candidate(lake.catalog, lake.spec.identifier, first)
    expire_table(lake.catalog, lake.spec.identifier, retention, datetime.now(UTC))
    assert lake.fresh().metadata.snapshot_by_id(first) is None
    with pytest.raises(CertifiedRefusedError, match="no snapshot"):
        keep_candidate(lake.catalog, lake.spec.identifier, first)


def test_a_tag_of_that_name_is_not_moved(tmp_path: Path) -> None:
    lake = LocalLake(tmp_path, {"id": "int8"}, ["id"])
    lake.load([{"id": 1}])
    head = lake.fresh().metadata.current_snapshot_id
    assert head is not None
    lake.fresh().manage_snapshots().create_tag(head, "certified").commit()

    with pytest.raises(CertifiedRefusedError, match="is a tag"):
        certify(lake.catalog, lake.spec.identifier, certificate(head), expected=head)


def test_a_branch_that_somebody_made_has_no_certificate_and_goes_on(tmp_path: Path) -> None:
    lake = LocalLake(tmp_path, {"id": "int8", "n": "int8"}, ["id"])
    lake.load([{"id": 1, "n": 0}])
    first = lake.fresh().metadata.current_snapshot_id
    assert first is not None
    lake.fresh().manage_snapshots().create_branch(first, "certified").commit()
    lake.merge([{"op": "u", "after": {"id": 1, "n": 1}}])
    newest = lake.fresh().metadata.current_snapshot_id
    assert newest is not None

    assert find_certified(lake.fresh().metadata, "t") == Standing(first, None)
    standing = certify(lake.catalog, lake.spec.identifier, certificate(newest), expected=first)
    assert find_certified(lake.fresh().metadata, "t") == standing


def test_the_history_is_bounded_and_a_newer_format_is_refused(tmp_path: Path) -> None:
    lake = LocalLake(tmp_path, {"id": "int8", "n": "int8"}, ["id"])
    lake.load([{"id": 1, "n": 0}])
    seen = None
    for n in range(KEPT_MOVES + 3):
        lake.merge([{"op": "u", "after": {"id": 1, "n": n}}])
        head = lake.fresh().metadata.current_snapshot_id
        assert head is not None
        certify(lake.catalog, lake.spec.identifier, certificate(head), expected=seen)
        seen = head
    table = load_lake_table(lake.catalog, lake.spec.identifier)
    assert len(json.loads(table.properties[HISTORY])) == KEPT_MOVES

    with table.transaction() as transaction:
        told = {**json.loads(table.properties[PROPERTY]), "format_version": "9"}
        transaction.set_properties({PROPERTY: json.dumps(told)})
    with pytest.raises(StateFormatError, match="9"):
        find_certified(lake.fresh().metadata, "t")


def test_reasons_that_quote_a_row_are_left_blank() -> None:
    told = json.dumps(certificate(1, reason="Ada Lovelace is wrong").to_fields())
    blank = without_reasons({PROPERTY: told, HISTORY: f"[{told}]", "other": "Ada"}, "-")
    assert "Ada" not in str(blank)
    assert json.loads(blank[PROPERTY]) == json.loads(told) | {"reason": "-"}


@pytest.mark.parametrize(
    ("verified", "differs", "score", "passes", "held", "what"),
    [
        (True, False, 99.0, True, False, "renewed"),
        (True, False, 99.0, True, True, "held"),
        (True, False, 80.0, False, False, "failed"),
        (True, False, None, False, False, "unscored"),
        (False, True, 99.0, True, False, "unequal"),
        (False, False, 99.0, True, False, "unproven"),
        (None, False, 99.0, True, False, "unproven"),
    ],
)
def test_what_becomes_of_a_snapshot(
    *,
    verified: bool | None,
    differs: bool,
    score: float | None,
    passes: bool,
    held: bool,
    what: str,
) -> None:
    proof = SimpleNamespace(verified=verified, differs=differs)
    scored = SimpleNamespace(snapshot_id=5, score=SimpleNamespace(value=score, passes=passes))
    assert (
        judge(
            cast("TableMetadata", None),
            cast("Verification", proof) if verified is not None else None,
            cast("ScoredTable", scored),
            Standing(5, certificate(5, held=held)),
        )
        == what
    )
