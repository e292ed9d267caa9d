"""Streams in which what hides an object has no mask, with the shipped model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from veiled_box import (
    BACKGROUND,
    HIDDEN,
    LENGTH,
    SIZE,
    box_at,
    frames_without_mask_of_wall,
    picture_of,
    pictures,
    rectangle,
    wall_at,
)

import amodal_model
from amodal_model.clip import segment_clip
from amodal_model.errors import InputError
from amodal_model.masks import BoxedMask, mask_iou
from amodal_model.results import ObjectResult
from amodal_model.stream import AmodalSegmenter, StepRequest
from amodal_model.stream_state import StreamState
from amodal_model.veils import Sighting

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def shipped() -> AmodalSegmenter:
    return amodal_model.load()


@pytest.fixture(scope="module")
def unaware() -> AmodalSegmenter:
    """The same without a judge of veils."""
    return amodal_model.load(judge=None)


def play(
    segmenter: AmodalSegmenter,
    frames: Sequence[Mapping[int, BoxedMask]],
    state: StreamState | None = None,
) -> tuple[list[ObjectResult], StreamState]:
    state = state or segmenter.start(SIZE)
    found = []
    for visible in frames:
        result, state = segmenter.step(None, visible, state)
        found.append(result.objects[0])
    return found, state


def test_a_box_behind_something_without_a_mask_stays_whole(
    shipped: AmodalSegmenter, unaware: AmodalSegmenter
) -> None:
    frames = frames_without_mask_of_wall()
    known, _ = play(shipped, frames)
    without, _ = play(unaware, frames)
    hidden = range(21, 32)
    truth = [box_at(t) for t in range(LENGTH)]
    assert np.mean([mask_iou(without[t].visible, truth[t]) for t in hidden]) < 0.5
    assert np.mean([mask_iou(without[t].amodal, truth[t]) for t in hidden]) < 0.6
    assert np.mean([mask_iou(known[t].amodal, truth[t]) for t in hidden]) > 0.65
    assert {known[t].state for t in hidden} == {"partial"}
    assert {known[t].occluded_by for t in hidden} == {()}
    # before it comes and after it is gone nothing is added
    for t in (*range(8), *range(41, LENGTH)):
        assert mask_iou(known[t].amodal, truth[t]) > 0.97, t


def test_what_a_mask_covers_is_as_without_a_judge(
    shipped: AmodalSegmenter, unaware: AmodalSegmenter
) -> None:
    frames = [each | {2: wall_at(t)} for t, each in enumerate(frames_without_mask_of_wall())]
    known, _ = play(shipped, frames)
    without, _ = play(unaware, frames)
    for one, other in zip(known, without, strict=True):
        assert mask_iou(one.amodal, other.amodal) > 0.99


def test_a_box_that_goes_away_from_the_camera_only_grows_smaller(
    shipped: AmodalSegmenter,
) -> None:
    def shrunk(frame: int) -> BoxedMask:
        half = 30 * 0.97**frame
        return rectangle(100 - half, 60 - half * 0.8, 100 + half, 60 + half * 0.8)

    found, _ = play(shipped, [{1: shrunk(t)} for t in range(30)])
    assert found[-1].visible.area < 0.2 * found[0].visible.area
    for one in found:
        assert one.amodal.area < 1.03 * one.visible.area


def test_veils_are_kept_in_saved_states(shipped: AmodalSegmenter) -> None:
    frames = frames_without_mask_of_wall()
    whole, _ = play(shipped, frames)
    _, state = play(shipped, frames[:25])
    assert state.tracks.veil.any()
    loaded = shipped.load_state(shipped.save_state(state))
    rest, _ = play(shipped, frames[25:], loaded)
    for one, other in zip(rest, whole[25:], strict=True):
        assert mask_iou(one.amodal, other.amodal) == 1


def test_states_of_before_veils_go_on(shipped: AmodalSegmenter) -> None:
    _, state = play(shipped, frames_without_mask_of_wall()[:25])
    arrays = shipped.save_state(state)
    old = {key: value for key, value in arrays.items() if key not in _NEW}
    assert len(old) == len(arrays) - len(_NEW)
    found, _ = play(shipped, frames_without_mask_of_wall()[25:], shipped.load_state(old))
    assert mask_iou(found[-1].amodal, box_at(0)) > 0.97


_NEW = {f"tracks_{name}" for name in ("usual", "veil", "look", "colours", "has_look")}


def test_streams_side_by_side_have_their_own_veils(shipped: AmodalSegmenter) -> None:
    frames = frames_without_mask_of_wall()
    alone, _ = play(shipped, frames)
    states = [shipped.start(SIZE)] * 2
    for t, visible in enumerate(frames):
        requests = [
            StepRequest(None, visible, states[0]),
            StepRequest(None, {1: box_at(t)}, states[1]),
        ]
        stepped = shipped.step_many(requests)
        states = [state for _, state in stepped]
        assert mask_iou(stepped[0][0].objects[0].amodal, alone[t].amodal) > 0.99
        assert mask_iou(stepped[1][0].objects[0].amodal, box_at(t)) == 1


def test_offline_a_box_is_whole_that_shows_whole_only_later(shipped: AmodalSegmenter) -> None:
    frames = frames_without_mask_of_wall()[21:]
    found = [result.objects[0] for result in segment_clip(shipped, frames, SIZE, "offline")]
    causal, _ = play(shipped, frames)
    assert mask_iou(causal[5].amodal, box_at(0)) < 0.6
    assert mask_iou(found[5].amodal, box_at(0)) > 0.8


def shown(
    segmenter: AmodalSegmenter, frames: Sequence[tuple[BoxedMask, np.ndarray]]
) -> list[ObjectResult]:
    """Return the results of one object with its pictures."""
    state, found = segmenter.start(SIZE), []
    for mask, image in frames:
        result, state = segmenter.step(image, {1: mask}, state)
        found.append(result.objects[0])
    return found


def test_a_picture_shows_the_wall_that_has_no_mask(shipped: AmodalSegmenter) -> None:
    visible = [each[1] for each in frames_without_mask_of_wall()]
    found = shown(shipped, list(zip(visible, pictures(), strict=True)))
    by_masks, _ = play(shipped, [{1: mask} for mask in visible])
    ours, theirs = (
        np.mean([mask_iou(each[t].amodal, box_at(t)) for t in HIDDEN]) for each in (found, by_masks)
    )
    assert ours > theirs
    assert ours > 0.8
    for t in (*range(8), *range(41, LENGTH)):
        assert mask_iou(found[t].amodal, box_at(t)) > 0.95, t


def test_a_picture_shows_that_a_box_was_cut_off(shipped: AmodalSegmenter) -> None:
    """What is gone shows the background that was beside it, and nothing that came."""

    def left(frame: int) -> BoxedMask:
        return rectangle(70 + 2.5 * min(max(frame - 8, 0), 14), 35, 130, 85)

    found = shown(shipped, [(left(t), picture_of(left(t))) for t in range(LENGTH)])
    for t in range(30, LENGTH):
        assert mask_iou(found[t].amodal, left(t)) > 0.9, t


def test_offline_a_picture_shows_the_wall_too(shipped: AmodalSegmenter) -> None:
    """What is still hidden at the end is seen by the forward direction alone."""
    masks, images = frames_without_mask_of_wall()[:30], pictures()[:30]
    found = list(segment_clip(shipped, masks, SIZE, "offline", images))
    assert np.mean([mask_iou(found[t].objects[0].amodal, box_at(t)) for t in range(16, 30)]) > 0.8


@pytest.mark.parametrize(
    ("masks", "images", "said"),
    [
        (3, 2, "images end after 2 frames, masks go on"),
        (2, 3, "masks end after 2 frames, images go on"),
    ],
)
def test_a_clip_needs_an_image_a_frame(
    shipped: AmodalSegmenter, masks: int, images: int, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        list(segment_clip(shipped, [{1: box_at(0)}] * masks, SIZE, "causal", [BACKGROUND] * images))


def test_pictures_are_kept_in_saved_states(shipped: AmodalSegmenter) -> None:
    visible = [each[1] for each in frames_without_mask_of_wall()]
    images = pictures()
    state, whole = shipped.start(SIZE), []
    for t in range(LENGTH):
        if t == 20:
            state = shipped.load_state(shipped.save_state(state))
        result, state = shipped.step(images[t], {1: visible[t]}, state)
        whole.append(result.objects[0])
    for one, other in zip(
        shown(shipped, list(zip(visible, images, strict=True))), whole, strict=True
    ):
        assert mask_iou(one.amodal, other.amodal) == 1


def gone(segmenter: AmodalSegmenter, frames: int, image: np.ndarray) -> ObjectResult:
    """Return the result of a box after frames without its mask, all of one image."""
    state = segmenter.start(SIZE)
    for t in range(10):
        _, state = segmenter.step(pictures()[t], {1: box_at(t)}, state)
    for _ in range(frames):
        result, state = segmenter.step(image, {}, state)
    return result.objects[0]


@pytest.mark.parametrize(("logit", "state"), [(9.0, "hidden"), (-9.0, "lost")])
def test_who_is_entirely_behind_a_veil_stays(
    unaware: AmodalSegmenter, logit: float, state: str
) -> None:
    def judge(sighting: Sighting) -> np.ndarray:
        return np.full(sighting.usual.shape, logit if sighting.has_look.all() else -9.0, np.float32)

    judged = AmodalSegmenter(unaware.engine, unaware.config, judge, sees_pictures=True)
    found = gone(judged, 60, picture_of(box_at(0), box_at(0)))
    assert found.state == state
    assert (mask_iou(found.amodal, box_at(0)) > 0.8) == (state == "hidden")


def test_less_is_expected_behind_what_has_no_mask(shipped: AmodalSegmenter) -> None:
    """And nothing of an object of which nothing is taken to be hidden."""
    masks = frames_without_mask_of_wall()
    found = shown(shipped, [(one[1], each) for one, each in zip(masks, pictures(), strict=True)])
    walled, _ = play(shipped, [{**one, 2: wall_at(t)} for t, one in enumerate(masks)])
    assert found[0].confidence_occluded == 0
    for t in HIDDEN[4:]:
        assert 0 < found[t].confidence_occluded < walled[t].confidence_occluded
