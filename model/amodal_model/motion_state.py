"""The state of the motion source as a value, and as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int16, UInt8

from amodal_model.background import Background, new_background
from amodal_model.camera_motion import IDENTITY
from amodal_model.errors import InputError
from amodal_model.motion_tracks import MotionTracks, no_tracks

WORKING_PIXELS = 140_000
"""Frames are worked on at a whole fraction of their size with no more pixels than this."""


class MotionState(NamedTuple):
    """All that is remembered of one stream.

    Attributes:
        frame_size: ``(height, width)`` of the frames, pixels; the rest is at the working size.
        frames: how many were seen.
        previous: the last one, grey.
        background: the scene.
        model_from_frame: (2, 3) where the last frame's pixels are in the background.
        unsteadiness: 1 where the background has just been resampled, fading.
        odds: log odds of each pixel to belong to something that moves.
        labels: row + 1 of the track of each pixel of the last frame.
        tracks: what is followed.
        next_serial: of the next track.
        next_id: of the next track that is confirmed.
    """

    frame_size: tuple[int, int]
    frames: int
    previous: UInt8[np.ndarray, "h w"]
    background: Background
    model_from_frame: Float64[np.ndarray, "2 3"]
    unsteadiness: float
    odds: Float32[np.ndarray, "h w"]
    labels: Int16[np.ndarray, "h w"]
    tracks: MotionTracks
    next_serial: int
    next_id: int


def new_state(frame_size: tuple[int, int]) -> MotionState:
    """Return the state before the first frame."""
    size = working_size(frame_size)
    return MotionState(
        frame_size,
        0,
        np.zeros(size, np.uint8),
        new_background(size),
        IDENTITY.copy(),
        0.0,
        np.full(size, -0.6, np.float32),
        np.zeros(size, np.int16),
        no_tracks(),
        1,
        1,
    )


def working_size(frame_size: tuple[int, int]) -> tuple[int, int]:
    """Return the size that frames are worked on at."""
    height, width = frame_size
    shrink = int(np.ceil(np.sqrt(height * width / WORKING_PIXELS)))
    return max(round(height / shrink), 1), max(round(width / shrink), 1)


_NUMBERS = ("frames", "unsteadiness", "next_serial", "next_id")
_PLAIN = ("previous", "model_from_frame", "odds", "labels")


def arrays_from_state(state: MotionState) -> dict[str, np.ndarray]:
    """Return a state as plain arrays."""
    arrays = {f"background_{name}": value for name, value in state.background._asdict().items()}
    arrays |= {f"tracks_{name}": value for name, value in state.tracks._asdict().items()}
    arrays |= {name: getattr(state, name) for name in _PLAIN}
    arrays["frame_size"] = np.array(state.frame_size, np.int64)
    arrays["numbers"] = np.array([getattr(state, name) for name in _NUMBERS], np.float64)
    return arrays


def state_from_arrays(arrays: Mapping[str, np.ndarray]) -> MotionState:
    """Return the state of arrays that `arrays_from_state` gave.

    Raises:
        InputError: an array is missing or has another shape.
    """
    try:
        height, width = (int(side) for side in arrays["frame_size"].tolist())
        frames, unsteadiness, serial, track_id = arrays["numbers"].tolist()
        state = MotionState(
            frame_size=(height, width),
            frames=int(frames),
            background=Background(*(arrays[f"background_{n}"] for n in Background._fields)),
            unsteadiness=unsteadiness,
            tracks=MotionTracks(*(arrays[f"tracks_{n}"] for n in MotionTracks._fields)),
            next_serial=int(serial),
            next_id=int(track_id),
            **{name: arrays[name] for name in _PLAIN},
        )
    except KeyError as error:
        raise InputError(f"motion state has no array {error}") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"motion state has an array of another shape: {error}") from None
    _check_shapes(state)
    return state


def _check_shapes(state: MotionState) -> None:
    fresh = new_state(state.frame_size)
    rows = len(state.tracks.serial)
    pairs = [
        *zip(state.background, fresh.background, strict=True),
        *((getattr(state, name), getattr(fresh, name)) for name in _PLAIN),
    ]
    wrong = [now.shape for now, then in pairs if now.shape != then.shape or now.dtype != then.dtype]
    wrong += [field.shape for field in state.tracks if len(field) != rows]
    if wrong or int(state.labels.max(initial=0)) > rows:
        raise InputError(
            f"motion state of {rows} tracks and {state.frame_size[1]}x{state.frame_size[0]} frames "
            f"has arrays that do not fit: {wrong or 'labels beyond the tracks'}"
        )
