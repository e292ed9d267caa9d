"""Ghosts: regions that differ from the background because the background shows what has left.

The contour of a real object is an edge of the frame; the contour of a ghost is one of the
background only.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int16

EDGE_RATIO = 0.6
"""Edges of the frame over edges of the background along a contour, below which it is a ghost's."""
STILL_SHARE = 0.05
"""Share of a region's pixels that may move in a ghost."""


def find_ghosts(
    regions: Int16[np.ndarray, "h w"],
    count: int,
    moves: Float32[np.ndarray, "h w"],
    colors: Float32[np.ndarray, "h w 3"],
    background: Float32[np.ndarray, "h w 3"],
) -> Bool[np.ndarray, " R"]:
    """Return which of the regions 1 to ``count`` are ghosts.

    Args:
        regions: number of each pixel's region, 0 where none.
        count: of regions.
        moves: how surely each pixel moves by itself.
        colors: of the frame.
        background: its colours.
    """
    area = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    moving = np.bincount(regions[moves > 0.5], minlength=count + 1)[1:]
    is_still = moving <= STILL_SHARE * area
    if not is_still.any():
        return is_still
    kernel = np.ones((3, 3), np.uint8)
    outer = cv2.dilate(regions, kernel)
    is_rim = (outer != cv2.erode(regions, kernel)) & (outer > 0)
    on_rim = outer[is_rim]
    frame_edges = np.bincount(on_rim, _edges(colors)[is_rim], count + 1)[1:]
    scene_edges = np.bincount(on_rim, _edges(background)[is_rim], count + 1)[1:]
    return np.asarray(is_still & (frame_edges < EDGE_RATIO * scene_edges), bool)


def _edges(colors: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """Return the length of the gradient of light, a pixel."""
    light = cv2.extractChannel(colors, 0)
    x = cv2.Sobel(light, cv2.CV_32F, 1, 0, scale=0.125)
    y = cv2.Sobel(light, cv2.CV_32F, 0, 1, scale=0.125)
    return np.asarray(cv2.magnitude(x, y), np.float32)
