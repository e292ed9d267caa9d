"""One object from frame to frame: its mask carried by flow, corrected by its looks, cut anew.

    last mask --flow--> prior --colours, motion--> belief --GrabCut in a band--> mask

What the amodal state expects comes in twice: a pixel far beyond the expected silhouette is
doubted, one inside it that was hidden may show again.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from amodal_model.colours import colour_bins
from amodal_model.followed_object import (
    RATIO,
    SIDE,
    FollowConfig,
    Followed,
    Map,
    area_of,
    beyond_expected,
    colour_cue,
    looks_of,
)
from amodal_model.geometry import Window, window_around
from amodal_model.graph_cut import BACKGROUND, LIKELY_BACKGROUND, LIKELY_OBJECT, OBJECT, cut
from amodal_model.image_motion import (
    FrameView,
    inside_frame,
    sample_field,
    sample_image,
    sample_mask,
    window_axes,
)
from amodal_model.reappearance import look_again
from amodal_model.visible_source import Expectation

_STRIDE = 2
_MOTION_BINS = 12


def advance(
    thing: Followed,
    view: FrameView,
    moved: Float32[np.ndarray, "h w 2"] | None,
    expected: Expectation | None,
    config: FollowConfig,
) -> Followed:
    """Return an object in the next frame.

    Args:
        thing: as it was remembered.
        view: the frame.
        moved: the flow without the camera's part, ``None`` where there is no flow.
        expected: where the amodal state expects the object, if it follows it.
        config: weights.
    """
    if thing.frames_gone > 0:
        return look_again(thing, view, expected, config)
    window = _next_window(thing, view)
    prior = _carry(thing, view, window)
    image = sample_image(view.image, window, SIDE)
    inside = inside_frame(window, SIDE, view.image.shape[:2])
    bins = colour_bins(image)
    zoom = SIDE / (window.side * view.scale)
    blurred = cv2.GaussianBlur(prior, (0, 0), max(config.blur, 0.7 * zoom))
    belief = _log_odds(np.asarray(blurred, np.float32), config.doubt)
    belief += colour_cue(thing, bins, config)
    if moved is not None:
        belief += _motion_cue(sample_field(moved, window, SIDE, view.scale), prior, inside, config)
    may_show = np.zeros((SIDE, SIDE), bool)
    if expected is not None:
        belief -= beyond_expected(expected, window, config)
        may_show = sample_mask(expected.silhouette, window, SIDE) > 0.5
        belief += config.comes_out * (may_show & (blurred < 0.5))
    prob = _settle(image, prior, may_show, _probability(belief), thing.band, config) * inside
    area = area_of(prob, window)
    if area < max(config.least_area * thing.area, 4.0):
        gone = np.zeros_like(prob)
        return thing._replace(window=window, prob=gone, frames_gone=1.0)
    return _remember(thing, window, prob, bins, inside, config)


def _next_window(thing: Followed, view: FrameView) -> Window:
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


def _carry(thing: Followed, view: FrameView, window: Window) -> Map:
    """Return the last map where the flow carries it, in the new window."""
    columns, rows = window_axes(window, SIDE)
    x, y = np.broadcast_arrays(columns[None, :], rows[:, None])
    if view.flow is None:
        return _look_up(thing, x, y)
    flow = sample_field(view.flow, window, SIDE, view.scale)
    return _look_up(thing, x + flow[..., 0], y + flow[..., 1])


def _look_up(
    thing: Followed, x: Float32[np.ndarray, "a b"], y: Float32[np.ndarray, "a b"]
) -> Float32[np.ndarray, "a b"]:
    """Return the last map at points of the frame, 0 beyond its window."""
    zoom = np.float32(SIDE / thing.window.side)
    columns = (x - np.float32(thing.window.center_x)) * zoom + np.float32(SIDE / 2 - 0.5)
    rows = (y - np.float32(thing.window.center_y)) * zoom + np.float32(SIDE / 2 - 0.5)
    return np.asarray(cv2.remap(thing.prob, columns, rows, cv2.INTER_LINEAR), np.float32)


def _motion_cue(
    moved: Float32[np.ndarray, "S S 2"], prior: Map, inside: Map, config: FollowConfig
) -> Map:
    """Return how much likelier each pixel's own motion is on the carried mask than beside it."""
    coarse = (np.tanh(moved / 3.0) * 0.5 + 0.5) * (_MOTION_BINS - 1e-3)
    index = coarse.astype(np.int32)
    bins = index[..., 0] * _MOTION_BINS + index[..., 1]
    on, beside = (_motion_model(bins, w * inside) for w in (prior, 1 - prior))
    cue = np.log((on + 0.01) / (beside + 0.01))[bins]
    return np.asarray(config.motion * np.clip(cue, -config.largest, config.largest), np.float32)


def _motion_model(bins: Int32[np.ndarray, "S S"], weights: Map) -> Float32[np.ndarray, " K"]:
    counts = np.bincount(bins.ravel(), weights.ravel(), _MOTION_BINS**2)
    square = counts.reshape(_MOTION_BINS, _MOTION_BINS).astype(np.float32)
    smooth = np.asarray(cv2.GaussianBlur(square, (0, 0), 0.7), np.float32)
    return smooth.ravel() / max(float(smooth.sum()), 1e-9)


def _settle(
    image: UInt8[np.ndarray, "S S 3"],
    prior: Map,
    may_show: Bool[np.ndarray, "S S"],
    prob: Map,
    share: float,
    config: FollowConfig,
) -> Map:
    """Return the belief mixed with a cut along the image's edges, in a band around the prior."""
    was_on = np.asarray(prior > 0.5, np.uint8)
    depth = np.asarray(cv2.distanceTransform(was_on, cv2.DIST_L2, 3), np.float32)
    height = np.asarray(cv2.distanceTransform(1 - was_on, cv2.DIST_L2, 3), np.float32)
    band = max(1.5, share * float(np.sqrt(was_on.sum())))
    labels = np.where(prob > 0.5, LIKELY_OBJECT, LIKELY_BACKGROUND).astype(np.uint8)
    labels[(depth > band) & (prob > 0.3)] = OBJECT
    labels[(height > band) & ~(may_show & (prob > 0.5))] = BACKGROUND
    labels[(prob < 0.05) & (labels == LIKELY_BACKGROUND)] = BACKGROUND
    found = cut(image, labels)
    return np.asarray((1 - config.cut) * prob + config.cut * found, np.float32)


def _remember(
    thing: Followed,
    window: Window,
    prob: Map,
    bins: Int32[np.ndarray, "S S"],
    inside: Map,
    config: FollowConfig,
) -> Followed:
    """Return the object in its new place, the recent colours and the usual area renewed."""
    on, beside = (prob > 0.7).astype(np.float32), (prob < 0.3).astype(np.float32) * inside
    colours = thing.colours.copy()
    if on.sum() > 20:
        colours[2:] += config.renewal * (looks_of(bins, on, beside) - colours[2:])
    seen = area_of(prob, window)
    # shrinking is more often an occluder than distance: it is forgotten slowly
    area = thing.area + (0.1 if seen > thing.area else 0.005) * (seen - thing.area)
    band = config.band + config.settling * (thing.band - config.band)
    return Followed(window, prob, colours, area, 0.0, band)


def _log_odds(prob: Map, doubt: float) -> Map:
    bounded = np.clip(prob, doubt, 1 - doubt)
    return np.asarray(np.log(bounded / (1 - bounded)), np.float32)


def _probability(log_odds: Map) -> Map:
    return np.asarray(1 / (1 + np.exp(-log_odds)), np.float32)
