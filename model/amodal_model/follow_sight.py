"""What the following network sees of an object in a frame: one square of channels.

0 carried map   1, 2 colours of the prompt's frame, of late   3, 4 motion without the camera's
5 moves as the object   6 change of the picture   7 in the frame   8 in the prompt's box
9 in the prompt's frame   10 the object's motion explains it   11 the classical map
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from amodal_model.carried_map import carried, next_window
from amodal_model.colours import colour_bins, log_ratio
from amodal_model.followed_object import FollowConfig, Map, beyond_expected, looks_of
from amodal_model.geometry import Window
from amodal_model.image_motion import FrameView, inside_frame, sample_image, window_axes
from amodal_model.learned_object import CUES, SIDE, LearnedObject, Sight
from amodal_model.propagation import Evidence, cut_map, motion_cue
from amodal_model.reappearance import candidate, expected_window
from amodal_model.visible_source import Expectation

_LARGEST = 3.0
_FASTEST = 4.0
"""Crop pixels a frame from which motions look alike."""
_CONFIG = FollowConfig()
_BAND = 0.08
"""Of the classical cut; see `Followed.band`."""
_EXPLAINED = np.float32(12.0)
"""Grey levels by which one motion must explain a pixel better to be sure."""
_SEARCH_GROWTH = 1.03
_SEARCH_SIDE = 72
_LEAST_COLOUR = 0.2
"""Mean cue, -1 to 1, from which an object out of sight may be where its colours are."""


class MovingView(NamedTuple):
    """A frame and how it moved.

    Attributes:
        frame: picture and flow.
        fields: (h, w, 3) at working size: the flow without the camera's part, and how much the
            picture differs from the last one carried here, grey levels.
        greys: the picture and the last one, in grey at working size.
    """

    frame: FrameView
    fields: Float32[np.ndarray, "h w 3"]
    greys: tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]


def moving_view(
    frame: FrameView,
    moved: Float32[np.ndarray, "h w 2"],
    greys: tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]],
) -> MovingView:
    """Return a frame with all that the network is told of its motion.

    Args:
        frame: with its flow.
        moved: the flow without the camera's part.
        greys: this frame and the last one at working size.
    """
    grey, before = greys
    assert frame.flow is not None  # noqa: S101  a moving view has a flow
    height, width = grey.shape
    x = np.arange(width, dtype=np.float32)[None, :] + frame.flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + frame.flow[..., 1]
    carried_grey = cv2.remap(before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    change = cv2.absdiff(grey, carried_grey).astype(np.float32)
    return MovingView(frame, np.dstack([moved, change]), greys)


def first_sight(
    image: UInt8[np.ndarray, "H W 3"],
    window: Window,
    prob: Float32[np.ndarray, "s s"],
    asked: tuple[float, float, float, float] | None,
) -> Sight:
    """Return what is seen of an object where a prompt shows it.

    Args:
        image: RGB.
        window: around it.
        prob: a first guess of its map, of any size.
        asked: the box that was given, frame pixels; ``None`` for anything but a box.
    """
    crop = sample_image(image, window, SIDE)
    bins = colour_bins(crop)
    inside = inside_frame(window, SIDE, image.shape[:2])
    prob = np.asarray(cv2.resize(prob, (SIDE, SIDE)), np.float32)
    looks = looks_of(bins, prob * inside, (1 - prob) * inside)
    cues = np.zeros((CUES, SIDE, SIDE), np.float32)
    cues[0] = prob
    cues[1] = cues[2] = _colour_cue(looks, bins)
    cues[7] = inside
    if asked is not None:
        columns, rows = window_axes(window, SIDE)
        is_row = (rows >= asked[1]) & (rows <= asked[3])
        cues[8] = np.outer(is_row, (columns >= asked[0]) & (columns <= asked[2]))
    cues[9] = 1.0
    cues[11] = prob
    return Sight(window, crop, cues, bins, inside)


def next_sight(thing: LearnedObject, view: MovingView) -> Sight:
    """Return what is seen of an object in the next frame."""
    window = next_window(thing, view.frame)
    return _sight(thing, view, window, carried(thing, view.frame, window))


def sight_again(thing: LearnedObject, view: MovingView, expected: Expectation | None) -> Sight:
    """Return what is seen where an object that was out of sight may be back.

    In place of a carried map, there is one of what has its colours; all 0 where nothing has.
    """
    image = view.frame.image
    window = expected_window(expected, image.shape) or _search_window(thing, image)
    crop = sample_image(image, window, SIDE)
    inside = inside_frame(window, SIDE, image.shape[:2])
    bins = colour_bins(crop)
    cue = np.float32(_LARGEST * _CONFIG.first_colour) * _colour_cue(thing.colours[:2], bins)
    cue += np.float32(_LARGEST * _CONFIG.recent_colour) * _colour_cue(thing.colours[2:], bins)
    if expected is not None:
        cue -= beyond_expected(expected, window, _CONFIG, SIDE)
    return _sight(thing, view, window, candidate(crop, cue, inside))


def _sight(thing: LearnedObject, view: MovingView, window: Window, prior: Map) -> Sight:
    frame = view.frame
    crop = sample_image(frame.image, window, SIDE)
    bins = colour_bins(crop)
    inside = inside_frame(window, SIDE, frame.image.shape[:2])
    flow, fields = (_sampled(each, window, frame.scale) for each in (frame.flow, view.fields))
    zoom = np.float32(SIDE / window.side / frame.scale)
    on = prior > 0.5
    middle = np.median(flow[on], axis=0) if on.any() else np.zeros(2, np.float32)
    apart = np.hypot(*np.moveaxis(flow - middle, -1, 0)) * zoom
    cues = np.zeros((CUES, SIDE, SIDE), np.float32)
    cues[0] = prior
    cues[1] = _colour_cue(thing.colours[:2], bins)
    cues[2] = _colour_cue(thing.colours[2:], bins)
    cues[3:5] = np.tanh(np.moveaxis(fields[..., :2], -1, 0) * (zoom / _FASTEST))
    cues[5] = np.exp(-apart / 2)
    cues[6] = np.minimum(fields[..., 2] / 32, 2)
    cues[7] = inside
    moved = np.ascontiguousarray(fields[..., :2]) / np.float32(frame.scale)
    cues[10] = _layers(view, window, flow, fields, on)
    cues[11] = _cut(crop, cues, moved, float(zoom))
    return Sight(window, crop, cues, bins, inside)


def _search_window(thing: LearnedObject, image: UInt8[np.ndarray, "H W 3"]) -> Window:
    """Return where to look for an object out of sight: near where it was, by its colours.

    The window widens every frame. It goes where most of the object's colours are within a window's
    side around it, and stays where there are none.
    """
    side = min(_SEARCH_GROWTH * thing.window.side, 1.5 * max(image.shape[:2]))
    window = thing.window._replace(side=side)
    wide = window._replace(side=3 * side)
    bins = colour_bins(sample_image(image, wide, _SEARCH_SIDE))
    cue = (_colour_cue(thing.colours[:2], bins) + _colour_cue(thing.colours[2:], bins)) / 2
    cue = np.where(inside_frame(wide, _SEARCH_SIDE, image.shape[:2]) > 0, cue, -1)
    pixel = wide.side / _SEARCH_SIDE
    reach = int(np.clip(np.sqrt(thing.area) / pixel, 3, _SEARCH_SIDE / 2))
    mean = cv2.blur(np.asarray(cue, np.float32), (reach, reach), borderType=cv2.BORDER_REPLICATE)
    row, column = np.unravel_index(int(mean.argmax()), mean.shape)
    if mean[row, column] < _LEAST_COLOUR:
        return window
    columns, rows = window_axes(wide, _SEARCH_SIDE)
    return window._replace(center_x=float(columns[column]), center_y=float(rows[row]))


def _layers(
    view: MovingView,
    window: Window,
    flow: Float32[np.ndarray, "S S 2"],
    fields: Float32[np.ndarray, "S S 3"],
    on: Bool[np.ndarray, "S S"],
) -> Map:
    """Return how much better the object's motion as a whole explains each pixel than the camera's.

    Flow bleeds over the contours of what moves; what was there before, moved either way, does not.
    """
    scale = view.frame.scale
    columns, rows = (axis * np.float32(scale) - 0.5 for axis in window_axes(window, SIDE))
    x, y = np.meshgrid(columns, rows)
    whole = _whole_motion(x, y, flow, on)
    if whole is None:
        return np.zeros((SIDE, SIDE), np.float32)
    grey, before = view.greys

    def error(motion: Float32[np.ndarray, "S S 2"]) -> Float32[np.ndarray, "S S"]:
        was = _looked_up(before, x + motion[..., 0], y + motion[..., 1])
        return np.asarray(np.abs(_looked_up(grey, x, y) - was), np.float32)

    gain = error(flow - fields[..., :2]) - error(whole)
    smooth = np.asarray(cv2.GaussianBlur(gain, (0, 0), 1.0), np.float32)
    return np.asarray(np.clip(smooth / _EXPLAINED, -1, 1), np.float32)


def _whole_motion(
    x: Float32[np.ndarray, "S S"],
    y: Float32[np.ndarray, "S S"],
    flow: Float32[np.ndarray, "S S 2"],
    on: Bool[np.ndarray, "S S"],
) -> Float32[np.ndarray, "S S 2"] | None:
    """Return the affine motion that fits the flow on an object; ``None`` for too small a one."""
    points = np.flatnonzero(on)
    points = points[:: max(len(points) // 300, 1)]
    if len(points) < 12:
        return None
    centre = np.array([x.mean(), y.mean()], np.float32)
    every = np.stack([x - centre[0], y - centre[1], np.ones_like(x)], -1).reshape(-1, 3)
    known, moved = every[points], flow.reshape(-1, 2)[points]
    keep = np.ones(len(points), bool)
    affine = np.zeros((3, 2), np.float32)
    for _ in range(2):
        affine = np.linalg.lstsq(known[keep], moved[keep], rcond=None)[0]
        apart = np.hypot(*(known @ affine - moved).T)
        keep = apart <= max(1.5 * float(np.median(apart)), 0.1)
    return np.asarray((every @ affine).reshape(*x.shape, 2), np.float32)


def _looked_up(
    grey: UInt8[np.ndarray, "h w"], x: Float32[np.ndarray, "S S"], y: Float32[np.ndarray, "S S"]
) -> Float32[np.ndarray, "S S"]:
    border = cv2.BORDER_REPLICATE
    found = cv2.remap(grey, x, y, cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(found, np.float32)


def _cut(
    image: UInt8[np.ndarray, "S S 3"],
    cues: Float32[np.ndarray, "C S S"],
    moved: Float32[np.ndarray, "S S 2"],
    zoom: float,
) -> Map:
    """Return the map that the classical method comes to."""
    prior, inside = cues[0], cues[7]
    if not (prior > 0.5).any():
        return np.array(prior, np.float32)
    cue = np.float32(_LARGEST * _CONFIG.first_colour) * cues[1]
    cue += np.float32(_LARGEST * _CONFIG.recent_colour) * cues[2]
    cue += motion_cue(moved, prior, inside, _CONFIG)
    nowhere = np.zeros(prior.shape, bool)
    seen = Evidence(image, prior, cue, nowhere, zoom, _BAND)
    return np.asarray(cut_map(seen, _CONFIG) * inside, np.float32)


def _colour_cue(looks: Float32[np.ndarray, "2 K"], bins: Int32[np.ndarray, "S S"]) -> Map:
    return np.asarray(np.clip(log_ratio(looks[0], looks[1], bins) / _LARGEST, -1, 1), np.float32)


def _sampled(
    field: Float32[np.ndarray, "h w C"] | None, window: Window, scale: float
) -> Float32[np.ndarray, "S S C"]:
    """Return a window of a field of working size."""
    assert field is not None  # noqa: S101  a moving view has a flow
    columns, rows = window_axes(window, SIDE)
    step = window.side / SIDE * scale
    matrix = np.array(
        [[step, 0, columns[0] * scale - 0.5], [0, step, rows[0] * scale - 0.5]], np.float32
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_REPLICATE
    sampled = cv2.warpAffine(field, matrix, (SIDE, SIDE), flags=flags, borderMode=border)
    return np.asarray(sampled, np.float32)
