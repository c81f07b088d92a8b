"""Quantiles of how old changes were when they became visible."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.lake.freshness import Freshness

AGES_MS = st.lists(st.integers(-5_000, 40 * 24 * 3600 * 1000), min_size=1, max_size=50)
NOW_MS = 1_800_000_000_000


def counted(ages_ms: list[int]) -> Freshness:
    freshness = Freshness()
    freshness.add(pa.array([NOW_MS - age for age in ages_ms], pa.int64()), NOW_MS)
    return freshness


@given(AGES_MS, st.floats(0.01, 1.0))
def test_a_quantile_is_never_less_than_the_true_one_and_at_most_a_tenth_more(
    ages_ms: list[int], share: float
) -> None:
    seconds = np.sort(np.maximum(ages_ms, 0)) / 1000
    true = float(seconds[int(np.ceil(share * len(seconds))) - 1])

    found = counted(ages_ms).quantile(share)

    week = 7 * 24 * 3600
    assert found >= min(true, week) - 1e-9
    assert found <= max(true * 1.1, 0.001) + 1e-9


@given(AGES_MS, AGES_MS)
def test_two_counts_together_are_the_count_of_both(one: list[int], other: list[int]) -> None:
    together = counted(one)
    together.merge(counted(other))

    both = counted(one + other)
    assert (together.counts == both.counts).all()
    assert together.oldest_seconds == both.oldest_seconds


def test_what_nobody_dated_is_not_counted() -> None:
    freshness = Freshness()
    freshness.add(pa.array([None, NOW_MS], pa.int64()), NOW_MS + 1)

    assert (freshness.changes, freshness.quantile(1.0)) == (1, 0.001)
    assert Freshness().quantile(0.5) == 0.0
