import json
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.lake.change_batch import EnvelopeReader
from carbon_pipelines.lake.fold import Fold, fold_batch
from carbon_pipelines.stream.consumer import RawBatch
from carbon_pipelines_tests.lake.changes import WITH_TRUNCATES, Change, Rows, replay

COLUMNS = {"id": pa.int64(), "n": pa.int64(), "doc": pa.string()}
START = st.dictionaries(
    st.integers(0, 5), st.tuples(st.integers(0, 99), st.sampled_from(["old", "older"]))
)


def folded_rows(rows: Rows, events: list[dict[str, Any]]) -> Rows:
    """What a table holding ``rows`` holds after the fold of ``events`` is applied to it."""
    values = [
        json.dumps(
            {
                "before": e.get("before"),
                "after": e.get("after"),
                "op": e["op"],
                "source": {
                    "txId": 1,
                    "commit_lsn": i,
                    "ordinal": 1,
                    "schema_version": 1,
                    **({"unchanged": "doc"} if e.get("unchanged") else {}),
                },
            }
        ).encode()
        for i, e in enumerate(events)
    ]
    raw = RawBatch(
        values=values, offsets=list(range(len(values))), first_offset=0, next_offset=len(values)
    )
    batch = EnvelopeReader("t", COLUMNS, ["id"]).read(raw)
    before = [batch.before.column("id").combine_chunks()]
    after = [batch.after.column("id").combine_chunks()]
    return applied(fold_batch(batch, before, after), batch.after, rows)


def applied(fold: Fold, after: pa.Table, rows: Rows) -> Rows:
    old = {} if fold.truncated_at >= 0 else dict(rows)
    touched = fold.keys.columns[0].to_pylist() if fold.keys else []
    result = {key: row for key, row in old.items() if key not in touched}
    copied = (
        dict(zip(*(a.tolist() for a in fold.copied.get("doc", ())), strict=True))
        if fold.copied
        else {}
    )
    filled = fold.filled.get("doc")
    taken = dict(zip(filled.rows.tolist(), filled.keys.tolist(), strict=True)) if filled else {}
    for index, event in enumerate(fold.upserts.tolist()):
        row = after.slice(event, 1).to_pylist()[0]
        doc = row["doc"]
        if index in copied:
            doc = after.column("doc")[copied[index]].as_py()
        elif index in taken:
            doc = old[touched[taken[index]]][1]
        assert row["id"] not in result, "a row is shown twice"
        result[row["id"]] = (row["n"], doc)
    return result


@given(START, WITH_TRUNCATES)
def test_folding_a_batch_gives_what_its_changes_give_one_at_a_time(
    rows: Rows, changes: list[Change]
) -> None:
    expected, events = replay(rows, changes)

    if events:
        assert folded_rows(rows, events) == expected
