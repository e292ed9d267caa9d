"""Whether the contour of a mask is that of one thing in front of others, by the picture alone.

Along the contour of a thing the picture changes on all sides, about as much. Where a mask ends in
the middle of something (a band of water between two spectators, half a fish, a trail), it does not.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from amodal_model.background import CHANNEL_WEIGHTS, colors_of
from amodal_model.masks import BoxedMask
from amodal_model.motion_state import working_size

SIZE = 24.0
"""Root of the area, pixels, to which larger masks are brought."""
REACH = 9
"""Side of the squares, pixels, in which the colours on both sides of a contour are averaged."""
WORST = 20.0
"""Percentile of the contrasts along a contour that is compared with their median."""
_RING = np.ones((3, 3), np.uint8)


def evenness(mask: BoxedMask, image: UInt8[np.ndarray, "H W 3"]) -> float:
    """Return the contrast where a contour has little, over what it mostly has, 0 to 1.

    Args:
        mask: of a frame.
        image: that frame, RGB. Its edge is no contour.
    """
    shrink = max(image.shape[0] / working_size(mask.frame_size)[0], np.sqrt(mask.area) / SIZE)
    margin = round(REACH * shrink)
    x0, y0, x1, y1 = mask.bbox_xyxy
    left, top = max(x0 - margin, 0), max(y0 - margin, 0)
    part = image[top : y1 + margin, left : x1 + margin]
    whole = np.zeros_like(part[..., 0])
    whole[y0 - top : y1 - top, x0 - left : x1 - left] = mask.pixels
    height, width = part.shape[:2]
    size = (max(round(width / shrink), 1), max(round(height / shrink), 1))
    small = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    inside = np.asarray(cv2.resize(whole * 255, size, interpolation=cv2.INTER_AREA) > 0, bool)
    contrast = _contrasts(colors_of(small) * np.sqrt(CHANNEL_WEIGHTS), inside)
    if not contrast.size:
        return 0.0
    return float(np.percentile(contrast, WORST) / max(float(np.median(contrast)), 1.0))


def _contrasts(
    colors: Float32[np.ndarray, "h w 3"], inside: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, " K"]:
    """Return how far the colours on both sides of each pixel of a contour are apart."""
    mask = inside.astype(np.uint8)
    core = cv2.erode(mask, _RING)
    within = cv2.subtract(core, cv2.erode(mask, _RING, iterations=3))
    beyond = cv2.subtract(cv2.dilate(mask, _RING, iterations=3), cv2.dilate(mask, _RING))
    if np.count_nonzero(within) < 4:
        within = core if core.any() else mask
    (own, own_count), (other, other_count) = (_means(colors, ring) for ring in (within, beyond))
    is_rim = (mask > 0) & (cv2.erode(mask, _RING, borderValue=1) == 0)
    is_rim &= (own_count > 0) & (other_count > 0)
    return np.asarray(np.linalg.norm((own - other)[is_rim], axis=1), np.float32)


def _means(
    colors: Float32[np.ndarray, "h w 3"], ring: np.ndarray
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """Return the mean colour of a ring's pixels around each pixel, and how many they are."""
    chosen = ring.astype(np.float32)

    def total(values: np.ndarray) -> np.ndarray:
        square = (REACH, REACH)
        border = cv2.BORDER_CONSTANT
        return cv2.boxFilter(values, cv2.CV_32F, square, normalize=False, borderType=border)

    count = total(chosen)
    mean = total(colors * chosen[..., None]) / np.maximum(count, 1)[..., None]
    return np.asarray(mean, np.float32), np.asarray(count, np.float32)
