"""The stream step: objects appear, hide, come back and are given up, under their own ids."""

from __future__ import annotations

import numpy as np
import pytest
from wall_and_ball import BALL, SIZE, WALL, object_of, play, rectangle, wall_over_ball, with_limits

from amodal_model.composition import cover
from amodal_model.errors import InputError, LimitError
from amodal_model.masks import (
    BoxedMask,
    box_mask,
    empty_mask,
    mask_iou,
    overlap_area,
)
from amodal_model.stream import AmodalSegmenter


def test_object_appears_when_it_is_first_seen(tiny_segmenter: AmodalSegmenter) -> None:
    results, _ = play(tiny_segmenter, [{}, {7: BALL}, {7: BALL, 3: rectangle(5, 5, 20, 20)}])
    ids = [[entry.track_id for entry in result.objects] for result in results]
    assert ids == [[], [7], [3, 7]]


def test_visible_part_is_given_back_as_it_was(tiny_segmenter: AmodalSegmenter) -> None:
    results, _ = play(tiny_segmenter, [{2: BALL}])
    entry = results[0].objects[0]
    np.testing.assert_array_equal(entry.visible.full(), BALL.full())
    assert entry.confidence_visible == 1
    assert entry.state == "visible"


def test_amodal_contains_visible_and_keeps_to_the_frame(
    tiny_segmenter: AmodalSegmenter, boxes_scene: list[dict[int, BoxedMask]]
) -> None:
    state = tiny_segmenter.start((120, 160))
    for visible in boxes_scene:
        result, state = tiny_segmenter.step(None, visible, state)
        assert [entry.track_id for entry in result.objects] == sorted(state.track_ids)
        for entry in result.objects:
            assert overlap_area(entry.amodal, entry.visible) == entry.visible.area
            x0, y0, x1, y1 = entry.amodal.bbox_xyxy
            assert 0 <= x0 <= x1 <= 160
            assert 0 <= y0 <= y1 <= 120
            assert entry.amodal.pixels.shape == (y1 - y0, x1 - x0)
            whole = max(entry.amodal.area, 1)
            rate = 1 - entry.visible.area / whole if entry.visible.area else 1.0
            assert entry.occlusion_rate == pytest.approx(rate)
            assert 0 <= entry.score <= 1
            assert 0 <= entry.confidence_occluded <= 1


def test_states_follow_the_visible_share(evidence_segmenter: AmodalSegmenter) -> None:
    lefts = [100, 100, 78, 72, 55, 50]
    results, _ = play(evidence_segmenter, [wall_over_ball(left) for left in lefts])
    balls = [object_of(result, 2) for result in results]
    states = [ball.state for ball in balls]
    assert states == ["visible", "visible", "partial", "partial", "hidden", "hidden"]
    assert balls[2].occlusion_rate == pytest.approx(6 / 24, abs=0.06)
    assert balls[3].occlusion_rate == pytest.approx(12 / 24, abs=0.06)
    assert balls[5].occlusion_rate == 1
    assert balls[5].confidence_visible == 0
    for ball in balls:
        assert mask_iou(ball.amodal, BALL) > 0.85


def test_occluder_and_order_are_those_of_the_scene(evidence_segmenter: AmodalSegmenter) -> None:
    results, _ = play(evidence_segmenter, [wall_over_ball(left) for left in (100, 100, 72, 50)])
    assert results[1].order == ()
    assert object_of(results[1], 2).occluded_by == ()
    for result in results[2:]:
        assert result.order == ((WALL, 2),)
        assert object_of(result, 2).occluded_by == (WALL,)
        assert object_of(result, WALL).occluded_by == ()


def test_object_hidden_entirely_comes_back_under_its_id(
    evidence_segmenter: AmodalSegmenter,
) -> None:
    lefts = [100, *range(100, 10, -4), 10, 10]
    results, state = play(evidence_segmenter, [wall_over_ball(left) for left in lefts])
    states = [object_of(result, 2).state for result in results]
    assert "hidden" in states
    assert states[-1] == "visible"
    assert state.track_ids == (WALL, 2)
    assert state.frames_hidden.tolist() == [0, 0]


def test_empty_mask_is_no_mask(tiny_segmenter: AmodalSegmenter) -> None:
    nothing = empty_mask(SIZE)
    results, state = play(tiny_segmenter, [{1: nothing}, {2: BALL, 1: nothing}, {2: nothing}])
    assert results[0].objects == ()
    assert state.track_ids == (2,)
    assert object_of(results[2], 2).state == "hidden"


def test_object_hidden_for_too_long_is_lost(tiny_segmenter: AmodalSegmenter) -> None:
    segmenter = with_limits(tiny_segmenter, max_hidden_frames=5)
    wall = {WALL: rectangle(0, 0, 140, 90)}
    results, state = play(segmenter, [{2: BALL}, *[wall] * 8])
    states = [object_of(result, 2).state for result in results]
    assert states[5] == "hidden"
    assert states[-1] == "lost"
    assert object_of(results[-1], 2).amodal.area == 0
    assert object_of(results[-1], 2).occlusion_rate == 1
    assert state.track_ids == (WALL,)
    assert state.lost_ids == (2,)


def test_lost_object_that_shows_again_is_found(tiny_segmenter: AmodalSegmenter) -> None:
    segmenter = with_limits(tiny_segmenter, max_hidden_frames=2)
    _, state = play(segmenter, [{2: BALL}, *[{WALL: rectangle(0, 0, 140, 90)}] * 6])
    results, state = play(segmenter, [{2: BALL}], state)
    assert object_of(results[0], 2).state == "visible"
    assert state.lost_ids == ()
    assert sorted(state.track_ids) == [1, 2]


def test_object_that_left_the_image_is_lost_sooner(tiny_segmenter: AmodalSegmenter) -> None:
    """It leaves at 4 pixels a frame and does not come back; the one behind the wall stays."""
    segmenter = with_limits(tiny_segmenter, max_outside_frames=10)
    wall = rectangle(0, 0, 60, 90)
    frames = []
    for index in range(60):
        leaver = rectangle(90 + 4 * index, 30, 120 + 4 * index, 60)
        visible = {WALL: wall} | ({5: leaver} if leaver.area else {})
        frames.append(visible | ({2: rectangle(70, 5, 80, 15)} if index < 3 else {}))
    results, state = play(segmenter, frames)
    assert object_of(results[12], 5).state in {"visible", "hidden"}
    assert object_of(results[-1], 5).state == "lost"
    assert 5 in state.lost_ids


def test_object_that_nothing_hides_is_lost_sooner(tiny_segmenter: AmodalSegmenter) -> None:
    """Its mask is gone and nothing lies over it; the one behind the wall stays."""
    segmenter = with_limits(tiny_segmenter, max_open_frames=10)
    wall, in_the_open = rectangle(0, 0, 60, 90), rectangle(90, 30, 120, 60)
    seen = {WALL: wall, 2: rectangle(70, 5, 80, 15), 5: in_the_open}
    behind = {WALL: rectangle(0, 0, 84, 90), 5: in_the_open}
    results, state = play(segmenter, [seen, seen, behind, *[{WALL: behind[WALL]}] * 20])
    states = [object_of(result, 5).state for result in results]
    assert states[3:13] == ["hidden"] * 10
    assert states[14] == "lost"
    assert state.lost_ids == (5,)
    assert object_of(results[-1], 2).state == "hidden"


def test_frames_in_the_open_count_until_the_object_shows(tiny_segmenter: AmodalSegmenter) -> None:
    """A wall that passes over where it was is no reason to believe in it again; its mask is."""
    segmenter = with_limits(tiny_segmenter, max_open_frames=10)
    gone: list[dict[int, BoxedMask]] = [{}] * 8
    passing = [{WALL: rectangle(40, 0, 140, 90)}] * 3
    results, _ = play(segmenter, [{2: BALL}, *gone, *passing, *gone])
    assert object_of(results[-1], 2).state == "lost"
    results, _ = play(segmenter, [{2: BALL}, *gone, {2: BALL}, *gone])
    assert object_of(results[-1], 2).state == "hidden"


def test_frame_gap_counts_as_frames(tiny_segmenter: AmodalSegmenter) -> None:
    segmenter = with_limits(tiny_segmenter, max_hidden_frames=5)
    wall = {WALL: rectangle(0, 0, 140, 90)}
    _, state = segmenter.step(None, {2: BALL}, segmenter.start(SIZE))
    _, state = segmenter.step(None, wall, state, frame_gap=4.0)
    assert state.frames_hidden.tolist() == [4, 0]
    _, state = segmenter.step(None, wall, state, frame_gap=4.0)
    result, state = segmenter.step(None, wall, state)
    assert object_of(result, 2).state == "lost"


def test_gap_between_frames_is_bridged(evidence_segmenter: AmodalSegmenter) -> None:
    """Every third frame of a moving box, told so, is followed as well as every frame."""
    state = evidence_segmenter.start(SIZE)
    for index in range(0, 30, 3):
        box = rectangle(10 + 2 * index, 30, 34 + 2 * index, 54)
        _, state = evidence_segmenter.step(None, {2: box}, state, frame_gap=3.0)
    wall = {WALL: rectangle(50, 0, 140, 90)}
    result, _ = evidence_segmenter.step(None, wall, state, frame_gap=3.0)
    assert mask_iou(object_of(result, 2).amodal, rectangle(70, 30, 94, 54)) > 0.6


@pytest.mark.parametrize("gap", [0.0, -1.0, float("nan"), float("inf"), 1e6])
def test_bad_gaps_are_refused(tiny_segmenter: AmodalSegmenter, gap: float) -> None:
    with pytest.raises(InputError, match=r"frame gap .* must be above 0"):
        tiny_segmenter.step(None, {2: BALL}, tiny_segmenter.start(SIZE), frame_gap=gap)


def test_mask_of_another_size_is_refused(tiny_segmenter: AmodalSegmenter) -> None:
    other = rectangle(0, 0, 9, 9, (140, 90))
    with pytest.raises(InputError, match=r"mask of track 4 is of a frame 90x140, .* 140x90"):
        tiny_segmenter.step(None, {4: other}, tiny_segmenter.start(SIZE))


def test_frame_of_another_size_is_refused(tiny_segmenter: AmodalSegmenter) -> None:
    frame = np.zeros((140, 90, 3), np.uint8)
    with pytest.raises(InputError, match="frame is 90x140, the stream's frames are 140x90"):
        tiny_segmenter.step(frame, {}, tiny_segmenter.start(SIZE))


@pytest.mark.parametrize("size", [(0, 10), (10, 16385), (-1, 5)])
def test_frame_sizes_beyond_the_limit_are_refused(
    tiny_segmenter: AmodalSegmenter, size: tuple[int, int]
) -> None:
    with pytest.raises(LimitError, match="each side must be 1 to 16384"):
        tiny_segmenter.start(size)


def test_frame_of_one_pixel_is_a_frame(tiny_segmenter: AmodalSegmenter) -> None:
    dot = rectangle(0, 0, 1, 1, (1, 1))
    result, state = tiny_segmenter.step(None, {1: dot}, tiny_segmenter.start((1, 1)))
    assert result.objects[0].amodal.area == 1
    result, _ = tiny_segmenter.step(None, {}, state)
    assert result.objects[0].state == "hidden"


def test_seventy_objects_are_followed(tiny_segmenter: AmodalSegmenter) -> None:
    def grid(shift: int) -> dict[int, BoxedMask]:
        return {
            10 * row + column: rectangle(
                shift + 13 * column, 12 * row, shift + 13 * column + 9, 12 * row + 8
            )
            for row in range(7)
            for column in range(10)
        }

    results, _ = play(tiny_segmenter, [grid(0), grid(1), grid(2)])
    assert len(results[-1].objects) == 70
    for entry in results[-1].objects:
        assert entry.visible.area >= 60
        assert entry.state in {"visible", "partial"}


def test_too_many_objects_are_refused(tiny_segmenter: AmodalSegmenter) -> None:
    dot = rectangle(0, 0, 1, 1)
    with pytest.raises(LimitError, match="1025 objects in a frame, limit 1024"):
        tiny_segmenter.step(None, dict.fromkeys(range(1025), dot), tiny_segmenter.start(SIZE))


def test_overlapping_masks_are_taken_as_they_are(tiny_segmenter: AmodalSegmenter) -> None:
    first, second = rectangle(20, 20, 60, 60), rectangle(40, 30, 80, 70)
    results, _ = play(tiny_segmenter, [{1: first, 2: second}] * 3)
    for entry, given in zip(results[-1].objects, (first, second), strict=True):
        np.testing.assert_array_equal(entry.visible.full(), given.full())
        assert overlap_area(entry.amodal, given) == given.area


def test_three_hundred_masks_over_one_pixel_do_not_overflow() -> None:
    coverage = cover([rectangle(2, 2, 4, 4)] * 300, SIZE)
    assert coverage[2, 2] == 255
    assert coverage.sum() == 4 * 255


def test_object_larger_than_the_frame_is_followed(tiny_segmenter: AmodalSegmenter) -> None:
    whole = rectangle(0, 0, 140, 90)
    holed = box_mask(whole.full() & ~BALL.full())
    results, _ = play(tiny_segmenter, [{1: whole}, {1: holed, 2: BALL}, {2: BALL}])
    assert object_of(results[0], 1).amodal.area == 140 * 90
    assert object_of(results[1], 1).visible.area == 140 * 90 - 24 * 24
    assert object_of(results[2], 1).state == "hidden"


def test_order_of_the_given_masks_does_not_matter(tiny_segmenter: AmodalSegmenter) -> None:
    one = wall_over_ball(72)
    other = dict(reversed(one.items()))
    first, _ = play(tiny_segmenter, [one, one])
    second, _ = play(tiny_segmenter, [other, other])
    for a, b in zip(first[-1].objects, second[-1].objects, strict=True):
        assert a.track_id == b.track_id
        np.testing.assert_array_equal(a.amodal.full(), b.amodal.full())
