"""Windows out of frames, and what moved: the conventions that following rests on."""

import cv2
import numpy as np
import pytest

from amodal_model.geometry import Window
from amodal_model.image_motion import (
    backward_flow,
    inside_frame,
    own_motion,
    sample_field,
    sample_image,
    sample_mask,
    window_axes,
    work_grey,
    work_size,
)
from amodal_model.masks import box_mask


def _texture(size: tuple[int, int]) -> np.ndarray:
    noise = np.random.default_rng(3).integers(0, 256, size, np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2.0), np.uint8)


def test_large_frames_are_shrunk_and_small_ones_are_not() -> None:
    assert work_size((720, 1280)) == (241, 428)
    assert work_size((100, 200)) == (100, 200)
    assert work_size((16384, 16)) == (428, 16)
    assert work_grey(np.zeros((720, 1280, 3), np.uint8)).shape == (241, 428)


def test_axes_are_pixel_centres_of_the_window() -> None:
    columns, rows = window_axes(Window(10, 20, 8), 8)
    assert columns.tolist() == [6.5, 7.5, 8.5, 9.5, 10.5, 11.5, 12.5, 13.5]
    assert rows[0] == 16.5


def test_a_window_of_the_frames_own_resolution_is_the_frame() -> None:
    image = np.dstack([_texture((60, 80))] * 3)
    sampled = sample_image(image, Window(40, 30, 32), 32)
    assert np.array_equal(sampled, image[14:46, 24:56])


def test_a_shrunk_window_is_averaged_and_keeps_its_place() -> None:
    image = np.zeros((80, 120, 3), np.uint8)
    image[20:60, 40:80] = 200
    sampled = sample_image(image, Window(60, 40, 80), 20)[..., 0].astype(float)
    assert sampled[5:15, 5:15] == pytest.approx(200, abs=1)
    assert sampled[10, :4] == pytest.approx(0, abs=1)
    assert sampled.mean() == pytest.approx(50, rel=0.05)


def test_a_window_far_outside_the_frame_can_be_sampled() -> None:
    image = np.full((40, 40, 3), 7, np.uint8)
    assert (sample_image(image, Window(-300, 500, 30), 16) == 7).all()
    assert inside_frame(Window(-300, 500, 30), 16, (40, 40)).sum() == 0


def test_inside_is_where_the_pixels_centre_lies_in_the_frame() -> None:
    inside = inside_frame(Window(0, 20, 16), 16, (40, 40))
    assert inside[:, :8].sum() == 0
    assert inside[:, 8:].all()


def test_a_mask_is_sampled_where_it_lies() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    sampled = sample_mask(box_mask(mask), Window(40, 15, 40), 80)
    rows, columns = np.nonzero(sampled > 0.5)
    assert (rows.min(), rows.max() + 1) == (30, 50)
    assert (columns.min(), columns.max() + 1) == (20, 60)
    assert sample_mask(box_mask(0 * mask > 0), Window(40, 15, 40), 8).sum() == 0


def test_flow_says_where_a_pixel_was() -> None:
    big = _texture((120, 160))
    before, after = (
        big[10:110, 10:150].copy(),
        big[13:113, 14:154].copy(),
    )  # content moves left 4, up 3
    flow = backward_flow(after, before)
    assert np.median(flow[..., 0]) == pytest.approx(4, abs=0.3)
    assert np.median(flow[..., 1]) == pytest.approx(3, abs=0.3)
    sampled = sample_field(flow, Window(140, 100, 60), 12, scale=0.5)
    assert np.median(sampled[..., 0]) == pytest.approx(8, abs=0.6)  # in frame pixels


def test_own_motion_is_what_the_camera_does_not_explain() -> None:
    rows, columns = np.mgrid[:100, :140].astype(np.float32)
    flow = np.stack([2 + 0.01 * columns, -1 + 0.02 * rows], axis=-1)
    is_object = np.zeros((100, 140), bool)
    is_object[30:60, 40:80] = True
    flow[is_object] += (5, 0)
    moved = own_motion(flow, is_object)
    assert np.abs(moved[~is_object]).max() < 0.1
    assert moved[is_object][:, 0] == pytest.approx(5, abs=0.1)


def test_without_room_beside_the_objects_the_flow_is_left_as_it_is() -> None:
    flow = np.ones((40, 40, 2), np.float32)
    assert np.array_equal(own_motion(flow, np.ones((40, 40), bool)), flow)
