"""What is made of one frame's estimates where nothing of an object shows."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_model.composition import Estimate, Evidence, complete, smooth, without_crumbs
from amodal_model.geometry import Window
from amodal_model.masks import BoxedMask, box_mask, empty_mask

SIZE = (96, 96)
WINDOW = Window(48.0, 48.0, 96.0)
NOTHING_SEEN = Evidence(WINDOW, np.zeros((2, 48, 48), np.float32))


def estimate(track_id: int, visible: BoxedMask, silhouette: np.ndarray) -> Estimate:
    logits = np.where(silhouette, 5, -5).astype(np.float32)
    return Estimate(track_id, visible, WINDOW, logits, (0.5, 0.5), 1.0, NOTHING_SEEN)


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def completed(visible: BoxedMask, silhouette: np.ndarray) -> np.ndarray:
    """Return the silhouette of an object behind a wall that covers all but what shows of it."""
    wall = box_mask(~visible.full())
    seen = estimate(2, wall, np.zeros(SIZE, bool))
    result = complete([estimate(1, visible, silhouette), seen], (), SIZE, 6)
    return result.objects[0].amodal.full()


def test_crumbs_of_a_hidden_object_are_left_out() -> None:
    whole, crumb = square(20, 20, 30), square(70, 70, 4)
    np.testing.assert_array_equal(completed(empty_mask(SIZE), whole | crumb), whole)


def test_parts_behind_two_occluders_are_no_crumbs() -> None:
    parts = square(10, 20, 20) | square(60, 20, 14)
    np.testing.assert_array_equal(completed(empty_mask(SIZE), parts), parts)


def test_what_shows_keeps_its_hidden_slivers() -> None:
    visible, sliver = square(20, 20, 30), square(60, 30, 4)
    np.testing.assert_array_equal(completed(box_mask(visible), visible | sliver), visible | sliver)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (3, 3)])
def test_nothing_has_no_crumbs(shape: tuple[int, int]) -> None:
    found = without_crumbs(np.zeros(shape, bool))
    assert found.shape == shape
    assert not found.any()


def test_smoothing_closes_gaps_and_keeps_the_size() -> None:
    whole = square(20, 20, 40)
    torn = whole.copy()
    torn[30:32, 20:60] = False
    mended = smooth(np.where(torn, 5, -5).astype(np.float32)) > 0
    assert (mended & whole).sum() > 0.98 * whole.sum()
    assert not (mended & ~whole).any()
