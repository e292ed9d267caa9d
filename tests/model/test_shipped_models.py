"""The models inside the package: each completes what a wall hides, as it runs on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

import amodal_model
from amodal_model.masks import BoxedMask, box_mask, mask_iou
from amodal_model.model_files import SHIPPED
from amodal_model.results import ObjectResult

SIZE = (120, 200)


def ball(x: float) -> BoxedMask:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return box_mask((columns - x) ** 2 + (rows - 60) ** 2 < 22**2)


def wall() -> BoxedMask:
    mask = np.zeros(SIZE, bool)
    mask[10:115, 95:150] = True
    return box_mask(mask)


@pytest.fixture(params=SHIPPED)
def passed(request: pytest.FixtureRequest) -> list[tuple[BoxedMask, ObjectResult]]:
    """A ball rolls behind a wall and out again: the truth and the result of each frame."""
    segmenter = amodal_model.load(request.param, provider="cpu")
    state, passed = segmenter.start(SIZE), []
    for x in range(40, 200, 4):
        whole = ball(x)
        visible = box_mask(whole.full() & ~wall().full())
        shown = {1: wall()} | ({2: visible} if visible.area else {})
        result, state = segmenter.step(None, shown, state)
        passed.append((whole, next(each for each in result.objects if each.track_id == 2)))
    return passed


def test_a_ball_is_whole_while_a_wall_hides_a_part_of_it(
    passed: list[tuple[BoxedMask, ObjectResult]],
) -> None:
    shares = [mask_iou(found.amodal, whole) for whole, found in passed if found.visible.area]
    assert min(shares) > 0.75
    assert np.mean(shares) > 0.9


def test_a_ball_out_of_sight_is_kept_where_it_rolls(
    passed: list[tuple[BoxedMask, ObjectResult]],
) -> None:
    hidden = [(whole, found) for whole, found in passed if found.visible.area == 0]
    assert len(hidden) >= 2
    assert all(found.state == "hidden" for _, found in hidden)
    assert min(mask_iou(found.amodal, whole) for whole, found in hidden) > 0.6


def test_nothing_is_added_to_a_ball_in_the_open(
    passed: list[tuple[BoxedMask, ObjectResult]],
) -> None:
    for whole, found in passed[:6]:
        np.testing.assert_array_equal(found.amodal.full(), whole.full())
