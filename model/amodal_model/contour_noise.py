"""How far the contours of a stream's masks are off, learned from the masks alone.

A thing's area changes smoothly; what a segmenter makes of its contour does not. So the second
difference of the visible area over the length of the contour tells by how many pixels contours
jitter, whatever the object does: it bends, turns, or slides under an occluder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from amodal_model.masks import BoxedMask

KEPT_JITTERS = 8
"""Frames of each object that the noise is learned from."""
LEAST_JITTERS = 3
"""Jitters, of all objects of a frame together, from which the noise is known."""
UNKNOWN = -1.0
RIM = 1.5
"""How far contours are off at most, over how far they usually are."""
LARGEST_RIM = 8
"""Frame pixels."""
UNSURE = 0.4
"""Share of the strip along a visible contour, as wide as the noise, that is wrong."""
_SHAKES = 6**0.5
"""Standard deviation of the second difference of independent values, over theirs."""
_EDGES = 0.8
"""Length of a contour over the sides of pixels along it."""


def add_jitters(
    jitters: Float32[np.ndarray, "N K"],
    areas: Float32[np.ndarray, "N 2"],
    masks: Sequence[BoxedMask],
) -> tuple[Float32[np.ndarray, "N K"], Float32[np.ndarray, "N 2"]]:
    """Return the last jitters of objects after a frame, frame pixels, and their last two areas.

    Args:
        jitters: as the frame before left them, the newest first; `UNKNOWN` where there is none.
        areas: visible pixels two frames and one frame before, 0 where the object did not show.
        masks: what shows of each in this frame.
    """
    now = np.array([mask.area for mask in masks], np.float32)
    after = jitters.copy()
    for row in np.flatnonzero((areas.min(1) > 0) & (now > 0)).tolist():
        shake = abs(float(now[row] - 2 * areas[row, 1] + areas[row, 0]))
        after[row, 1:] = jitters[row, :-1]
        after[row, 0] = shake / _SHAKES / _contour_length(masks[row])
    return after, np.stack([areas[:, 1], now], 1)


def noise_of(jitters: Float32[np.ndarray, "N K"]) -> float:
    """Return by how many frame pixels contours are off: the median of what objects tell.

    0 where too little is known.
    """
    known = np.sort(jitters[jitters >= 0])
    return float(known[known.size // 2]) if known.size >= LEAST_JITTERS else 0.0


def rim_of(noise: float) -> int:
    """Return how far beyond another mask an object may be hidden by it, frame pixels."""
    return min(int(RIM * noise), LARGEST_RIM)


def confidence_under(
    noise: float, confidence: float, visible_area: float, part_area: float
) -> float:
    """Return the IoU to expect of a part of an object whose visible contour is off.

    Args:
        noise: how far, frame pixels.
        confidence: the IoU to expect were it not.
        visible_area: visible pixels of the object, along whose contour the part is wrong.
        part_area: pixels of the part.
    """
    wrong = UNSURE * noise * 4 * math.sqrt(visible_area)
    return confidence / (1 + wrong / max(part_area, 1))


def _contour_length(mask: BoxedMask) -> float:
    """Return the length of a mask's contour, pixels: the edges of its rows and columns, scaled."""
    pixels = mask.pixels
    inside = pixels[1:] != pixels[:-1], pixels[:, 1:] != pixels[:, :-1]
    rim = pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]
    edges = sum(int(np.count_nonzero(part)) for part in (*inside, *rim))
    return _EDGES * max(edges, 4)
