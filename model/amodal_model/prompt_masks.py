"""From a prompt to a mask: what a box or some points mean in the frame they were given in.

A box is cut four ways, because each fails somewhere: by colours with a round prior, by GrabCut
from all of the box, from that colour estimate, and from the box's middle. A box drawn around an
object touches it on all sides, so the cuts are mixed by how well their extent fits the box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from amodal_model.colours import colour_bins, colour_model, log_ratio
from amodal_model.followed_object import RATIO, SIDE
from amodal_model.geometry import Window, window_around
from amodal_model.graph_cut import (
    BACKGROUND,
    LIKELY_BACKGROUND,
    LIKELY_OBJECT,
    OBJECT,
    cut,
)
from amodal_model.image_motion import inside_frame, sample_image, sample_mask, window_axes
from amodal_model.masks import BoxedMask, box_mask, intersect_boxes
from amodal_model.visible_source import Prompt

_BITS = 5
_ROUNDS = 3
_COLOUR_WEIGHT = 1.2
_LARGEST = 3.0
_MIDDLE, _CORNER = 2.0, -0.7
"""Log odds of belonging to the object at the middle of a box, and at its rim."""
_POINT_RADIUS = 0.02
"""Radius of what a point settles, as a share of the window's side."""
_ALIKE = 24.0
"""Distance in OpenCV's 8-bit Lab within which two colours may be of one thing."""
_POINT_REACH = 0.5
"""Side of the window around lone points, as a share of the frame's smaller side."""

Map = Float32[np.ndarray, "S S"]
Points = Sequence[tuple[float, float, bool]]


class Said(NamedTuple):
    """All that a client says about one object in one frame.

    Attributes:
        box: around its visible part, or ``None``.
        mask: the visible part itself, or ``None``.
        points: on and off it.
        remove: whether it is to be forgotten.
    """

    box: tuple[float, float, float, float] | None
    mask: BoxedMask | None
    points: tuple[tuple[float, float, bool], ...]
    remove: bool


def gather(prompts: Sequence[Prompt]) -> dict[int, Said]:
    """Return what is said about each object; of two boxes or masks the last one holds."""
    said: dict[int, Said] = {}
    for prompt in prompts:
        if prompt.track_id is None:
            continue
        before = said.get(prompt.track_id, Said(None, None, (), remove=False))
        said[prompt.track_id] = Said(
            prompt.bbox_xyxy or before.box,
            prompt.mask or before.mask,
            before.points + prompt.points,
            prompt.remove or before.remove,
        )
    return said


def first_mask(image: UInt8[np.ndarray, "H W 3"], said: Said) -> tuple[Window, Map]:
    """Return the window of an object that is new, or shown anew, and its map there."""
    if said.mask is not None:
        x0, y0, x1, y1 = said.mask.bbox_xyxy
        window = window_around((x0, y0, x1, y1), RATIO)
        return window, sample_mask(said.mask, window, SIDE)
    if said.box is not None:
        window = window_around(said.box, RATIO)
        prob = _from_box(image, window, said.box)
    else:
        window, prob = _from_points(image, said.points)
    return window, corrected(image, window, prob, said.points)


def corrected(image: UInt8[np.ndarray, "H W 3"], window: Window, prob: Map, points: Points) -> Map:
    """Return a map with the points on and off the object heeded, and what they imply beside."""
    if not points:
        return prob
    crop = sample_image(image, window, SIDE)
    on, off = (_discs(window, points, sign) for sign in (True, False))
    is_object = prob > 0.5
    labels = np.where(is_object, LIKELY_OBJECT, LIKELY_BACKGROUND).astype(np.uint8)
    labels[_alike(crop, on & ~is_object) & ~is_object] = LIKELY_OBJECT
    labels[_alike(crop, off & is_object) & is_object] = LIKELY_BACKGROUND
    labels[on] = OBJECT
    labels[off] = BACKGROUND
    labels[inside_frame(window, SIDE, image.shape[:2]) == 0] = BACKGROUND
    found = cut(crop, labels, rounds=2)
    return np.asarray((0.25 * prob + 0.75 * found) * ~off, np.float32)


def window_with(window: Window, points: Points) -> Window:
    """Return a window that holds the points on the object as well."""
    half = window.side / 2
    xs = [x for x, _, sign in points if sign]
    ys = [y for _, y, sign in points if sign]
    x0, x1 = min([window.center_x - half, *xs]), max([window.center_x + half, *xs])
    y0, y1 = min([window.center_y - half, *ys]), max([window.center_y + half, *ys])
    if max(x1 - x0, y1 - y0) <= window.side:
        return window
    return window_around((x0, y0, x1, y1), 1.1)


def _discs(window: Window, points: Points, sign: bool) -> Bool[np.ndarray, "S S"]:
    """Return what the points of one sign settle: a small disc around each."""
    columns, rows = window_axes(window, SIDE)
    found = np.zeros((SIDE, SIDE), bool)
    radius = max(_POINT_RADIUS * window.side, 0.75 * window.side / SIDE)
    for x, y, is_on in points:
        if is_on == sign:
            square = (columns[None, :] - x - 0.5) ** 2 + (rows[:, None] - y - 0.5) ** 2
            found |= square <= radius**2
    return found


def _from_box(
    image: UInt8[np.ndarray, "H W 3"], window: Window, box: tuple[float, float, float, float]
) -> Map:
    crop = sample_image(image, window, SIDE)
    columns, rows = window_axes(window, SIDE)
    u = (columns - (box[0] + box[2]) / 2) / ((box[2] - box[0]) / 2)
    v = (rows - (box[1] + box[3]) / 2) / ((box[3] - box[1]) / 2)
    is_inside = np.asarray(np.outer(np.abs(v) <= 1, np.abs(u) <= 1))
    radius = np.asarray(np.sqrt(u[None, :] ** 2 + v[:, None] ** 2), np.float32)
    is_frame = inside_frame(window, SIDE, image.shape[:2])
    soft = _by_colours(crop, radius, is_inside, is_frame)
    in_box = np.where(is_inside, LIKELY_BACKGROUND, BACKGROUND).astype(np.uint8)
    starts = (is_inside, is_inside & (soft > 0.5), is_inside & (radius < 1.05))
    cuts = [soft]
    for index, start in enumerate(starts):
        labels = np.where(start, LIKELY_OBJECT, in_box).astype(np.uint8)
        if index == 2:
            labels[radius < 0.35] = OBJECT
        cuts.append(np.asarray(cut(crop, labels, rounds=2), np.float32))
    fits = np.array([np.exp(4.0 * _fit(each > 0.5, is_inside)) for each in cuts], np.float32)
    mixed = sum((w * each for w, each in zip(fits / fits.sum(), cuts, strict=True)), 0 * soft)
    return np.asarray(mixed * is_frame, np.float32)


def _by_colours(
    crop: UInt8[np.ndarray, "S S 3"],
    radius: Float32[np.ndarray, "S S"],
    is_inside: Bool[np.ndarray, "S S"],
    is_frame: Map,
) -> Map:
    """Return a map from a round prior and the colours in and around the box, a few rounds."""
    prior = _MIDDLE + (_CORNER - _MIDDLE) * np.clip(radius, 0, 1.3) ** 2
    prior = np.where(is_inside, prior, -8.0).astype(np.float32)
    bins = colour_bins(crop, _BITS)
    guide = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.float32) / 255
    prob = np.asarray(1 / (1 + np.exp(-prior)), np.float32)
    for _ in range(_ROUNDS):
        on = colour_model(bins, prob * is_frame, _BITS)
        beside = colour_model(bins, (1 - prob) * is_frame, _BITS)
        cue = np.clip(log_ratio(on, beside, bins, 3e-4), -_LARGEST, _LARGEST)
        belief = np.asarray(1 / (1 + np.exp(-prior - _COLOUR_WEIGHT * cue)), np.float32)
        prob = np.clip(_guided(guide, belief, 4, 1e-3), 0, 1) * is_inside
    return np.asarray(prob, np.float32)


def _guided(guide: Map, values: Map, radius: int, flatness: float) -> Map:
    """Return values smoothed within the edges of a guide.

    Source: He, Sun and Tang, "Guided image filtering", ECCV 2010, equations 5, 6 and 8.
    """

    def mean(array: Map) -> Map:
        size = (2 * radius + 1, 2 * radius + 1)
        return np.asarray(cv2.boxFilter(array, -1, size, borderType=cv2.BORDER_REFLECT), np.float32)

    mean_guide, mean_values = mean(guide), mean(values)
    covariance = mean(guide * values) - mean_guide * mean_values
    slope = covariance / (mean(guide * guide) - mean_guide**2 + np.float32(flatness))
    return np.asarray(mean(slope) * guide + mean(mean_values - slope * mean_guide), np.float32)


def _fit(mask: Bool[np.ndarray, "S S"], is_inside: Bool[np.ndarray, "S S"]) -> float:
    """Return the IoU of a mask's extent with the box, specks aside."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    own, whole = (box_mask(np.asarray(each, bool)).bbox_xyxy for each in (opened, is_inside))
    x0, y0, x1, y1 = intersect_boxes(own, whole)
    both = max(x1 - x0, 0) * max(y1 - y0, 0)
    sizes = [(b[2] - b[0]) * (b[3] - b[1]) for b in (own, whole)]
    return both / max(sum(sizes) - both, 1)


def _from_points(image: UInt8[np.ndarray, "H W 3"], points: Points) -> tuple[Window, Map]:
    """Return a map from points alone: what has their colours and hangs together with them."""
    xs = [x for x, _, sign in points if sign]
    ys = [y for _, y, sign in points if sign]
    height, width = image.shape[:2]
    least = _POINT_REACH * min(height, width)
    around = window_around((min(xs), min(ys), max(xs) + 1, max(ys) + 1), RATIO)
    wide = around._replace(side=max(around.side, least))
    prob = _grown(image, wide, points)
    box = box_mask(np.asarray(prob > 0.5)).bbox_xyxy
    if box[2] <= box[0]:
        return wide, prob
    columns, rows = window_axes(wide, SIDE)
    pixel = wide.side / SIDE
    tight = window_around(
        (
            float(columns[box[0]]) - pixel / 2,
            float(rows[box[1]]) - pixel / 2,
            float(columns[box[2] - 1]) + pixel / 2,
            float(rows[box[3] - 1]) + pixel / 2,
        ),
        RATIO,
    )
    if tight.side >= wide.side:
        return wide, prob
    return tight, _grown(image, tight, points)


def _grown(image: UInt8[np.ndarray, "H W 3"], window: Window, points: Points) -> Map:
    crop = sample_image(image, window, SIDE)
    on, off = (_discs(window, points, sign) for sign in (True, False))
    labels = np.where(_alike(crop, on) & ~off, LIKELY_OBJECT, LIKELY_BACKGROUND).astype(np.uint8)
    labels[on] = OBJECT
    labels[off] = BACKGROUND
    rim = 3
    edge = np.ones((SIDE, SIDE), bool)
    edge[rim:-rim, rim:-rim] = False
    labels[edge & ~on] = BACKGROUND
    labels[inside_frame(window, SIDE, image.shape[:2]) == 0] = BACKGROUND
    return cut(crop, labels, rounds=3).astype(np.float32)


def _alike(
    crop: UInt8[np.ndarray, "S S 3"], seeds: Bool[np.ndarray, "S S"]
) -> Bool[np.ndarray, "S S"]:
    """Return what has nearly the colour of some seed and hangs together with the seeds."""
    if not seeds.any():
        return seeds
    lab = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2LAB), np.float32)
    colours = lab[seeds]
    sample = colours[:: max(len(colours) // 8, 1)]
    apart = np.min([np.linalg.norm(lab - colour, axis=-1) for colour in sample], axis=0)
    alike = np.asarray((apart < _ALIKE) | seeds, np.uint8)
    _, parts = cv2.connectedComponents(alike)
    return np.asarray(np.isin(parts, np.unique(parts[seeds])) & (alike > 0), bool)
