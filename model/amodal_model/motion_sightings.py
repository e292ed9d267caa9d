"""What a frame showed of each track, its masks brought to the frame's size."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Int16

from amodal_model.masks import Box, BoxedMask, tighten
from amodal_model.motion_regions import Description
from amodal_model.motion_tracks import MotionTracks


class Sighting(NamedTuple):
    """One track in one frame.

    Attributes:
        serial: number of the track, never used again.
        track_id: 0 until it is confirmed.
        mask: at the frame's size.
        stability: IoU of the mask with the last one, moved along the flow.
        contrast: mean log odds of the foreground.
        moving: mean of how surely its pixels move by themselves, 0 to 1.
        travel_px: how far its centre is from where it was first seen in the scene.
        is_merged: whether it shares its region with another track.
    """

    serial: int
    track_id: int
    mask: BoxedMask
    stability: float
    contrast: float
    moving: float
    travel_px: float
    is_merged: bool


class MotionFrame(NamedTuple):
    """What a frame showed.

    Attributes:
        sightings: of all tracks, confirmed or not.
        split: serials of tracks that were found to be several objects.
        absorbed: (part, whole) serials: the part's masks belong to the whole.
    """

    sightings: tuple[Sighting, ...] = ()
    split: tuple[int, ...] = ()
    absorbed: tuple[tuple[int, int], ...] = ()


def sightings(
    tracks: MotionTracks,
    found: Description,
    labels: Int16[np.ndarray, "h w"],
    moved: Int16[np.ndarray, "h w"],
    frame_size: tuple[int, int],
) -> tuple[Sighting, ...]:
    """Return what is seen of each track.

    Args:
        tracks: rows, as the labels number them from 1.
        found: describes the labels.
        labels: of the frame.
        moved: labels of the last frame, moved along the flow.
        frame_size: of the masks.
    """
    rows = len(tracks.serial)
    where = np.flatnonzero(moved)
    then, now = moved.ravel()[where], labels.ravel()[where]
    both = np.bincount(now[now == then], minlength=rows + 1)[1:]
    either = found.area + np.bincount(then, minlength=rows + 1)[1:] - both
    stability = both / np.maximum(either, 1)
    scale = frame_size[1] / labels.shape[1]
    travel = np.linalg.norm(tracks.center - tracks.origin, axis=1) * scale
    return tuple(
        Sighting(
            int(tracks.serial[row]),
            int(tracks.track_id[row]),
            enlarge(labels, row + 1, tuple(found.box[row].tolist()), frame_size),
            float(stability[row]),
            float(found.contrast[row]),
            float(found.moving[row]),
            float(travel[row]),
            bool(tracks.merged[row]),
        )
        for row in np.flatnonzero(found.area).tolist()
    )


def enlarge(
    labels: Int16[np.ndarray, "h w"], label: int, box: Box, frame_size: tuple[int, int]
) -> BoxedMask:
    """Return the mask of a label at the frame's size, with a smooth contour."""
    (height, width), (full_height, full_width) = labels.shape, frame_size
    x0, y0 = max(box[0] - 1, 0), max(box[1] - 1, 0)
    x1, y1 = min(box[2] + 1, width), min(box[3] + 1, height)
    own = (labels[y0:y1, x0:x1] == label).astype(np.uint8) * 255
    wide, high = full_width / width, full_height / height
    left, top = round(x0 * wide), round(y0 * high)
    right, bottom = round(x1 * wide), round(y1 * high)
    large = cv2.resize(own, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return tighten(BoxedMask((left, top, right, bottom), np.asarray(large) > 127, frame_size))
