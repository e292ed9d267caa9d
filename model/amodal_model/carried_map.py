"""The last map of a followed object, carried by the flow into the window that it goes to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from amodal_model.followed_object import RATIO, Map
from amodal_model.geometry import Window, paste_values, window_around
from amodal_model.image_motion import FrameView, sample_field, sample_mask, window_axes
from amodal_model.masks import BoxedMask

_STRIDE = 2


class Mapped(Protocol):
    """Something with a map in a window."""

    @property
    def window(self) -> Window:
        """Where the map lies."""
        ...

    @property
    def prob(self) -> Map:
        """The map."""
        ...


def next_window(thing: Mapped, view: FrameView) -> Window:
    """Return the window around the carried mask, found on a coarse grid of the frame."""
    if view.flow is None:
        return thing.window
    scale = view.scale
    flow = view.flow[::_STRIDE, ::_STRIDE]
    x = (np.arange(flow.shape[1], dtype=np.float32) * _STRIDE + 0.5)[None, :]
    y = (np.arange(flow.shape[0], dtype=np.float32) * _STRIDE + 0.5)[:, None]
    coarse = _look_up(thing, (x + flow[..., 0]) / scale, (y + flow[..., 1]) / scale)
    rows, columns = np.nonzero(coarse > 0.3)
    if rows.size < 2:
        return thing.window
    half = _STRIDE / 2
    reach = (
        np.array([columns.min(), rows.min(), columns.max(), rows.max()]) * _STRIDE + 0.5
    ).astype(float)
    box = (reach + np.array([-half, -half, half, half])) / scale
    around = window_around((box[0], box[1], box[2], box[3]), RATIO)
    return around._replace(side=max(around.side, 16 / scale))


def carried(thing: Mapped, view: FrameView, window: Window) -> Map:
    """Return the last map where the flow carries it, in the new window."""
    side = thing.prob.shape[0]
    columns, rows = window_axes(window, side)
    x, y = np.broadcast_arrays(columns[None, :], rows[:, None])
    if view.flow is None:
        return _look_up(thing, x, y)
    flow = sample_field(view.flow, window, side, view.scale)
    return _look_up(thing, x + flow[..., 0], y + flow[..., 1])


def _look_up(
    thing: Mapped, x: Float32[np.ndarray, "a b"], y: Float32[np.ndarray, "a b"]
) -> Float32[np.ndarray, "a b"]:
    """Return the last map at points of the frame, 0 beyond its window."""
    side = thing.prob.shape[0]
    zoom = np.float32(side / thing.window.side)
    columns = (x - np.float32(thing.window.center_x)) * zoom + np.float32(side / 2 - 0.5)
    rows = (y - np.float32(thing.window.center_y)) * zoom + np.float32(side / 2 - 0.5)
    return np.asarray(cv2.remap(thing.prob, columns, rows, cv2.INTER_LINEAR), np.float32)


def moved_to(
    thing: Mapped, window: Window, frame_size: tuple[int, int], side: int
) -> Float32[np.ndarray, "S S"]:
    """Return where the map of an object is above a half, in another window of the same frame."""
    box, values = paste_values(thing.prob, thing.window, frame_size, outside=0.0)
    return sample_mask(BoxedMask(box, values > 0.5, frame_size), window, side)


def covered(
    maps: Iterable[tuple[Map, Window]], scale: float, work_shape: tuple[int, ...]
) -> Bool[np.ndarray, "h w"]:
    """Return where objects were in the last frame, at working size."""
    found = np.zeros(work_shape, bool)
    for prob, window in maps:
        small = Window(*(value * scale for value in window))
        (x0, y0, x1, y1), values = paste_values(
            prob, small, (work_shape[0], work_shape[1]), outside=0.0
        )
        if values.size:
            found[y0:y1, x0:x1] |= values > 0.2
    return found
