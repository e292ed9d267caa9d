import doctest

import numpy as np
import pytest

from amodal_training import calibration
from amodal_training.calibration import expected_calibration_error, mean_ranks, rank_correlation


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(calibration)
    assert result.attempted == 3
    assert result.failed == 0


def test_errors_inside_one_bin_cancel_and_across_bins_do_not() -> None:
    one_bin = expected_calibration_error(np.array([0.51, 0.59]), np.array([0.41, 0.69]))
    two_bins = expected_calibration_error(np.array([0.45, 0.55]), np.array([0.35, 0.65]))
    assert one_bin == pytest.approx(0.0)
    assert two_bins == pytest.approx(0.1)


def test_certainty_that_comes_true_has_no_error() -> None:
    assert expected_calibration_error(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 0.0


def test_no_confidence_has_no_calibration() -> None:
    assert np.isnan(expected_calibration_error(np.empty(0), np.empty(0)))
    assert np.isnan(rank_correlation(np.empty(0), np.empty(0)))


def test_constant_confidence_has_no_rank() -> None:
    assert np.isnan(rank_correlation(np.full(4, 0.5), np.arange(4.0)))


def test_ranks_matter_and_sizes_do_not() -> None:
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([9.0, 8.0, -7.0])) == -1.0


def test_rank_correlation_with_ties_by_hand() -> None:
    """Ranks 1.5, 1.5, 3 and 1, 2, 3: rho = 1.5 / sqrt(1.5 * 2)."""
    rho = rank_correlation(np.array([0.1, 0.1, 0.9]), np.array([1.0, 2.0, 3.0]))
    assert rho == pytest.approx(1.5 / np.sqrt(3.0))
    assert mean_ranks(np.array([2.0, 2.0, 2.0, 1.0])).tolist() == [3.0, 3.0, 3.0, 1.0]
