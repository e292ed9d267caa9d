"""The camera's motion is told from that of objects."""

from __future__ import annotations

import cv2
import numpy as np
from moving_scene import texture

from amodal_model.camera_motion import (
    IDENTITY,
    camera_flow,
    compose,
    fit_camera,
    invert,
    largest_displacement,
    measure_flow,
)

SIZE = (240, 320)


def _gray(seed: int) -> np.ndarray:
    return np.asarray(cv2.cvtColor(texture(SIZE, seed, 40, 210), cv2.COLOR_RGB2GRAY), np.uint8)


def test_a_pan_with_zoom_is_found_although_a_fifth_of_the_image_moves_otherwise() -> None:
    truth = np.array([[1.01, 0, -2.0], [0, 1.01, 1.0]])
    previous = _gray(0)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    current = np.asarray(
        cv2.warpAffine(previous, truth, (320, 240), flags=flags, borderMode=cv2.BORDER_REFLECT),
        np.uint8,
    )
    current[60:160, 120:260] = previous[60:160, 112:252]
    flow = measure_flow(current, previous)
    motion = fit_camera(flow, (current, previous), np.zeros(SIZE, bool))
    away = camera_flow(motion, SIZE) - camera_flow(
        motion._replace(previous_from_current=truth), SIZE
    )
    assert np.abs(away).mean() < 0.4
    # what is left of the flow is the block's own
    assert np.abs((flow - camera_flow(motion, SIZE))[90:130, 160:220, 0]).mean() > 3


def test_an_image_without_texture_says_that_the_camera_rests() -> None:
    flat = np.full(SIZE, 90, np.uint8)
    everything = np.ones(SIZE, bool)
    flow = np.ones((*SIZE, 2), np.float32)
    assert np.array_equal(
        fit_camera(flow, (flat, flat), everything).previous_from_current, IDENTITY
    )


def test_composition_with_the_inverse_is_the_identity() -> None:
    transform = np.array([[1.1, 0.1, 3], [-0.2, 0.9, -4]])
    assert np.allclose(compose(transform, invert(transform)), IDENTITY)
    assert largest_displacement(IDENTITY, SIZE) == 0
    moved = IDENTITY + np.array([[0, 0, 3.0], [0, 0, 4.0]])
    assert largest_displacement(moved, SIZE) == 5
