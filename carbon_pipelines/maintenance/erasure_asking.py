"""Asking for an erasure: what was written, the plan, and the request.

What belongs here: a key and date as somebody wrote them, whether they can be accepted, and the
plans that are shown. What does not: carrying a request out (``erasure.py``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from pyiceberg.table import Table

from carbon_pipelines.errors import (
    CopyUnderWayError,
    ErasureDateError,
    ErasureKeyError,
    ErasureNothingError,
    ErasureReasonError,
)
from carbon_pipelines.lake.connection import load_lake_table
from carbon_pipelines.lake.staging import BRANCH as FIRST_COPY
from carbon_pipelines.maintenance.cleansing import find_live_rows
from carbon_pipelines.maintenance.deletion_check import Where, check_deleted
from carbon_pipelines.maintenance.erasure import ErasureHooks, carry_out, is_back, pending
from carbon_pipelines.maintenance.erasure_litter import plan_litter
from carbon_pipelines.maintenance.erasure_plan import (
    Erased,
    ErasurePlan,
    TableFindings,
    early_date,
    outside_lines,
    table_lines,
)
from carbon_pipelines.maintenance.erasure_request import (
    ErasureRequest,
    new_request,
    new_salt,
)
from carbon_pipelines.maintenance.erasure_targets import (
    check_not_lacked,
    letters_of,
    targets,
    unread_letters,
    write_request,
)
from carbon_pipelines.maintenance.neighbours import load_neighbours
from carbon_pipelines.maintenance.orphans import (
    FLOOR,
    OrphanRules,
    check_removable,
)
from carbon_pipelines.maintenance.person_key import PersonKey, person_key
from carbon_pipelines.stream.retention import load_retention
from carbon_pipelines.stream.topics import topic_of


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants.

    Attributes:
        value: The key, of a table whose key is one column; or None.
        columns: The key by columns, where it is not.
        by: Until when.
        reason: Why; kept until all is done.
        asked_by: Who wants it.
    """

    value: str | None
    columns: Mapping[str, str]
    by: date
    reason: str
    asked_by: str


def plan_erasure(where: Where, asked: Asked, now: datetime) -> ErasurePlan:
    """What would go, when, and what is out of reach; changes nothing in lake and source.

    Raises:
        KeyInSourceError, DeletionNotMergedError: See ``check_deleted``.
        ErasureDateError, ErasureKeyError, ErasureReasonError: What was asked cannot be.
        ErasureLackedError: The table lacks events of the key.
        CopyUnderWayError: A first copy may be bringing rows from before (retryable).
        MaintenanceError: Upkeep of the table is refused.
    """
    request, key, is_new = _accept(where, asked, now)
    return _plan(where, request, key, now, number="" if is_new else request.number)


def apply_erasure(
    where: Where, asked: Asked, now: datetime, *, hooks: ErasureHooks | None = None
) -> Erased:
    """Write the request down, unless the table has it, and do what may be done now.

    Raises:
        ErasureNothingError: Nothing has the key.
        As ``plan_erasure`` and ``carry_out``.
    """
    request, key, is_new = _accept(where, asked, now)
    if is_new:
        if not _plan(where, request, key, now, number="").finds_any:
            raise ErasureNothingError(where.label)
        write_request(where, request, is_new=True)
    return carry_out(where, request, now, key=key, hooks=hooks)


def plan_pending(where: Where, now: datetime) -> list[ErasurePlan]:
    """What is left of every request of a table, by its hash."""
    return [
        _plan(where, request, request.key, now, number=request.number) for request in pending(where)
    ]


def key_columns_of(where: Where, asked: Asked) -> Mapping[str, str]:
    """The key's text by column.

    Raises:
        ErasureKeyError: The table has another key.
    """
    key, given = where.table.key, dict(asked.columns)
    if asked.value is not None:
        if given or len(key) != 1:
            named = " ".join(f"--key {name}=..." for name in key) or "--key column=..."
            why = f"its key is ({', '.join(key)})" if key else "it is declared without a key"
            raise ErasureKeyError(where.label, f"{why}: write {named}")
        return {key[0]: asked.value}
    if not given:
        raise ErasureKeyError(where.label, "none was given")
    if key and set(given) != set(key):
        raise ErasureKeyError(where.label, f"its key is ({', '.join(key)}), all of it is needed")
    return {name: given[name] for name in key} if key else given


def _accept(where: Where, asked: Asked, now: datetime) -> tuple[ErasureRequest, PersonKey, bool]:
    """The request, the key, and whether it is a new one."""
    written = key_columns_of(where, asked)
    for text in written.values():
        if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", asked.reason):
            raise ErasureReasonError(where.label)
    table = load_lake_table(where.catalog, where.table.identifier)
    standing = _standing(where, table, written)
    if standing is None:
        key = person_key(table.schema(), written, new_salt(), label=where.label)
        request = new_request(
            key, by=asked.by, reason=asked.reason, asked_by=asked.asked_by, now=now
        )
    else:
        request, key = standing
    _check_date(where, asked, request, now, is_new=standing is None)
    check_removable(table, OrphanRules())
    if FIRST_COPY in table.metadata.refs and not request.is_due(now):
        raise CopyUnderWayError(where.label, FIRST_COPY)
    check_deleted(where, written)
    check_not_lacked(where, table, letters_of(where, table, key))
    return request, key, standing is None


def _standing(
    where: Where, table: Table, written: Mapping[str, str]
) -> tuple[ErasureRequest, PersonKey] | None:
    """The request that the table has for this key."""
    for request in pending(where):
        key = person_key(table.schema(), written, request.salt, label=where.label)
        if (key.field_ids, key.digest) == (request.field_ids, request.digest):
            return request, key
    return None


def _check_date(
    where: Where, asked: Asked, request: ErasureRequest, now: datetime, *, is_new: bool
) -> None:
    if not is_new:
        if asked.by != request.by:
            why = f"request {request.number} for this key is there already, by {request.by}"
            raise ErasureDateError(where.label, str(asked.by), why)
        return
    first = early_date(now, FLOOR)
    if asked.by < first:
        why = (
            "files of a commit that is under way cannot be told from others for 3 days; the first "
            f"date that can be promised is {first}"
        )
        raise ErasureDateError(where.label, str(asked.by), why)


def _plan(
    where: Where, request: ErasureRequest, key: PersonKey, now: datetime, *, number: str
) -> ErasurePlan:
    neighbours = load_neighbours(where.catalog)
    returned = is_back(where, request, key)
    lines = []
    for target, table in targets(where, key):
        state = request.cleansed.get(target.label)
        stays = returned and target.identifier == where.table.identifier
        live = [] if stays else find_live_rows(table, target.person)
        litter = plan_litter(
            where.catalog, target.identifier, target.person.files, now, neighbours=neighbours
        )
        found = TableFindings(
            table,
            sum(len(one.positions) for one in live),
            {} if stays else target.person.present(table),
            target.person.find(table, state, returned=stays),
            target.person.telling_of_gone(table),
            state,
            litter,
        )
        lines += table_lines(found, request.by, now)
    table = load_lake_table(where.catalog, where.table.identifier)
    unread = unread_letters(where, letters_of(where, table, key))
    retention = load_retention(where.endpoints.stream_bootstrap, topic_of(where.table))
    finds_any = bool(lines)
    lines += outside_lines(retention, unread, request.by, request.asked_at)
    return ErasurePlan(where.label, number, request.by, tuple(lines), finds_any=finds_any)
