import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.lake.keys import KeyMatcher, number_keys

ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["a", "A", "a ", ""]), st.booleans()), min_size=1
)


def columns(rows: list[tuple[int, str, bool]]) -> list[pa.Array]:
    return [
        pa.array([r[0] for r in rows], pa.int64()),
        pa.array([r[1] for r in rows], pa.string()),
        pa.array([r[2] for r in rows], pa.bool_()),
    ]


@given(ROWS)
def test_equal_keys_have_equal_numbers_in_order_of_appearance(
    rows: list[tuple[int, str, bool]],
) -> None:
    keys, numbers = number_keys(columns(rows))

    distinct = list(dict.fromkeys(rows))
    assert list(zip(*(c.to_pylist() for c in keys.columns), strict=True)) == distinct
    assert [distinct[n] for n in numbers] == rows


@given(ROWS, ROWS)
def test_a_matcher_finds_each_key_of_the_set_and_no_other(
    keys: list[tuple[int, str, bool]], rows: list[tuple[int, str, bool]]
) -> None:
    key_set, _ = number_keys(columns(keys))

    found = KeyMatcher(key_set).match(columns(rows))

    distinct = list(dict.fromkeys(keys))
    assert found.tolist() == [distinct.index(r) if r in distinct else -1 for r in rows]


def test_a_null_in_a_row_matches_no_key() -> None:
    key_set, _ = number_keys([pa.array([1, 2]), pa.array(["x", "y"])])

    found = KeyMatcher(key_set).match([pa.array([1, None, 2]), pa.array([None, "x", "y"])])

    assert found.tolist() == [-1, -1, 1]
