from pathlib import Path

import numpy as np
import pytest

from amodal_model.masks import BoxedMask, box_mask, shift_mask
from amodal_training.evaluation import EvaluationOptions, evaluate_dataset
from amodal_training.evaluation_clip import EvaluationClip, open_evaluation_set
from amodal_training.evaluation_method import Method, TrackPrediction
from amodal_training.evaluation_noise import disturb, grow_mask, jitter_mask
from amodal_training.metrics import miou_full

BALL, BAR = 4, 9


def square(x0: int, y0: int, x1: int, y1: int) -> BoxedMask:
    full = np.zeros((20, 30), bool)
    full[y0:y1, x0:x1] = True
    return box_mask(full)


def clip_of(dataset: Path, number: int = 0) -> EvaluationClip:
    return list(open_evaluation_set(dataset).clips())[number]


def test_noise_is_the_same_for_a_clip_name_and_differs_between_clips(passing_dataset: Path) -> None:
    first, again, other = (disturb(clip_of(passing_dataset, number)) for number in (0, 0, 1))
    masks = [
        [None if m is None else m.full().tobytes() for m in clip.visible(BAR)]
        for clip in (first, again, other)
    ]
    assert masks[0] == masks[1] != masks[2]


def test_contours_move_by_two_pixels_at_most() -> None:
    rng, mask = np.random.default_rng(0), square(8, 6, 20, 15)
    moved = [jitter_mask(mask, rng) for _ in range(100)]
    inner, outer = grow_mask(mask, -2).full(), grow_mask(mask, 2).full()
    assert all((one.full() >= inner).all() and (one.full() <= outer).all() for one in moved)
    assert any(one.area > mask.area for one in moved)
    assert any(one.area < mask.area for one in moved)
    assert any(one.area == mask.area and one.bbox_xyxy != mask.bbox_xyxy for one in moved)


def test_masks_grow_shrink_and_shift_within_the_frame() -> None:
    mask = square(0, 5, 6, 12)
    assert grow_mask(mask, 2).bbox_xyxy == (0, 3, 8, 14)
    assert grow_mask(mask, -2).bbox_xyxy == (0, 7, 4, 10)
    assert shift_mask(mask, -2, 1).bbox_xyxy == (0, 6, 4, 13)
    assert shift_mask(square(29, 19, 30, 20), 1, 1).area == 0


def test_a_small_mask_is_not_shrunk_to_nothing() -> None:
    rng = np.random.default_rng(0)
    assert all(jitter_mask(square(4, 4, 5, 5), rng).area for _ in range(50))


def test_about_one_mask_in_twenty_is_missing(passing_dataset: Path) -> None:
    clip = clip_of(passing_dataset)
    frames = {track_id: square(4, 4, 9, 9) for track_id in range(100)}
    many = type(clip)(clip.video, clip.video_path, (frames,) * 20, {})
    kept = sum(len(masks) for masks in disturb(many).visible_frames)
    assert kept == pytest.approx(1900, abs=40)


def test_methods_see_the_noise_and_are_measured_on_the_same_pairs(passing_dataset: Path) -> None:
    def nothing(clip: EvaluationClip) -> dict[int, TrackPrediction]:
        shown.append(clip)
        return {}

    shown: list[EvaluationClip] = []
    rows = [
        evaluate_dataset(
            passing_dataset, [Method("m", nothing)], EvaluationOptions(flow=False, noise=noise)
        ).rows
        for noise in (False, True)
    ]
    clean, noisy = rows[0][0].pairs, rows[1][0].pairs
    assert np.array_equal(clean.hidden, noisy.hidden)
    assert np.array_equal(clean.track, noisy.track)
    assert miou_full(noisy)[0] < miou_full(clean)[0]  # united with the mask given, not the clean
    by_name = [{row.name: row.pairs for row in found} for found in rows]
    for name in ("visible_mask", "union_by_masks"):
        assert miou_full(by_name[1][name])[0] < miou_full(by_name[0][name])[0]
    areas = [[0 if m is None else m.area for m in clip.visible(BALL)] for clip in shown]
    assert areas[0] == areas[1] != areas[2]
