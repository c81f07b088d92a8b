"""The Iceberg tables that an erasure goes through, and what it asks of them first.

What belongs here: the table and the dead letters beside it, what finds the person in each, the
values to ask the source for, and writing the request down. What does not: changing any row.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.update import SetPropertiesUpdate

from carbon_pipelines.errors import ErasureLackedError
from carbon_pipelines.lake.certificate import without_reasons
from carbon_pipelines.lake.commit import commit_updates
from carbon_pipelines.lake.connection import lake_errors, load_lake_table, load_table
from carbon_pipelines.lake.dead_letters import NAME as DEAD_LETTERS
from carbon_pipelines.lake.dead_letters import DeadLetterTable
from carbon_pipelines.lake.file_rows import read_rows
from carbon_pipelines.lake.lookup import FoundRows
from carbon_pipelines.lake.parking import HISTORY
from carbon_pipelines.lake.staging import beside_others
from carbon_pipelines.lake.state import load_progress
from carbon_pipelines.maintenance.deletion_check import Where
from carbon_pipelines.maintenance.erasure_request import ErasureRequest
from carbon_pipelines.maintenance.person_files import PersonFiles
from carbon_pipelines.maintenance.person_key import PersonKey, column_types
from carbon_pipelines.maintenance.person_letters import PersonLetters
from carbon_pipelines.maintenance.person_snapshots import PersonSnapshots

BLANK = "(erased)"
"""Stands for a reason that may have quoted a person's value."""


@dataclass(frozen=True, slots=True)
class Target:
    """One Iceberg table of an erasure, and what finds the person's rows in it."""

    identifier: tuple[str, str]
    person: PersonSnapshots

    @property
    def label(self) -> str:
        """The table as commands spell it."""
        return "/".join(self.identifier)


def targets(where: Where, key: PersonKey) -> Iterator[tuple[Target, Table]]:
    """The lake's table, and the dead letters' if there are any, as loaded."""
    table = load_lake_table(where.catalog, where.table.identifier)
    yield Target(where.table.identifier, PersonSnapshots(PersonFiles(table, key))), table
    beside = (where.database.name, DEAD_LETTERS)
    letters = load_table(where.catalog, beside)
    if letters is not None:
        files = PersonFiles(letters, key, letters_of(where, table, key))
        yield Target(beside, PersonSnapshots(files)), letters


def letters_of(where: Where, table: Table, key: PersonKey) -> PersonLetters:
    """What tells the dead letters of the person."""
    newest_first = sorted(table.schemas().values(), key=lambda one: -one.schema_id)
    columns = column_types((table.schema(), *newest_first), key.field_ids)
    return PersonLetters(where.table.name, key, columns, key.texts)


def check_not_lacked(where: Where, table: Table, person: PersonLetters) -> None:
    """Refuse to erase dead letters that the table lacks: their bytes are needed to put them back.

    Raises:
        ErasureLackedError: Some are the person's.
    """
    progress = load_progress(table.metadata, where.label)
    if progress is None or not progress.dead_letters:
        return
    lacked = DeadLetterTable(where.catalog, where.database.name).load(
        table_name=where.table.name, topic_id=progress.topic_id, offsets=progress.dead_letters
    )
    theirs = [one.offset for one in lacked if person.is_about(one.key, one.value)]
    if theirs:
        raise ErasureLackedError(where.label, theirs)


def unread_letters(where: Where, person: PersonLetters) -> list[int]:
    """Offsets of dead letters that name no row and do not have the key's text."""
    letters = DeadLetterTable(where.catalog, where.database.name)
    return [
        one.offset
        for one in letters.load(table_name=where.table.name)
        if not person.names_a_row(one.key, one.value) and not person.is_about(one.key, one.value)
    ]


def source_values(table: Table, live: Sequence[FoundRows], key: PersonKey) -> Mapping[str, str]:
    """The key's values as PostgreSQL reads them, taken from a row that the lake shows."""
    names = [table.schema().find_field(field_id).name for field_id in key.field_ids]
    for rows, _ in read_rows(live[0], table.schema(), table.io):
        return {name: _text(rows.column(name)[0]) for name in names}
    return {}


def _text(value: pa.Scalar) -> str:
    plain = value.as_py()
    if isinstance(plain, bytes):
        return "\\x" + plain.hex()
    return str(plain)


def write_request(where: Where, request: ErasureRequest, *, is_new: bool = False) -> None:
    """Write the request to the table, in place of what it said before, unless it is there no more.

    Reasons that may quote the person's values go with the first of these commits, so that no later
    metadata file has them.
    """

    def attempt(table: Table) -> Table:
        if not is_new and request.name not in table.properties:  # another run has ended it
            return table
        properties = {request.name: request.to_value(), **blanked_reasons(table)}
        return commit_updates(table, ((SetPropertiesUpdate(updates=properties),), ()))

    with lake_errors(f"Iceberg table {where.label}"):
        table = load_lake_table(where.catalog, where.table.identifier)
        beside_others(where.catalog, table, attempt)


def blanked_reasons(table: Table) -> dict[str, str]:
    """What people wrote of the table's parking and of its certified snapshots, left blank."""
    certified = without_reasons(table.properties, BLANK)
    if HISTORY not in table.properties:
        return certified
    history = json.loads(table.properties[HISTORY])
    for entry in history:
        for part in ("parked", "released"):
            if "reason" in entry.get(part, {}):
                entry[part]["reason"] = BLANK
    return {**certified, HISTORY: json.dumps(history)}
