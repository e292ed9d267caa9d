"""Prompted objects: followed, hidden, found again, told apart, corrected and removed."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pytest

from amodal_model.errors import InputError
from amodal_model.follower_classical import ClassicalFollower
from amodal_model.masks import BoxedMask, box_mask, empty_mask, mask_iou, overlap_area
from amodal_model.source_prompted import PromptedSource, PromptedState
from amodal_model.visible_source import Expectation, Prompt

SIZE = (120, 160)
RED, BLUE, GREEN = (210, 50, 40), (40, 60, 200), (50, 150, 60)
Masks = dict[int, BoxedMask]


def _field() -> np.ndarray:
    """Return a background with texture, so that flow has something to hold on to."""
    noise = np.random.default_rng(5).integers(0, 256, SIZE).astype(np.uint8)
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), np.float32)
    return np.dstack([90 + smooth / 4, 95 + smooth / 4, 85 + smooth / 4]).astype(np.uint8)


def _disc(x: float, y: float, radius: int = 14) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 < radius**2)


def _frame(*things: tuple[np.ndarray, tuple[int, int, int]]) -> np.ndarray:
    image = _field()
    for index, (mask, colour) in enumerate(things):
        x0, y0, _, _ = box_mask(mask).bbox_xyxy
        grain = np.random.default_rng(index).integers(-20, 20, (*SIZE, 1)).astype(np.float32)
        grain = np.roll(cv2.GaussianBlur(grain, (0, 0), 1.0)[..., None], (y0, x0), (0, 1))
        image = np.where(mask[..., None], np.array(colour) + grain, image).astype(np.uint8)
    return image


def _box_of(mask: np.ndarray, track_id: int = 1) -> Prompt:
    x0, y0, x1, y1 = box_mask(mask).bbox_xyxy
    return Prompt(track_id, bbox_xyxy=(x0, y0, x1, y1))


def _iou(found: BoxedMask, true: np.ndarray) -> float:
    return mask_iou(found, box_mask(true))


@pytest.fixture(params=["classical", "shipped"])
def source(request: pytest.FixtureRequest) -> PromptedSource:
    return PromptedSource(ClassicalFollower() if request.param == "classical" else None)


def _find(
    source: PromptedSource,
    image: np.ndarray,
    state: PromptedState | None = None,
    *prompts: Prompt,
    expected: Mapping[int, Expectation] | None = None,
) -> tuple[Masks, PromptedState]:
    state = source.start(SIZE) if state is None else state
    return source.find(image, prompts, state, expected or {})


def test_nothing_is_found_where_nothing_is_prompted(source: PromptedSource) -> None:
    masks, state = _find(source, _field())
    assert masks == {}
    assert state.track_ids == ()


def test_a_box_is_cut_to_what_it_holds_and_followed(source: PromptedSource) -> None:
    state = None
    for index in range(8):
        disc = _disc(50 + 3 * index, 60)
        prompts = [_box_of(disc)] if index == 0 else []
        masks, state = _find(source, _frame((disc, RED)), state, *prompts)
        assert _iou(masks[1], disc) > 0.9


def test_a_mask_is_taken_as_it_is(source: PromptedSource) -> None:
    disc = _disc(70, 50)
    masks, _ = _find(source, _frame((disc, RED)), None, Prompt(1, mask=box_mask(disc)))
    assert _iou(masks[1], disc) > 0.95


def test_one_point_finds_the_thing_under_it(source: PromptedSource) -> None:
    disc = _disc(70, 50)
    prompt = Prompt(1, points=((70, 50, True), (20, 20, False)))
    masks, _ = _find(source, _frame((disc, RED)), None, prompt)
    assert _iou(masks[1], disc) > 0.85


def test_the_cost_of_a_large_frame_is_a_small_frames_and_its_mask_is_as_good(
    source: PromptedSource,
) -> None:
    disc = _disc(70, 50)
    image = cv2.resize(_frame((disc, RED)), (1280, 960), interpolation=cv2.INTER_CUBIC)
    x0, y0, x1, y1 = (8.0 * side for side in box_mask(disc).bbox_xyxy)
    masks, state = source.find(
        np.asarray(image, np.uint8),
        [Prompt(1, bbox_xyxy=(x0, y0, x1, y1))],
        source.start((960, 1280)),
        {},
    )
    large = cv2.resize(disc.astype(np.uint8), (1280, 960), interpolation=cv2.INTER_NEAREST) > 0
    assert _iou(masks[1], np.asarray(large)) > 0.9
    assert max(state.grey.shape) == 428


def test_two_objects_share_no_pixel_and_keep_their_ids(source: PromptedSource) -> None:
    state = None
    for index in range(10):
        red, blue = _disc(40 + 4 * index, 60), _disc(100, 60, 18)
        image = _frame((red, RED), (blue, BLUE))  # blue stands in front
        prompts = [_box_of(red & ~blue, 1), _box_of(blue, 2)] if index == 0 else []
        masks, state = _find(source, image, state, *prompts)
        assert _iou(masks[2], blue) > 0.85
        if 1 in masks:
            assert overlap_area(masks[1], masks[2]) == 0
    assert _iou(masks[1], red & ~blue) > 0.7


def test_an_object_out_of_sight_is_not_seen_on_its_occluder_and_found_again(
    source: PromptedSource,
) -> None:
    pillar = np.zeros(SIZE, bool)
    pillar[:, 70:110] = True
    state, seen = None, {}
    for index in range(30):
        disc = _disc(30 + 4 * index, 60)
        image = _frame((disc, RED), (pillar, BLUE))
        prompts = [_box_of(disc)] if index == 0 else []
        expected = {1: Expectation(box_mask(disc), 2.0, 0.0)} if index else {}
        masks, state = _find(source, image, state, *prompts, expected=expected)
        seen[index] = (masks.get(1, empty_mask(SIZE)), disc & ~pillar)
    hidden = [found.area for found, true in seen.values() if not true.any()]
    assert len(hidden) >= 3
    assert max(hidden) < 10  # a sliver of 609 pixels in the frame that hides the last of it
    assert hidden[-1] == 0
    assert _iou(*seen[29]) > 0.8


def test_an_object_that_returns_is_found_without_the_amodal_state_too(
    source: PromptedSource,
) -> None:
    disc = _disc(70, 60)
    _, state = _find(source, _frame((disc, RED)), None, _box_of(disc))
    for _ in range(4):
        masks, state = _find(source, _field(), state)
    assert masks == {}
    assert state.things[0].frames_gone > 0
    masks, state = _find(source, _frame((_disc(74, 58), RED)), state)
    assert _iou(masks[1], _disc(74, 58)) > 0.8
    assert state.things[0].frames_gone == 0


def test_points_correct_a_mask(source: PromptedSource) -> None:
    red, green = _disc(60, 60), _disc(88, 60)
    image = _frame((red, RED), (green, GREEN))
    _, state = _find(source, image, None, Prompt(1, mask=box_mask(red | green)))
    masks, state = _find(source, image, state, Prompt(1, points=((94, 60, False),)))
    assert _iou(masks[1], red & ~green) > 0.8
    masks, state = _find(source, image, state, Prompt(1, points=((94, 60, True),)))
    assert _iou(masks[1], red | green) > 0.8


def test_later_objects_join_and_removed_ones_leave(source: PromptedSource) -> None:
    red, blue = _disc(40, 40), _disc(110, 80)
    image = _frame((red, RED), (blue, BLUE))
    _, state = _find(source, image, None, _box_of(red, 4))
    masks, state = _find(source, image, state, _box_of(blue, 2))
    assert (sorted(masks), state.track_ids) == ([2, 4], (2, 4))
    masks, state = _find(source, image, state, Prompt(4, remove=True))
    assert (sorted(masks), state.track_ids) == ([2], (2,))


def test_the_expected_silhouette_bounds_what_an_object_grows_to(source: PromptedSource) -> None:
    disc, twin = _disc(60, 60), _disc(86, 60)  # alike, and touching
    _, start = _find(source, _frame((disc, RED)), None, Prompt(1, mask=box_mask(disc)))
    image = _frame((disc | twin, RED))
    expected = {1: Expectation(box_mask(disc), 0.5, 0.0)}
    free, bounded = start, start
    for _ in range(6):
        _, free = _find(source, image, free)
        masks, bounded = _find(source, image, bounded, expected=expected)
    assert _iou(masks[1], disc) > 0.6
    assert masks[1].within((90, 50, 100, 70)).mean() < 0.1


def test_a_saved_state_goes_on_as_the_state_itself(source: PromptedSource) -> None:
    disc = _disc(60, 60)
    _, state = _find(source, _frame((disc, RED)), None, _box_of(disc))
    loaded = source.load_state(source.save_state(state))
    image = _frame((_disc(64, 61), RED))
    (a, first), (b, second) = _find(source, image, state), _find(source, image, loaded)
    assert np.array_equal(a[1].full(), b[1].full())
    assert np.array_equal(first.things[0].prob, second.things[0].prob)


def test_states_are_values_that_finding_does_not_change(source: PromptedSource) -> None:
    disc = _disc(60, 60)
    image = _frame((disc, RED))
    _, state = _find(source, image, None, _box_of(disc))
    before = {name: array.copy() for name, array in source.save_state(state).items()}
    _find(source, image, state, Prompt(1, points=((60, 60, True),)))
    _find(source, _field(), state)
    for name, array in source.save_state(state).items():
        assert np.array_equal(array, before[name])


def test_a_state_that_lacks_an_array_or_has_another_shape_is_refused(
    source: PromptedSource,
) -> None:
    disc = _disc(60, 60)
    _, state = _find(source, _frame((disc, RED)), None, _box_of(disc))
    arrays = source.save_state(state)
    with pytest.raises(InputError, match="no proper array 'probs'"):
        source.load_state({k: v for k, v in arrays.items() if k != "probs"})
    with pytest.raises(InputError, match="arrays of shapes"):
        source.load_state({**arrays, "areas": np.zeros(3)})


@pytest.mark.parametrize(
    ("image", "prompt", "message"),
    [
        (None, Prompt(1, points=((5, 5, True),)), "got none"),
        (np.zeros((50, 60, 3), np.uint8), Prompt(1), "image is 60x50, the frames are 160x120"),
        (
            np.zeros((*SIZE, 3), np.uint8),
            Prompt(7, mask=empty_mask((9, 9))),
            "mask of track 7 is 9x9",
        ),
        (
            np.zeros((*SIZE, 3), np.uint8),
            Prompt(7, points=((5, 5, False),)),
            "track 7 is corrected, but nothing has shown it",
        ),
    ],
)
def test_what_does_not_fit_the_frames_is_one_line(
    source: PromptedSource, image: Any, prompt: Prompt, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        source.find(image, [prompt], source.start(SIZE), {})


@pytest.mark.parametrize("box", [(0, 0, 160, 120), (0, 0, 1, 1), (158.5, 119, 160, 120)])
def test_boxes_of_the_whole_frame_and_of_a_pixel_do_no_harm(
    source: PromptedSource, box: tuple[float, float, float, float]
) -> None:
    state = None
    for index in range(3):
        prompts = [Prompt(1, bbox_xyxy=box)] if index == 0 else []
        masks, state = _find(source, _frame((_disc(60, 60), RED)), state, *prompts)
        assert masks.keys() <= {1}
        for mask in masks.values():
            assert mask.frame_size == SIZE
            assert mask.area > 0


def test_frames_of_one_colour_do_no_harm(source: PromptedSource) -> None:
    blank = np.full((*SIZE, 3), 128, np.uint8)
    state = None
    for index in range(3):
        prompts = [Prompt(1, bbox_xyxy=(40, 40, 90, 90))] if index == 0 else []
        masks, state = _find(source, blank, state, *prompts)
    assert set(masks) <= {1}
    assert state is not None
    assert all(np.isfinite(each.prob).all() for each in state.things)
