"""COPY's text, as it comes from libpq, to Arrow.

What belongs here: receiving rows and decoding them. What does not: which rows, and under which
source snapshot (``copy.py``).

Measured for 2,000,000 rows x 10 columns: 1.3 to 1.45 CPU-seconds and 164 MB with libpq's
get_copy_data and blocks of whole rows to pyarrow.csv; 1.9 and 206 MB with ADBC (which spells
booleans, char(n) and inet differently); 2.9 with psycopg's own Copy object.
``carbon_pipelines_tests/benchmarks/source_copy.py`` repeats it.
"""

import select
from collections.abc import Iterator, Mapping

import psycopg
import pyarrow as pa
import pyarrow.csv
from psycopg import pq, sql

from carbon_pipelines.errors import CopyUnreadableError
from carbon_pipelines.source.connection import SourceConnection

BLOCK_BYTES = 4 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def copy_blocks(
    connection: SourceConnection, query: sql.Composed, block_bytes: int
) -> Iterator[bytes]:
    """Yield COPY's CSV in blocks of whole rows.

    A CopyData message from the server is always one row (PostgreSQL manual, 55.2.6), which spares
    us looking for row ends in quoted text. libpq hands out one message per call, so this loop runs
    once per row and does as little as it can. Waiting is done in poll(), which frees the GIL.
    """
    copy = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(query)
    pgconn = connection.pgconn
    result = pgconn.exec_(copy.as_bytes(connection))
    if result.status != pq.ExecStatus.COPY_OUT:
        raise psycopg.errors.error_from_result(result)
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    get_copy_data = pgconn.get_copy_data
    rows: list[bytes] = []
    size = 0
    while True:
        length, data = get_copy_data(1)
        if length > 0:
            rows.append(bytes(data))
            size += length
            if size >= block_bytes:
                yield b"".join(rows)
                rows.clear()
                size = 0
        elif length == 0:
            poll.poll()
            pgconn.consume_input()
        else:
            break
    while (result := pgconn.get_result()) is not None:
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)
    if rows:
        yield b"".join(rows)


def decode_block(
    block: bytes, types: Mapping[str, pa.DataType], label: str
) -> list[pa.RecordBatch]:
    """Decode whole rows of CSV; ``types`` gives every column's name and type, in order.

    Raises:
        CopyUnreadableError: A text is not UTF-8, or not what its type asks for.
    """
    if block.startswith(_BYTE_ORDER_MARK):  # it is the first value's; Arrow skips one
        block = _BYTE_ORDER_MARK + block
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block),
            read_options=pyarrow.csv.ReadOptions(
                column_names=list(types), block_size=len(block) + 1, use_threads=False
            ),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True,
                ignore_empty_lines=False,  # the NULL of a table with one column
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,  # COPY quotes an empty string, never a NULL
                null_values=[""],
                true_values=["t"],
                false_values=["f"],
            ),
        )
    except pa.ArrowInvalid as failure:
        raise CopyUnreadableError(label, reason=str(failure)) from failure
    return table.to_batches()
