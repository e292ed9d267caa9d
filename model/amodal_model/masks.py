"""Mask algebra: boxed masks, COCO run-length encoding, areas and overlaps.

A mask lives on its bounding box: five full-frame masks of a 640x480 frame cost more to handle
than the network that completes them. Boxes are half-open, ``bbox_xyxy = (x0, y0, x1, y1)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from amodal_model.errors import InputError
from amodal_model.frame_size import MAX_SIDE
from amodal_model.run_lengths import (
    box_from_runs,
    counts_from_runs,
    is_shortest,
    runs_from_box,
    runs_from_counts,
)

Box = tuple[int, int, int, int]


class Rle(TypedDict):
    """COCO run-length encoding: ``size`` is ``[height, width]``, ``counts`` the compressed runs."""

    size: list[int]
    counts: str


@dataclass(frozen=True, eq=False)
class BoxedMask:
    """A binary mask of a frame, stored on a box that holds all its pixels.

    Attributes:
        bbox_xyxy: half-open box inside the frame, pixels; ``(0, 0, 0, 0)`` for an empty mask.
        pixels: bool (h, w), the mask inside the box.
        frame_size: ``(height, width)`` of the frame, pixels.
        counts: COCO's text of ``pixels``, where it is known; the box is tight then.
    """

    bbox_xyxy: Box
    pixels: Bool[np.ndarray, "h w"]
    frame_size: tuple[int, int]
    counts: str | None = None

    @property
    def area(self) -> int:
        """Number of pixels of the mask, counted when first asked for."""
        found: int | None = self.__dict__.get("_area")
        if found is None:
            found = self.__dict__["_area"] = int(np.count_nonzero(self.pixels))
        return found

    def full(self) -> Bool[np.ndarray, "H W"]:
        """Return the mask over the whole frame, bool (H, W)."""
        frame = np.zeros(self.frame_size, bool)
        x0, y0, x1, y1 = self.bbox_xyxy
        frame[y0:y1, x0:x1] = self.pixels
        return frame

    def within(self, box: Box) -> Bool[np.ndarray, "h w"]:
        """Return the mask over ``box`` (inside the frame), bool (y1 - y0, x1 - x0)."""
        x0, y0, x1, y1 = box
        out = np.zeros((max(y1 - y0, 0), max(x1 - x0, 0)), bool)
        a0, b0, a1, b1 = intersect_boxes(box, self.bbox_xyxy)
        if a1 > a0 and b1 > b0:
            own_x, own_y = self.bbox_xyxy[:2]
            out[b0 - y0 : b1 - y0, a0 - x0 : a1 - x0] = self.pixels[
                b0 - own_y : b1 - own_y, a0 - own_x : a1 - own_x
            ]
        return out


def box_mask(mask: Bool[np.ndarray, "H W"]) -> BoxedMask:
    """Return a full-frame bool mask on its tight bounding box."""
    height, width = mask.shape
    x, y, wide, tall = _bounds(mask)
    if wide == 0:
        return empty_mask((height, width))
    pixels = mask[y : y + tall, x : x + wide].copy()
    return BoxedMask((x, y, x + wide, y + tall), pixels, (height, width))


def _bounds(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """Return x, y, width and height of the tight box of a mask, zeros where it is empty."""
    if mask.size == 0:
        return 0, 0, 0, 0
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return x, y, width, height


def tighten(mask: BoxedMask) -> BoxedMask:
    """Return the same mask on its tight bounding box."""
    height, width = mask.pixels.shape
    x, y, wide, tall = _bounds(mask.pixels)
    if wide == 0:
        return empty_mask(mask.frame_size)
    if (wide, tall) == (width, height):
        return mask
    x0, y0 = x + mask.bbox_xyxy[0], y + mask.bbox_xyxy[1]
    pixels = mask.pixels[y : y + tall, x : x + wide].copy()
    return BoxedMask((x0, y0, x0 + wide, y0 + tall), pixels, mask.frame_size)


def empty_mask(frame_size: tuple[int, int]) -> BoxedMask:
    """Return the mask without any pixel."""
    return BoxedMask((0, 0, 0, 0), np.zeros((0, 0), bool), frame_size)


def add_mask(counts: UInt8[np.ndarray, "H W"], mask: BoxedMask) -> None:
    """Add 1, in place, where the mask lies; counts stay at most 255."""
    x0, y0, x1, y1 = mask.bbox_xyxy
    part = counts[y0:y1, x0:x1]
    if part.size:
        cv2.add(part, mask.pixels.view(np.uint8), dst=part)  # saturates


def shift_mask(mask: BoxedMask, x: int, y: int) -> BoxedMask:
    """Return the mask moved by whole pixels, clipped to the frame."""
    height, width = mask.frame_size
    left, top, right, bottom = mask.bbox_xyxy
    box = (
        min(max(left + x, 0), width),
        min(max(top + y, 0), height),
        min(max(right + x, 0), width),
        min(max(bottom + y, 0), height),
    )
    own_x, own_y = box[0] - left - x, box[1] - top - y
    pixels = mask.pixels[own_y : own_y + box[3] - box[1], own_x : own_x + box[2] - box[0]]
    return tighten(BoxedMask(box, pixels, mask.frame_size))


def intersect_boxes(a: Box, b: Box) -> Box:
    """Return the common part of two half-open boxes; ``x1 <= x0`` or ``y1 <= y0`` where none."""
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def enclose_boxes(a: Box, b: Box) -> Box:
    """Return the smallest half-open box that holds both; an empty box adds nothing."""
    if a[2] <= a[0] or a[3] <= a[1]:
        return b
    if b[2] <= b[0] or b[3] <= b[1]:
        return a
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def union(a: BoxedMask, b: BoxedMask) -> BoxedMask:
    """Return a | b."""
    box = enclose_boxes(a.bbox_xyxy, b.bbox_xyxy)
    return BoxedMask(box, a.within(box) | b.within(box), a.frame_size)


def subtract(a: BoxedMask, b: BoxedMask) -> BoxedMask:
    """Return a & ~b."""
    return tighten(BoxedMask(a.bbox_xyxy, a.pixels > b.within(a.bbox_xyxy), a.frame_size))


def overlap_area(a: BoxedMask, b: BoxedMask) -> int:
    """Return the number of pixels in a & b."""
    x0, y0, x1, y1 = intersect_boxes(a.bbox_xyxy, b.bbox_xyxy)
    if x1 <= x0 or y1 <= y0:
        return 0
    parts = [
        mask.pixels[
            y0 - mask.bbox_xyxy[1] : y1 - mask.bbox_xyxy[1],
            x0 - mask.bbox_xyxy[0] : x1 - mask.bbox_xyxy[0],
        ]
        for mask in (a, b)
    ]
    return int(np.count_nonzero(parts[0] & parts[1]))


def mask_iou(a: BoxedMask, b: BoxedMask) -> float:
    """Return |a & b| / |a | b|, 1 where both are empty."""
    both = overlap_area(a, b)
    either = a.area + b.area - both
    return both / either if either else 1.0


def encode_rle(mask: BoxedMask) -> Rle:
    """Return the COCO RLE of the mask over the whole frame."""
    runs = runs_from_box(mask.pixels, mask.bbox_xyxy[:2], mask.frame_size)
    return {"size": list(mask.frame_size), "counts": counts_from_runs(runs)}


def decode_rle(rle: Rle) -> BoxedMask:
    """Return the mask of a compressed COCO RLE, on its tight box.

    Raises:
        InputError: the runs do not fill the stated size, or are not runs at all.
    """
    height, width = _rle_size(rle)
    runs = runs_from_counts(_rle_counts(rle), height * width)
    return BoxedMask(*box_from_runs(runs, height), (height, width))


def encode_crop_rle(mask: BoxedMask) -> tuple[Box, Rle]:
    """Return the mask's tight box and the COCO RLE of the part of the frame inside it.

    Returns:
        ``bbox_xywh`` in frame pixels and the RLE, whose size is the box's; for an empty mask
        zeros and an RLE of size ``[0, 0]`` without counts.
    """
    mask = mask if mask.counts else tighten(mask)
    x0, y0, x1, y1 = mask.bbox_xyxy
    height, width = y1 - y0, x1 - x0
    if not mask.pixels.size:
        return (0, 0, 0, 0), {"size": [0, 0], "counts": ""}
    counts = mask.counts
    if counts is None:
        counts = counts_from_runs(runs_from_box(mask.pixels, (0, 0), (height, width)))
    return (x0, y0, width, height), {"size": [height, width], "counts": counts}


def decode_crop_rle(bbox_xywh: Any, rle: Any, frame_size: tuple[int, int]) -> BoxedMask:
    """Return the mask, on its tight box, of a box of a frame and the RLE inside it.

    Args:
        bbox_xywh: as `encode_crop_rle` gives it; a looser box is taken too.
        rle: of the box.
        frame_size: ``(height, width)`` of the frame, pixels.

    Raises:
        InputError: a box that is not inside the frame, an RLE of another size than the box's, or
            runs that do not fill it.
    """
    x, y, width, height = _inner_box(bbox_xywh, frame_size)
    size = rle.get("size") if isinstance(rle, dict) else None
    if size != [height, width] or not all(type(side) is int for side in size):
        raise InputError(f"RLE size is {size!r}, its box is [height, width] {[height, width]}")
    counts = _rle_counts(rle)
    if width == 0 or height == 0:
        if counts:
            raise InputError(f"RLE of an empty box has counts {counts[:24]!r}")
        return empty_mask(frame_size)
    runs = runs_from_counts(counts, height * width)
    (x0, y0, x1, y1), pixels = box_from_runs(runs, height)
    if x1 == x0:
        return empty_mask(frame_size)
    # a client's own text is sent back as it came, if it is what would be written here
    is_tight = (x0, y0, x1, y1) == (0, 0, width, height)
    known = counts if is_tight and is_shortest(counts, runs) else None
    return BoxedMask((x0 + x, y0 + y, x1 + x, y1 + y), pixels, frame_size, known)


def _inner_box(box: Any, frame_size: tuple[int, int]) -> Box:
    """Check a box of a client: four whole numbers that stay inside the frame."""
    frame_height, frame_width = frame_size
    if (
        not isinstance(box, (list, tuple))
        or len(box) != 4
        or not all(type(value) is int and 0 <= value <= MAX_SIDE for value in box)
        or box[0] + box[2] > frame_width
        or box[1] + box[3] > frame_height
    ):
        raise InputError(
            f"mask box must be [x, y, width, height] inside the frame "
            f"{frame_width}x{frame_height}, got {str(box)[:60]}"
        )
    return box[0], box[1], box[2], box[3]


def _rle_counts(rle: Any) -> str:
    counts: Any = rle.get("counts")
    if not isinstance(counts, str) or not counts.isascii():
        raise InputError(f"RLE counts must be an ASCII string, got {type(counts).__name__}")
    return counts


def _rle_size(rle: Any) -> tuple[int, int]:
    size = rle.get("size") if isinstance(rle, dict) else None
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(type(side) is int and 0 < side <= MAX_SIDE for side in size)
    ):
        raise InputError(f"RLE size must be [height, width], each 1 to {MAX_SIDE}, got {size!r}")
    return size[0], size[1]
