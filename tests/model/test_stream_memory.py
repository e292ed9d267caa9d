"""What streams remember of objects, forget, and expect of them."""

from __future__ import annotations

import numpy as np
import pytest
from wall_and_ball import (
    BALL,
    SIZE,
    WALL,
    grow_mask,
    object_of,
    play,
    rectangle,
    wall_over_ball,
    with_limits,
)

from amodal_model.masks import (
    BoxedMask,
    encode_rle,
    mask_iou,
    overlap_area,
)
from amodal_model.stream import AmodalSegmenter, StepRequest


def gap_beside_ball(jitters: bool) -> list[dict[int, BoxedMask]]:
    """A wall comes to stand over the ball's right half; in the end there is a gap before it."""
    scene = [wall_over_ball(left) for left in range(96, 71, -2)]
    scene += [wall_over_ball(72)] * 8
    if jitters:
        offs = [2, -2, 0, -2, 2, 1, -2, 0]
        ball, wall = scene[-1][2], scene[-1][WALL]
        scene += [{2: grow_mask(ball, off), WALL: grow_mask(wall, -off)} for off in offs]
    ball, wall = wall_over_ball(72)[2], wall_over_ball(74)[WALL]
    return [*scene, {2: ball, WALL: wall}]


def test_what_begins_again_has_the_memory_of_a_new_object(
    evidence_segmenter: AmodalSegmenter,
) -> None:
    """A plank that lay comes out upright beside a wall: no keyframe, no quality is left of it."""
    wall = rectangle(80, 0, 140, 90)
    scene = [{1: wall, 2: rectangle(left, 40, left + 40, 48)} for left in range(6, 38, 4)]
    _, state = play(evidence_segmenter, [*scene, {1: wall}])
    upright = {1: wall, 2: rectangle(66, 20, 76, 60)}
    _, after = play(evidence_segmenter, [upright], state)
    _, new = play(evidence_segmenter, [upright])
    for kept, fresh in zip(after.memory, new.memory, strict=True):
        row, fresh_row = after.track_ids.index(2), new.track_ids.index(2)
        np.testing.assert_array_equal(np.asarray(kept)[row], np.asarray(fresh)[fresh_row])


@pytest.mark.parametrize("jitters", [False, True])
def test_gaps_between_masks_hide_what_contours_are_off_by(
    evidence_segmenter: AmodalSegmenter, jitters: bool
) -> None:
    """Two columns between ball and wall: background where contours are sure, else the ball's."""
    results, _ = play(evidence_segmenter, gap_beside_ball(jitters))
    found = object_of(results[-1], 2)
    gap = found.amodal.full()[34:50, 72:74]
    assert gap.mean() > 0.8 if jitters else gap.mean() < 0.2
    before = object_of(play(evidence_segmenter, gap_beside_ball(False)[:-1])[0][-1], 2)
    assert before.confidence_occluded > found.confidence_occluded or not jitters


def test_remembered_part_was_seen_before_and_the_rest_never(
    evidence_segmenter: AmodalSegmenter,
) -> None:
    """The wall first hides the right half, then moves over the left one: only that was seen."""
    scene = [wall_over_ball(72)] * 3 + [wall_over_ball(left) for left in range(71, 49, -1)]
    results, _ = play(evidence_segmenter, scene)
    first, last = object_of(results[0], 2), object_of(results[-1], 2)
    assert last.state == "hidden"
    left_half, right_half = rectangle(60, 30, 72, 54), rectangle(74, 30, 140, 54)
    assert overlap_area(last.remembered, left_half) > 0.8 * left_half.area
    assert overlap_area(last.remembered, right_half) < 30
    assert first.remembered.area < 0.15 * left_half.area
    for result in results:
        for entry in result.objects:
            inside = overlap_area(entry.remembered, entry.inferred)
            assert inside == entry.remembered.area


def test_what_was_seen_whole_is_remembered_where_it_is_hidden(
    evidence_segmenter: AmodalSegmenter,
) -> None:
    results, _ = play(evidence_segmenter, [wall_over_ball(left) for left in (100, 90, 76, 72, 68)])
    ball = object_of(results[-1], 2)
    assert ball.inferred.area > 300
    assert ball.remembered.area > 0.85 * ball.inferred.area
    assert object_of(results[0], 2).remembered.area == 0


def test_remembered_part_is_left_out_where_nobody_wants_it(
    evidence_segmenter: AmodalSegmenter,
) -> None:
    _, state = play(evidence_segmenter, [wall_over_ball(100)])
    request = StepRequest(None, wall_over_ball(72), state)
    ((full, after),) = evidence_segmenter.step_many([request])
    ((short, same),) = evidence_segmenter.step_many([request._replace(with_remembered=False)])
    assert object_of(full, 2).remembered.area > 0
    for one, other in zip(full.objects, short.objects, strict=True):
        assert other.remembered.area == 0
        assert encode_rle(one.amodal) == encode_rle(other.amodal)
    before, now = (evidence_segmenter.save_state(each) for each in (after, same))
    assert all(np.array_equal(before[name], now[name]) for name in before)


def test_lost_objects_remember_nothing(tiny_segmenter: AmodalSegmenter) -> None:
    segmenter = with_limits(tiny_segmenter, max_hidden_frames=1)
    results, _ = play(segmenter, [{2: BALL}, {}, {}, {}])
    ball = object_of(results[-1], 2)
    assert (ball.state, ball.remembered.area) == ("lost", 0)


def test_dropped_mask_takes_nothing_from_the_memory(evidence_segmenter: AmodalSegmenter) -> None:
    """Half behind the wall, the ball's mask is missing once: it stays whole, then and after."""
    whole, half = wall_over_ball(100), wall_over_ball(72)
    results, _ = play(evidence_segmenter, [whole, whole, half, half, {WALL: half[WALL]}, half])
    for result in results[3:]:
        assert mask_iou(object_of(result, 2).amodal, BALL) > 0.85


def test_dropped_mask_of_an_occluder_uncovers_nothing(evidence_segmenter: AmodalSegmenter) -> None:
    """The wall's mask is missing once: the ball behind it stays whole, and behind the wall."""
    whole, half, none = wall_over_ball(100), wall_over_ball(72), wall_over_ball(52)
    frames = [whole, whole, half, {2: half[2]}, half, none, {}, none]
    results, _ = play(evidence_segmenter, frames)
    for result in results[2:]:
        ball = object_of(result, 2)
        assert mask_iou(ball.amodal, BALL) > 0.85
        assert ball.occluded_by == (WALL,)
    assert results[3].order == ((WALL, 2),)


def test_hidden_object_is_expected_behind_its_occluder(tiny_segmenter: AmodalSegmenter) -> None:
    frames = [wall_over_ball(left) for left in (-30, -10, 10, 30, 50, 52, 52)]
    _, state = play(tiny_segmenter, frames)
    expected = tiny_segmenter.expect(state)[2]
    assert expected.frames_hidden > 0
    assert mask_iou(expected.silhouette, BALL) > 0.7
    far = tiny_segmenter.expect(state, frame_gap=20)[2]
    assert far.place_std_px > expected.place_std_px


def test_what_leaves_the_frame_is_expected_whole(tiny_segmenter: AmodalSegmenter) -> None:
    frames = [{2: rectangle(x, 30, x + 24, 54)} for x in (24, 16, 8, 0, -8)]
    _, state = play(tiny_segmenter, frames)
    leaving = tiny_segmenter.expect(state)[2]
    assert leaving.unclipped is not None
    assert leaving.whole.bbox_xyxy[0] < 0
    assert leaving.whole.area > leaving.silhouette.area
    inside = tiny_segmenter.expect(play(tiny_segmenter, [{2: BALL}])[1])[2]
    assert inside.unclipped is None
    assert inside.whole is inside.silhouette


def test_nothing_is_expected_of_a_new_stream(tiny_segmenter: AmodalSegmenter) -> None:
    assert tiny_segmenter.expect(tiny_segmenter.start(SIZE)) == {}
