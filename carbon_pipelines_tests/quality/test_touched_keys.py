"""Keys that unseen transactions touched are found in the topic's end."""

import json

from carbon_pipelines.quality.canonical import ComparedColumn
from carbon_pipelines.quality.touched_keys import Touched, key_batch, touched_keys
from carbon_pipelines.source.visibility import Visibility

KEY = (ComparedColumn("id", "BIGINT"), ComparedColumn("tag", "VARCHAR"))
S = Visibility(xmin=10, xmax=20, xip=frozenset({12}))
L = 1_000


def envelope(
    xid: int,
    commit_lsn: int,
    op: str,
    before: dict[str, object] | None,
    after: dict[str, object] | None,
) -> bytes:
    source = {
        "connector": "carbon",
        "db": "market",
        "txId": xid,
        "lsn": 5,
        "commit_lsn": commit_lsn,
        "ordinal": 1,
    }
    document = {"before": before, "after": after, "source": source, "op": op, "ts_ms": 0}
    return json.dumps(document, separators=(",", ":")).encode()


def test_a_key_touched_unseen_at_or_before_l_is_left_out() -> None:
    unseen = envelope(12, L, "u", None, {"id": 1, "tag": "a", "x": "y"})
    after_the_snapshot = envelope(25, 900, "d", {"id": 2, "tag": "b"}, None)

    assert touched_keys([unseen, after_the_snapshot], KEY, S, L) == Touched(
        (("1", "a"), ("2", "b")), truncated=False
    )


def test_a_key_is_not_left_out_for_a_transaction_that_is_seen_or_beyond_l() -> None:
    seen = envelope(11, 900, "u", None, {"id": 1, "tag": "a"})
    beyond = envelope(25, L + 1, "u", None, {"id": 2, "tag": "b"})

    assert touched_keys([seen, beyond], KEY, S, L) == Touched((), truncated=False)


def test_both_keys_of_a_key_change_are_left_out_once() -> None:
    deleted = envelope(12, 900, "d", {"id": 1, "tag": "a"}, None)
    created = envelope(12, 900, "u", {"id": 1, "tag": "a"}, {"id": 7, "tag": "a"})

    assert touched_keys([deleted, created], KEY, S, L).keys == (("1", "a"), ("7", "a"))


def test_an_unseen_truncate_is_reported() -> None:
    assert touched_keys([envelope(12, 900, "t", None, None)], KEY, S, L) == Touched(
        (), truncated=True
    )


def test_values_that_look_like_the_envelope_do_not_deceive() -> None:
    trap = '"source":{"txId":11,"commit_lsn":1}'
    column = {"id": 1, "tag": trap, "txId": 11, "commit_lsn": 5, "source": {"txId": 11}}

    assert touched_keys([envelope(12, 900, "c", None, column)], KEY, S, L).keys == (("1", trap),)


def test_touched_keys_take_the_text_forms_of_copy() -> None:
    key = (
        ComparedColumn("flag", "BOOLEAN"),
        ComparedColumn("bytes", "BLOB"),
        ComparedColumn("ratio", "DOUBLE"),
        ComparedColumn("marks", "INTEGER", is_array=True),
        ComparedColumn("missing", "VARCHAR"),
    )
    row: dict[str, object] = {
        "flag": True,
        "bytes": "00ff",
        "ratio": 0.1,
        "marks": [1, None],
        "missing": None,
    }

    touched = touched_keys([envelope(12, 900, "c", None, row)], key, S, L)

    assert key_batch(touched.keys, key).to_pylist() == [
        {"c0": "t", "c1": "\\x00ff", "c2": "0.1", "c3": ["1", None], "c4": None}
    ]
    assert key_batch((), key).num_rows == 0
