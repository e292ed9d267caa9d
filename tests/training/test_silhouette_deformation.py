"""Deforming outlines: still shapes stay as drawn, turned ones keep a body, limbs stay attached."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from amodal_training.silhouette_deformation import DeformingShape, draw_shape, sample_deformation
from amodal_training.silhouette_limbs import find_limbs
from amodal_training.silhouette_motion import GaitTrack, PoseTrack, sample_camera, sample_pose
from amodal_training.silhouette_shapes import Shape

FRAMES = 8
FRAME_SIZE = (200, 200)


@pytest.fixture(scope="module")
def armed_disc() -> Shape:
    y, x = np.mgrid[:160, :160]
    disc = (x - 80) ** 2 + (y - 80) ** 2 < 35**2
    pixels = disc | ((abs(y - 80) < 8) & (x >= 8) & (x < 152))
    return Shape("test:armed", pixels, tuple(find_limbs(pixels)))


def _moving(shape: Shape, seed: int) -> DeformingShape:
    gait = GaitTrack(np.linspace(0, 6, FRAMES), np.ones(FRAMES))
    return sample_deformation(np.random.default_rng(seed), shape, gait, 144.0)


def _pose(**changes: float) -> PoseTrack:
    values = {"centre_x": 100, "centre_y": 100, "size": 144, "roll": 0, "yaw": 0, "pitch": 0}
    return PoseTrack(**{k: np.full(FRAMES, float(v)) for k, v in (values | changes).items()})


def test_an_unbent_shape_is_drawn_as_it_is_stored(armed_disc: Shape) -> None:
    moving = _moving(Shape("test", armed_disc.pixels, ()), 0)
    still = replace(moving, weights=np.zeros_like(moving.weights), thickness=0.0)
    seen = draw_shape(still, _pose(), 0, FRAME_SIZE).full()[20:180, 20:180]
    both, either = seen & armed_disc.pixels, seen | armed_disc.pixels
    assert both.sum() > 0.95 * either.sum()


@pytest.mark.parametrize("yaw", [0.0, 1.0, np.pi / 2, 2.5, np.pi])
def test_a_swollen_body_is_one_solid_piece_from_every_side(armed_disc: Shape, yaw: float) -> None:
    moving = replace(_moving(armed_disc, 1), thickness=0.5)
    mask = draw_shape(moving, _pose(yaw=yaw), 0, FRAME_SIZE)
    pieces, _ = cv2.connectedComponents(mask.pixels.astype(np.uint8))
    assert pieces == 2
    assert mask.area > 1500


def test_limbs_stay_attached_while_they_swing(armed_disc: Shape) -> None:
    for seed in range(20):
        moving = _moving(armed_disc, seed)
        for index in range(FRAMES):
            mask = draw_shape(moving, _pose(), index, FRAME_SIZE)
            _, _, stats, _ = cv2.connectedComponentsWithStats(mask.pixels.astype(np.uint8))
            assert stats[1:, cv2.CC_STAT_AREA].max() > 0.97 * mask.area


def test_a_shape_outside_the_frame_is_empty(armed_disc: Shape) -> None:
    assert draw_shape(_moving(armed_disc, 2), _pose(centre_x=-300), 0, FRAME_SIZE).area == 0


def test_steps_are_short_against_the_size() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        still = replace(
            sample_camera(rng, 48, FRAME_SIZE), shift_x=np.zeros(48), shift_y=np.zeros(48)
        )
        pose = sample_pose(rng, 48, FRAME_SIZE, replace(still, zoom=np.ones(48)))
        steps = np.hypot(np.diff(pose.centre_x), np.diff(pose.centre_y))
        assert (steps <= 0.221 * pose.size[1:]).all()
