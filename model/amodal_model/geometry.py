"""Windows, crops and pastes: where an object's square crop lies in the frame.

Continuous coordinates: pixel centres at +0.5, boxes half-open, origin top-left,
``align_corners=False``. A window is the object's pose as well as its crop: its centre is where
the remembered silhouette lies, its side how large it is. Transforms read ``target_from_source``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from amodal_model.masks import Box, BoxedMask, intersect_boxes


class Window(NamedTuple):
    """A square of the frame: centre and side in frame pixels, all finite, side above 0."""

    center_x: float
    center_y: float
    side: float


def window_around(bbox_xyxy: tuple[float, float, float, float], ratio: float) -> Window:
    """Return the window centred on a box, ``ratio`` times its larger side, at least 8 pixels."""
    x0, y0, x1, y1 = bbox_xyxy
    side = max(x1 - x0, y1 - y0, 4.0) * ratio
    return Window((x0 + x1) / 2, (y0 + y1) / 2, side)


def crop_from_frame(window: Window, size: int) -> Float32[np.ndarray, "2 3"]:
    """Return the affine map from frame coordinates to crop coordinates, both continuous."""
    scale = size / window.side
    return np.array(
        [
            [scale, 0, size / 2 - scale * window.center_x],
            [0, scale, size / 2 - scale * window.center_y],
        ],
        np.float32,
    )


def frame_from_crop(window: Window, size: int) -> Float32[np.ndarray, "2 3"]:
    """Return the inverse of `crop_from_frame`."""
    scale = window.side / size
    return np.array(
        [
            [scale, 0, window.center_x - window.side / 2],
            [0, scale, window.center_y - window.side / 2],
        ],
        np.float32,
    )


def old_from_new(old: Window, new: Window) -> Float32[np.ndarray, "2 3"]:
    """Return the map from the new window to the old one in normalised [-1, 1] coordinates.

    This is the ``theta`` that resamples a map kept in the old window into the new one.
    """
    scale = new.side / old.side
    shift_x = 2 * (new.center_x - old.center_x) / old.side
    shift_y = 2 * (new.center_y - old.center_y) / old.side
    return np.array([[scale, 0, shift_x], [0, scale, shift_y]], np.float32)


class Coverage:
    """How many visible masks hold each pixel of a frame, and where any does, halved at will.

    Args:
        counts: number of masks over each pixel, at most 255.
    """

    def __init__(self, counts: UInt8[np.ndarray, "H W"]) -> None:
        self.counts = counts
        self._levels: list[UInt8[np.ndarray, "h w"]] = []

    def level(self, halvings: int) -> UInt8[np.ndarray, "h w"]:
        """Return the share of each block of ``2 ** halvings`` pixels under masks, 0 to 255.

        Blocks are aligned to the frame's origin; the last ones may reach beyond the frame.
        """
        if not self._levels:
            covered = cv2.threshold(self.counts, 0, 255, cv2.THRESH_BINARY)[1]
            self._levels.append(np.asarray(covered, np.uint8))
        while len(self._levels) <= halvings:
            self._levels.append(_halve(self._levels[-1]))
        return self._levels[halvings]


def crop_masks(
    own: BoxedMask, coverage: Coverage, window: Window, size: int
) -> UInt8[np.ndarray, "size size 4"]:
    """Return (own, others, outside, outside) of a window as coverage in [0, 255], area-sampled.

    Windows larger than the crop are sampled from blocks of 2, 4, 8, ... pixels. There, others is
    what any mask covers less what the own mask covers alone, so it can be off by a few of 255
    where both meet.

    Args:
        own: the object's visible mask.
        coverage: of the frame, own mask included.
        window: the square of the frame to look at; may reach beyond it.
        size: side of the crop, pixels.
    """
    halvings = max(int(window.side / size), 1).bit_length() - 1
    block = 1 << halvings
    covered = coverage.level(halvings)
    left, top = window.center_x - window.side / 2, window.center_y - window.side / 2
    box = (
        max(math.floor(left / block) - 1, 0),
        max(math.floor(top / block) - 1, 0),
        min(math.ceil((left + window.side) / block) + 1, covered.shape[1]),
        min(math.ceil((top + window.side) / block) + 1, covered.shape[0]),
    )
    if box[2] <= box[0] or box[3] <= box[1]:
        beyond = np.zeros((size, size, 4), np.uint8)
        beyond[..., 2:] = 255
        return beyond
    mine, others = _mine_and_others(own, coverage, box, halvings)
    outside = _outside(own.frame_size, box, block)
    unit = window.side / size / block
    matrix = np.array(
        [
            [unit, 0, left / block - box[0] + unit / 2 - 0.5],
            [0, unit, top / block - box[1] + unit / 2 - 0.5],
        ],
        np.float32,
    )
    # OpenCV is fast at four channels and rows of sixteen; the odd columns of the last are cut off
    sampled = cv2.warpAffine(
        cv2.merge([mine, others, outside, outside]),
        matrix,
        (-(-size // 16) * 16, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 255, 255),
    )
    return np.asarray(sampled, np.uint8)[:, :size]


def _mine_and_others(
    own: BoxedMask, coverage: Coverage, box: Box, halvings: int
) -> tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]:
    """Return how far the own mask, and others, cover the blocks of a part of the frame."""
    others = coverage.level(halvings)[box[1] : box[3], box[0] : box[2]].copy()
    mine = np.zeros_like(others)
    x0, y0, x1, y1 = own.bbox_xyxy
    blocks = (x0 >> halvings, y0 >> halvings, -(-x1 >> halvings), -(-y1 >> halvings))
    a0, b0, a1, b1 = intersect_boxes(box, blocks)
    if a1 <= a0 or b1 <= b0:
        return mine, others
    here = np.s_[b0 - box[1] : b1 - box[1], a0 - box[0] : a1 - box[0]]
    part = np.s_[b0 - blocks[1] : b1 - blocks[1], a0 - blocks[0] : a1 - blocks[0]]
    whole = _blocks(own.pixels, (x0, y0), blocks, halvings)
    mine[here] = whole[part]
    counts = coverage.counts[y0:y1, x0:x1]
    if counts.max() > 1:
        whole = _blocks(own.pixels & (counts == 1), (x0, y0), blocks, halvings)
    others[here] = cv2.subtract(others[here], whole[part])
    return mine, others


def _blocks(
    pixels: Bool[np.ndarray, "h w"], corner_xy: tuple[int, int], blocks: Box, halvings: int
) -> UInt8[np.ndarray, "h2 w2"]:
    """Return the share of each block under a mask, 0 to 255, over a box of blocks."""
    shape = ((blocks[3] - blocks[1]) << halvings, (blocks[2] - blocks[0]) << halvings)
    values = np.zeros(shape, np.uint8)
    x, y = corner_xy[0] - (blocks[0] << halvings), corner_xy[1] - (blocks[1] << halvings)
    part = values[y : y + pixels.shape[0], x : x + pixels.shape[1]]
    np.multiply(pixels.view(np.uint8), np.uint8(255), out=part)
    for _ in range(halvings):
        values = _halve(values)
    return values


def _halve(values: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h2 w2"]:
    """Return the mean of two by two, the fast case of OpenCV; 0 where a side is odd."""
    height, width = values.shape
    if height % 2 or width % 2:
        values = np.pad(values, ((0, height % 2), (0, width % 2)))
    shape = ((width + 1) // 2, (height + 1) // 2)
    return np.asarray(cv2.resize(values, shape, interpolation=cv2.INTER_AREA), np.uint8)


def _outside(frame_size: tuple[int, int], box: Box, block: int) -> UInt8[np.ndarray, "h w"]:
    """Return how much of each block of a part of the frame lies beyond the frame, 0 to 255."""
    outside = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
    over_y, over_x = max(box[3] * block - frame_size[0], 0), max(box[2] * block - frame_size[1], 0)
    if over_y or over_x:
        inside_y, inside_x = np.ones(len(outside)), np.ones(outside.shape[1])
        inside_y[-1] -= over_y / block
        inside_x[-1] -= over_x / block
        outside[:] = np.rint(255 * (1 - inside_y[:, None] * inside_x))
    return outside


def paste_logits(
    logits: Float32[np.ndarray, "S S"], window: Window, frame_size: tuple[int, int]
) -> BoxedMask:
    """Return where the logits of a window are above 0, as a mask of the frame."""
    box = _frame_box(window, frame_size)
    part, values = paste_positive(logits, window, frame_size, outside=-1.0)
    pixels = np.zeros((max(box[3] - box[1], 0), max(box[2] - box[0], 0)), bool)
    if values.size:
        pixels[part[1] - box[1] : part[3] - box[1], part[0] - box[0] : part[2] - box[0]] = (
            values > 0
        )
    return BoxedMask(box, pixels, frame_size)


def paste_positive(
    values: Float32[np.ndarray, "S S"],
    window: Window,
    frame_size: tuple[int, int],
    outside: float,
) -> tuple[Box, Float32[np.ndarray, "h w"]]:
    """Return what `paste_values` gives, of the part alone in which anything can be above 0."""
    column, row, wide, tall = cv2.boundingRect((values > 0).view(np.uint8))
    unit = window.side / values.shape[0]
    left, top = window.center_x - window.side / 2, window.center_y - window.side / 2
    # a sample is taken between pixel centres: half a pixel beyond the last one's edge at most
    part = (
        math.floor(left + (column - 0.5) * unit - 0.5),
        math.floor(top + (row - 0.5) * unit - 0.5),
        math.ceil(left + (column + wide + 0.5) * unit + 0.5),
        math.ceil(top + (row + tall + 0.5) * unit + 0.5),
    )
    box = intersect_boxes(part, _frame_box(window, frame_size))
    if wide == 0 or box[2] <= box[0] or box[3] <= box[1]:
        return (0, 0, 0, 0), np.zeros((0, 0), np.float32)
    return box, _paste(values, window, box, outside)


def paste_values(
    values: Float32[np.ndarray, "S S"],
    window: Window,
    frame_size: tuple[int, int],
    outside: float,
) -> tuple[Box, Float32[np.ndarray, "h w"]]:
    """Return the part of the frame under a window and the crop's values resampled there."""
    box = _frame_box(window, frame_size)
    if box[2] == 0:
        return box, np.zeros((0, 0), np.float32)
    return box, _paste(values, window, box, outside)


def _frame_box(window: Window, frame_size: tuple[int, int]) -> Box:
    """Return the part of the frame under a window; zeros where they do not meet."""
    height, width = frame_size
    half = window.side / 2
    box = (
        max(math.floor(window.center_x - half), 0),
        max(math.floor(window.center_y - half), 0),
        min(math.ceil(window.center_x + half), width),
        min(math.ceil(window.center_y + half), height),
    )
    return (0, 0, 0, 0) if box[2] <= box[0] or box[3] <= box[1] else box


def _paste(
    values: Float32[np.ndarray, "S S"], window: Window, box: Box, outside: float
) -> Float32[np.ndarray, "h w"]:
    """Return the crop's values resampled in a box of the frame."""
    scale, half = values.shape[0] / window.side, window.side / 2
    matrix = np.array(
        [
            [scale, 0, (box[0] + 0.5 - window.center_x + half) * scale - 0.5],
            [0, scale, (box[1] + 0.5 - window.center_y + half) * scale - 0.5],
        ],
        np.float32,
    )
    pasted = cv2.warpAffine(
        values,
        matrix,
        (box[2] - box[0], box[3] - box[1]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(outside,),
    )
    return np.asarray(pasted, np.float32).reshape(box[3] - box[1], box[2] - box[0])
