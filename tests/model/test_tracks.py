"""Tracks: windows follow objects, seen or hidden, at any frame rate."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_model.geometry import Coverage, Window
from amodal_model.masks import BoxedMask, box_mask, empty_mask, mask_iou
from amodal_model.memory import StepInputs
from amodal_model.placement import PlacementConfig
from amodal_model.templates import TEMPLATE_SIDE
from amodal_model.track_state import MotionConfig, Tracks, new_tracks, template_of
from amodal_model.tracks import follow
from amodal_model.views import View

SIZE = (120, 200)
NOTHING = empty_mask(SIZE)
RATIO = MotionConfig().window_ratio


def rectangle(x0: int, y0: int, x1: int, y1: int) -> BoxedMask:
    mask = np.zeros(SIZE, bool)
    mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return box_mask(mask)


def view(own: BoxedMask, *others: BoxedMask) -> View:
    coverage = np.zeros(SIZE, np.uint8)
    for mask in (own, *others):
        coverage += mask.full()
    return View(own, Coverage(coverage))


def step(tracks: Tracks, *views: View, gap: float = 1.0) -> tuple[StepInputs[np.ndarray], Tracks]:
    """Follow, and remember what was seen as the network does."""
    placed = follow(tracks, views, gap, PlacementConfig(), MotionConfig())
    inputs, tracks = placed.inputs, placed.tracks
    blocked = np.minimum(inputs.crop[:, 1] + inputs.crop[:, 2], 1)
    seen = np.maximum(1 - blocked, inputs.crop[:, 0])
    halved = [
        maps.reshape(len(maps), TEMPLATE_SIDE, 2, TEMPLATE_SIDE, 2).mean((2, 4))
        for maps in (inputs.crop[:, 0], seen)
    ]
    fresh = np.stack(halved, 1).astype(np.float32)
    is_seen = np.array([bool(one.own.area) for one in views])[:, None, None, None]
    return inputs, tracks._replace(template=np.where(is_seen, fresh, tracks.template))


def begins_again(tracks: Tracks, one: View) -> bool:
    """Return whether an object shows another shape in a frame than what is remembered of it."""
    placed = follow(tracks, [one], 1.0, PlacementConfig(), MotionConfig())
    return bool(placed.has_begun[0])


def box_of(frame: float) -> BoxedMask:
    """Return a box that moves by 2 pixels a frame."""
    left = int(20 + 2 * frame)
    return rectangle(left, 40, left + 30, 70)


def test_new_object_gets_a_window_half_as_large_again() -> None:
    inputs, tracks = step(new_tracks(1), view(rectangle(50, 40, 80, 60)))
    np.testing.assert_allclose(tracks.window[0], [65, 50, 30 * RATIO, 0])
    assert not tracks.is_new[0]
    assert inputs.crop.shape == (1, 3, 96, 96)
    np.testing.assert_array_equal(inputs.theta[0], [[1, 0, 0], [0, 1, 0]])


def test_window_moves_with_the_object_and_learns_its_velocity() -> None:
    tracks = new_tracks(1)
    for index in range(25):
        _, tracks = step(tracks, view(box_of(index)))
        np.testing.assert_allclose(tracks.window[0, :2], [35 + 2 * index, 55], atol=2.5)
    np.testing.assert_allclose(tracks.velocity[0, :2], [2, 0], atol=0.4)


def test_hidden_object_coasts() -> None:
    tracks = new_tracks(1)
    for index in range(25):
        _, tracks = step(tracks, view(box_of(index)))
    wall = rectangle(0, 0, SIZE[1], SIZE[0])
    certain = tracks.variance[0]
    for _ in range(10):
        _, tracks = step(tracks, view(NOTHING, wall))
    np.testing.assert_allclose(tracks.window[0, 0], 35 + 2 * 34, atol=5)
    assert tracks.variance[0] > certain + 0.5  # a steady object stays predictable


def test_hidden_object_coasts_as_far_as_the_gap_is_long() -> None:
    tracks = new_tracks(1)
    for index in range(25):
        _, tracks = step(tracks, view(box_of(index)))
    start, speed = tracks.window[0, 0], tracks.velocity[0, 0]
    _, tracks = step(tracks, view(NOTHING, rectangle(0, 0, SIZE[1], SIZE[0])), gap=8.0)
    np.testing.assert_allclose(tracks.window[0, 0], start + 8 * speed, atol=1e-3)


def test_two_frames_at_once_are_two_frames() -> None:
    tracks = new_tracks(1)
    for index in range(0, 40, 2):
        _, tracks = step(tracks, view(box_of(index)), gap=2.0)
    np.testing.assert_allclose(tracks.window[0, :2], [35 + 2 * 38, 55], atol=1.5)
    np.testing.assert_allclose(tracks.velocity[0, :2], [2, 0], atol=0.6)


def test_object_that_jumps_is_caught_up_with() -> None:
    _, tracks = step(new_tracks(1), view(rectangle(20, 40, 50, 70)))
    _, tracks = step(tracks, view(rectangle(150, 60, 180, 90)))
    x, y, side, _ = tracks.window[0]
    assert x - side / 2 < 150
    assert x + side / 2 > 180
    np.testing.assert_allclose([x, y], [165, 75], atol=8)


def test_window_of_a_standing_object_stands() -> None:
    _, first = step(new_tracks(1), view(rectangle(50, 40, 80, 70)))
    tracks = first
    for _ in range(20):
        inputs, tracks = step(tracks, view(rectangle(50, 40, 80, 70)))
        np.testing.assert_array_equal(inputs.theta[0], [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(tracks.window[:, :2], first.window[:, :2], atol=0.1)
    np.testing.assert_allclose(tracks.window[:, 2], first.window[:, 2], rtol=0.05)


def test_window_is_fitted_again_to_an_object_that_comes_out() -> None:
    """A part is seen first, then the whole: the memory is moved into the wider window."""
    wall = rectangle(100, 0, 200, 120)
    _, before = step(new_tracks(1), view(rectangle(70, 45, 100, 75), wall))
    inputs, after = step(before, view(rectangle(70, 45, 130, 75)))
    x, y, side, _ = after.window[0]
    np.testing.assert_allclose([x, y, side], [100, 60, 60 * RATIO], atol=2)
    np.testing.assert_allclose(inputs.theta[0, 0, 0], side / before.window[0, 2], rtol=0.1)
    assert inputs.theta[0, 1, 1] == inputs.theta[0, 0, 0]


def test_what_shows_another_shape_is_begun_again() -> None:
    """A plank that lay comes out upright: nothing of how it lay is kept, nor of its motion."""
    tracks, wall = new_tracks(1), rectangle(100, 0, 200, 120)
    for left in range(20, 60, 4):
        _, tracks = step(tracks, view(rectangle(left, 50, left + 40, 62)))
    _, hidden = step(tracks, view(NOTHING, wall))
    upright = view(rectangle(84, 30, 96, 70), wall)
    assert begins_again(hidden, upright)
    _, after = step(hidden, upright)
    np.testing.assert_allclose(after.window[0], [90, 50, 40 * RATIO, 0])
    np.testing.assert_array_equal(after.velocity[0], 0)


def test_what_bends_all_the_time_is_not_begun_again() -> None:
    """Its misfit is usual: the window goes on, and what is remembered with it."""
    tracks = new_tracks(1)
    for index in range(30):
        reach = 12 + 9 * (index % 2)
        own = rectangle(100 - reach, 40, 100 + reach, 80)
        was = tracks
        _, tracks = step(was, view(own))
    assert tracks.misfit[0] > 0.2
    assert not begins_again(was, view(own))


def test_contours_that_are_off_by_a_pixel_make_nothing_forget() -> None:
    """A small box whose mask is drawn too small and too large in turns: a third of it misfits."""
    tracks = new_tracks(1)
    for index in range(12):
        off = (-1) ** index
        own = rectangle(90 - off, 50 - off, 110 + off, 70 + off)
        assert not begins_again(tracks, view(own))
        inputs, tracks = step(tracks, view(own))
    assert inputs.context[0, 5] > 0.3


def test_a_window_turns_with_its_object() -> None:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    tracks = new_tracks(1)
    for index in range(30):
        angle = np.radians(2.0 * index)
        x, y = columns - 100, rows - 60
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        _, tracks = step(tracks, view(box_mask((abs(along) < 35) & (abs(across) < 9))))
    assert 25 < np.degrees(tracks.window[0, 3]) < 65
    assert 0.5 < np.degrees(tracks.velocity[0, 3]) < 2.5


def test_window_grows_with_the_object() -> None:
    tracks = new_tracks(1)
    for half in range(10, 50):
        own = rectangle(100 - half, 60 - half, 100 + half, 60 + half)
        _, tracks = step(tracks, view(own))
        assert 0.7 * RATIO < tracks.window[0, 2] / (2 * half) < 1.5 * RATIO


def test_context_says_how_certain_the_place_is_and_the_gap() -> None:
    _, tracks = step(new_tracks(1), view(box_of(0)))
    inputs, tracks = step(tracks, view(box_of(3)), gap=3.0)
    expected = np.sqrt(tracks.variance[0]) / TEMPLATE_SIDE
    np.testing.assert_allclose(inputs.context[0, :2], [expected, 3.0], rtol=1e-6)
    drift = tracks.velocity[0, 0] / tracks.window[0, 2]
    np.testing.assert_allclose(inputs.context[0, 2:5], [drift, 0, 0], atol=1e-4)
    assert 0 <= inputs.context[0, 5] < 0.2, "the box fits what is remembered of it"
    assert drift > 0


@pytest.mark.parametrize("gap", [1.0, 5.0, 1e5])
def test_windows_stay_finite_whatever_happens(gap: float) -> None:
    tracks = new_tracks(2)
    _, tracks = step(tracks, view(box_of(0)), view(rectangle(0, 0, 1, 1)))
    for index in range(30):
        own = box_of(index) if index % 7 == 0 else NOTHING
        _, tracks = step(tracks, view(own), view(NOTHING, own), gap=gap)
        assert np.isfinite(tracks.window).all()
        assert (tracks.window[:, 2] > 0).all()
        assert np.isfinite(tracks.variance).all()


def test_objects_are_followed_independently() -> None:
    together, alone = new_tracks(2), new_tracks(1)
    wall = rectangle(90, 0, 110, 120)
    for index in range(30):
        own = box_of(index)
        _, together = step(together, view(wall, own), view(own, wall))
        _, alone = step(alone, view(own, wall))
    np.testing.assert_allclose(together.window[1], alone.window[0], atol=1e-6)
    np.testing.assert_allclose(together.velocity[1], alone.velocity[0], atol=1e-6)


def test_following_does_not_change_what_it_is_given() -> None:
    _, tracks = step(new_tracks(1), view(box_of(0)))
    before = [np.array(field) for field in tracks]
    step(tracks, view(box_of(4)))
    for kept, field in zip(before, tracks, strict=True):
        np.testing.assert_array_equal(kept, field)


def test_crop_shows_the_window() -> None:
    own, other = rectangle(50, 40, 80, 70), rectangle(80, 40, 100, 70)
    inputs, tracks = step(new_tracks(1), view(own, other))
    window = Window(*tracks.window[0].tolist())
    assert window.side == 30 * RATIO
    mine, others, outside = inputs.crop[0]
    assert mine[48, 48] == 1
    assert others[48, 94] == 1
    assert outside.max() == 0
    assert mine.sum() == pytest.approx((96 / window.side) ** 2 * own.area, rel=0.02)


def test_frame_that_lacks_the_mask_is_not_believed() -> None:
    """In the open, beside a wall: the object coasts, and its crop says that nothing can be seen."""
    tracks = new_tracks(1)
    wall = rectangle(110, 0, 150, 120)
    for index in range(25):
        _, tracks = step(tracks, view(box_of(index), wall))
    before = tracks
    inputs, tracks = step(before, view(NOTHING, wall))
    moved = tracks.window[0, :2] - before.window[0, :2]
    np.testing.assert_allclose(moved, before.velocity[0, :2], atol=1e-6)
    others, outside = inputs.crop[0, 1:]
    np.testing.assert_allclose(others + outside, 1)


def test_whose_mask_is_missing_still_covers_others() -> None:
    """A box in front of a bar loses its mask for a frame: the bar is still hidden where it was."""
    bar, front = rectangle(20, 50, 90, 60), rectangle(40, 40, 70, 70)
    shown = box_mask(bar.full() & ~front.full())
    tracks = new_tracks(2)
    for _ in range(10):
        frame = view(shown, front).coverage
        before, tracks = step(tracks, View(shown, frame), View(front, frame))
    frame = view(shown).coverage
    views = [View(shown, frame), View(NOTHING, frame)]
    placed = follow(tracks, views, 1.0, PlacementConfig(), MotionConfig())
    assert list(placed.stand_ins) == [1]
    assert mask_iou(placed.stand_ins[1], front) > 0.9
    np.testing.assert_allclose(placed.inputs.crop[0, 1], before.crop[0, 1], atol=0.6)
    assert np.abs(placed.inputs.crop[0, 1] - before.crop[0, 1]).mean() < 0.02
    assert frame.counts.max() == 1  # what the caller gave stays as it was


def test_stand_ins_cover_their_own_frame_alone() -> None:
    """Frames that are followed together, as training does, do not touch each other."""
    own, other = rectangle(20, 40, 50, 70), rectangle(30, 45, 60, 75)
    tracks = new_tracks(2)
    for _ in range(10):
        _, tracks = step(tracks, view(own), view(other))
    placed = follow(tracks, [view(own), view(NOTHING)], 1.0, PlacementConfig(), MotionConfig())
    assert list(placed.stand_ins) == [1]
    assert placed.inputs.crop[0, 1].max() == 0


def test_object_that_vanishes_under_a_wall_is_hidden() -> None:
    tracks = new_tracks(1)
    for index in range(25):
        _, tracks = step(tracks, view(box_of(index)))
    inputs, _ = step(tracks, view(NOTHING, rectangle(66, 36, 104, 74)))
    assert inputs.crop[0, 1].mean() < 0.95


def test_what_shows_beside_its_place_is_placed_by_what_shows() -> None:
    """A box moved up by 30 pixels behind a wall: its left edge comes out where nobody expected."""
    tracks, wall = new_tracks(1), rectangle(60, 0, 200, 120)
    for left in (10, 18, 26, 34, 42, 50, 58):
        own = rectangle(left, 60, min(left + 40, 60), 100)
        _, tracks = step(tracks, view(own, wall))
    for _ in range(60):
        _, tracks = step(tracks, view(NOTHING, wall))
    assert tracks.variance[0] > 16
    template = np.zeros((1, 2, TEMPLATE_SIDE, TEMPLATE_SIDE), np.float32)
    template[0, 0, 8:40, 8:40], template[0, 1] = 1, 1
    tracks = tracks._replace(template=template)
    tracks.window[0, 1:] = 80, 60, 0
    _, after = step(tracks, view(rectangle(52, 20, 60, 60), wall))
    x, y, side, _ = after.window[0]
    assert abs(y - 40) < 5
    assert abs(x - side / 3 - 52) < 8, "its left edge is where it shows"


def test_what_is_hidden_is_placed_by_what_was_seen_last_however_long_ago() -> None:
    remembered = np.random.default_rng(0).random((2, 2, 4, 4)).astype(np.float32)
    remembered[1] = 0
    old = remembered.copy()
    old[:, 1] *= 0.35
    np.testing.assert_allclose(template_of(old), template_of(remembered), rtol=1e-6)
    assert template_of(old)[0, 1].max() == 1
    np.testing.assert_array_equal(template_of(remembered)[1], 0)
