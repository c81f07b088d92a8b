"""What a look at the catalogs can tell of a table from what the look before kept."""

from typing import Any

import pytest

from carbon_pipelines.source.traces import rows_may_have_changed


def heap(**facts: Any) -> dict[str, Any]:
    return {"file": 1, "columns": 2, "keys": [3], **facts}


def traces(*heaps: dict[str, Any], **facts: Any) -> dict[str, Any]:
    numbered = {str(number): one for number, one in enumerate(heaps)}
    return {"heaps": numbered, "tree": None, "root": None, "labels": {}, **facts}


BEFORE = traces(heap(), heap(file=4), labels={"5": "100"}, tree=6, root=7)
HARMLESS = {
    "nothing": {},
    "another file: VACUUM FULL, CLUSTER, TRUNCATE": {"heaps": {"0": heap(file=9), "1": heap()}},
    "rows of pg_attribute: SET STATISTICS": {"heaps": {"0": heap(), "1": heap(file=4, columns=9)}},
    "a new unique index beside the identity": {
        "heaps": {"0": heap(keys=[3, 9]), "1": heap(file=4)}
    },
    "a new label": {"labels": {"5": "100", "6": "200"}},
}
SUSPECT = {
    "a file and its rows of pg_attribute": {
        "heaps": {"0": heap(), "1": heap(file=9, columns=9)},
    },
    "another key under the same name": {"heaps": {"0": heap(keys=[9]), "1": heap(file=4)}},
    "a partition that is gone": {"heaps": {"0": heap()}},
    "a partition that was away": {"tree": 9},
    "columns of a partitioned table": {"root": 9},
    "a label that was written anew": {"labels": {"5": "200"}},
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_leaves_rows_alone_is_told_from_a_rewrite(name: str) -> None:
    assert not rows_may_have_changed(BEFORE, {**BEFORE, **HARMLESS[name]})


@pytest.mark.parametrize("name", SUSPECT)
def test_what_may_have_changed_rows_or_hidden_changes_is_told(name: str) -> None:
    assert rows_may_have_changed(BEFORE, {**BEFORE, **SUSPECT[name]})


def test_a_table_that_no_look_has_kept_anything_of_may_have_changed() -> None:
    assert rows_may_have_changed(None, BEFORE)
