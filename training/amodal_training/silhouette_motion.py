"""How things move through a clip: smooth, seeded tracks of place, size, turn and gait.

Every track is an array over frames. Times are in frames divided by a speed factor, so that the
same gait is seen at several frame rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

SIZE_LIMITS = (12.0, 170.0)
"""Smallest and largest longer side of an object, pixels."""

MAX_STEP = 0.22
"""Largest move of an object's centre between frames, in its own sizes: no teleports."""

Track = Float64[np.ndarray, " T"]


@dataclass(frozen=True, eq=False)
class CameraTrack:
    """What a moving camera adds to every object of a clip: shifts in pixels and a zoom factor."""

    shift_x: Track
    shift_y: Track
    zoom: Track


@dataclass(frozen=True, eq=False)
class PoseTrack:
    """Where an object is and how it is turned, in each frame.

    Attributes:
        centre_x: pixels.
        centre_y: pixels.
        size: longer side of the unturned object, pixels.
        roll: turn within the image, radians.
        yaw: turn about the vertical axis, radians.
        pitch: turn about the horizontal axis, radians.
    """

    centre_x: Track
    centre_y: Track
    size: Track
    roll: Track
    yaw: Track
    pitch: Track


@dataclass(frozen=True, eq=False)
class GaitTrack:
    """The rhythm of an object's own movement: its phase in radians and its strength in [0, 1]."""

    phase: Track
    strength: Track


def wobble(rng: np.random.Generator, frames: int, period: float) -> Track:
    """Return a smooth random track of about unit size, its fastest part of ``period`` frames."""
    periods = period * np.array([1.0, 1.7, 3.1])
    starts, gains = rng.uniform(0, 2 * np.pi, 3), rng.normal(0, 0.8, 3)
    angles = 2 * np.pi * np.arange(frames)[:, None] / periods + starts
    return np.asarray(np.sin(angles) @ gains)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number between ``low`` and ``high``, uniform in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def sample_camera(
    rng: np.random.Generator, frames: int, frame_size: tuple[int, int]
) -> CameraTrack:
    """Return a camera: still, panning, held by hand, or walking towards the scene."""
    unit = min(frame_size) / 240.0
    shift = np.zeros((2, frames))
    time = np.arange(frames) - frames / 2
    kind = rng.choice(["still", "pan", "hand", "walk"], p=[0.35, 0.2, 0.3, 0.15])
    if kind in {"pan", "walk"}:
        shift += np.outer(rng.normal(0, 1.0, 2) * (1.0, 0.3), time)
    if kind in {"hand", "walk"}:
        slow, fast = log_uniform(rng, 1.0, 12.0), log_uniform(rng, 0.2, 2.5)
        shift += slow * np.stack([wobble(rng, frames, 25.0) for _ in range(2)])
        shift += fast * np.stack([wobble(rng, frames, 4.0) for _ in range(2)])
    zoom = np.ones(frames)
    if kind == "walk" or rng.random() < 0.1:
        zoom = np.exp(np.clip(rng.normal(0, 0.004) * time, -0.5, 0.5))
    return CameraTrack(shift[0] * unit, shift[1] * unit, zoom)


def sample_gait(rng: np.random.Generator, frames: int) -> GaitTrack:
    """Return a rhythm: steady, by fits and starts, changing its pace, or none."""
    pace = np.full(frames, 2 * np.pi / log_uniform(rng, 6.0, 50.0))
    strength = np.ones(frames)
    kind = rng.choice(["steady", "fits", "change", "none"], p=[0.4, 0.25, 0.2, 0.15])
    if kind == "fits":
        strength = _gate(rng, frames)
    elif kind == "change":
        pace = pace * np.exp(0.5 * np.clip(wobble(rng, frames, 20.0), -1.5, 1.5))
    elif kind == "none":
        strength = np.zeros(frames)
    return GaitTrack(
        rng.uniform(0, 2 * np.pi) + np.cumsum(pace * (0.15 + 0.85 * strength)), strength
    )


def sample_pose(
    rng: np.random.Generator, frames: int, frame_size: tuple[int, int], camera: CameraTrack
) -> PoseTrack:
    """Return a pose track inside the frame (one in seven may leave it), seen by ``camera``."""
    size = _sample_size(rng, frames, frame_size)
    speed_factor = log_uniform(rng, 0.4, 2.5)
    path = _sample_path(rng, frames, speed_factor) * float(size.mean())
    path = _limit_steps(path, MAX_STEP * size)
    path = _place(rng, path, size, frame_size)
    height, width = frame_size
    roll, yaw, pitch = _sample_turns(rng, frames, speed_factor)
    return PoseTrack(
        centre_x=(path[0] - width / 2) * camera.zoom + width / 2 + camera.shift_x,
        centre_y=(path[1] - height / 2) * camera.zoom + height / 2 + camera.shift_y,
        size=np.clip(size * camera.zoom, *SIZE_LIMITS),
        roll=roll,
        yaw=yaw,
        pitch=pitch,
    )


def _sample_size(rng: np.random.Generator, frames: int, frame_size: tuple[int, int]) -> Track:
    """Return the size in each frame, pixels: mostly middle-sized, some growing or shrinking."""
    largest = min(0.85 * min(frame_size), SIZE_LIMITS[1])
    start = log_uniform(rng, SIZE_LIMITS[0] * 1.5, largest) ** 0.5 * rng.uniform(40, largest) ** 0.5
    time = np.linspace(-0.5, 0.5, frames)
    kind = rng.choice(["fixed", "approach", "pulse"], p=[0.5, 0.35, 0.15])
    change = np.zeros(frames)
    if kind == "approach":
        change = rng.normal(0, 0.4) * time + rng.normal(0, 0.3) * time**2
    elif kind == "pulse":
        change = 0.1 * wobble(rng, frames, 20.0)
    return np.asarray(np.clip(start * np.exp(np.clip(change, -0.8, 0.8)), *SIZE_LIMITS))


def _sample_path(rng: np.random.Generator, frames: int, speed_factor: float) -> np.ndarray:
    """Return (2, T) places, in object sizes, from the origin."""
    kind = rng.choice(["still", "advance", "sway", "circle"], p=[0.14, 0.66, 0.12, 0.08])
    time = np.arange(frames) * speed_factor
    heading = rng.normal(0, 0.35) + (np.pi if rng.random() < 0.5 else 0)
    if rng.random() < 0.25:
        heading = rng.uniform(0, 2 * np.pi)
    if kind == "still":
        return np.zeros((2, frames))
    if kind == "sway":
        swing = np.sin(2 * np.pi * time / log_uniform(rng, 12.0, 60.0)) * rng.uniform(0.05, 0.7)
        return np.stack([np.cos(heading) * swing, np.sin(heading) * swing])
    speed = log_uniform(rng, 0.002, 0.09)
    if kind == "circle":
        angle = time * speed * rng.choice([-1, 1]) + rng.uniform(0, 2 * np.pi)
        radii = rng.uniform(0.4, 1.6) * np.array([1, rng.uniform(0.2, 1)])
        return np.stack([radii[0] * np.cos(angle), radii[1] * np.sin(angle)])
    return _advance(rng, heading, np.full(frames, speed * speed_factor), time)


def _advance(rng: np.random.Generator, heading: float, pace: Track, time: Track) -> np.ndarray:
    """Return (2, T) places of something that goes somewhere: straight, winding, hopping, ..."""
    frames = pace.size
    kind = rng.choice(["straight", "curve", "stop", "hop"], p=[0.32, 0.32, 0.24, 0.12])
    headings = np.full(frames, heading)
    if kind == "curve":
        headings = headings + 0.7 * wobble(rng, frames, rng.uniform(15, 50))
    elif kind == "stop":
        pace = 1.5 * pace * _gate(rng, frames)
    elif rng.random() < 0.5:
        pace = pace * np.linspace(rng.uniform(0, 1), rng.uniform(0.5, 2), frames)
    path = np.cumsum(np.stack([np.cos(headings) * pace, np.sin(headings) * pace]), 1)
    if kind == "hop":
        path[1] -= rng.uniform(0.05, 0.5) * np.abs(
            np.sin(np.pi * time / log_uniform(rng, 8.0, 24.0))
        )
    return path


def _sample_turns(
    rng: np.random.Generator, frames: int, speed_factor: float
) -> tuple[Track, Track, Track]:
    """Return roll, yaw and pitch in radians: often small, now and then a full turn."""
    time = np.arange(frames) * speed_factor
    calm = log_uniform(rng, 0.05, 1.0) if rng.random() < 0.4 else 1.0
    upright = rng.random() < 0.7
    roll = np.full(frames, rng.normal(0, 0.12) if upright else rng.uniform(-np.pi, np.pi))
    draw = rng.random()
    if draw < 0.1:
        roll = roll + calm * rng.normal(0, 0.07) * time
    elif draw < 0.6:
        swing = log_uniform(rng, 0.01, 0.35) * calm
        roll = roll + swing * wobble(rng, frames, rng.uniform(10, 40))
    yaw = np.full(frames, rng.normal(0, 0.4))
    draw = rng.random()
    if draw < 0.15:
        yaw = yaw + calm * rng.normal(0, 0.06) * time
    elif draw < 0.45:
        yaw = yaw + calm * rng.uniform(0.1, 0.8) * wobble(rng, frames, rng.uniform(25, 60))
    elif draw < 0.6:
        yaw = yaw + calm * rng.normal(0, 1.2) * _gate(rng, frames)
    pitch = rng.normal(0, 0.25) + calm * rng.uniform(0, 0.25) * wobble(rng, frames, 40.0)
    return roll, yaw, pitch


def _gate(rng: np.random.Generator, frames: int) -> Track:
    """Return a track that goes smoothly between 0 and 1 at random times."""
    level = wobble(rng, frames, rng.uniform(12, 30)) + rng.normal(0, 0.4)
    return np.asarray(1 / (1 + np.exp(-6 * level)))


def _limit_steps(path: np.ndarray, limit: Track) -> np.ndarray:
    steps = np.diff(path, axis=1, prepend=path[:, :1])
    lengths = np.hypot(*steps)
    shrink = np.minimum(1, limit / np.maximum(lengths, 1e-9))
    return np.asarray(np.cumsum(steps * shrink, axis=1))


def _place(
    rng: np.random.Generator, path: np.ndarray, size: Track, frame_size: tuple[int, int]
) -> np.ndarray:
    """Shrink and shift a path to lie inside the frame; one in seven may cross the border."""
    height, width = frame_size
    margin = 0.5 * float(size.mean())
    if rng.random() < 1 / 7:
        margin = -0.7 * float(size.mean())
    placed = np.empty_like(path)
    for axis, side in enumerate((width, height)):
        room = max(side - 2 * margin, 0.2 * side)
        low, high = float(path[axis].min()), float(path[axis].max())
        scale = min(1.0, room / max(high - low, 1e-9))
        slack = max(room - scale * (high - low), 0.0)
        placed[axis] = (path[axis] - low) * scale + (side - room) / 2 + rng.uniform(0, slack)
    return placed
