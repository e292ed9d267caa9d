"""Windows, crops and pastes: where an object's square crop lies in the frame.

Continuous coordinates: pixel centres at +0.5, boxes half-open, origin top-left,
``align_corners=False``. A window is the object's pose as well as its crop: its centre is where
the remembered silhouette lies, its side how large it is. Transforms read ``target_from_source``.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from amodal_model.masks import Box, BoxedMask


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


def crop_masks(
    own: BoxedMask, coverage: UInt8[np.ndarray, "H W"], window: Window, size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Return (own, others, outside) of a window as coverage in [0, 255], area-sampled.

    Args:
        own: the object's visible mask.
        coverage: how many visible masks hold each pixel of the frame, own mask included.
        window: the square of the frame to look at; may reach beyond it.
        size: side of the crop, pixels.
    """
    height, width = coverage.shape
    half = window.side / 2
    left, top = int(np.floor(window.center_x - half)) - 1, int(np.floor(window.center_y - half)) - 1
    # a whole block of `_sample` beyond the window: its padding must not reach inside
    reach = int(window.side) + 3 + _shrink(window, size)
    right, bottom = left + reach, top + reach
    box = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
    if box[2] <= box[0] or box[3] <= box[1]:
        beyond = np.zeros((size, size, 3), np.uint8)
        beyond[..., 2] = 255
        return beyond
    mine = own.within(box).view(np.uint8)
    covered = coverage[box[1] : box[3], box[0] : box[2]]
    shrink = _shrink(window, size)
    channels = (mine * np.uint8(255), cv2.compare(covered, mine, cv2.CMP_GT))
    small = [_average(np.asarray(channel, np.uint8), shrink, 0) for channel in channels]
    small.append(_outside(covered.shape, shrink))
    return _sample(np.asarray(cv2.merge(small), np.uint8), box, window, size)


def _shrink(window: Window, size: int) -> int:
    """Return by how much a window is averaged down before it is sampled."""
    return max(int(window.side / size), 1)


def _average(
    channel: UInt8[np.ndarray, "h w"], shrink: int, padding: int
) -> UInt8[np.ndarray, "h2 w2"]:
    """Average blocks of ``shrink`` pixels; what a last block lacks is padding."""
    if shrink == 1:
        return channel
    pad_y, pad_x = -channel.shape[0] % shrink, -channel.shape[1] % shrink
    if pad_y or pad_x:
        channel = np.asarray(
            cv2.copyMakeBorder(channel, 0, pad_y, 0, pad_x, cv2.BORDER_CONSTANT, value=(padding,)),
            np.uint8,
        )
    while shrink > 1:
        # two by two is the fast case of OpenCV
        step = 2 if shrink % 2 == 0 else shrink
        shape = (channel.shape[1] // step, channel.shape[0] // step)
        channel = np.asarray(cv2.resize(channel, shape, interpolation=cv2.INTER_AREA), np.uint8)
        shrink //= step
    return channel


def _outside(shape: tuple[int, int], shrink: int) -> UInt8[np.ndarray, "h2 w2"]:
    """Return how much of each block of a part of the frame lies beyond that part."""
    if shape[0] % shrink == 0 and shape[1] % shrink == 0:
        return np.zeros((shape[0] // shrink, shape[1] // shrink), np.uint8)
    return _average(np.zeros(shape, np.uint8), shrink, 255)


def _sample(
    stack: UInt8[np.ndarray, "h w 3"], box: Box, window: Window, size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Sample a window out of a part of the frame that was averaged down by its shrink."""
    shrink = _shrink(window, size)
    scale = size * shrink / window.side
    matrix = np.array(
        [
            [scale, 0, size / 2 + (box[0] - window.center_x) * scale / shrink + scale / 2 - 0.5],
            [0, scale, size / 2 + (box[1] - window.center_y) * scale / shrink + scale / 2 - 0.5],
        ],
        np.float32,
    )
    return np.asarray(
        cv2.warpAffine(
            stack,
            matrix,
            (size, size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(0, 0, 255),
        ),
        np.uint8,
    )


def paste_logits(
    logits: Float32[np.ndarray, "S S"], window: Window, frame_size: tuple[int, int]
) -> BoxedMask:
    """Return where the logits of a window are above 0, as a mask of the frame."""
    box, values = paste_values(logits, window, frame_size, outside=-1.0)
    return BoxedMask(box, values > 0, frame_size)


def paste_values(
    values: Float32[np.ndarray, "S S"],
    window: Window,
    frame_size: tuple[int, int],
    outside: float,
) -> tuple[Box, Float32[np.ndarray, "h w"]]:
    """Return the part of the frame under a window and the crop's values resampled there."""
    height, width = frame_size
    half = window.side / 2
    box = (
        max(int(np.floor(window.center_x - half)), 0),
        max(int(np.floor(window.center_y - half)), 0),
        min(int(np.ceil(window.center_x + half)), width),
        min(int(np.ceil(window.center_y + half)), height),
    )
    if box[2] <= box[0] or box[3] <= box[1]:
        return (0, 0, 0, 0), np.zeros((0, 0), np.float32)
    scale = values.shape[0] / window.side
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
    return box, np.asarray(pasted, np.float32)
