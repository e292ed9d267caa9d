import numpy as np
import pytest

from amodal_model.masks import BoxedMask, box_mask, empty_mask, mask_iou
from amodal_training.mask_motion import (
    MaskMotion,
    centroid_xy,
    clip_to_frame,
    inside_frame,
    motion_between,
    move_mask,
)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> BoxedMask:
    frame = np.zeros((40, 60), bool)
    frame[y0:y1, x0:x1] = True
    return box_mask(frame)


def test_centroid_has_pixel_centres_at_one_half() -> None:
    assert centroid_xy(rectangle(3, 5, 4, 6)) == (3.5, 5.5)


def test_motion_between_a_mask_and_its_move_is_that_move() -> None:
    motion = motion_between(rectangle(4, 4, 14, 10), rectangle(7, 2, 17, 8))
    assert motion == (3.0, -2.0, 1.0)


def test_translation_moves_the_box_and_loses_nothing_outside_the_frame() -> None:
    mask = rectangle(0, 0, 10, 10)
    away = move_mask(mask, MaskMotion(-200.0, 55.4))
    back = move_mask(away, MaskMotion(-200.0, 55.4).inverse())
    assert away.bbox_xyxy == (-200, 55, -190, 65)
    assert mask_iou(back, mask) == 1.0


def test_scaled_motion_lands_on_the_scaled_mask() -> None:
    source, target = rectangle(10, 10, 20, 20), rectangle(20, 5, 40, 25)
    moved = move_mask(source, motion_between(source, target))
    assert mask_iou(moved, target) == pytest.approx(1.0)


def test_inverse_undoes_a_motion() -> None:
    motion = MaskMotion(3.0, -7.0, 2.5)
    x, y = 11.0, 13.0
    there = (motion.scale * x + motion.shift_x, motion.scale * y + motion.shift_y)
    back = motion.inverse()
    assert back.scale * there[0] + back.shift_x == pytest.approx(x)
    assert back.scale * there[1] + back.shift_y == pytest.approx(y)


def test_empty_mask_moves_nowhere() -> None:
    assert move_mask(empty_mask((40, 60)), MaskMotion(3.0, 1.0, 2.0)).area == 0


def test_clipping_cuts_what_left_the_frame() -> None:
    half_out = move_mask(rectangle(0, 0, 10, 10), MaskMotion(-5.0, 0.0))
    assert clip_to_frame(half_out).bbox_xyxy == (0, 0, 5, 10)
    assert clip_to_frame(move_mask(half_out, MaskMotion(-50.0, 0.0))).area == 0


def test_inside_frame_says_which_pixels_of_a_box_exist() -> None:
    inside = inside_frame((-1, -2, 2, 1), (40, 60))
    assert inside.tolist() == [[False] * 3, [False] * 3, [False, True, True]]
