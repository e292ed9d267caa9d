"""Translation and scale that carry a mask from one place to another.

Coordinates are those of the frame, in pixels, pixel centres at +0.5. Masks that are being moved
may reach beyond the frame (their box says where they are); ``clip_to_frame`` ends that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool

from amodal_model.masks import Box, BoxedMask, empty_mask, intersect_boxes, tighten


class MaskMotion(NamedTuple):
    """The map ``target = scale * source + shift``; x and y scale alike.

    Attributes:
        shift_x: pixels to the right.
        shift_y: pixels down.
        scale: ratio of lengths, above 0.
    """

    shift_x: float
    shift_y: float
    scale: float = 1.0

    def inverse(self) -> MaskMotion:
        """Return the map back, ``source = (target - shift) / scale``."""
        return MaskMotion(-self.shift_x / self.scale, -self.shift_y / self.scale, 1 / self.scale)


def centroid_xy(mask: BoxedMask) -> tuple[float, float]:
    """Return the centroid of a non-empty mask, frame coordinates, pixels."""
    x0, y0 = mask.bbox_xyxy[:2]
    moments = cv2.moments(mask.pixels.view(np.uint8), binaryImage=True)
    area = moments["m00"]
    return moments["m10"] / area + x0 + 0.5, moments["m01"] / area + y0 + 0.5


def motion_between(source: BoxedMask, target: BoxedMask) -> MaskMotion:
    """Return the motion that maps centroid onto centroid and area onto area.

    ``scale = sqrt(|target| / |source|)``, ``shift = c(target) - scale * c(source)``. Both masks
    hold at least one pixel.
    """
    scale = math.sqrt(target.area / source.area)
    (source_x, source_y), (target_x, target_y) = centroid_xy(source), centroid_xy(target)
    return MaskMotion(target_x - scale * source_x, target_y - scale * source_y, scale)


def move_mask(mask: BoxedMask, motion: MaskMotion) -> BoxedMask:
    """Return the moved mask; it may reach beyond the frame.

    A pure translation is rounded to whole pixels, so that moving there and back loses nothing;
    with a scale the mask is resampled bilinearly and cut at one half.
    """
    x0, y0, x1, y1 = mask.bbox_xyxy
    if x1 <= x0 or y1 <= y0:
        return mask
    if motion.scale == 1.0:
        dx, dy = round(motion.shift_x), round(motion.shift_y)
        return BoxedMask((x0 + dx, y0 + dy, x1 + dx, y1 + dy), mask.pixels, mask.frame_size)
    box = _moved_box(mask.bbox_xyxy, motion)
    scale = motion.scale
    # Pixel i of the source has its centre at x0 + i + 0.5, hence the halves.
    offset_x = scale * (x0 + 0.5) + motion.shift_x - 0.5 - box[0]
    offset_y = scale * (y0 + 0.5) + motion.shift_y - 0.5 - box[1]
    matrix = np.array([[scale, 0.0, offset_x], [0.0, scale, offset_y]])
    source = mask.pixels.astype(np.uint8) * 255
    moved = cv2.warpAffine(source, matrix, (box[2] - box[0], box[3] - box[1]))
    return BoxedMask(box, np.asarray(moved) >= 128, mask.frame_size)


def clip_to_frame(mask: BoxedMask) -> BoxedMask:
    """Return the part of the mask inside the frame, on its tight box."""
    height, width = mask.frame_size
    box = intersect_boxes(mask.bbox_xyxy, (0, 0, width, height))
    if box[2] <= box[0] or box[3] <= box[1]:
        return empty_mask(mask.frame_size)
    return tighten(BoxedMask(box, mask.within(box), mask.frame_size))


def inside_frame(box: Box, frame_size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Return which pixels of a box lie inside the frame."""
    x0, y0, x1, y1 = box
    height, width = frame_size
    columns, rows = np.arange(x0, x1), np.arange(y0, y1)
    return ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None, :]


def _moved_box(box: Box, motion: MaskMotion) -> Box:
    """The whole-pixel box that holds the moved one, with a pixel of room for the interpolation."""
    x0, y0, x1, y1 = box
    return (
        math.floor(motion.scale * x0 + motion.shift_x) - 1,
        math.floor(motion.scale * y0 + motion.shift_y) - 1,
        math.ceil(motion.scale * x1 + motion.shift_x) + 1,
        math.ceil(motion.scale * y1 + motion.shift_y) + 1,
    )
