"""What clients give: checked, one clear line where it does not fit, and made masks."""

from collections.abc import Sequence

import numpy as np
import pytest

from amodal_model.errors import InputError, LimitError
from amodal_model.given_prompts import (
    MAX_ID,
    mask_from_box,
    mask_from_polygons,
    read_prompts,
)
from amodal_model.masks import BoxedMask, box_mask, empty_mask
from amodal_model.visible_source import Prompt

SIZE = (20, 30)
DOT = box_mask(np.pad(np.ones((2, 3), bool), ((4, 14), (5, 22))))


def test_a_box_holds_the_pixels_whose_centre_it_holds() -> None:
    mask = mask_from_box((2.4, 3.6, 5.5, 6.0), SIZE)
    assert mask.bbox_xyxy == (2, 4, 5, 6)
    assert mask.area == 6


def test_a_box_is_cut_at_the_frame() -> None:
    assert mask_from_box((-1e9, -4, 1e9, 3), SIZE).bbox_xyxy == (0, 0, 30, 3)
    assert mask_from_box((40, 0, 50, 10), SIZE).area == 0


def test_prompts_keep_their_order_and_removals_stand_apart() -> None:
    box = Prompt(4, bbox_xyxy=(0, 0, 2, 2))
    given, removed = read_prompts([Prompt(None, mask=DOT), box, Prompt(9, remove=True)], SIZE)
    assert [one.track_id for one in given] == [None, 4]
    assert given[0].mask is DOT
    assert removed == {9}


BAD = {
    "has nothing": [Prompt(1)],
    "has a box and a mask": [Prompt(1, bbox_xyxy=(0, 0, 2, 2), mask=DOT)],
    "points": [Prompt(1, points=((1.0, 2.0, True),))],
    "removal needs": [Prompt(None, remove=True)],
    "track 3 is there twice": [Prompt(3, mask=DOT), Prompt(3, remove=True)],
    "frame 9x8, the stream's frames are 30x20": [Prompt(1, mask=empty_mask((8, 9)))],
    r"prompt 0 \(track 1\): mask has no pixel": [Prompt(1, mask=empty_mask(SIZE))],
    "holds no pixel of the frame 30x20": [Prompt(1, bbox_xyxy=(31, 0, 40, 9))],
    "finite": [Prompt(1, bbox_xyxy=(0, 0, float("nan"), 9))],
    "ends before": [Prompt(1, bbox_xyxy=(5, 0, 4, 9))],
    "the id must be": [Prompt(MAX_ID + 1, mask=DOT)],
    "on box": [Prompt(None, mask=BoxedMask((0, 0, 3, 3), np.ones((2, 2), bool), SIZE))],
    "limit 1024": [Prompt(None, mask=DOT)] * 1025,
}


@pytest.mark.parametrize("reason", BAD)
def test_a_prompt_that_does_not_fit_is_one_clear_line(reason: str) -> None:
    with pytest.raises(InputError, match=reason) as error:
        read_prompts(BAD[reason], SIZE)
    assert "\n" not in str(error.value)


def test_polygons_are_the_union_that_coco_draws() -> None:
    square, other = [2, 2, 8, 2, 8, 6, 2, 6], [20, 10, 24, 10, 24, 40, 20, 40]
    mask = mask_from_polygons([square, other], SIZE)
    expected = np.zeros(SIZE, bool)
    expected[2:6, 2:8] = expected[10:20, 20:24] = True
    np.testing.assert_array_equal(mask.full(), expected)


FAR = [[0.0, 0.0, 1e6, 0.0, 0.0, 5.0]]
BAD_POLYGONS: dict[str, Sequence[Sequence[float]]] = {
    "0 polygons": [],
    "300 polygons": [[0, 0, 5, 0, 5, 5]] * 300,
    "4 coordinates": [[0, 0, 5, 5]],
    "7 coordinates": [[0, 0, 5, 0, 5, 5, 7]],
    "coordinate that is not from": FAR,
    "coordinate": [[0, 0, float("nan"), 0, 5, 5]],
    "12000 vertices": [[0, 0, 5, 0, 5, 5] * 4000],
    "outline of": [[-60000, 0, 60000, 1, -60000, 2]],
    "hold no pixel": [[40, 0, 50, 0, 50, 9]],
}


@pytest.mark.parametrize("reason", BAD_POLYGONS)
def test_polygons_that_do_not_fit_are_one_clear_line(reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        mask_from_polygons(BAD_POLYGONS[reason], SIZE)


def test_too_many_prompts_is_a_limit() -> None:
    with pytest.raises(LimitError):
        read_prompts(BAD["limit 1024"], SIZE)
