from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from amodal_model.masks import BoxedMask, box_mask
from amodal_training.baseline_flow import half_flows, median_flow, shifts_by_flow

SIZE = (96, 160)


def texture(seed: int, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma).astype(float)
    return np.asarray(255 * (smooth - smooth.min()) / np.ptp(smooth), np.uint8)


def square(x: int) -> BoxedMask:
    frame = np.zeros(SIZE, bool)
    frame[30:70, x : x + 40] = True
    return box_mask(frame)


def moving_square(step: int, frames: int) -> Iterator[np.ndarray]:
    """A textured square that moves over a background of another texture."""
    behind, front = texture(0, 3), texture(1, 3)
    for index in range(frames):
        frame = behind.copy()
        frame[30:70, 20 + step * index :][:, :40] = front[30:70, 20:60]
        yield frame


def test_flow_follows_a_moving_square() -> None:
    masks = [{7: square(20 + 3 * index)} for index in range(6)]
    shifts = shifts_by_flow(masks, moving_square(3, 6))
    assert list(shifts) == [7]
    assert shifts[7].sum(axis=0) == pytest.approx([15, 0], abs=1.5)


def test_hidden_object_goes_on_with_its_last_velocity() -> None:
    masks = [{1: square(20 + 3 * index)} if index < 4 else {} for index in range(8)]
    shifts = shifts_by_flow(masks, moving_square(3, 8))[1]
    assert shifts[4:] == pytest.approx(np.tile(np.median(shifts[1:4], axis=0), (4, 1)))


def test_object_that_appears_later_has_one_entry_a_frame() -> None:
    masks = [{} if index < 2 else {1: square(26)} for index in range(4)]
    shifts = shifts_by_flow(masks, moving_square(0, 4))[1]
    assert shifts.shape == (4, 2)
    assert not shifts[:3].any()


def test_pixels_that_leave_the_mask_do_not_count() -> None:
    """Two thirds of the flow is an occluder's, and leads out of the object."""
    flow = np.zeros((48, 80, 2), np.float32)
    flow[:, 16:, 0] = 40
    flow[:, :16, 0] = 1
    found = median_flow(flow, square(20), square(22))
    assert found is None  # 12 of 40 columns are kept: no more than 30 %
    flow[:, :18, 0] = 1
    assert median_flow(flow, square(20), square(22)) == pytest.approx([2, 0])


def test_fewer_frames_than_mask_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        shifts_by_flow([{}, {}, {}], moving_square(0, 2))


def test_first_frame_has_no_flow_and_the_others_are_half_size() -> None:
    first, second = half_flows(moving_square(0, 2))
    assert first is None
    assert second is not None
    assert second.shape == (48, 80, 2)
