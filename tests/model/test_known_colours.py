"""Known colours: a mask must have the object's, slivers and unknown objects say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_model.known_colours import (
    NEUTRAL,
    image_bins,
    learn,
    likeness,
    mask_colours,
    nothing_known,
)
from amodal_model.masks import BoxedMask, box_mask

RED, BLUE = (200, 30, 30), (30, 30, 200)


def painted(left: tuple[int, int, int], right: tuple[int, int, int]) -> np.ndarray:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, :20], image[:, 20:] = left, right
    return image


def block(x: int, width: int, height: int = 20) -> BoxedMask:
    full = np.zeros((40, 40), bool)
    full[10 : 10 + height, x : x + width] = True
    return box_mask(full)


def test_a_fragment_of_one_colour_fits_an_object_of_two() -> None:
    bins = image_bins(painted(RED, BLUE))
    whole, fragment = block(10, 20), block(22, 8)
    known = mask_colours(bins, whole)
    assert likeness(mask_colours(bins, fragment), fragment.area, known) > 0.85


def test_a_mask_of_another_colour_does_not_fit() -> None:
    red, blue = (image_bins(painted(colour, colour)) for colour in (RED, BLUE))
    mask = block(10, 20)
    assert likeness(mask_colours(red, mask), mask.area, mask_colours(blue, mask)) < 0.35


def test_a_sliver_and_an_unknown_object_say_little() -> None:
    red, blue = (image_bins(painted(colour, colour)) for colour in (RED, BLUE))
    sliver = block(10, 1, 4)
    fit = likeness(mask_colours(red, sliver), sliver.area, mask_colours(blue, block(10, 20)))
    assert fit == pytest.approx(NEUTRAL, abs=0.05)
    assert likeness(mask_colours(red, sliver), sliver.area, nothing_known()) == NEUTRAL


def test_colours_are_learned_from_views_that_show_enough() -> None:
    red, blue = (
        mask_colours(image_bins(painted(colour, colour)), block(10, 20)) for colour in (RED, BLUE)
    )
    assert learn(nothing_known(), red, 400, 400) is red
    assert learn(red, blue, 100, 400) is red
    mixed = learn(red, blue, 300, 400)
    assert mixed.sum() == pytest.approx(1, abs=1e-4)
    assert 0 < np.abs(mixed - red).sum() < np.abs(blue - red).sum()
