"""Geometry: crops and pastes agree on where a pixel is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_model.geometry import (
    Coverage,
    Window,
    box_in_crop,
    crop_from_frame,
    crop_masks,
    frame_from_crop,
    old_from_new,
    paste_logits,
    paste_positive,
    paste_unclipped,
    paste_values,
    window_around,
)
from amodal_model.masks import BoxedMask, box_mask, empty_mask, mask_iou

SIZE = (240, 320)
RNG_CASES = settings(max_examples=40, deadline=None, derandomize=True)
places = st.floats(-400, 700, allow_nan=False)
angles = st.floats(-7, 7, allow_nan=False)
windows = st.builds(Window, places, places, st.floats(8, 900), angles)
inner_windows = st.builds(
    Window, st.floats(120, 200), st.floats(90, 150), st.floats(60, 170), angles
)


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> BoxedMask:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return box_mask(((columns - x) / radius_x) ** 2 + ((rows - y) / radius_y) ** 2 < 1)


def coverage_of(*masks: BoxedMask) -> Coverage:
    coverage = np.zeros(SIZE, np.uint8)
    for mask in masks:
        coverage += mask.full()
    return Coverage(coverage)


@RNG_CASES
@given(windows, st.sampled_from([48, 72, 96]))
def test_crop_and_frame_transforms_invert_each_other(window: Window, size: int) -> None:
    forward = np.vstack([crop_from_frame(window, size), [0, 0, 1]])
    backward = np.vstack([frame_from_crop(window, size), [0, 0, 1]])
    np.testing.assert_allclose(backward @ forward, np.eye(3), atol=2e-3)


@RNG_CASES
@given(windows)
def test_corners_of_a_window_are_corners_of_its_crop(window: Window) -> None:
    half = window.side / 2
    center = np.array([window.center_x, window.center_y])
    cosine, sine = np.cos(window.angle), np.sin(window.angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    for corner, expected in ((-half, 0), (half, 96)):
        place = np.append(center + turn @ [corner, corner], 1)
        np.testing.assert_allclose(crop_from_frame(window, 96) @ place, expected, atol=2e-2)


@RNG_CASES
@given(windows)
def test_box_in_a_crop_is_just_around_the_corners_of_the_box(window: Window) -> None:
    x0, y0, x1, y1 = 20, 30, 140, 90
    corners = np.array([[x0, y0, 1], [x1, y0, 1], [x0, y1, 1], [x1, y1, 1]]).T
    placed = crop_from_frame(window, 48) @ corners
    box = box_in_crop((x0, y0, x1, y1), window, 48)
    np.testing.assert_allclose(box, [*placed.min(1), *placed.max(1)], rtol=1e-4, atol=1e-2)


def test_a_window_that_is_turned_sees_the_mask_turned_back() -> None:
    """A bar that slopes down to the right by half a radian lies flat in a window turned so."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    x, y = columns - 160, rows - 120
    along, across = x * np.cos(0.5) + y * np.sin(0.5), y * np.cos(0.5) - x * np.sin(0.5)
    bar = box_mask((abs(along) < 40) & (abs(across) < 8))
    crop = crop_masks(bar, coverage_of(bar), Window(160, 120, 120, 0.5), 96)[..., 0] > 127
    down, right = np.nonzero(crop)
    np.testing.assert_allclose([down.min(), down.max()], [42, 53], atol=1)
    np.testing.assert_allclose([right.min(), right.max()], [16, 79], atol=1)


@RNG_CASES
@given(st.floats(20, 300), st.floats(20, 220), st.floats(25, 90), st.floats(25, 90))
def test_pasted_crop_is_the_mask_again(
    x: float, y: float, radius_x: float, radius_y: float
) -> None:
    mask = ellipse(x, y, radius_x, radius_y)
    left, top, right, bottom = mask.bbox_xyxy
    window = window_around((left, top, right, bottom), 1.4)
    crop = crop_masks(mask, coverage_of(mask), window, 96)
    pasted = paste_logits(crop[..., 0].astype(np.float32) - 127.5, window, SIZE)
    assert mask_iou(pasted, mask) > 0.97


@RNG_CASES
@given(windows)
def test_outside_is_marked_exactly_beyond_the_frame(window: Window) -> None:
    """Every crop pixel's outside value is about the share of its square beyond the frame."""
    nothing = empty_mask(SIZE)
    outside = crop_masks(nothing, Coverage(np.zeros(SIZE, np.uint8)), window, 96)[..., 2] / 255
    unit = window.side / 96
    rows, columns = np.mgrid[:96, :96] + 0.5
    places = np.stack([columns, rows, np.ones((96, 96))])
    across, down = np.einsum("ij,jrc->irc", frame_from_crop(window, 96), places)
    reach = 3 * unit + 1.5  # two samples askew, and the frame's pixels that they fall on
    beyond_x = np.maximum(-across, across - SIZE[1])
    beyond_y = np.maximum(-down, down - SIZE[0])
    beyond = np.maximum(beyond_x, beyond_y)
    assert outside[beyond > reach].min(initial=1) == 1
    assert outside[beyond < -reach].max(initial=0) == 0


def test_crop_far_from_the_frame_is_outside_alone() -> None:
    mask = ellipse(50, 50, 20, 20)
    crop = crop_masks(mask, coverage_of(mask), Window(-500, 900, 100), 96)
    assert (crop == np.array([0, 0, 255, 255])).all()


def test_others_are_where_more_masks_lie_than_the_own() -> None:
    mine, other = ellipse(150, 120, 40, 30), ellipse(180, 120, 30, 50)
    window = Window(160, 120, 192)
    crop = crop_masks(mine, coverage_of(mine, other), window, 96)
    alone = crop_masks(other, coverage_of(other), window, 96)
    np.testing.assert_allclose(crop[..., 1].astype(int), alone[..., 0], atol=2)
    assert crop[..., 1].max() == 255, "where masks overlap, the other is seen too"


@RNG_CASES
@given(windows, windows)
def test_a_crop_does_not_depend_on_those_made_before(first: Window, second: Window) -> None:
    """Blocks of a mask are kept for its next crop, which may be of finer or coarser ones."""
    mine, other = ellipse(150, 120, 40, 30), ellipse(180, 120, 30, 50)
    kept = coverage_of(mine, other)
    crop_masks(mine, kept, first, 72)
    again = crop_masks(mine, kept, second, 96)
    np.testing.assert_array_equal(again, crop_masks(mine, coverage_of(mine, other), second, 96))


@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_large_windows_are_averaged(shrink: int) -> None:
    """Lines of one pixel, a crop pixel apart, would flicker if single pixels were sampled."""
    size = (96 * shrink + 200, 96 * shrink + 200)
    lines = np.zeros(size, bool)
    lines[:, ::shrink] = True
    mask = box_mask(lines)
    window = Window(size[1] / 2 + 0.3, size[0] / 2 - 0.6, 96.0 * shrink)
    crop = crop_masks(mask, Coverage(mask.full().astype(np.uint8)), window, 96)
    inner = crop[2:-2, 2:-2, 0].astype(float) / 255
    np.testing.assert_allclose(inner, 1 / shrink, atol=0.02)


@RNG_CASES
@given(inner_windows, st.floats(-12, 12), st.floats(-12, 12), st.floats(0.85, 1.2))
def test_resampled_memory_is_a_fresh_crop(
    old: Window, shift_x: float, shift_y: float, scale: float
) -> None:
    torch = pytest.importorskip("torch")
    from amodal_model.network import resample  # noqa: PLC0415

    mask = ellipse(old.center_x + 3, old.center_y - 4, old.side * 0.2, old.side * 0.15)
    new = Window(old.center_x + shift_x, old.center_y + shift_y, old.side * scale, old.angle)
    kept, fresh = (
        crop_masks(mask, coverage_of(mask), window, 96)[..., 0] / np.float32(255)
        for window in (old, new)
    )
    theta = torch.from_numpy(old_from_new(old, new))[None]
    moved = resample(torch.from_numpy(kept)[None, None], theta)[0, 0].numpy()
    union = ((moved > 0.5) | (fresh > 0.5)).sum()
    assert ((moved > 0.5) & (fresh > 0.5)).sum() / union > 0.95
    assert abs(moved - fresh).mean() < 0.01


@RNG_CASES
@given(windows, windows)
def test_old_from_new_maps_the_new_window_into_the_old(old: Window, new: Window) -> None:
    """The new window's first corner, in coordinates of the old one, which has the same angle."""
    new = new._replace(angle=old.angle)
    corner = old_from_new(old, new) @ np.array([-1, -1, 1])
    in_frame = np.append(frame_from_crop(new, 96)[:, 2], 1)
    expected = crop_from_frame(old, 2) @ in_frame - 1
    np.testing.assert_allclose(corner, expected, rtol=1e-3, atol=2e-2)


def test_paste_outside_the_frame_is_empty() -> None:
    pasted = paste_logits(np.ones((96, 96), np.float32), Window(-300, 50, 100), SIZE)
    assert pasted.area == 0
    assert pasted.bbox_xyxy == (0, 0, 0, 0)


def test_paste_is_clipped_to_the_frame() -> None:
    pasted = paste_logits(np.ones((96, 96), np.float32), Window(0, 240, 100), SIZE)
    assert pasted.bbox_xyxy == (0, 190, 50, 240)
    assert pasted.area > 0.96 * 50 * 50


def test_paste_unclipped_keeps_what_lies_beyond_the_frame() -> None:
    logits = np.ones((96, 96), np.float32)
    for center in ((0, 240), (-80, 50), (160, 120)):
        whole = paste_unclipped(logits, Window(*center, 100), SIZE)
        assert whole.area > 0.96 * 100 * 100
        assert whole.frame_size == SIZE
        clipped = paste_logits(logits, Window(*center, 100), SIZE)
        frame = (0, 0, SIZE[1], SIZE[0])
        np.testing.assert_array_equal(whole.within(frame), clipped.full())


def test_window_around_a_point_has_room() -> None:
    assert window_around((10.0, 10.0, 11.0, 11.0), 2.0) == Window(10.5, 10.5, 8.0)


@RNG_CASES
@given(windows, st.integers(0, 2**32 - 1))
def test_positive_part_is_all_that_is_positive(window: Window, seed: int) -> None:
    """Pasted alone, it equals the pasted window, wherever that is above 0."""
    rng = np.random.default_rng(seed)
    values = rng.normal(-1.5, 1, (96, 96)).astype(np.float32)
    values[rng.integers(0, 96) :] = -1
    values[:, : rng.integers(0, 96)] = -1
    box, whole = paste_values(values, window, SIZE, outside=-1.0)
    part, pasted = paste_positive(values, window, SIZE, outside=-1.0)
    full, alone = np.full(SIZE, -1.0), np.full(SIZE, -1.0)
    full[box[1] : box[3], box[0] : box[2]] = whole
    alone[part[1] : part[3], part[0] : part[2]] = pasted
    np.testing.assert_allclose(np.maximum(alone, 0), np.maximum(full, 0), atol=1e-3)
