"""Unlimited mask tracklets of procedurally moving silhouettes, for self-supervised training.

Each tracklet shows one object alone, so that nothing of it is hidden: its masks are visible
masks, and training pastes its own occluders over them.
"""

from __future__ import annotations

import numpy as np

from amodal_model.masks import BoxedMask
from amodal_training.silhouette_deformation import draw_shape, sample_deformation
from amodal_training.silhouette_motion import (
    CameraTrack,
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
    shape = library.shape(int(rng.integers(len(library))))
    moving = sample_deformation(rng, shape, gait, float(pose.size.max()))
    return [draw_shape(moving, pose, index, frame_size) for index in range(frames)]
