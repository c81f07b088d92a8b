"""Fine buckets hold the rows that differ and few others."""

import duckdb
import pytest

from carbon_pipelines.quality.fine_sums import FINE_BUCKETS, FineSums

SOURCE = "SELECT (n * 7919)::UBIGINT AS key_hash, hash(n) AS row_hash FROM range(1000) t(n)"
LAKE = f"{SOURCE} WHERE n % 250 <> 3"


def test_every_differing_key_is_in_a_bucket_and_equal_ones_are_not() -> None:
    engine, sums = duckdb.connect(config={"threads": 1}), FineSums()
    sums.add(engine, SOURCE, "true")
    sums.subtract(engine, LAKE, "true")

    every, first = sums.differing(1000), sums.differing(2)

    assert sorted(every.buckets["bucket"].to_pylist()) == sorted(
        n * 7919 % FINE_BUCKETS for n in (3, 253, 503, 753)
    )
    assert (every.rows, every.more) == (4, 0)
    assert (first.buckets.num_rows, first.rows, first.more) == (2, 2, 2)
    assert sums.differing(0).more == 3


def test_an_end_that_cannot_be_read_is_duckdbs_error() -> None:
    with pytest.raises(duckdb.Error):
        FineSums().add(duckdb.connect(), f"{SOURCE} WHERE error('gone') > 'a'", "true")
