"""Moving regions followed over time: what is known of each, and when it counts as an object."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from amodal_model.motion_regions import Description

MAX_TRACKS = 1000


class FollowConfig(NamedTuple):
    """When regions are one object; lengths in pixels of the working size, times in frames.

    Attributes:
        overlap: share of the smaller of a region and a moved mask that makes one the other's.
        young: frames for which a track is tentative: it may still be part of another.
        part_share: area, as a share of another's, up to which a track that moves alike is its part.
        confirm_seen: frames that a track must be seen before it counts.
        confirm_path: distance it must have come, as a share of its size; at least 3 pixels.
        confirm_moving: or frames of motion of its own.
        least_speed: what counts as motion, pixels a frame.
        least_moving: share of a mask that must move by itself for a frame to count.
        keep: frames for which a confirmed track may be out of sight.
        gap: distance between two parts, as a share of the size, from which they are apart.
        split_after: frames apart after which a track is two.
        color_reach: Lab distance up to which a region may be a track that comes back.
    """

    overlap: float = 0.25
    young: int = 8
    part_share: float = 0.35
    confirm_seen: int = 5
    confirm_path: float = 0.25
    confirm_moving: float = 6.0
    least_speed: float = 0.3
    least_moving: float = 0.1
    keep: int = 15
    gap: float = 0.3
    split_after: int = 4
    color_reach: float = 25.0


class MotionTracks(NamedTuple):
    """N tracks; rows are tracks.

    Attributes:
        serial: number of the track, from 1, never used again.
        track_id: given when it is confirmed, 0 before.
        center: where it was last seen, or is expected, pixels.
        velocity: of the centre against the scene, pixels a frame.
        origin: where it was first seen, carried along with the scene.
        area: when last seen, pixels.
        color: mean Lab colour.
        seen: frames in which it was seen.
        missed: frames since.
        moving: frames of motion of its own, fading.
        apart: frames for which its parts have been apart.
        parted: examinations in which it looked like several objects, less the others.
        merged: frames for which it has shared a region with another.
    """

    serial: Int64[np.ndarray, " N"]
    track_id: Int64[np.ndarray, " N"]
    center: Float64[np.ndarray, "N 2"]
    velocity: Float64[np.ndarray, "N 2"]
    origin: Float64[np.ndarray, "N 2"]
    area: Float64[np.ndarray, " N"]
    color: Float64[np.ndarray, "N 3"]
    seen: Int64[np.ndarray, " N"]
    missed: Int64[np.ndarray, " N"]
    moving: Float64[np.ndarray, " N"]
    apart: Int64[np.ndarray, " N"]
    parted: Int64[np.ndarray, " N"]
    merged: Int64[np.ndarray, " N"]


def no_tracks() -> MotionTracks:
    """Return no track."""
    return born(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 3)), 1)


def born(
    center: Float64[np.ndarray, "N 2"],
    area: Float64[np.ndarray, " N"],
    color: Float64[np.ndarray, "N 3"],
    first_serial: int,
) -> MotionTracks:
    """Return tracks that begin now."""
    count = len(area)
    zero = np.zeros(count, np.int64)
    return MotionTracks(
        serial=first_serial + np.arange(count, dtype=np.int64),
        track_id=zero,
        center=center,
        velocity=np.zeros((count, 2)),
        origin=center.copy(),
        area=area,
        color=color,
        seen=zero,
        missed=zero,
        moving=np.zeros(count),
        apart=zero,
        parted=zero,
        merged=zero,
    )


def join(first: MotionTracks, second: MotionTracks) -> MotionTracks:
    """Return the rows of both."""
    return MotionTracks(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))


def take(tracks: MotionTracks, rows: np.ndarray) -> MotionTracks:
    """Return some rows, by index or by flag."""
    return MotionTracks(*(field[rows] for field in tracks))


def carry(tracks: MotionTracks, current_from_previous: Float64[np.ndarray, "2 3"]) -> MotionTracks:
    """Return the tracks where they are expected in the new frame, before it is looked at."""
    linear, offset = current_from_previous[:, :2], current_from_previous[:, 2]
    center = tracks.center @ linear.T + offset + tracks.velocity
    return tracks._replace(center=center, origin=tracks.origin @ linear.T + offset)


def observe(
    tracks: MotionTracks, found: Description, next_id: int, config: FollowConfig
) -> tuple[MotionTracks, int]:
    """Return the tracks after what a frame showed of each, and the next free track id."""
    is_seen = found.area > 0
    shown = is_seen[:, None]
    gain = np.where(tracks.seen == 0, 1.0, 0.3)[:, None]
    velocity = tracks.velocity + gain * (found.motion - tracks.velocity)
    color = tracks.color + 0.1 * (found.color - tracks.color)
    moves = is_seen & (found.moving >= config.least_moving)
    moving = tracks.moving + np.where(moves, 1.0, -0.25 * is_seen)
    tracks = tracks._replace(
        center=np.where(shown, found.center, tracks.center),
        velocity=np.where(shown, velocity, tracks.velocity * 0.95),
        area=np.where(is_seen, found.area, tracks.area).astype(np.float64),
        color=np.where(shown, color, tracks.color),
        seen=tracks.seen + is_seen,
        missed=np.where(is_seen, 0, tracks.missed + 1),
        moving=np.clip(moving, 0, 4 * config.confirm_moving),
    )
    fresh = np.flatnonzero((tracks.track_id == 0) & is_seen & is_object(tracks, config))
    track_id = tracks.track_id.copy()
    track_id[fresh] = next_id + np.arange(len(fresh))
    return tracks._replace(track_id=track_id), next_id + len(fresh)


def is_object(tracks: MotionTracks, config: FollowConfig) -> Bool[np.ndarray, " N"]:
    """Return which tracks were seen for long enough, and have moved."""
    path = np.linalg.norm(tracks.center - tracks.origin, axis=1)
    far = path >= np.maximum(config.confirm_path * np.sqrt(tracks.area), 3.0)
    moves = far | (tracks.moving >= config.confirm_moving)
    return np.asarray((tracks.seen >= config.confirm_seen) & moves, bool)


def is_kept(tracks: MotionTracks, config: FollowConfig) -> Bool[np.ndarray, " N"]:
    """Return which tracks may still come back into sight."""
    limit = np.where(tracks.track_id > 0, config.keep, 1)
    return np.asarray((tracks.missed <= limit) & (tracks.area > 0), bool)
