"""The state of a stream: constant in size, left alone by steps, stored and loaded."""

from __future__ import annotations

import numpy as np
import pytest
from wall_and_ball import BALL, SIZE, play, rectangle, wall_over_ball

from amodal_model.errors import InputError
from amodal_model.masks import (
    BoxedMask,
    mask_iou,
)
from amodal_model.stream import AmodalSegmenter
from amodal_model.stream_state import state_bytes

VEILS = tuple(f"tracks_{name}" for name in ("usual", "veil", "look", "colours", "has_look"))
"""Arrays of a state that came with veils."""


def test_step_leaves_the_given_state_alone(tiny_segmenter: AmodalSegmenter) -> None:
    """The same state, stepped twice, gives the same twice."""
    _, state = play(tiny_segmenter, [wall_over_ball(left) for left in (100, 90, 80)])
    before = tiny_segmenter.save_state(state)
    copies = {name: array.copy() for name, array in before.items()}
    first, _ = tiny_segmenter.step(None, wall_over_ball(70), state)
    second, _ = tiny_segmenter.step(None, wall_over_ball(70), state)
    for name, array in tiny_segmenter.save_state(state).items():
        np.testing.assert_array_equal(array, copies[name], err_msg=name)
    for a, b in zip(first.objects, second.objects, strict=True):
        np.testing.assert_array_equal(a.amodal.full(), b.amodal.full())


def test_state_stays_the_same_size_over_300_frames(tiny_segmenter: AmodalSegmenter) -> None:
    state = tiny_segmenter.start(SIZE)
    sizes = set()
    for index in range(300):
        _, state = tiny_segmenter.step(None, wall_over_ball(30 + index % 80), state)
        if len(state.track_ids) == 2:
            arrays = tiny_segmenter.save_state(state)
            sizes.add(sum(array.nbytes for array in arrays.values()))
    assert len(sizes) == 1
    assert sizes.pop() < 2 * 200_000


def test_state_without_an_array_is_refused(tiny_segmenter: AmodalSegmenter) -> None:
    _, state = play(tiny_segmenter, [{2: BALL}])
    arrays = tiny_segmenter.save_state(state)
    for name in arrays.keys() - {"frames_open", *VEILS}:  # came later
        cut = {key: array for key, array in arrays.items() if key != name}
        with pytest.raises(InputError, match="stream state has no array"):
            tiny_segmenter.load_state(cut)


def test_state_saved_before_windows_turned_goes_on(tiny_segmenter: AmodalSegmenter) -> None:
    _, state = play(tiny_segmenter, [{2: BALL}, {2: BALL}])
    arrays = tiny_segmenter.save_state(state)
    later = ("tracks_misfit", "tracks_jitters", "tracks_areas", "frames_open", *VEILS)
    before = {name: array for name, array in arrays.items() if name not in later}
    for name in ("tracks_window", "tracks_velocity"):
        before[name] = arrays[name][:, :3]
    loaded = tiny_segmenter.load_state(before)
    assert loaded.tracks.window[0, 3] == 0
    expected, _ = tiny_segmenter.step(None, {2: BALL}, state)
    result, _ = tiny_segmenter.step(None, {2: BALL}, loaded)
    assert mask_iou(result.objects[0].amodal, expected.objects[0].amodal) > 0.99


def test_state_of_unequal_rows_is_refused(tiny_segmenter: AmodalSegmenter) -> None:
    _, state = play(tiny_segmenter, [{2: BALL, 3: rectangle(1, 1, 9, 9)}])
    arrays = tiny_segmenter.save_state(state)
    arrays["memory_maps"] = arrays["memory_maps"][:1]
    with pytest.raises(InputError, match=r"arrays of \[1, 2\] objects, need one number"):
        tiny_segmenter.load_state(arrays)


def test_state_bytes_are_those_of_the_arrays(
    tiny_segmenter: AmodalSegmenter, boxes_scene: list[dict[int, BoxedMask]]
) -> None:
    """All but the ids and the frame size, whose bytes do not matter."""
    state = tiny_segmenter.start((120, 160))
    for visible in boxes_scene[:3]:
        _, state = tiny_segmenter.step(None, visible, state)
        arrays = tiny_segmenter.save_state(state)
        ids = sum(arrays[name].nbytes for name in ("frame_size", "track_ids", "lost_ids"))
        held = sum(array.nbytes for array in arrays.values()) - ids
        assert state_bytes(len(state.track_ids)) == held
    assert state_bytes(0) == 0
