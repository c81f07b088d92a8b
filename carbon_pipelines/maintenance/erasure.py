"""Erasing a person's rows from a table and everything that belongs to it, by a date.

What belongs here: the order of it all, for a new request and for those that wait for their date.
What does not: each of the steps (``cleansing.py``, ``erasure_expiry.py``, ``erasure_litter.py``,
``erasure_end.py``) and what a plan looks like (``erasure_plan.py``).

In this order:
1. the source has the key no more, and the lake has merged that; nothing is erased otherwise;
2. the request is written to the table, with a salted hash of the key;
3. table and dead letters: present rows, files and manifests are made clean, and what may go of the
   snapshots from before goes. What the table was then is written to the request, and this machine
   forgets what it has kept of the table's metadata;
4. from the date on: every other such snapshot goes, whoever holds it, then what lies in quarantine
   or is referred to by nothing. When a fresh look finds nothing any more, the request goes.
Every step finds done what an earlier run did, so a run that died is gone on with by the same call.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from carbon_pipelines.errors import (
    CarbonPipelinesError,
    ErasureUnfinishedError,
    KeyInSourceError,
)
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.dead_letters import NAME as DEAD_LETTERS
from carbon_pipelines.maintenance.cleansing import cleanse_table, find_live_rows
from carbon_pipelines.maintenance.deletion_check import Where, check_deleted, count_in_source
from carbon_pipelines.maintenance.erasure_cache import forget_cached
from carbon_pipelines.maintenance.erasure_end import end_erasure, finish_ending
from carbon_pipelines.maintenance.erasure_expiry import expire_person
from carbon_pipelines.maintenance.erasure_litter import apply_litter, check_no_litter, plan_litter
from carbon_pipelines.maintenance.erasure_plan import Erased
from carbon_pipelines.maintenance.erasure_request import (
    ErasureRequest,
    pending_requests,
)
from carbon_pipelines.maintenance.erasure_targets import (
    Target,
    check_not_lacked,
    letters_of,
    source_values,
    targets,
    write_request,
)
from carbon_pipelines.maintenance.expiry_commit import ExpiryHooks
from carbon_pipelines.maintenance.neighbours import load_neighbours
from carbon_pipelines.maintenance.orphans import FLOOR
from carbon_pipelines.maintenance.person_key import PersonKey


@dataclass(frozen=True, slots=True)
class ErasureHooks:
    """Moments of an erasure, for tests that end it there."""

    after_cleansing_commit: Callable[[], None] = lambda: None
    after_record: Callable[[], None] = lambda: None
    expiry: ExpiryHooks = field(default_factory=ExpiryHooks)


def carry_out(
    where: Where,
    request: ErasureRequest,
    now: datetime,
    *,
    key: PersonKey | None = None,
    hooks: ErasureHooks | None = None,
) -> Erased:
    """Do what may be done ``now`` for a request that the table has.

    Args:
        where: The table and its ends.
        request: As the table has it.
        now: The time; from the request's date on nothing is spared.
        key: The key itself if it is at hand, and known to be deleted; else its hash is looked for.
        hooks: For tests.

    Raises:
        KeyInSourceError: The source has the key again, and nothing was clean before that.
        DeletionNotMergedError: The lake has not merged that the key is gone again (retryable).
        ErasureLackedError: The table lacks events of the key.
        ErasureUnfinishedError: The date has come and something is left (retryable).
        MaintenanceError, LakeError: As compaction, expiry and orphans.
    """
    return _Run(where, request, now, key or request.key, hooks or ErasureHooks()).run()


def is_back(where: Where, request: ErasureRequest, key: PersonKey) -> bool:
    """Whether the source has the key again; its rows in the lake are of today then.

    Raises:
        KeyInSourceError: It has, and nothing was clean before that.
        DeletionNotMergedError: It has not, and the lake has yet to merge that (retryable).
        ErasureLackedError: The table lacks events of the key.
    """
    ((target, table), *_) = targets(where, key)
    check_not_lacked(where, table, letters_of(where, table, key))
    if key.values:
        return False  # whoever knows the key has just asked
    with lake_errors(f"Iceberg table {target.label}"):
        live = find_live_rows(table, target.person)
        values = source_values(table, live, key) if live else {}
    if not live:
        return False
    found, _ = count_in_source(where, values)
    if not found:
        check_deleted(where, values)
    elif target.label not in request.cleansed:
        raise KeyInSourceError(target.label, found)
    return bool(found)


def pending(where: Where) -> list[ErasureRequest]:
    """The requests of the table, the earliest date first."""
    table = load_table(where.catalog, where.table.identifier)
    if table is None:
        return []
    return pending_requests(table.metadata, where.label)


def apply_pending(
    where: Where, now: datetime, *, due_only: bool = False, hooks: ErasureHooks | None = None
) -> list[Erased]:
    """Carry out every request of a table as far as its date allows, and end what had begun to.

    ``due_only`` leaves those whose date has not come.

    Raises:
        As ``carry_out``, once all were tried.
    """
    if load_table(where.catalog, where.table.identifier) is None:
        return []
    finish_ending(where.catalog, where.table.identifier)
    done: list[Erased] = []
    failed: list[CarbonPipelinesError] = []
    for request in pending(where):
        if request.is_due(now) or not due_only:
            try:
                done.append(carry_out(where, request, now, hooks=hooks))
            except CarbonPipelinesError as error:  # the others have a date of their own
                failed.append(error)
    if failed:
        raise failed[0]
    return done


class _Run:
    def __init__(
        self,
        where: Where,
        request: ErasureRequest,
        now: datetime,
        key: PersonKey,
        hooks: ErasureHooks,
    ) -> None:
        self._where, self._request, self._now = where, request, now
        self._key, self._hooks = key, hooks
        self._due = request.is_due(now)
        self._returned = False
        self._rows = self._files = self._snapshots = self._objects = 0
        self._refs: list[str] = []

    def run(self) -> Erased:
        self._returned = is_back(self._where, self._request, self._key)
        chosen = [target for target, _ in targets(self._where, self._key)]
        for target in chosen:
            self._cleanse(target)
        for target in chosen:
            self._expire(target)
        for _, table in targets(self._where, self._key):
            forget_cached(self._where.endpoints.lake.cache, table)
        if self._due:
            self._end()
        return Erased(
            self._where.label,
            self._request.number,
            self._request.by,
            self._due and not self._is_there(),
            self._rows,
            self._files,
            self._snapshots,
            tuple(self._refs),
            self._objects,
            self._returned,
        )

    def _is_there(self) -> bool:
        """Whether the request still is: an end of another one may have come in between."""
        table = load_table(self._where.catalog, self._where.table.identifier)
        return table is not None and self._request.name in table.properties

    def _cleanse(self, target: Target) -> None:
        state = self._request.cleansed.get(target.label)
        if self._returned and state is not None and target.identifier[1] != DEAD_LETTERS:
            return
        done = cleanse_table(
            self._where.catalog,
            target.identifier,
            target.person,
            self._request.number,
            state,
            after_commit=self._hooks.after_cleansing_commit,
        )
        if done.state == state and not (done.rows or done.files):
            return
        self._rows, self._files = self._rows + done.rows, self._files + done.files
        self._request = self._request.with_cleansed(
            target.label, done.state, rows=done.rows, files=done.files
        )
        write_request(self._where, self._request)

    def _expire(self, target: Target) -> None:
        done = expire_person(
            self._where.catalog,
            target.identifier,
            target.person,
            self._request.cleansed[target.label],
            self._now,
            due=self._due,
            returned=self._returned,
            hooks=self._hooks.expiry,
        )
        self._snapshots += done.snapshots
        self._refs += done.refs
        self._objects += done.files.files

    def _end(self) -> None:
        """Remove what is in no snapshot, look at everything afresh, and end the request."""
        catalog = self._where.catalog
        neighbours = load_neighbours(catalog)
        for target, _ in targets(self._where, self._key):
            plan = plan_litter(
                catalog, target.identifier, target.person.files, self._now, neighbours=neighbours
            )
            if plan:
                self._objects += apply_litter(catalog, target.identifier, plan, self._now)
        for target, table in targets(self._where, self._key):
            state = self._request.cleansed[target.label]
            if target.person.find(table, state, returned=self._returned):
                raise ErasureUnfinishedError(target.label, "a snapshot with such rows came back")
            if not self._returned:
                check_no_litter(
                    catalog,
                    target.identifier,
                    target.person.files,
                    self._now,
                    neighbours=neighbours,
                )
            if self._now < state.at + FLOOR:
                raise ErasureUnfinishedError(
                    target.label,
                    f"its rows are clean since {state.at:%Y-%m-%d %H:%M} UTC, and for 3 days from "
                    "then on files of before may belong to a commit that is under way",
                )
        states = self._request.cleansed.values()
        counts: Mapping[str, int] = {
            "snapshots": sum(len(state.snapshots) for state in states),
            "tables": len(states),
        }
        self._objects += end_erasure(
            catalog,
            self._where.table.identifier,
            self._request,
            self._now,
            counts,
            after_record=self._hooks.after_record,
        )
