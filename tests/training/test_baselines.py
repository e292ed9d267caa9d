import time

import numpy as np
import pytest

from amodal_model.masks import BoxedMask, box_mask, empty_mask, mask_iou
from amodal_training.baselines import (
    BASELINES,
    ObjectClip,
    complete_by_baselines,
    convex_hull,
    enlarged_box,
    filled_box,
    hull_under_occluders,
)

SIZE = (40, 60)
NOTHING = empty_mask(SIZE)


def block(x0: int, y0: int, x1: int, y1: int) -> BoxedMask:
    frame = np.zeros(SIZE, bool)
    frame[y0:y1, x0:x1] = True
    return box_mask(frame)


def passing_clip(length: int = 16) -> ObjectClip:
    """A still block that a bar passes over, hiding it entirely for some frames."""
    whole = block(24, 10, 36, 30)
    bars = [block(max(0, 4 * t - 20), 0, min(60, 4 * t), 40).full() for t in range(length)]
    seen = [box_mask(whole.full() & ~bar) for bar in bars]
    return ObjectClip(
        [mask if mask.area else None for mask in seen],
        [box_mask(b) for b in bars],
        [whole] * length,
    )


def test_every_baseline_is_run_and_none_is_unnamed() -> None:
    found = complete_by_baselines(passing_clip(), np.zeros((16, 2)))
    assert set(found) == set(BASELINES)
    assert all(len(masks) == 16 for masks in found.values())


def test_without_flow_its_baselines_are_left_out() -> None:
    found = complete_by_baselines(passing_clip(), None)
    assert set(BASELINES) - set(found) == {"union_by_flow", "union_by_flow_both"}


def test_unions_keep_the_still_block_whole_while_the_bar_passes() -> None:
    clip = passing_clip()
    assert any(mask is None for mask in clip.visible)
    for name, masks in complete_by_baselines(clip, np.zeros((16, 2))).items():
        if name.startswith(("union_by", "union_truly")):
            overlaps = [mask_iou(mask or NOTHING, clip.amodal[0] or NOTHING) for mask in masks]
            assert min(overlaps) > 0.85, name


def test_predictions_stay_inside_the_frame() -> None:
    """The block leaves on the left and is never seen again."""
    visible = [
        block(max(0, 8 - 4 * t), 10, max(1, 18 - 4 * t), 20) if t < 4 else None for t in range(8)
    ]
    clip = ObjectClip(visible, [block(0, 0, 30, 40)] * 8, visible)
    for masks in complete_by_baselines(clip, np.tile([-4.0, 0.0], (8, 1))).values():
        for mask in masks:
            assert mask is None or mask.bbox_xyxy[0] >= 0


def test_object_never_seen_gets_no_prediction() -> None:
    clip = ObjectClip([None] * 3, [block(0, 0, 9, 9)] * 3, [block(2, 2, 9, 9)] * 3)
    found = complete_by_baselines(clip, np.zeros((3, 2)))
    assert all(mask is None for masks in found.values() for mask in masks)


def test_object_without_any_truth_still_has_every_baseline() -> None:
    clip = ObjectClip([block(2, 2, 9, 9)] * 2, [NOTHING] * 2, [None] * 2)
    assert set(complete_by_baselines(clip, np.zeros((2, 2)))) == set(BASELINES)


def test_hull_closes_a_dent_only_where_something_stands_before_it() -> None:
    frame = block(10, 10, 30, 30).full()
    frame[15:25, 20:30] = False
    dented, before = box_mask(frame), block(20, 15, 25, 25)
    assert mask_iou(convex_hull(dented), block(10, 10, 30, 30)) == 1.0
    closed = hull_under_occluders([dented], [before])[0]
    assert closed is not None
    assert closed.area == dented.area + before.area


def test_hull_of_a_single_pixel_is_that_pixel() -> None:
    assert convex_hull(block(5, 5, 6, 6)).area == 1


def test_box_is_filled_with_occluder_pixels_alone() -> None:
    visible, bar = block(20, 10, 30, 20), block(30, 0, 60, 40)
    filled = filled_box([visible, None, None], [bar, bar, NOTHING])
    box = enlarged_box(visible.bbox_xyxy, 1.5, SIZE)
    assert box == (17, 7, 33, 23)
    assert filled[0] is not None
    assert filled[0].area == 100 + 3 * 16
    assert filled[1] is not None
    assert filled[1].area == 3 * 16
    assert filled[2] is None or filled[2].area == 0


def test_enlarged_box_is_cut_to_the_frame() -> None:
    assert enlarged_box((0, 30, 20, 40), 1.5, SIZE) == (0, 27, 25, 40)


@pytest.mark.parametrize("length", [0, 1])
def test_shortest_clips_pass(length: int) -> None:
    clip = ObjectClip([block(2, 2, 9, 9)] * length, [NOTHING] * length, [None] * length)
    assert all(
        len(m) == length for m in complete_by_baselines(clip, np.zeros((length, 2))).values()
    )


def test_all_baselines_take_milliseconds_an_object_frame() -> None:
    clip = passing_clip(100)
    start_s = time.process_time()
    complete_by_baselines(clip, np.zeros((100, 2)))
    assert (time.process_time() - start_s) / 100 < 0.04  # 2 ms when measured; ten times that fails
