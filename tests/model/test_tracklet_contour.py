"""The contour of one thing in front of others is even; that of a part, or of a gap, is not."""

from __future__ import annotations

import cv2
import numpy as np

from amodal_model.masks import box_mask, empty_mask
from amodal_model.tracklet_contour import evenness

SIZE = (120, 160)


def _disc(center: tuple[int, int], radius: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    cv2.circle(mask, center, radius, (1,), cv2.FILLED)
    return mask > 0


def _scene(thing: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).integers(-6, 7, (*SIZE, 3))
    light = np.where(thing, 190, 70)[..., None] + noise
    return np.clip(light, 0, 255).astype(np.uint8)


def test_the_contour_of_a_thing_is_even_at_every_size() -> None:
    for radius in (6, 20, 45):
        disc = _disc((80, 60), radius)
        assert evenness(box_mask(disc), _scene(disc)) > 0.8


def test_half_a_thing_has_no_even_contour() -> None:
    disc = _disc((80, 60), 30)
    half = disc.copy()
    half[:, 80:] = False
    assert evenness(box_mask(half), _scene(disc)) < 0.45


def test_a_gap_between_two_things_has_no_even_contour() -> None:
    bars = np.zeros(SIZE, bool)
    bars[30:, 40:70] = bars[30:, 90:120] = True
    gap = np.zeros(SIZE, bool)
    gap[30:90, 70:90] = True
    assert evenness(box_mask(gap), _scene(bars)) < 0.45


def test_the_edge_of_the_image_is_no_contour() -> None:
    disc = _disc((0, 60), 30)
    assert evenness(box_mask(disc), _scene(disc)) > 0.8


def test_no_mask_and_a_whole_frame_have_no_contour() -> None:
    image = _scene(np.zeros(SIZE, bool))
    assert evenness(empty_mask(SIZE), image) == 0
    assert evenness(box_mask(np.ones(SIZE, bool)), image) == 0
