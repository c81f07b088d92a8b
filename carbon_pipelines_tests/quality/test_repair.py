import pyarrow as pa
import pytest

from carbon_pipelines.errors import UnrepresentableValueError
from carbon_pipelines.quality.canonical import text_lists
from carbon_pipelines.quality.repair import _typed  # pyright: ignore[reportPrivateUsage]

SCHEMA = pa.schema([pa.field("tags", pa.list_(pa.field("element", pa.string())))])


def test_the_sources_lists_become_the_lakes() -> None:
    rows = pa.table({"tags": text_lists(pa.array(['{a,"b,c",NULL}', None, "{}"]))})

    assert _typed(rows, SCHEMA).column("tags").to_pylist() == [["a", "b,c", None], None, []]


@pytest.mark.parametrize("text", ["{{a},{b}}", "[0:1]={a,b}"])
def test_an_array_that_is_more_than_a_list_is_never_repaired_to_one(text: str) -> None:
    rows = pa.table({"tags": text_lists(pa.array([text, "{a}"]))})

    with pytest.raises(UnrepresentableValueError, match="column tags"):
        _typed(rows, SCHEMA)
