import cv2
import numpy as np
import pytest

from amodal_model.masks import BoxedMask, box_mask, empty_mask
from amodal_training.baseline_motion import (
    FrameMasks,
    bridge_hidden,
    place_by_shifts,
    reference_of,
    register,
    shifts_by_masks,
)

SIZE = (80, 160)
NOTHING = empty_mask(SIZE)


def blob(x: float, y: float, radius: int = 12) -> BoxedMask:
    """A lopsided shape, drawn to a sixteenth of a pixel."""
    frame = np.zeros(SIZE, np.uint8)
    center = (round((x + radius / 2) * 16), round(y * 16))
    cv2.circle(frame, (round(x * 16), round(y * 16)), radius * 16, 1, -1, shift=4)
    cv2.circle(frame, center, radius * 12, 1, -1, shift=4)
    return box_mask(frame.astype(bool))


def bar(x0: int, x1: int) -> BoxedMask:
    frame = np.zeros(SIZE, bool)
    frame[:, x0:x1] = True
    return box_mask(frame)


def hide(mask: BoxedMask, over: BoxedMask) -> BoxedMask | None:
    seen = box_mask(mask.full() & ~over.full())
    return seen if seen.area else None


def test_chained_shifts_follow_an_object_in_the_open() -> None:
    path = [(20 + 2.4 * t, 30 + 0.8 * t) for t in range(20)]
    shifts = shifts_by_masks([blob(x, y) for x, y in path], [NOTHING] * 20)
    assert shifts.sum(axis=0) == pytest.approx([2.4 * 19, 0.8 * 19], abs=1.5)


def test_fragments_on_the_two_sides_of_a_bar_are_one_object() -> None:
    """They share no pixel; what is remembered between them says that the object stands still."""
    whole = blob(70, 40)
    bars = [bar(20 + 4 * t, 52 + 4 * t) for t in range(20)]
    visible = [hide(whole, over) for over in bars]
    shifts = shifts_by_masks(visible, bars)
    assert np.abs(np.cumsum(shifts, axis=0)[-1]).max() < 2.0


def test_large_objects_are_found_as_exactly_as_small_ones() -> None:
    visible: list[BoxedMask | None] = [blob(40, 40, 30), blob(47, 43, 30)]
    assert shifts_by_masks(visible, [NOTHING] * 2)[1] == pytest.approx([7, 3], abs=0.3)


def test_occluder_in_front_does_not_pull_the_object_with_it() -> None:
    """The bar eats the object from the right: the centroid goes left, the object does not."""
    whole = blob(70, 40)
    bars = [bar(95 - 2 * t, 160) for t in range(12)]
    visible = [hide(whole, over) for over in bars]
    shifts = shifts_by_masks(visible, bars)
    assert np.abs(shifts.sum(axis=0)).max() < 1.0


def test_hidden_object_goes_on_with_its_last_velocity_and_is_caught_again() -> None:
    over = bar(60, 100)
    wholes = [blob(20 + 3 * t, 40) for t in range(35)]
    visible = [hide(whole, over) for whole in wholes]
    assert any(seen is None for seen in visible)
    positions = np.cumsum(shifts_by_masks(visible, [over] * 35), axis=0)
    assert np.abs(positions[:, 0] - 3 * np.arange(35)).max() < 3.0


def test_object_not_seen_yet_does_not_move() -> None:
    shifts = shifts_by_masks([None, None, blob(40, 40), blob(42, 40)], [NOTHING] * 4)
    assert not shifts[:3].any()
    assert shifts[3] == pytest.approx([2, 0], abs=0.2)


def test_prediction_decides_where_the_masks_leave_it_open() -> None:
    """A bar across the frame looks the same wherever it slides along itself."""
    frame = np.zeros(SIZE, bool)
    frame[30:40, :] = True
    stripe, edges = box_mask(frame), box_mask(np.arange(160)[None, :].repeat(80, 0) % 159 == 0)
    now = FrameMasks(stripe, edges)
    found = register(reference_of(now, stripe), now, np.array([5.0, 0.0]))
    assert found == pytest.approx([5.0, 0.0], abs=0.5)


def test_hidden_stretch_is_bridged_at_constant_velocity() -> None:
    shifts = np.array([[0, 0], [1, 0], [1, 0], [1, 0], [7, 3]], float)
    seen = blob(40, 40)
    bridged = bridge_hidden(shifts, [seen, seen, None, None, seen])
    assert bridged.tolist() == [[0, 0], [1, 0], [3, 1], [3, 1], [3, 1]]
    assert place_by_shifts(bridged)[-1] == (10.0, 3.0, 1.0)
