"""Jointed bodies: joints, projection, and every maker's outline."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from amodal_training.silhouette_bodies import (
    Body,
    Maker,
    ball,
    block,
    bone,
    draw_body,
    place_points,
    project,
)
from amodal_training.silhouette_creatures import CREATURES
from amodal_training.silhouette_machines import MACHINES
from amodal_training.silhouette_motion import PoseTrack, sample_gait

FRAMES = 6
FRAME_SIZE = (100, 120)


def _pose(**changes: float) -> PoseTrack:
    values = {"centre_x": 60, "centre_y": 50, "size": 70, "roll": 0, "yaw": 0, "pitch": 0}
    return PoseTrack(**{k: np.full(FRAMES, float(v)) for k, v in (values | changes).items()})


@pytest.mark.parametrize("maker", [maker for _, maker in (*CREATURES, *MACHINES)])
def test_every_kind_of_body_has_one_main_piece_that_fits_its_size(maker: Maker) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        corners, offsets = place_points(maker(rng, sample_gait(rng, FRAMES)))
        assert np.isfinite(corners).all()
        pixels = project(corners, _pose(yaw=0.4), np.zeros(FRAMES), 0.0)
        for mask in draw_body(pixels, offsets, FRAME_SIZE):
            assert max(mask.pixels.shape) > 15
            _, _, stats, _ = cv2.connectedComponentsWithStats(mask.pixels.astype(np.uint8))
            assert stats[1:, cv2.CC_STAT_AREA].max() > 0.8 * mask.area


def test_a_child_part_turns_about_its_parents_joint() -> None:
    body = Body(1)
    upper = body.add(bone((0, -1, 0), 0.0, 0.0), turn=(0, 0, np.pi / 2))
    body.add(bone((0, -1, 0), 0.0, 0.0), upper, (0, -1, 0), (0, 0, np.pi / 2))
    corners, offsets = place_points(body)
    elbow = corners[0, offsets[1]]
    hand = corners[0, offsets[2] - 1]
    assert hand - elbow == pytest.approx([0, 1, 0], abs=1e-9)


def test_a_block_seen_face_on_covers_its_size_and_its_depth_when_turned() -> None:
    body = Body(FRAMES)
    body.add(block((1, 0.5, 0.25)))
    corners, offsets = place_points(body)
    for yaw, width in ((0.0, 60), (np.pi / 2, 15)):
        pose = _pose(yaw=yaw, size=60)
        mask = draw_body(project(corners, pose, np.zeros(FRAMES), 0.0), offsets, FRAME_SIZE)[0]
        assert mask.pixels.shape == pytest.approx((30, width), abs=1)
        assert mask.bbox_xyxy[0] == pytest.approx(60 - width / 2, abs=1)


def test_nearer_parts_are_larger_in_perspective() -> None:
    body = Body(FRAMES)
    body.add(block((0.2, 0.2, 0.0), (-0.4, 0, 0.5)))
    body.add(block((0.2, 0.2, 0.0), (0.4, 0, -0.5)))
    corners, _ = place_points(body)
    seen = project(corners, _pose(), np.zeros(FRAMES), 0.5)[0]
    near, far = np.ptp(seen[:8, 0]), np.ptp(seen[8:, 0])
    assert near > 1.3 * far


def test_a_body_outside_the_frame_is_empty() -> None:
    body = Body(FRAMES)
    body.add(ball((1, 1, 1)))
    corners, offsets = place_points(body)
    seen = project(corners, _pose(centre_x=-80), np.zeros(FRAMES), 0.0)
    assert [mask.area for mask in draw_body(seen, offsets, FRAME_SIZE)] == [0] * FRAMES
