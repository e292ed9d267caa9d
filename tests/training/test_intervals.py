import doctest

import numpy as np
import pytest

from amodal_training import intervals
from amodal_training.intervals import mean_over_tracks, paired_difference


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(intervals)
    assert result.attempted == 2
    assert result.failed == 0


def test_tracks_count_alike_whatever_their_source() -> None:
    values = np.array([0.0, 0.0, 0.0, 1.0])
    assert mean_over_tracks(values, ["a", "a", "a", "b"]).mean == 0.25


def test_sources_are_resampled_and_not_tracks() -> None:
    """Forty copies of two sources know no more than the two."""
    values = np.tile([0.2, 0.8], 40)
    apart = mean_over_tracks(values, [str(index) for index in range(80)])
    copies = mean_over_tracks(values, ["a", "b"] * 40)
    assert (copies.low, copies.high) == pytest.approx((0.2, 0.8))
    assert apart.high - apart.low < 0.2


def test_interval_of_many_sources_is_near_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 200)
    interval = mean_over_tracks(values, [str(index) for index in range(200)])
    width = 2 * 1.96 * values.std() / np.sqrt(200)
    assert interval.high - interval.low == pytest.approx(width, rel=0.1)


def test_tracks_without_a_value_are_left_out() -> None:
    interval = mean_over_tracks(np.array([np.nan, 0.6, 0.6]), ["a", "b", "c"])
    assert interval == pytest.approx((0.6, 0.6, 0.6, 2))


def test_one_source_has_a_mean_and_no_interval() -> None:
    mean, low, high, tracks = mean_over_tracks(np.array([0.2, 0.4]), ["a", "a"])
    assert mean == pytest.approx(0.3)
    assert tracks == 2
    assert np.isnan([low, high]).all()


def test_nothing_has_no_mean() -> None:
    interval = mean_over_tracks(np.array([np.nan]), ["a"])
    assert np.isnan(interval.mean)
    assert interval.tracks == 0


def test_paired_difference_of_methods_that_vary_together_is_certain() -> None:
    theirs = np.random.default_rng(0).uniform(0, 1, 30)
    sources = [str(index) for index in range(30)]
    lead = paired_difference(theirs + 0.05, theirs, sources)
    assert lead.low == pytest.approx(0.05)
    assert lead.high == pytest.approx(0.05)
    alone = mean_over_tracks(theirs, sources)
    assert alone.high - alone.low > 0.1


def test_draws_are_the_same_for_every_method_of_a_dataset() -> None:
    values = np.arange(10.0)
    sources = [str(index) for index in range(10)]
    assert mean_over_tracks(values, sources) == mean_over_tracks(values, sources)
