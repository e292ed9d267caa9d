"""Moving objects found without prompts: where they are, their ids, and the state as a value."""

from __future__ import annotations

import numpy as np
import pytest
from moving_scene import SIZE, block_mask, frame

from amodal_model.errors import InputError
from amodal_model.masks import box_mask, empty_mask, mask_iou
from amodal_model.motion_state import MotionState
from amodal_model.source_motion import MotionSource
from amodal_model.visible_source import Expectation


def _warm(source: MotionSource, pan: float = 0.0) -> MotionState:
    """Return a state that has seen the ground for 40 frames."""
    ground = [frame(0, pan * index, blocks=()) for index in range(40)]
    return source.warm_up(ground, source.start(SIZE))


@pytest.mark.parametrize(("pan", "least_iou"), [(0.0, 0.8), (0.7, 0.6)])
def test_blocks_that_move_are_found_whole_and_keep_their_ids(pan: float, least_iou: float) -> None:
    source = MotionSource()
    state = _warm(source, pan)
    ids: dict[int, set[int]] = {1: set(), 2: set()}
    overlaps = []
    for index in range(24):
        masks, state = source.find(frame(index, pan * (40 + index)), (), state, {})
        if index < 14:
            continue
        for block, seen in ids.items():
            truth = box_mask(block_mask(block, index))
            best = max(masks, key=lambda key: mask_iou(masks[key], truth), default=0)
            assert best, f"block {block} not found in frame {index}"
            overlaps.append(mask_iou(masks[best], truth))
            seen.add(best)
    assert np.mean(overlaps) > least_iou
    assert all(len(seen) == 1 for seen in ids.values())
    assert ids[1] != ids[2]


def test_a_block_leaves_no_trail_behind() -> None:
    source = MotionSource()
    state = _warm(source)
    for index in range(20):
        masks, state = source.find(frame(2 * index, blocks=(1,)), (), state, {})  # 5 pixels each
    (mask,) = masks.values()
    truth = block_mask(1, 38)
    trail = mask.full() & ~truth
    trail[:, int(np.flatnonzero(truth.any(0))[0]) :] = False
    assert trail.sum() < 0.1 * truth.sum()


def test_nothing_is_found_where_nothing_moves() -> None:
    source = MotionSource()
    state = source.start(SIZE)
    for index in range(15):
        noise = np.random.default_rng(index).integers(-3, 4, (*SIZE, 3))
        image = np.clip(frame(0).astype(int) + noise, 0, 255).astype(np.uint8)
        masks, state = source.find(image, (), state, {})
        assert masks == {}


def test_masks_of_a_large_frame_are_at_its_size() -> None:
    def enlarged(image: np.ndarray) -> np.ndarray:
        return np.kron(image, np.ones((4, 4, 1), np.uint8))

    source = MotionSource()
    state = source.warm_up([enlarged(frame(0, blocks=()))] * 30, source.start((480, 640)))
    for index in range(14):
        masks, state = source.find(enlarged(frame(index)), (), state, {})
    truth = box_mask(np.kron(block_mask(1, 13), np.ones((4, 4), bool)))
    assert max(mask_iou(mask, truth) for mask in masks.values()) > 0.7


def test_a_saved_state_goes_on_as_if_never_interrupted() -> None:
    source = MotionSource()
    state = source.start(SIZE)
    for index in range(10):
        _, state = source.find(frame(index, 0.7 * index), (), state, {})
    copy = source.load_state(source.save_state(state))
    for index in range(10, 16):
        masks, state = source.find(frame(index, 0.7 * index), (), state, {})
        again, copy = source.find(frame(index, 0.7 * index), (), copy, {})
        assert masks.keys() == again.keys()
        assert all(np.array_equal(masks[key].full(), again[key].full()) for key in masks)
    assert masks


def test_an_object_comes_back_with_its_id_where_the_amodal_state_expects_it() -> None:
    def look(blocks: tuple[int, ...], index: int, state: MotionState) -> MotionState:
        hidden = {1: Expectation(box_mask(block_mask(1, index)), 2.0, 1.0)} if index >= 12 else {}
        masks, state = source.find(frame(index, blocks=blocks), (), state, hidden)
        found.append(set(masks))
        return state

    source, found = MotionSource(), list[set[int]]()
    state = _warm(source)
    for index in range(12):
        state = look((1,), index, state)
    assert found[-1] == {1}
    for index in range(12, 36):  # longer than a track is kept without the amodal state
        state = look((), index, state)
    assert found[-1] == set()
    assert 1 in state.tracks.track_id
    for index in (36, 37):
        state = look((1,), index, state)
    assert found[-1] == {1}


def test_a_cut_begins_the_scene_anew() -> None:
    source = MotionSource()
    state = _warm(source)
    for index in range(12):
        _, state = source.find(frame(index), (), state, {})
    masks, state = source.find(255 - frame(12), (), state, {})
    assert masks == {}
    assert len(state.tracks.serial) == 0
    assert state.next_serial > 2


def test_inputs_that_do_not_fit_are_refused_in_one_line() -> None:
    source = MotionSource()
    state = source.start(SIZE)
    with pytest.raises(InputError, match="needs the image"):
        source.find(None, (), state, {})
    with pytest.raises(InputError, match=r"frame is 80x60, the stream's frames are 160x120"):
        source.find(np.zeros((60, 80, 3), np.uint8), (), state, {})


def test_arrays_that_are_no_state_are_refused() -> None:
    source = MotionSource()
    arrays = source.save_state(source.start(SIZE))
    with pytest.raises(InputError, match="no array 'labels'"):
        source.load_state({key: value for key, value in arrays.items() if key != "labels"})
    with pytest.raises(InputError, match="do not fit"):
        source.load_state(arrays | {"odds": np.zeros((4, 4), np.float32)})
    with pytest.raises(InputError, match="do not fit"):
        source.load_state(arrays | {"labels": np.full(arrays["labels"].shape, 9, np.int16)})
    with pytest.raises(InputError, match="another shape"):
        source.load_state(arrays | {"numbers": np.zeros(2)})


def test_an_expectation_without_a_pixel_is_harmless() -> None:
    source = MotionSource()
    state = _warm(source)
    nothing = {1: Expectation(empty_mask(SIZE), 3.0, 5.0)}
    for index in range(8):
        masks, state = source.find(frame(index), (), state, nothing)
    assert masks
