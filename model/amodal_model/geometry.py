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
    """A square of the frame: centre and side in frame pixels, all finite, side above 0.

    Its x axis points ``angle`` radians from the frame's, towards the frame's y axis.
    """

    center_x: float
    center_y: float
    side: float
    angle: float = 0.0

    @property
    def reach(self) -> float:
        """How far the window reaches from its centre along the frame's axes, pixels."""
        return self.side / 2 * (abs(math.cos(self.angle)) + abs(math.sin(self.angle)))


def window_around(bbox_xyxy: tuple[float, float, float, float], ratio: float) -> Window:
    """Return the window centred on a box, ``ratio`` times its larger side, at least 8 pixels."""
    x0, y0, x1, y1 = bbox_xyxy
    side = max(x1 - x0, y1 - y0, 4.0) * ratio
    return Window((x0 + x1) / 2, (y0 + y1) / 2, side)


def crop_from_frame(window: Window, size: int) -> Float32[np.ndarray, "2 3"]:
    """Return the affine map from frame coordinates to crop coordinates, both continuous."""
    x, y, side, angle = window
    scale = size / side
    along, across = scale * math.cos(angle), scale * math.sin(angle)
    return np.array(
        [
            [along, across, size / 2 - along * x - across * y],
            [-across, along, size / 2 + across * x - along * y],
        ],
        np.float32,
    )


def frame_from_crop(window: Window, size: int) -> Float32[np.ndarray, "2 3"]:
    """Return the inverse of `crop_from_frame`."""
    x, y, side, angle = window
    scale = side / size
    along, across = scale * math.cos(angle), scale * math.sin(angle)
    half = size / 2
    return np.array(
        [
            [along, -across, x - half * (along - across)],
            [across, along, y - half * (along + across)],
        ],
        np.float32,
    )


def old_from_new(old: Window, new: Window) -> Float32[np.ndarray, "2 3"]:
    """Return the map from the new window to the old one in normalised [-1, 1] coordinates.

    This is the ``theta`` that resamples a map kept in the old window into the new one; both have
    the same angle.
    """
    scale = new.side / old.side
    moved_x, moved_y = new.center_x - old.center_x, new.center_y - old.center_y
    along, across = math.cos(old.angle), math.sin(old.angle)
    shift_x = 2 * (along * moved_x + across * moved_y) / old.side
    shift_y = 2 * (along * moved_y - across * moved_x) / old.side
    return np.array([[scale, 0, shift_x], [0, scale, shift_y]], np.float32)


class Coverage:
    """How many visible masks hold each pixel of a frame, and where any does, halved at will.

    Args:
        counts: number of masks over each pixel, at most 255.
    """

    def __init__(self, counts: UInt8[np.ndarray, "H W"]) -> None:
        self.counts = counts
        self._levels: list[np.ndarray] = []
        self._shares: dict[int, _Shares] = {}

    def level(self, halvings: int) -> UInt8[np.ndarray, "h w"]:
        """Return the share of each block of ``2 ** halvings`` pixels under masks, 0 to 255.

        Blocks are aligned to the frame's origin; the last ones may reach beyond the frame.
        """
        if not self._levels:
            covered = cv2.threshold(self.counts, 0, 255, cv2.THRESH_BINARY)[1]
            self._levels.append(np.asarray(covered, np.uint8))
        return _halved(self._levels, halvings)

    def shares(self, own: BoxedMask, halvings: int) -> _Shares:
        """Return how one of the masks covers blocks of up to ``2 ** halvings`` pixels."""
        found = self._shares.get(id(own))
        if found is None or found.most < halvings:
            found = self._shares[id(own)] = _Shares(own, self.counts, halvings)
        return found


class _Shares:
    """Shares of the blocks around a mask, 0 to 255: under the mask, and under it alone.

    Args:
        own: the mask; it is not empty.
        counts: number of masks over each pixel of the frame, the own included.
        most: halvings that there will be at most; blocks are aligned to as many.
    """

    def __init__(self, own: BoxedMask, counts: UInt8[np.ndarray, "H W"], most: int) -> None:
        x0, y0, x1, y1 = own.bbox_xyxy
        self.most = most
        self._own = own  # known by its id: it must not go before this
        self._blocks = (x0 >> most, y0 >> most, -(-x1 >> most), -(-y1 >> most))
        shape = tuple((self._blocks[n + 2] - self._blocks[n]) << most for n in (1, 0))
        corner = y0 - (self._blocks[1] << most), x0 - (self._blocks[0] << most)
        self._under = [_spread(own.pixels, corner, shape)]
        self._alone = self._under
        under_own = counts[y0:y1, x0:x1]
        if under_own.max() > 1:
            self._alone = [_spread(own.pixels & (under_own == 1), corner, shape)]

    def box(self, halvings: int) -> Box:
        """Return the box of blocks that the shares are of."""
        x0, y0, x1, y1 = self._blocks
        shift = self.most - halvings
        return x0 << shift, y0 << shift, x1 << shift, y1 << shift

    def under(self, halvings: int) -> UInt8[np.ndarray, "h w"]:
        """Return the share of each block under the mask."""
        return _halved(self._under, halvings)

    def alone(self, halvings: int) -> UInt8[np.ndarray, "h w"]:
        """Return the share of each block that the mask covers and no other does."""
        return _halved(self._alone, halvings)


def _spread(
    pixels: Bool[np.ndarray, "h w"], corner: tuple[int, int], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "h2 w2"]:
    """Return a mask as 0 and 255 in a larger array, from a row and a column on."""
    values = np.zeros(shape, np.uint8)
    (row, column), (height, width) = corner, pixels.shape
    # minus one, in eight bits, is 255
    np.negative(pixels.view(np.uint8), out=values[row : row + height, column : column + width])
    return values


def _halved(levels: list[np.ndarray], halvings: int) -> UInt8[np.ndarray, "h w"]:
    """Return a level, made from those before it, which are kept."""
    while len(levels) <= halvings:
        levels.append(_halve(levels[-1]))
    return levels[halvings]


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
    return sample_masks(own, coverage, window, size)[:, :size]


def sample_masks(
    own: BoxedMask, coverage: Coverage, window: Window, size: int
) -> UInt8[np.ndarray, "size width 4"]:
    """Return what `crop_masks` gives, with more columns: up to a multiple of sixteen.

    OpenCV is fast at four channels and rows of sixteen, and where there are no gaps.
    """
    halvings = max(int(window.side / size), 1).bit_length() - 1
    block = 1 << halvings
    covered = coverage.level(halvings)
    along, across = math.cos(window.angle), math.sin(window.angle)
    # how far from its centre the window and a pixel beside it reach, blocks
    reach = window.side / 2 * (abs(along) + abs(across)) / block + 1
    x, y = window.center_x / block, window.center_y / block
    box = (
        max(math.floor(x - reach), 0),
        max(math.floor(y - reach), 0),
        min(math.ceil(x + reach), covered.shape[1]),
        min(math.ceil(y + reach), covered.shape[0]),
    )
    width = -(-size // 16) * 16
    if box[2] <= box[0] or box[3] <= box[1]:
        beyond = np.zeros((size, width, 4), np.uint8)
        beyond[..., 2:] = 255
        return beyond
    mine, others, outside = np.zeros((3, box[3] - box[1], box[2] - box[0]), np.uint8)
    others[:] = covered[box[1] : box[3], box[0] : box[2]]
    if own.pixels.size:
        _divide(own, coverage, (box, halvings), mine, others)
    _fill_outside(outside, own.frame_size, box, block)
    unit = window.side / size / block
    along, across = unit * along, unit * across
    first = (size - 1) / 2
    matrix = np.array(
        [
            [along, -across, x - box[0] - first * (along - across) - 0.5],
            [across, along, y - box[1] - first * (along + across) - 0.5],
        ],
        np.float32,
    )
    sampled = cv2.warpAffine(
        cv2.merge([mine, others, outside, outside]),
        matrix,
        (width, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 255, 255),
    )
    return np.asarray(sampled, np.uint8)


def _divide(
    own: BoxedMask,
    coverage: Coverage,
    place: tuple[Box, int],
    mine: UInt8[np.ndarray, "h w"],
    others: UInt8[np.ndarray, "h w"],
) -> None:
    """Fill in, in place, how far the own mask covers blocks, and how far others do.

    Args:
        own: the object's visible mask.
        coverage: of the frame.
        place: the box of blocks, and their halvings.
        mine: zeros, to be filled in.
        others: how far any mask covers the blocks, the own one to be taken away.
    """
    box, halvings = place
    shares = coverage.shares(own, halvings)
    blocks = shares.box(halvings)
    a0, b0, a1, b1 = intersect_boxes(box, blocks)
    if a1 <= a0 or b1 <= b0:
        return
    here = np.s_[b0 - box[1] : b1 - box[1], a0 - box[0] : a1 - box[0]]
    part = np.s_[b0 - blocks[1] : b1 - blocks[1], a0 - blocks[0] : a1 - blocks[0]]
    mine[here] = shares.under(halvings)[part]
    cv2.subtract(others[here], shares.alone(halvings)[part], dst=others[here])


def _halve(values: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h2 w2"]:
    """Return the mean of two by two, the fast case of OpenCV; 0 where a side is odd."""
    height, width = values.shape
    if height % 2 or width % 2:
        values = np.pad(values, ((0, height % 2), (0, width % 2)))
    shape = ((width + 1) // 2, (height + 1) // 2)
    return np.asarray(cv2.resize(values, shape, interpolation=cv2.INTER_AREA), np.uint8)


def _fill_outside(
    outside: UInt8[np.ndarray, "h w"], frame_size: tuple[int, int], box: Box, block: int
) -> None:
    """Fill in, in zeros, how much of each block of a part of the frame lies beyond it, 0 to 255."""
    over_y, over_x = max(box[3] * block - frame_size[0], 0), max(box[2] * block - frame_size[1], 0)
    if over_y or over_x:
        inside_y, inside_x = np.ones(len(outside)), np.ones(outside.shape[1])
        inside_y[-1] -= over_y / block
        inside_x[-1] -= over_x / block
        outside[:] = np.rint(255 * (1 - inside_y[:, None] * inside_x))


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


def paste_unclipped(
    logits: Float32[np.ndarray, "S S"], window: Window, frame_size: tuple[int, int]
) -> BoxedMask:
    """Return what `paste_logits` gives without clipping it: the box may reach beyond the frame.

    Up to a frame's width and height beyond, and no further.
    """
    height, width = frame_size
    moved = Window(window.center_x + width, window.center_y + height, window.side, window.angle)
    mask = paste_logits(logits, moved, (3 * height, 3 * width))
    x0, y0, x1, y1 = mask.bbox_xyxy
    box = (x0 - width, y0 - height, x1 - width, y1 - height)
    return BoxedMask(box, mask.pixels, frame_size)


def paste_positive(
    values: Float32[np.ndarray, "S S"],
    window: Window,
    frame_size: tuple[int, int],
    outside: float,
) -> tuple[Box, Float32[np.ndarray, "h w"]]:
    """Return what `paste_values` gives, of the part alone in which anything can be above 0."""
    column, row, wide, tall = cv2.boundingRect((values > 0).view(np.uint8))
    # a sample is taken between pixel centres: half a pixel beyond the last one's edge at most
    corners = (column - 0.5, row - 0.5, column + wide + 0.5, row + tall + 0.5)
    x0, y0, x1, y1 = box_in_frame(corners, window, values.shape[0])
    part = math.floor(x0 - 0.5), math.floor(y0 - 0.5), math.ceil(x1 + 0.5), math.ceil(y1 + 0.5)
    box = intersect_boxes(part, _frame_box(window, frame_size))
    if wide == 0 or box[2] <= box[0] or box[3] <= box[1]:
        return (0, 0, 0, 0), np.zeros((0, 0), np.float32)
    return box, paste_in_box(values, window, box, outside)


def box_in_frame(
    box_xyxy: tuple[float, float, float, float], window: Window, size: int
) -> tuple[float, float, float, float]:
    """Return the box of the frame that holds a box of a crop of ``size`` pixels."""
    x0, y0, x1, y1 = box_xyxy
    unit = window.side / size
    along, across = unit * math.cos(window.angle), unit * math.sin(window.angle)
    middle_x, middle_y = (x0 + x1 - size) / 2, (y0 + y1 - size) / 2
    half_x, half_y = (x1 - x0) / 2, (y1 - y0) / 2
    x = window.center_x + along * middle_x - across * middle_y
    y = window.center_y + across * middle_x + along * middle_y
    reach_x = abs(along) * half_x + abs(across) * half_y
    reach_y = abs(across) * half_x + abs(along) * half_y
    return x - reach_x, y - reach_y, x + reach_x, y + reach_y


def box_in_crop(
    box_xyxy: tuple[float, float, float, float], window: Window, size: int
) -> tuple[float, float, float, float]:
    """Return the box of a crop of ``size`` pixels that holds a box of the frame."""
    x0, y0, x1, y1 = box_xyxy
    unit = size / window.side
    along, across = unit * math.cos(window.angle), unit * math.sin(window.angle)
    middle_x, middle_y = (x0 + x1) / 2 - window.center_x, (y0 + y1) / 2 - window.center_y
    half_x, half_y = (x1 - x0) / 2, (y1 - y0) / 2
    x = size / 2 + along * middle_x + across * middle_y
    y = size / 2 - across * middle_x + along * middle_y
    reach_x = abs(along) * half_x + abs(across) * half_y
    reach_y = abs(across) * half_x + abs(along) * half_y
    return x - reach_x, y - reach_y, x + reach_x, y + reach_y


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
    return box, paste_in_box(values, window, box, outside)


def _frame_box(window: Window, frame_size: tuple[int, int]) -> Box:
    """Return the part of the frame under a window; zeros where they do not meet."""
    height, width = frame_size
    half = window.reach
    box = (
        max(math.floor(window.center_x - half), 0),
        max(math.floor(window.center_y - half), 0),
        min(math.ceil(window.center_x + half), width),
        min(math.ceil(window.center_y + half), height),
    )
    return (0, 0, 0, 0) if box[2] <= box[0] or box[3] <= box[1] else box


def paste_in_box(
    values: Float32[np.ndarray, "S S"], window: Window, box: Box, outside: float
) -> Float32[np.ndarray, "h w"]:
    """Return the crop's values resampled in a box of the frame."""
    scale, half = values.shape[0] / window.side, values.shape[0] / 2 - 0.5
    along, across = scale * math.cos(window.angle), scale * math.sin(window.angle)
    x, y = box[0] + 0.5 - window.center_x, box[1] + 0.5 - window.center_y
    matrix = np.array(
        [
            [along, across, along * x + across * y + half],
            [-across, along, along * y - across * x + half],
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
