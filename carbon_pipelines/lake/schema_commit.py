"""Committing a change of an Iceberg table's schema, once.

What belongs here: the one commit, which is of metadata alone unless existing rows get a value in a
new column. What does not: what changes (``schema_change.py``) and which files hold the values
(``fill.py``).

It moves no progress: the events before it in the stream may still have to be merged. The table says
which versions its columns were followed from and to, so that whoever goes on, after a crash, does
so under the columns that it has. A column that is to be filled comes in the same commit as the
files that have it.
"""

import json

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.update import (
    AddSchemaUpdate,
    RemovePropertiesUpdate,
    SetCurrentSchemaUpdate,
    SetPropertiesUpdate,
    TableUpdate,
    UpdatesAndRequirements,
)

from carbon_pipelines.errors import CommitConflictError
from carbon_pipelines.lake.commit import (
    commit_files,
    commit_updates,
    discard_files,
    same_columns,
)
from carbon_pipelines.lake.connection import lake_errors
from carbon_pipelines.lake.evolution import COMMENT, FOLLOWED, SOURCE_COLUMNS
from carbon_pipelines.lake.fill import fill_files
from carbon_pipelines.lake.schema_change import SchemaChange
from carbon_pipelines.lake.state import load_progress


def commit_change(
    table: Table, label: str, change: SchemaChange, versions: tuple[int, int]
) -> None:
    """Commit ``change``, planned on ``table`` as loaded.

    ``versions`` are the schema version that the rows stand at, and that of ``change``.

    Raises:
        CommitConflictError: Somebody else wrote to the table meanwhile (retryable).
    """
    with lake_errors(f"Iceberg table {label}"):
        schema, first = _schema_updates(table, change, versions)
        progress = load_progress(table.metadata, label) if change.filled else None
        if progress is None:
            try:
                commit_updates(table, first)
            except CommitFailedException as conflict:
                raise CommitConflictError(label, 1) from conflict
            return
        files = fill_files(table, schema, change.filled)
        committed = commit_files(table, files, progress.to_properties(), schema=schema, first=first)
        if committed is None:
            discard_files(table.io, files.added_data)
            raise CommitConflictError(label, 1)


def _schema_updates(
    table: Table, change: SchemaChange, versions: tuple[int, int]
) -> tuple[Schema, UpdatesAndRequirements]:
    """The schema under the id that it gets, and what makes it current."""
    schema = change.schema
    columns = {
        SOURCE_COLUMNS: json.dumps(dict(change.source_columns)),
        FOLLOWED: json.dumps(versions),
    }
    described = {} if change.comment is None else {COMMENT: change.comment}
    properties: tuple[TableUpdate, ...] = (SetPropertiesUpdate(updates={**columns, **described}),)
    if change.comment is None and COMMENT in table.properties:
        properties += (RemovePropertiesUpdate(removals=[COMMENT]),)
    requirements = same_columns(table)
    known = next((s for s in table.schemas().values() if s.fields == schema.fields), None)
    if known is not None:
        current = SetCurrentSchemaUpdate.model_validate({"schema-id": known.schema_id})
        return known, ((current, *properties), requirements)
    added = AddSchemaUpdate.model_validate({"schema": schema})
    current = SetCurrentSchemaUpdate.model_validate({"schema-id": -1})
    return schema, ((added, current, *properties), requirements)
