import numpy as np
import pytest

from amodal_model.masks import BoxedMask, box_mask, empty_mask, mask_iou
from amodal_training.baseline_union import (
    coast,
    true_motions,
    union_both_directions,
    union_causal,
)
from amodal_training.mask_motion import MaskMotion

SIZE = (20, 60)
NOTHING = empty_mask(SIZE)
STILL = MaskMotion(0.0, 0.0)


def block(x0: int, x1: int) -> BoxedMask:
    """Columns x0 to x1 of rows 5 to 15, cut to the frame."""
    frame = np.zeros(SIZE, bool)
    frame[5:15, max(x0, 0) : max(x1, 0)] = True
    return box_mask(frame)


def same(mask: BoxedMask | None, expected: BoxedMask) -> bool:
    return mask is not None and mask_iou(mask, expected) == 1.0


def test_what_was_seen_is_kept_under_an_occluder() -> None:
    found = union_causal([block(10, 20), block(10, 13)], [NOTHING, block(13, 40)], [STILL] * 2)
    assert same(found[1], block(10, 20))


def test_memory_moves_with_the_object() -> None:
    motions = [STILL, MaskMotion(8.0, 0.0)]
    found = union_causal([block(10, 20), block(18, 22)], [NOTHING, block(22, 60)], motions)
    assert same(found[1], block(18, 28))


def test_what_is_seen_to_be_background_is_forgotten_for_good() -> None:
    """The object shrank in the open; an occluder that comes later hides no more than was left."""
    visible: list[BoxedMask | None] = [block(10, 20), block(10, 15), None]
    found = union_causal(visible, [NOTHING, NOTHING, block(0, 60)], [STILL] * 3)
    assert same(found[2], block(10, 15))


def test_memory_outlives_a_way_out_of_the_frame() -> None:
    motions = [STILL, MaskMotion(-15.0, 0.0), STILL]
    visible = [block(10, 20), block(-5, 5), block(10, 11)]
    found = union_causal(visible, [NOTHING, NOTHING, block(11, 60)], motions)
    assert same(found[1], block(0, 5))
    assert same(found[2], block(10, 20))


def test_nothing_is_predicted_before_the_first_sight() -> None:
    found = union_causal([None, block(10, 20)], [block(0, 60), NOTHING], [STILL] * 2)
    assert found[0] is None


def test_both_directions_know_what_is_seen_later() -> None:
    visible: list[BoxedMask | None] = [block(10, 13), block(10, 20)]
    others = [block(13, 40), NOTHING]
    assert same(union_causal(visible, others, [STILL] * 2)[0], block(10, 13))
    assert same(union_both_directions(visible, others, [STILL] * 2)[0], block(10, 20))


def test_hidden_object_coasts_out_of_the_occluder_too() -> None:
    motions = [MaskMotion(4.0 * t, 0.0) for t in range(4)]
    found = coast([block(10, 20), block(14, 24), None, None], [NOTHING] * 4, motions)
    assert same(found[1], block(14, 24))
    assert same(found[3], block(22, 32))


def test_coasting_starts_from_the_remembered_silhouette() -> None:
    visible: list[BoxedMask | None] = [block(10, 20), block(10, 11), None]
    found = coast(visible, [NOTHING, block(11, 60), block(0, 60)], [STILL] * 3)
    assert same(found[1], block(10, 11))
    assert same(found[2], block(10, 20))


def test_true_motions_place_the_union_exactly() -> None:
    """The object doubles in size as it moves; half of it is hidden in the end."""
    small, large = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    small[6:11, 5:10], large[4:14, 30:40] = True, True
    amodal = [box_mask(small), box_mask(large)]
    shown = large.copy()
    shown[:, 35:] = False
    hidden = box_mask(large & ~shown)
    found = union_causal([amodal[0], box_mask(shown)], [NOTHING, hidden], true_motions(amodal))
    assert same(found[1], amodal[1])


def test_true_motion_of_frames_without_truth_repeats_the_one_before() -> None:
    motions = true_motions([None, block(10, 20), None])
    assert motions[0] == STILL
    assert motions[2] == motions[1]
    assert true_motions([None, None]) == [STILL, STILL]


@pytest.mark.parametrize("method", [union_causal, union_both_directions, coast])
def test_empty_clip_has_empty_predictions(method) -> None:  # type: ignore[no-untyped-def]
    assert method([], [], []) == []
