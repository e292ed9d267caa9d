"""Pictures of results: the overlay of a frame and the contact sheet of a clip.

All drawing happens inside the boxes of the masks, so that its cost follows the objects and not
the frame. Colours belong to track ids: an object keeps its colour through a clip and across clips.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal_model.masks import Box, BoxedMask
from amodal_model.results import FrameResult, ObjectResult

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Colour = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN = 0.618033988749895
_DARK: Colour = (22, 24, 29)
_WHITE: Colour = (255, 255, 255)


class SheetColumn(NamedTuple):
    """One moment of a contact sheet: a caption, the frame (H, W, 3) uint8 RGB, its result."""

    caption: str
    image: Image
    result: FrameResult


class _Style(NamedTuple):
    """How strongly each part is painted, in [0, 1]."""

    visible: float
    hidden: float
    stripe: float


_OVERLAY = _Style(visible=0.42, hidden=0.28, stripe=0.85)
_FLAT = _Style(visible=0.92, hidden=0.3, stripe=0.92)


@lru_cache(maxsize=4096)
def track_colour(track_id: int) -> Colour:
    """Return the RGB colour of a track: hues a golden section apart, so neighbours differ."""
    hue = (0.02 + track_id * _GOLDEN) % 1.0
    lightness = 0.56 + 0.07 * (track_id // 3 % 3 - 1)
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.78)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_overlay(image: Image, result: FrameResult) -> Image:
    """Return the frame with its objects drawn in.

    The visible part is tinted, the part the model filled in is hatched, the silhouette outlined
    and labelled with track id and state. Hidden objects stay, hatched all over; lost ones have no
    mask and are left out.
    """
    canvas = image.copy()
    unit = _unit(image)
    shown = [each for each in result.objects if each.amodal.pixels.size]
    _paint(canvas, shown, _OVERLAY, unit)
    taken: list[Box] = []
    for each in shown:
        taken.append(_label(canvas, f"{each.track_id} {each.state}", each, unit, taken))
    return canvas


def _unit(image: Image) -> int:
    """Return the line width that suits the frame, pixels."""
    return max(1, round(int(min(image.shape[:2])) / 360))


def _paint(canvas: Image, objects: Sequence[ObjectResult], style: _Style, unit: int) -> None:
    """Tint what is visible, then hatch and outline what is hidden, so that it lies on top."""
    for each in objects:
        _fill(canvas, each.visible.bbox_xyxy, each.visible.pixels, each.track_id, style.visible)
    for each in objects:
        hidden = each.inferred
        if hidden.pixels.size:
            box = hidden.bbox_xyxy
            stripes = _stripes(box, unit)
            _fill(canvas, box, hidden.pixels & ~stripes, each.track_id, style.hidden)
            _fill(canvas, box, hidden.pixels & stripes, each.track_id, style.stripe)
    for each in objects:
        _outline(canvas, each.amodal, track_colour(each.track_id), unit)


def _fill(canvas: Image, box: Box, mask: Mask, track_id: int, weight: float) -> None:
    x0, y0, x1, y1 = box
    if mask.size:
        _blend(canvas[y0:y1, x0:x1], mask, track_colour(track_id), weight)


def _blend(patch: Image, mask: Mask, colour: Colour, weight: float) -> None:
    solid = np.empty_like(patch)
    solid[:] = colour
    mixed = cv2.addWeighted(patch, 1.0 - weight, solid, weight, 0.0)
    cv2.copyTo(mixed, mask.view(np.uint8), patch)


def _stripes(box: Box, unit: int) -> Mask:
    """Return the diagonal hatching over a box; it is fixed to the frame, not to the object."""
    x0, y0, x1, y1 = box
    diagonal = np.arange(y0, y1)[:, None] + np.arange(x0, x1)
    return diagonal % (6 * unit + 2) < 2 * unit + 1


def _outline(canvas: Image, mask: BoxedMask, colour: Colour, unit: int) -> None:
    """Draw the contour of a mask, a dark line under a coloured one, so it reads on any ground."""
    x0, y0 = mask.bbox_xyxy[:2]
    contours, _ = cv2.findContours(
        mask.pixels.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x0, y0)
    )
    cv2.polylines(canvas, contours, True, _DARK, 2 * unit, cv2.LINE_8)
    cv2.polylines(canvas, contours, True, colour, unit, cv2.LINE_8)


def _label(canvas: Image, text: str, each: ObjectResult, unit: int, taken: list[Box]) -> Box:
    """Write a label at an object's top left corner, below any label already there."""
    size = min(max(int(min(canvas.shape[:2])) / 1000, 0.34), 1.2)
    (width, height), _ = cv2.getTextSize(text, _FONT, size, 1)
    pad = 2 + unit
    width, height = width + 2 * pad, height + 2 * pad
    frame_height, frame_width = canvas.shape[:2]
    x = max(0, min(each.amodal.bbox_xyxy[0], frame_width - width))
    y = max(0, min(each.amodal.bbox_xyxy[1] - height, frame_height - height))
    for other in taken:
        if x < other[2] and other[0] < x + width and y < other[3] and other[1] < y + height:
            y = max(0, min(other[3] + 1, frame_height - height))
    colour = track_colour(each.track_id)
    patch = canvas[y : y + height, x : x + width]
    _blend(patch, np.ones(patch.shape[:2], bool), _DARK, 0.78)
    cv2.rectangle(canvas, (x, y), (x + unit, y + height - 1), colour, -1)
    _write(canvas, text, (x + pad + unit, y + height - pad), size)
    return x, y, x + width, y + height


def _write(canvas: Image, text: str, at_xy: tuple[int, int], size: float) -> None:
    cv2.putText(canvas, text, at_xy, _FONT, size, _WHITE, 1, cv2.LINE_AA)


def contact_sheet(columns: Iterable[SheetColumn], *, column_width: int = 320) -> Image:
    """Return a grid of moments: the frame, its visible masks, the whole silhouettes.

    Args:
        columns: the moments, from left to right; they may come from clips of different sizes.
        column_width: width of a picture in the grid, pixels.

    Returns:
        uint8 RGB (H, W, 3).
    """
    strips = [_column(column, column_width) for column in columns]
    height = max(strip.shape[0] for strip in strips)
    names = _row_names(strips[0].shape[0], height)
    return np.concatenate([names, *(_extend(strip, height) for strip in strips)], axis=1)


_GAP = 6
_HEADER = 26
_MARGIN = 30


def _column(column: SheetColumn, width: int) -> Image:
    height = round(column.image.shape[0] * width / column.image.shape[1])
    pictures = (
        column.image,
        _flat(column.image, column.result, whole=False),
        _flat(column.image, column.result, whole=True),
    )
    strip = np.full((_HEADER + 3 * (height + _GAP), width + _GAP, 3), _DARK, np.uint8)
    _write(strip, column.caption, (2, _HEADER - 9), 0.45)
    for row, picture in enumerate(pictures):
        top = _HEADER + row * (height + _GAP)
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        strip[top : top + height, :width] = small
    return strip


def _flat(image: Image, result: FrameResult, *, whole: bool) -> Image:
    """Return the masks as flat colours over a dimmed grey frame; whole silhouettes or visible."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    canvas = np.repeat((grey * 0.3 + 14).astype(np.uint8)[..., None], 3, axis=2)
    if whole:
        shown = [each for each in result.objects if each.amodal.pixels.size]
        _paint(canvas, shown, _FLAT, _unit(image))
        return canvas
    for each in result.objects:
        _fill(canvas, each.visible.bbox_xyxy, each.visible.pixels, each.track_id, _FLAT.visible)
    return canvas


def _row_names(first_height: int, height: int) -> Image:
    """Return the left margin with the names of the three rows, written upwards."""
    margin = np.full((height, _MARGIN, 3), _DARK, np.uint8)
    row_height = (first_height - _HEADER) // 3
    for row, name in enumerate(("frame", "visible masks", "whole silhouettes")):
        written = np.full((_MARGIN, row_height, 3), _DARK, np.uint8)
        (width, _), _ = cv2.getTextSize(name, _FONT, 0.45, 1)
        _write(written, name, ((row_height - width) // 2, 20), 0.45)
        top = _HEADER + row * row_height
        margin[top : top + row_height] = np.rot90(written)
    return margin


def _extend(strip: Image, height: int) -> Image:
    padding = np.full((height - strip.shape[0], strip.shape[1], 3), _DARK, np.uint8)
    return np.concatenate([strip, padding])
