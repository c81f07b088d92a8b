"""A snapshot of a mart, ready to be sent to Doris, and what it is called there.

What belongs here: reading the newest snapshot once, its rows as JSON lines with their sum, and the
names made of it. What does not: sending it (``doris_mart.py``).
"""

import hashlib
import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from pyiceberg.catalog import Catalog

from carbon_pipelines.errors import ServedMartMissingError
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.mart.project import NAMESPACE
from carbon_pipelines.serving.doris_rows import content_digest, doris_columns, write_rows
from carbon_pipelines.serving.doris_statements import DorisColumn
from carbon_pipelines.serving.http_exchange import Body
from carbon_pipelines.serving.row_sum import RowSum

MEMORY_BYTES = 16 * 1024 * 1024
"""Rows of more than this wait in a temporary file."""


@dataclass(frozen=True, slots=True)
class MartContent:
    """A snapshot of a mart, as it is to be shown."""

    mart: str
    snapshot_id: int
    columns: tuple[DorisColumn, ...]
    rows: RowSum
    body: Body

    @property
    def staging(self) -> str:
        """The table that the rows go into before readers see them."""
        made_of = f"{self.snapshot_id} {self._digest}".encode()
        return f"{self.mart}__load_{hashlib.sha256(made_of).hexdigest()[:12]}"

    @property
    def label(self) -> str:
        """Of its load: the same mart, snapshot and content have the same."""
        return f"carbon_{self.mart}_{self.snapshot_id}_{self._digest}"

    @property
    def _digest(self) -> str:
        return content_digest(self.columns, self.rows)


def is_litter(table: str, mart: str) -> bool:
    """Whether a table is one that rows of the mart go into before readers see them."""
    return re.fullmatch(rf"{re.escape(mart)}__load_[0-9a-f]{{12}}", table) is not None


@contextmanager
def read_content(catalog: Catalog, mart: str) -> Generator[MartContent]:
    """The newest published snapshot of a mart; its body is there until the end of the block.

    Raises:
        ServedMartMissingError: It was never published.
        ServedValueError: It holds what Doris cannot hold.
    """
    table = load_table(catalog, (NAMESPACE, mart))
    snapshot = table.current_snapshot() if table is not None else None
    if table is None or snapshot is None:
        raise ServedMartMissingError(mart)
    columns = doris_columns(mart, table.schema())
    with tempfile.SpooledTemporaryFile(MEMORY_BYTES) as file:
        target = cast("BinaryIO", file)
        with lake_errors(f"Iceberg table {NAMESPACE}/{mart}"):
            batches = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow_batch_reader()
            written = write_rows(mart, columns, batches, target)
        body = Body(target, written.size)
        yield MartContent(mart, snapshot.snapshot_id, columns, written.sum, body)
