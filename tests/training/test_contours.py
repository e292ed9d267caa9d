"""Contour accuracy: hand-computed, empty and perfect cases."""

import numpy as np
import pytest

from amodal_training.contours import contour, contour_accuracy


def _block(size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    return mask


def test_the_contour_of_one_pixel_is_the_four_that_see_it() -> None:
    edges = contour(_block((6, 6), slice(3, 4), slice(3, 4)))
    assert sorted(zip(*np.nonzero(edges), strict=True)) == [(2, 2), (2, 3), (3, 2), (3, 3)]


def test_the_rim_of_the_frame_is_no_contour() -> None:
    assert not contour(np.ones((5, 7), bool)).any()
    assert np.argwhere(contour(_block((4, 4), slice(0, 4), slice(0, 2))))[:, 1].tolist() == [1] * 4


def test_the_same_mask_is_perfect_and_none_against_none_too() -> None:
    mask = _block((60, 80), slice(10, 30), slice(20, 50))
    nothing = np.zeros_like(mask)
    assert contour_accuracy(mask, mask) == 1.0
    assert contour_accuracy(nothing, nothing) == 1.0
    assert contour_accuracy(mask, nothing) == contour_accuracy(nothing, mask) == 0.0


def test_a_shift_within_the_tolerance_costs_nothing_and_beyond_it_all() -> None:
    # diagonal 100: the tolerance is ceil(0.8) = 1 pixel
    left = _block((60, 80), slice(0, 60), slice(0, 40))
    assert contour_accuracy(_block((60, 80), slice(0, 60), slice(0, 41)), left) == 1.0
    assert contour_accuracy(_block((60, 80), slice(0, 60), slice(0, 42)), left) == 0.0


def test_precision_and_recall_are_weighed_as_their_harmonic_mean() -> None:
    # the true contour is one line of 60, the found one that line and another of 60:
    # precision 1/2, recall 1
    true = _block((60, 80), slice(0, 60), slice(0, 40))
    found = _block((60, 80), slice(0, 60), slice(20, 40))
    assert contour_accuracy(found, true) == pytest.approx(2 / 3)
