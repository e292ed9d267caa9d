"""A frame at the working size, and the state of the scene brought into its pixels."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int16, UInt8

from amodal_model.background import brighten, colors_of, move_background
from amodal_model.camera_motion import IDENTITY, CameraMotion, compose, largest_displacement
from amodal_model.frame_size import check_image
from amodal_model.motion_state import MotionState, working_size
from amodal_model.motion_tracks import MotionTracks

RESAMPLE_PX = 0.35
"""How far the camera may have moved before the background is resampled."""
_REPLICATE = cv2.BORDER_REPLICATE


class Looks(NamedTuple):
    """A frame at the working size."""

    gray: UInt8[np.ndarray, "h w"]
    colors: Float32[np.ndarray, "h w 3"]


def reduce(image: UInt8[np.ndarray, "H W 3"], frame_size: tuple[int, int]) -> Looks:
    """Return a frame at the working size.

    Raises:
        InputError: it has another size than the frames.
    """
    check_image(image, frame_size, "frame")
    height, width = working_size(frame_size)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    return Looks(np.asarray(gray, np.uint8), colors_of(np.asarray(small, np.uint8)))


class Carried(NamedTuple):
    """The last frame, moved into the pixels of this one.

    Attributes:
        still: its light, moved with the camera alone.
        gray: its light, moved along the flow, as the rest.
        labels: of its tracks.
        odds: log odds of the foreground.
    """

    still: UInt8[np.ndarray, "h w"]
    gray: UInt8[np.ndarray, "h w"]
    labels: Int16[np.ndarray, "h w"]
    odds: Float32[np.ndarray, "h w"]


def carry_frame(
    state: MotionState, flow: Float32[np.ndarray, "h w 2"], camera: CameraMotion
) -> Carried:
    """Return what the last frame left, where the flow and the camera have moved it."""
    height, width = state.labels.shape
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    still = state.previous
    if not np.array_equal(camera.previous_from_current, IDENTITY):
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        still = np.asarray(
            cv2.warpAffine(
                state.previous,
                camera.previous_from_current,
                (width, height),
                flags=flags,
                borderMode=_REPLICATE,
            ),
            np.uint8,
        )
    gray = cv2.remap(state.previous, x, y, cv2.INTER_LINEAR, borderMode=_REPLICATE)
    is_empty = not state.labels.any()
    labels = state.labels if is_empty else cv2.remap(state.labels, x, y, cv2.INTER_NEAREST)
    odds = cv2.remap(state.odds, x, y, cv2.INTER_LINEAR, borderMode=_REPLICATE)
    return Carried(
        still,
        np.asarray(gray, np.uint8),
        np.asarray(labels, np.int16),
        np.asarray(odds, np.float32),
    )


def move_scene(state: MotionState, camera: CameraMotion, looks: Looks) -> MotionState:
    """Bring the background into the frame's pixels, where the camera has moved by enough."""
    place = compose(state.model_from_frame, camera.previous_from_current)
    unsteadiness = 0.9 * state.unsteadiness
    background = state.background
    if largest_displacement(place, looks.gray.shape) > RESAMPLE_PX:
        background = move_background(background, place)
        place, unsteadiness = IDENTITY.copy(), 1.0
    return state._replace(
        previous=looks.gray,
        background=brighten(background, looks.colors),
        model_from_frame=place,
        unsteadiness=unsteadiness,
    )


def held_pixels(tracks: MotionTracks, labels: Int16[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return 1 on confirmed objects, 0 elsewhere."""
    table = (tracks.track_id > 0).astype(np.uint8)
    held = np.concatenate([np.zeros(1, np.uint8), table])[labels]
    return np.asarray(cv2.dilate(held, np.ones((3, 3), np.uint8)), np.uint8)
