"""Windows that hold their objects with room around them; they stay as long as they do."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64

from amodal_model.geometry import (
    Window,
    box_in_crop,
    crop_from_frame,
    frame_from_crop,
    old_from_new,
)
from amodal_model.masks import BoxedMask
from amodal_model.templates import TEMPLATE_SIDE
from amodal_model.track_state import MotionConfig, Tracks
from amodal_model.views import View

_Extent = tuple[float, float, float, float]


def fit_windows(
    tracks: Tracks, views: Sequence[View], motion: MotionConfig
) -> tuple[Float64[np.ndarray, "N 4"], Float32[np.ndarray, "N 2 3"]]:
    """Return windows that hold the objects with room around them, and how the memory moves.

    A window is left as it is, and the memory with it, while the object keeps well inside it.
    """
    window = tracks.window.copy()
    theta = np.tile(np.array([[1, 0, 0], [0, 1, 0]], np.float32), (len(views), 1, 1))
    for index, view in enumerate(views):
        if tracks.is_new[index]:
            continue
        now = Window(*tracks.window[index].tolist())
        remembered = _remembered_box(tracks.template[index])
        if _holds_for_sure(remembered, now, view.own, motion.window_ratio):
            continue
        extent = _extent(remembered, now, view.own)
        if extent is None or _holds(extent, motion.window_ratio):
            continue
        fitted = _around(extent, now, motion.window_ratio)
        window[index] = fitted
        theta[index] = old_from_new(now, fitted)
    return window, theta


def _remembered_box(template: Float32[np.ndarray, "2 48 48"]) -> _Extent | None:
    """Return the box of what is remembered, template pixels."""
    column, row, wide, tall = cv2.boundingRect((template[0] > 0.5).view(np.uint8))
    return (column, row, column + wide, row + tall) if wide else None


def _holds_for_sure(
    remembered: _Extent | None, window: Window, own: BoxedMask, ratio: float
) -> bool:
    """Return whether a window holds its object wherever in its box the visible mask lies.

    Of a turned window that spares looking at the mask's pixels: nearly always.
    """
    if remembered is None or own.bbox_xyxy[2] <= own.bbox_xyxy[0]:
        return False
    around = box_in_crop(own.bbox_xyxy, window, TEMPLATE_SIDE)
    least, most = _enclose([remembered]), _enclose([remembered, around])
    return _holds(least, ratio) and _holds(most, ratio)


def _extent(remembered: _Extent | None, window: Window, own: BoxedMask) -> _Extent | None:
    """Return the box of what is remembered and visible together, as shares of the window."""
    boxes = [] if remembered is None else [remembered]
    if own.bbox_xyxy[2] > own.bbox_xyxy[0]:
        boxes.append(_box_in_window(own, window))
    return _enclose(boxes) if boxes else None


def _enclose(boxes: Sequence[_Extent]) -> _Extent:
    """Return the box around boxes in template pixels, as shares of the window."""
    x0, y0 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x1, y1 = max(box[2] for box in boxes), max(box[3] for box in boxes)
    unit = TEMPLATE_SIDE
    return x0 / unit, y0 / unit, x1 / unit, y1 / unit


def _around(extent: _Extent, window: Window, ratio: float) -> Window:
    """Return the window of the same angle that holds an extent, as `window_around` does."""
    x0, y0, x1, y1 = extent
    matrix = frame_from_crop(window, 1)
    x, y = matrix @ [(x0 + x1) / 2, (y0 + y1) / 2, 1]
    side = max((x1 - x0) * window.side, (y1 - y0) * window.side, 4.0) * ratio
    return Window(float(x), float(y), side, window.angle)


def _box_in_window(own: BoxedMask, window: Window) -> _Extent:
    """Return the box of a visible mask along the window's axes, template pixels."""
    x0, y0, x1, y1 = own.bbox_xyxy
    matrix = crop_from_frame(window, TEMPLATE_SIDE)
    if window.angle:
        rows, columns = _rim(own.pixels)
        points = np.stack([columns + (x0 + 0.5), rows + (y0 + 0.5)])
        half = TEMPLATE_SIDE / window.side / 2
    else:
        points, half = np.array([[x0, x1], [y0, y1]], float), 0.0
    turned = matrix[:, :2] @ points + matrix[:, 2:]
    (left, top), (right, bottom) = turned.min(1) - half, turned.max(1) + half
    return float(left), float(top), float(right), float(bottom)


def _rim(pixels: Bool[np.ndarray, "h w"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last pixel of each row, the mask's hull among them."""
    first = pixels.argmax(1)
    rows = np.flatnonzero(pixels[np.arange(len(pixels)), first])
    last = pixels.shape[1] - 1 - pixels[:, ::-1].argmax(1)
    return np.concatenate([rows, rows]), np.concatenate([first[rows], last[rows]])


def _holds(extent: _Extent, ratio: float) -> bool:
    """Return whether the object keeps inside the window and fills it as it should."""
    x0, y0, x1, y1 = extent
    fill = max(x1 - x0, y1 - y0) * ratio
    return 0.7 < fill < 1.35 and min(x0, y0, 1 - x1, 1 - y1) > 0.1
