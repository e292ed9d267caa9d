"""Mask algebra: boxed masks, COCO run-length encoding, areas and overlaps.

A mask lives on its bounding box: five full-frame masks of a 640x480 frame cost more to handle
than the network that completes them. Boxes are half-open, ``bbox_xyxy = (x0, y0, x1, y1)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as coco_mask

from amodal_model.errors import InputError
from amodal_model.frame_size import MAX_SIDE

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
    """

    bbox_xyxy: Box
    pixels: Bool[np.ndarray, "h w"]
    frame_size: tuple[int, int]

    @property
    def area(self) -> int:
        """Number of pixels of the mask."""
        return int(np.count_nonzero(self.pixels))

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
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return empty_mask((height, width))
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[y0:y1].any(axis=0))
    x0, x1 = int(columns[0]), int(columns[-1]) + 1
    return BoxedMask((x0, y0, x1, y1), mask[y0:y1, x0:x1].copy(), (height, width))


def tighten(mask: BoxedMask) -> BoxedMask:
    """Return the same mask on its tight bounding box."""
    tight = box_mask(mask.pixels)
    x0, y0, x1, y1 = tight.bbox_xyxy
    if x1 == x0:
        return empty_mask(mask.frame_size)
    left, top = mask.bbox_xyxy[:2]
    return BoxedMask((x0 + left, y0 + top, x1 + left, y1 + top), tight.pixels, mask.frame_size)


def empty_mask(frame_size: tuple[int, int]) -> BoxedMask:
    """Return the mask without any pixel."""
    return BoxedMask((0, 0, 0, 0), np.zeros((0, 0), bool), frame_size)


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
    return tighten(BoxedMask(a.bbox_xyxy, a.pixels & ~b.within(a.bbox_xyxy), a.frame_size))


def overlap_area(a: BoxedMask, b: BoxedMask) -> int:
    """Return the number of pixels in a & b."""
    box = intersect_boxes(a.bbox_xyxy, b.bbox_xyxy)
    if box[2] <= box[0] or box[3] <= box[1]:
        return 0
    return int(np.count_nonzero(a.within(box) & b.within(box)))


def mask_iou(a: BoxedMask, b: BoxedMask) -> float:
    """Return |a & b| / |a | b|, 1 where both are empty."""
    both = overlap_area(a, b)
    either = a.area + b.area - both
    return both / either if either else 1.0


def encode_rle(mask: BoxedMask) -> Rle:
    """Return the COCO RLE of the mask over the whole frame."""
    height, width = mask.frame_size
    fortran = np.zeros((height, width), np.uint8, order="F")
    x0, y0, x1, y1 = mask.bbox_xyxy
    fortran[y0:y1, x0:x1] = mask.pixels
    encoded = coco_mask.encode(fortran)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def decode_rle(rle: Rle) -> BoxedMask:
    """Return the mask of a compressed COCO RLE.

    Raises:
        InputError: the runs do not fill the stated size, or are not runs at all.
    """
    height, width = _rle_size(rle)
    counts: Any = rle.get("counts")
    if not isinstance(counts, str) or not counts.isascii():
        raise InputError(f"RLE counts must be an ASCII string, got {type(counts).__name__}")
    _check_runs(counts, height * width)
    encoded = {"size": [height, width], "counts": counts.encode("ascii")}
    try:
        return box_mask(coco_mask.decode(encoded).astype(bool))
    except (ValueError, TypeError, SystemError) as error:
        raise InputError(f"RLE cannot be decoded: {error}") from None


def _rle_size(rle: Any) -> tuple[int, int]:
    size = rle.get("size") if isinstance(rle, dict) else None
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(type(side) is int and 0 < side <= MAX_SIDE for side in size)
    ):
        raise InputError(f"RLE size must be [height, width], each 1 to {MAX_SIDE}, got {size!r}")
    return size[0], size[1]


def _check_runs(counts: str, pixels: int) -> None:
    """Refuse runs that do not add up to the frame: the C decoder would read past its buffer."""
    codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20:
        raise InputError(f"RLE counts are not COCO runs: {counts[:24]!r}")
    ends = np.flatnonzero((codes & 0x20) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:
        raise InputError(f"RLE counts hold a run of {lengths.max()} digits, limit 7")
    shift = np.arange(codes.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 0x1F) << (5 * shift), starts)
    values -= np.where(codes[ends] & 0x10, 1 << (5 * lengths), 0)
    total, runs = 0, [0, 0]
    for index, value in enumerate(values.tolist()):
        run = value + (runs[-2] if index > 2 else 0)
        runs.append(run)
        total += run
        if run < 0 or total > pixels:
            break
    if runs[-1] < 0 or total != pixels:
        raise InputError(f"RLE runs add up to {total} pixels, the frame has {pixels}")


def encode_crop_rle(mask: BoxedMask) -> tuple[Box, Rle]:
    """Return the mask's box as ``x, y, width, height``, and the COCO RLE of the box alone."""
    x0, y0, x1, y1 = mask.bbox_xyxy
    box = BoxedMask((0, 0, x1 - x0, y1 - y0), mask.pixels, (y1 - y0, x1 - x0))
    return (x0, y0, x1 - x0, y1 - y0), encode_rle(box)


def decode_crop_rle(bbox_xywh: Box, rle: Rle, frame_size: tuple[int, int]) -> BoxedMask:
    """Return the mask of a box's COCO RLE.

    Args:
        bbox_xywh: the box ``x, y, width, height``, inside the frame.
        rle: of the box alone.
        frame_size: ``(height, width)`` of the frame, pixels.

    Raises:
        InputError: the box is not inside the frame, or the RLE is not of its size.
    """
    x, y, width, height = bbox_xywh
    if not (0 <= x <= x + width <= frame_size[1] and 0 <= y <= y + height <= frame_size[0]):
        raise InputError(
            f"box {list(bbox_xywh)} is not inside the frame {frame_size[1]}x{frame_size[0]}"
        )
    crop = decode_rle(rle)
    if crop.frame_size != (height, width):
        raise InputError(
            f"RLE is of {crop.frame_size[1]}x{crop.frame_size[0]} pixels, its box {width}x{height}"
        )
    x0, y0, x1, y1 = crop.bbox_xyxy
    if x1 == x0:
        return empty_mask(frame_size)
    return BoxedMask((x0 + x, y0 + y, x1 + x, y1 + y), crop.pixels, frame_size)
