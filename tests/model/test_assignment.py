"""The assignment: exact, against trying everything."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_model.assignment import assign


def best_sum(gains: np.ndarray) -> float:
    wide = np.maximum(gains if gains.shape[0] <= gains.shape[1] else gains.T, 0)
    rows = range(wide.shape[0])
    columns = itertools.permutations(range(wide.shape[1]), wide.shape[0])
    return max(float(wide[rows, list(chosen)].sum()) for chosen in columns)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000))
def test_sum_is_the_largest_there_is(m: int, n: int, seed: int) -> None:
    gains = np.round(np.random.default_rng(seed).normal(0.2, 0.5, (m, n)), 1)
    pairs = assign(gains)
    assert sum(gains[pair] for pair in pairs) == pytest.approx(best_sum(gains))
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(gains[pair] > 0 for pair in pairs)


def test_the_nearest_is_given_up_for_the_larger_sum() -> None:
    assert assign(np.array([[0.9, 0.8], [0.7, 0.1]])) == [(0, 1), (1, 0)]


def test_a_hundred_objects_that_may_all_be_each_other_keep_their_order() -> None:
    gains = np.full((100, 100), 0.4) + 0.5 * np.eye(100)
    assert assign(gains) == [(index, index) for index in range(100)]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 3)])
def test_nothing_to_gain_gives_no_pair(shape: tuple[int, int]) -> None:
    assert assign(np.zeros(shape)) == []
