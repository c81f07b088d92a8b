"""A mart in Doris: loaded beside what readers see, put in its place at once, and read back.

What belongs here: one mart from its snapshot in the lake to the moment Doris shows it. What does
not: the load itself (``doris_load.py``).

The order that keeps readers from seeing half of it: the rows go into a table of their own; that is
read back; it takes the place of what readers see in one statement; that is read back again. What is
shown counts, not what was answered: a statement whose answer was lost is looked for in the rows.

A run that died leaves its table, under a name made of the snapshot and the content. The next one
goes on with it, under the label of the same making, or drops it if its rows are not the right ones.
"""

from dataclasses import dataclass
from typing import Literal

from pyiceberg.catalog import Catalog

from carbon_pipelines.errors import (
    NotVisibleError,
    ServiceUnavailableError,
    StatementRefusedError,
)
from carbon_pipelines.mart.project import NAMESPACE, Mart
from carbon_pipelines.serving import doris_statements as statements
from carbon_pipelines.serving.clock import Clock, Deadline
from carbon_pipelines.serving.doris_content import MartContent, is_litter, read_content
from carbon_pipelines.serving.doris_http import DorisHttp
from carbon_pipelines.serving.doris_lake import refresh_lake
from carbon_pipelines.serving.doris_load import LabelState, Load, StreamLoader, label_of
from carbon_pipelines.serving.doris_settings import DorisSettings
from carbon_pipelines.serving.doris_sql import DorisSql, Sql
from carbon_pipelines.serving.row_sum import RowSum

LOAD_SECONDS = 900.0
VISIBLE_SECONDS = 120.0
STAGED_SECONDS = 30.0
"""So long rows may take to show after Doris called them visible."""
SETTLED_SECONDS = 5.0
"""So long a statement may go on working after its answer was lost or refused."""
_GUARDED = frozenset({"confidential", "restricted"})

Way = Literal["stream_load", "insert_select"]
"""How rows come into Doris: sent by us, or fetched from the lake by Doris itself."""


@dataclass(frozen=True, slots=True)
class Doris:
    """A Doris to serve marts from."""

    settings: DorisSettings
    sql: Sql
    http: DorisHttp
    clock: Clock


def open_doris(settings: DorisSettings) -> Doris:
    """A Doris as the settings name it; nothing is connected yet."""
    return Doris(settings, DorisSql(settings), DorisHttp(settings), Clock())


@dataclass(frozen=True, slots=True)
class ServedMart:
    """A mart that Doris shows.

    Attributes:
        changed: Whether this run put it there; else it was there already.
        label: Of the load; None if there was none.
    """

    mart: str
    snapshot_id: int
    rows: RowSum
    changed: bool
    label: str | None
    seconds: float

    def sentence(self) -> str:
        """What is shown, as one line."""
        what = "shows now" if self.changed else "shows already"
        return (
            f"serving/doris/{self.mart}: Doris {what} table snapshot {self.snapshot_id}, "
            f"{self.rows.rows:,} rows"
        )


def serve_mart(
    doris: Doris, catalog: Catalog, mart: Mart, *, way: Way = "stream_load"
) -> ServedMart:
    """Have Doris show the newest published snapshot of a mart.

    Runs of one mart must not overlap: the older one might be the last.

    Raises:
        ServedMartMissingError: The mart was never published.
        ServedValueError: It holds what Doris cannot hold.
        LoadRefusedError, LoadUnfinishedError: As for `StreamLoader.load`.
        NotVisibleError: Doris shows other rows (retryable).
        ServiceUnavailableError, ServiceAuthenticationError, StatementRefusedError: As for SQL.
    """
    began = doris.clock.now()
    label: str | None = None
    with read_content(catalog, mart.name) as content:
        changed = not _shows(doris, content, mart.name)
        if changed:
            _prepare(doris, content)
            if way == "stream_load":
                label = _stream(doris, content, mart)
            else:
                _fetch(doris, content)
            _publish(doris, content)
        _drop_litter(doris, content.mart)
        return ServedMart(
            mart=mart.name,
            snapshot_id=content.snapshot_id,
            rows=content.rows,
            changed=changed,
            label=label,
            seconds=doris.clock.now() - began,
        )


def wait_for_lake(doris: Doris, catalog: Catalog, mart: Mart) -> RowSum:
    """Refresh a mart's table in the catalog of Doris, until it shows the newest snapshot.

    Raises:
        ServedMartMissingError: The mart was never published.
        NotVisibleError: Doris shows other rows (retryable).
    """
    with read_content(catalog, mart.name) as content:
        where = statements.lake_name(doris.settings.catalog, NAMESPACE, mart.name)
        refresh_lake(doris.sql, doris.settings.catalog, NAMESPACE, mart.name)
        _wait(doris, content, where, doris.clock.deadline(VISIBLE_SECONDS))
        return content.rows


def _prepare(doris: Doris, content: MartContent) -> None:
    database = doris.settings.database
    doris.sql.run(statements.create_database(database))
    for table in _tables(doris):
        # What another run left of another content is of no use.
        if is_litter(table, content.mart) and table != content.staging:
            doris.sql.run(statements.drop_table(database, table))


def _stream(doris: Doris, content: MartContent, mart: Mart) -> str | None:
    """Load the rows into their own table; the label of it, if there are rows."""
    database, deadline = doris.settings.database, doris.clock.deadline(LOAD_SECONDS)
    loader = StreamLoader(doris.http)
    attempt = 0
    if content.staging not in _tables(doris):
        # Labels of before are of a table that is gone: they say nothing of the new one.
        while (
            loader.state(database, label_of(content.label, attempt), deadline)
            is not LabelState.UNKNOWN
        ):
            attempt += 1
        _create(doris, content)
    load = Load(
        database=database,
        table=content.staging,
        label=content.label,
        rows=content.rows.rows,
        body=content.body,
        shows_rows=not mart.classifications & _GUARDED,
    )
    label = loader.load(load, deadline, attempt=attempt) if content.rows.rows else None
    _require_rows(doris, content)
    return label


def _fetch(doris: Doris, content: MartContent) -> None:
    """Have Doris copy the snapshot from the lake; always into a new table, for it has no label."""
    settings = doris.settings
    doris.sql.run(statements.drop_table(settings.database, content.staging))
    _create(doris, content)
    refresh_lake(doris.sql, settings.catalog, NAMESPACE, content.mart)
    copy = statements.insert_from_lake(
        settings.database,
        content.staging,
        content.columns,
        lake_table=statements.lake_name(settings.catalog, NAMESPACE, content.mart),
        snapshot_id=content.snapshot_id,
    )
    doris.sql.run(copy)
    _require_rows(doris, content)


def _create(doris: Doris, content: MartContent) -> None:
    settings = doris.settings
    doris.sql.run(
        statements.create_table(
            settings.database, content.staging, content.columns, replicas=settings.replicas
        )
    )


def _require_rows(doris: Doris, content: MartContent) -> None:
    """Only exactly the snapshot's rows may be put in front of readers."""
    database = doris.settings.database
    try:
        where = statements.internal_name(database, content.staging)
        _wait(doris, content, where, doris.clock.deadline(STAGED_SECONDS))
    except NotVisibleError:
        doris.sql.run(statements.drop_table(database, content.staging))
        raise


def _publish(doris: Doris, content: MartContent) -> None:
    """Put the rows in the readers' sight; a lost answer is settled by what they see then."""
    database = doris.settings.database
    if content.mart in _tables(doris):
        statement = statements.replace_table(database, content.mart, content.staging)
    else:
        statement = statements.rename_table(database, content.staging, content.mart)
    lost: ServiceUnavailableError | StatementRefusedError | None = None
    try:
        doris.sql.run(statement)
    except (ServiceUnavailableError, StatementRefusedError) as error:
        lost = error
    try:
        where = statements.internal_name(database, content.mart)
        seconds = VISIBLE_SECONDS if lost is None else SETTLED_SECONDS
        _wait(doris, content, where, doris.clock.deadline(seconds))
    except (NotVisibleError, StatementRefusedError):
        # Refused: the table of before may have other columns.
        if lost is not None:
            raise lost from None
        raise


def _shows(doris: Doris, content: MartContent, table: str) -> bool:
    """Whether readers see the snapshot already, in these columns."""
    database = doris.settings.database
    found = doris.sql.run(statements.list_columns(database, table))
    if [str(row["name"]) for row in found] != [column.name for column in content.columns]:
        return False
    return _difference(doris, content, statements.internal_name(database, table)) is None


def _wait(doris: Doris, content: MartContent, where: str, deadline: Deadline) -> None:
    turn = 0
    while (difference := _difference(doris, content, where)) is not None:
        if deadline.passed:
            raise NotVisibleError(where.replace("`", ""), content.snapshot_id, difference)
        deadline.pause(turn)
        turn += 1


def _difference(doris: Doris, content: MartContent, where: str) -> str | None:
    """What is shown that should not be; None if it is the snapshot."""
    [row] = doris.sql.run(statements.check_rows(where, content.columns))
    found = RowSum(int(row["row_count"]), int(row["check_sum"] or 0))
    if found == content.rows:
        return None
    if found.rows != content.rows.rows:
        return f"it has {found.rows:,} rows, and the snapshot {content.rows.rows:,}"
    return f"the check sum of its {found.rows:,} rows is another"


def _tables(doris: Doris) -> set[str]:
    return {
        str(row["name"]) for row in doris.sql.run(statements.list_tables(doris.settings.database))
    }


def _drop_litter(doris: Doris, mart: str) -> None:
    for table in _tables(doris):
        if is_litter(table, mart):
            doris.sql.run(statements.drop_table(doris.settings.database, table))
