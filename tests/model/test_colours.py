"""Colour models: frequencies, ratios and what a colour never seen says."""

import numpy as np
import pytest

from amodal_model.colours import BINS, colour_bins, colour_model, log_ratio, similarity


def _halves() -> tuple[np.ndarray, np.ndarray]:
    """Return an image, red left and blue right, and the weights of its left half."""
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, :15] = (220, 30, 30)
    image[:, 15:] = (30, 30, 220)
    left = np.zeros((20, 30), np.float32)
    left[:, :15] = 1
    return image, left


def test_one_colour_is_one_bin_and_similar_ones_stay_near() -> None:
    image, _ = _halves()
    bins = colour_bins(image)
    assert len(np.unique(bins[:, :15])) == 1
    assert bins.max() < BINS
    assert bins[0, 0] != bins[0, 20]


def test_frequencies_add_up_to_one_and_neighbours_get_a_share() -> None:
    image, left = _halves()
    bins = colour_bins(image)
    model = colour_model(bins, left)
    assert model.sum() == pytest.approx(1, abs=1e-5)
    assert model[bins[0, 0]] == model.max() == pytest.approx(0.125)  # half along each axis
    assert model[bins[0, 20]] == 0


def test_nothing_seen_is_a_model_of_zeros() -> None:
    image, left = _halves()
    assert colour_model(colour_bins(image), 0 * left).sum() == 0


def test_the_ratio_tells_the_sides_apart_and_is_silent_on_colours_of_neither() -> None:
    image, left = _halves()
    bins = colour_bins(image)
    cue = log_ratio(colour_model(bins, left), colour_model(bins, 1 - left), bins)
    assert (cue[:, :15] > 2).all()
    assert (cue[:, 15:] < -2).all()
    green = colour_bins(np.full((1, 1, 3), (30, 220, 30), np.uint8))
    assert log_ratio(colour_model(bins, left), colour_model(bins, 1 - left), green)[0, 0] == 0


def test_a_model_is_like_itself_and_unlike_one_of_other_colours() -> None:
    image, left = _halves()
    bins = colour_bins(image)
    red, blue = colour_model(bins, left), colour_model(bins, 1 - left)
    assert similarity(red, red) == pytest.approx(1, abs=1e-5)
    assert similarity(red, blue) < 0.01
