"""How good a mined tracklet is, without any label: long, steady, in motion, clear of the scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from amodal_model.masks import Box, BoxedMask

LOOKS = 200
"""Boxes of a tracklet that are compared with each other; of longer ones, every second and so on."""


class Moment(NamedTuple):
    """One track in one frame.

    Attributes:
        frame_index: in the video.
        area: pixels of the frame.
        travel_px: how far its centre is from where the track was first seen in the scene.
        box: half-open ``x0, y0, x1, y1``, pixels.
        stability: IoU with the mask of the last frame, moved along the flow.
        contrast: mean log odds of the foreground.
        moving: mean of how surely its pixels move by themselves.
        evenness: of the contour, by the picture.
        is_merged: whether it shares its region with another track.
        is_cut_off: whether it touches the edge of the image.
    """

    frame_index: int
    area: float
    travel_px: float
    box: Box
    stability: float
    contrast: float
    moving: float
    evenness: float
    is_merged: bool
    is_cut_off: bool


class QualityConfig(NamedTuple):
    """What a tracklet is asked for; every property is 1 from its full value on.

    Attributes:
        full_length: frames.
        stability: median of `Moment.stability` that is worth 0, and 1.
        full_contrast: mean log odds.
        full_path: how far it comes, in the scene and in the image, as a share of its size: a thing
            at rest does the one under a moving camera, the other where its motion is misjudged.
        full_moving: or mean of `Moment.moving`.
        evenness: median of `Moment.evenness` that is worth 0, and 1.
        least_rest: area, as a share of the median one, below which masks at the edge are left out.
        worst_change: median change of log area a frame that is worth 0.
        growth: area over the largest of late from which a track has grown into something else.
        longest_merge: frames in one region with another track, after which a tracklet is cut.
        merged_area: ratios of the area to that before the merge within which masks are kept.
    """

    full_length: float = 20.0
    stability: tuple[float, float] = (0.45, 0.75)
    full_contrast: float = 1.0
    full_path: float = 0.6
    full_moving: float = 0.3
    evenness: tuple[float, float] = (0.45, 0.75)
    least_rest: float = 0.3
    worst_change: float = 0.2
    growth: float = 1.6
    longest_merge: int = 15
    merged_area: tuple[float, float] = (0.7, 1.4)


class Quality(NamedTuple):
    """Of one tracklet, each 0 to 1; the least of them is its score."""

    length: float
    stability: float
    area: float
    motion: float
    contrast: float
    contour: float

    @property
    def score(self) -> float:
        """The least of the properties."""
        return min(self)


def judge(moments: Sequence[Moment], config: QualityConfig) -> Quality:
    """Return the quality of a tracklet's moments; of none, all zero."""
    if len(moments) < 2:
        return Quality(0, 0, 0, 0, 0, 0)
    steady = float(np.median([m.stability for m in moments[1:]]))
    even = float(np.median([m.evenness for m in moments]))
    area = np.array([m.area for m in moments])
    change = float(np.median(np.abs(np.diff(np.log(area)))))
    in_scene = float(np.ptp([m.travel_px for m in moments]))
    in_image = _travel([m.box for m in moments])
    path = min(in_scene, in_image) / float(np.sqrt(np.median(area)))
    moving = float(np.mean([m.moving for m in moments]))
    contrast = float(np.mean([m.contrast for m in moments]))
    values = (
        len(moments) / config.full_length,
        _share(steady, config.stability),
        1 - change / config.worst_change,
        max(path / config.full_path, moving / config.full_moving),
        contrast / config.full_contrast,
        _share(even, config.evenness),
    )
    return Quality(*(float(np.clip(value, 0, 1)) for value in values))


def _share(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return (value - low) / (high - low)


def _travel(boxes: Sequence[Box]) -> float:
    """Return how far a box comes as a whole, pixels: both sides of it, in the same direction.

    A thing that rests and is seen in parts, now larger and now smaller, moves one side at a time.
    """
    sides = np.array(boxes[:: len(boxes) // LOOKS + 1], np.float64)
    moves = sides[:, None] - sides[None]
    return float(np.linalg.norm(np.minimum(moves[..., :2], moves[..., 2:]).max(axis=(0, 1))))


def cut(moments: Sequence[Moment], config: QualityConfig) -> list[list[Moment]]:
    """Return the stretches of a track that cover one and the same thing.

    A track is cut where it grows into something else, and where it shares a region with another for
    long. While it shares one for a short time, frames in which its area is not what it was are
    left out.
    """
    stretches: list[list[Moment]] = [[]]
    merged = 0
    for moment in moments:
        merged = merged + 1 if moment.is_merged else 0
        stretch = stretches[-1]
        alone = _late_areas(stretch, merged)
        if merged > config.longest_merge:
            if stretch:
                stretches.append([])
        elif moment.is_merged and alone.size:
            low, high = config.merged_area
            if low <= moment.area / float(np.median(alone)) <= high:
                stretch.append(moment)
        elif _has_grown(moment, stretch, alone, config):
            stretches.append([moment])
        else:
            stretch.append(moment)
    return [_without_rests(stretch, config) for stretch in stretches if stretch]


def _without_rests(stretch: Sequence[Moment], config: QualityConfig) -> list[Moment]:
    """Return the moments less those of what is hardly in the image yet, or any more."""
    least = config.least_rest * float(np.median([m.area for m in stretch]))
    return [m for m in stretch if not m.is_cut_off or m.area >= least]


def _late_areas(stretch: Sequence[Moment], merged: int) -> Float64[np.ndarray, " K"]:
    """Return the areas of the last frames in which the track was alone."""
    alone = [m.area for m in stretch[-15 - merged :] if not m.is_merged]
    return np.array(alone[-15:], np.float64)


def _has_grown(
    moment: Moment,
    stretch: Sequence[Moment],
    alone: Float64[np.ndarray, " K"],
    config: QualityConfig,
) -> bool:
    """Return whether the mask took in something else; coming into the image is no such growth."""
    if alone.size < 5 or moment.is_cut_off or any(m.is_cut_off for m in stretch[-5:]):
        return False
    return bool(moment.area > config.growth * float(np.percentile(alone, 90)))


def touches_edge(mask: BoxedMask) -> bool:
    """Return whether a mask reaches the edge of its frame, or the pixel before it."""
    height, width = mask.frame_size
    x0, y0, x1, y1 = mask.bbox_xyxy
    return x0 <= 1 or y0 <= 1 or x1 >= width - 1 or y1 >= height - 1
