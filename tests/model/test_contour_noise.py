"""Contour noise: told from masks alone, whatever their objects do; what follows from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from amodal_model.contour_noise import (
    KEPT_JITTERS,
    LARGEST_RIM,
    UNKNOWN,
    add_jitters,
    confidence_under,
    noise_of,
    rim_of,
)
from amodal_model.masks import BoxedMask, box_mask, empty_mask

SIZE = (120, 200)
ROWS, COLUMNS = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5


def disc(radius: float, x: float = 100.0) -> BoxedMask:
    return box_mask(np.hypot(COLUMNS - x, ROWS - 60) < radius)


def noise_after(masks: Callable[[int], BoxedMask], frames: int = 24) -> float:
    jitters = np.full((1, KEPT_JITTERS), UNKNOWN, np.float32)
    areas = np.zeros((1, 2), np.float32)
    for index in range(frames):
        jitters, areas = add_jitters(jitters, areas, [masks(index)])
    return noise_of(jitters)


@pytest.mark.parametrize("pixels", [1.0, 2.0, 4.0])
def test_contours_that_are_off_by_some_pixels_are_told(pixels: float) -> None:
    rng = np.random.default_rng(3)
    offs = rng.choice([-pixels, 0.0, pixels], 400)
    discs = [disc(30 + off) for off in offs]
    medians = [noise_after(discs[start:].__getitem__) for start in range(0, 360, 12)]
    assert 0.5 * pixels < np.mean(medians) < 1.3 * pixels


@pytest.mark.parametrize(
    "masks",
    [
        pytest.param(lambda t: disc(30, 40 + 5 * t), id="moves"),
        pytest.param(lambda t: disc(10 + 2 * t), id="comes nearer"),
        pytest.param(lambda t: disc(30 + 8 * np.sin(t / 5)), id="breathes"),
        pytest.param(
            lambda t: box_mask(disc(30).full() & (64 + 3 * t < COLUMNS)), id="slides under another"
        ),
    ],
)
def test_what_objects_do_is_no_noise(masks: Callable[[int], BoxedMask]) -> None:
    assert noise_after(masks, 20) < 0.35


def test_frames_without_a_mask_tell_nothing() -> None:
    flashing = [disc(30), empty_mask(SIZE)]
    assert noise_after(lambda t: flashing[t % 2]) == 0


def test_too_few_frames_tell_nothing() -> None:
    assert noise_after(lambda t: disc(30 + 2 * (-1) ** t), 4) == 0
    assert noise_after(lambda t: disc(30 + 2 * (-1) ** t), 5) > 1


def test_objects_of_one_frame_tell_it_together() -> None:
    masks = [disc(30), disc(28), disc(31)]
    jitters, areas = add_jitters(
        np.full((3, KEPT_JITTERS), UNKNOWN, np.float32),
        np.full((3, 2), masks[0].area, np.float32),
        masks,
    )
    assert jitters[0, 0] == 0
    assert 0 < noise_of(jitters) < noise_of(np.tile(jitters[1:2], (3, 1)))
    np.testing.assert_array_equal(areas[:, 1], [mask.area for mask in masks])


def test_the_rim_is_bounded() -> None:
    assert rim_of(0.3) == 0
    assert rim_of(1.4) == 2
    assert rim_of(1e6) == LARGEST_RIM


def test_slivers_beside_long_contours_are_the_least_sure() -> None:
    assert confidence_under(0.0, 0.8, 900, 40) == 0.8
    sliver, half = confidence_under(1.5, 0.8, 900, 40), confidence_under(1.5, 0.8, 900, 900)
    assert sliver < 0.5 * half < half < 0.8
    assert confidence_under(1.5, 0.8, 0, 500) == 0.8, "nothing shows: no contour is off"
    assert 0 <= confidence_under(1e6, 0.8, 1e6, 0) < 1e-6
