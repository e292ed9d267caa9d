"""How well the contour of a mask follows the true one: the boundary measure F of DAVIS.

Source: Perazzi et al., "A benchmark dataset and evaluation methodology for video object
segmentation", CVPR 2016, section 5.2; written from the paper's definition, with morphology in
place of bipartite matching as the benchmark itself does.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from jaxtyping import Bool

TOLERANCE = 0.008
"""Distance within which contours agree, as a share of the frame's diagonal."""


def contour(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Return the pixels whose right, lower or lower right neighbour is on the other side."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    edges = (here ^ padded[:-1, 1:]) | (here ^ padded[1:, :-1]) | (here ^ padded[1:, 1:])
    return np.asarray(edges, bool)


def contour_accuracy(found: Bool[np.ndarray, "H W"], true: Bool[np.ndarray, "H W"]) -> float:
    """Return F = 2 P R / (P + R) of the contour pixels within the tolerance of the other contour.

    P is the share of the found contour near the true one, R the reverse. Two empty contours
    agree, one empty contour does not.

    >>> square = np.zeros((50, 50), bool)
    >>> square[10:30, 10:30] = True
    >>> contour_accuracy(square, square)
    1.0
    """
    radius = math.ceil(TOLERANCE * math.hypot(*true.shape))
    a, b = contour(found), contour(true)
    if not a.any() or not b.any():
        return 1.0 if not a.any() and not b.any() else 0.0
    precision = float((a & _widened(b, radius)).sum() / a.sum())
    recall = float((b & _widened(a, radius)).sum() / b.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _widened(edges: Bool[np.ndarray, "H W"], radius: int) -> Bool[np.ndarray, "H W"]:
    """Return the pixels within a radius of an edge pixel (a disc, its rim included)."""
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (rows**2 + columns**2 <= radius**2).astype(np.uint8)
    return np.asarray(cv2.dilate(edges.astype(np.uint8), disc), bool)
