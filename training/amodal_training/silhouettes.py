"""Unlimited mask tracklets of procedurally moving silhouettes, for self-supervised training.

Each tracklet shows one object alone, so that nothing of it is hidden: its masks are visible
masks, and training pastes its own occluders over them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from amodal_model.masks import BoxedMask
from amodal_training.silhouette_bodies import draw_body, place_points, project
from amodal_training.silhouette_creatures import CREATURES
from amodal_training.silhouette_deformation import draw_shape, sample_deformation
from amodal_training.silhouette_machines import MACHINES
from amodal_training.silhouette_motion import (
    CameraTrack,
    GaitTrack,
    PoseTrack,
    sample_camera,
    sample_gait,
    sample_pose,
)
from amodal_training.silhouette_shapes import ShapeLibrary

FRAME_SIZES = ((192, 256), (240, 320), (240, 240), (180, 320), (256, 192))
"""Frame sizes to draw in, (height, width), pixels."""

LEAST_AREA = 40
"""An object counts as seen in a frame from this many pixels on."""

LEAST_SEEN = 0.6
"""Share of the frames of a clip in which its object should be seen; else another is drawn."""

BODY_SHARE = 0.45
"""Share of the tracklets that show a jointed body in space rather than a flat outline."""

_TRIES = 4


def silhouette_tracklet(
    library: ShapeLibrary,
    rng: np.random.Generator,
    frames: int = 48,
    *,
    frame_size: tuple[int, int] | None = None,
    camera: CameraTrack | None = None,
) -> list[BoxedMask | None]:
    """Return one object's masks over a clip, ``None`` where it has no pixel in the frame.

    Args:
        library: where the outlines come from.
        rng: source of chance; the same state gives the same tracklet.
        frames: length of the clip.
        frame_size: (height, width), pixels; one of ``FRAME_SIZES`` by default.
        camera: the motion shared by all objects of a clip; its own by default.
    """
    if frame_size is None:
        frame_size = FRAME_SIZES[rng.integers(len(FRAME_SIZES))]
    camera = camera or sample_camera(rng, frames, frame_size)
    for _ in range(_TRIES):
        masks = _draw_clip(library, rng, frame_size, camera)
        if sum(mask.area >= LEAST_AREA for mask in masks) >= LEAST_SEEN * frames:
            break
    return [mask if mask.area else None for mask in masks]


def _draw_clip(
    library: ShapeLibrary,
    rng: np.random.Generator,
    frame_size: tuple[int, int],
    camera: CameraTrack,
) -> list[BoxedMask]:
    frames = camera.zoom.size
    pose = sample_pose(rng, frames, frame_size, camera)
    gait = sample_gait(rng, frames)
    if rng.random() < BODY_SHARE:
        return _draw_body(rng, pose, gait, frame_size)
    moving = sample_deformation(rng, library.sample(rng), gait, float(pose.size.max()))
    return [draw_shape(moving, pose, index, frame_size) for index in range(frames)]


def _draw_body(
    rng: np.random.Generator, pose: PoseTrack, gait: GaitTrack, frame_size: tuple[int, int]
) -> list[BoxedMask]:
    """Return the outlines of a jointed body, facing mostly where it goes."""
    makers = CREATURES if rng.random() < 0.5 else MACHINES
    weights = np.array([weight for weight, _ in makers])
    body = makers[rng.choice(len(makers), p=weights / weights.sum())][1](rng, gait)
    corners, offsets = place_points(body)
    facing = rng.uniform(-np.pi, np.pi)
    if rng.random() < 0.6:
        facing = np.pi * (pose.centre_x[-1] < pose.centre_x[0]) + rng.normal(0, 0.5)
    roll = pose.roll if rng.random() < 0.3 else 0.25 * np.tanh(pose.roll)
    turned = replace(pose, yaw=pose.yaw + facing, roll=roll)
    elevation = rng.uniform(-0.1, 0.9) ** 2 + 0.3 * pose.pitch
    seen = project(corners, turned, elevation, float(rng.uniform(0, 0.6)))
    return draw_body(seen, offsets, frame_size)
