"""One object from frame to frame: its mask carried by flow, corrected by its looks, cut anew.

    last mask --flow--> prior --colours, motion--> belief --GrabCut in a band--> mask

All happens in a square window around the object, of one size whatever the object's, so an object
costs the same near and far. What an object looks like is remembered twice: as the prompt showed
it, for good, and as it looked lately.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from amodal_model.colours import colour_bins, colour_model, log_ratio, similarity
from amodal_model.geometry import Window, window_around
from amodal_model.graph_cut import (
    BACKGROUND,
    LIKELY_BACKGROUND,
    LIKELY_OBJECT,
    OBJECT,
    cut,
)
from amodal_model.image_motion import (
    FrameView,
    inside_frame,
    sample_field,
    sample_image,
    sample_mask,
    window_axes,
)
from amodal_model.visible_source import Expectation

SIDE = 112
"""Side of an object's window, pixels."""
RATIO = 1.7
"""Side of the window over the larger side of the object."""

LOOSE, TIGHT = 0.12, 0.06
"""How wide a band a box, and a mask, leaves to the next cut; see `Followed.band`."""

_STRIDE = 2
_MOTION_BINS = 12

Map = Float32[np.ndarray, "S S"]


class FollowConfig(NamedTuple):
    """How much each cue weighs; log odds unless said otherwise.

    Attributes:
        first_colour: the colours of the prompt's frame.
        recent_colour: those of late.
        motion: moving as the object does.
        largest: bound of each cue.
        blur: uncertainty of the carried contour, window pixels.
        doubt: the carried mask is believed up to this and 1 minus this, probability.
        band: half width of the zone around the carried contour where the cut may lie, as a share
            of the root of the object's area.
        renewal: share of the recent colours that each frame renews.
        beyond: what speaks against a pixel far beyond the expected silhouette.
        least_area: an object with less than this share of its usual area is out of sight.
    """

    first_colour: float = 0.6
    recent_colour: float = 0.6
    motion: float = 0.8
    largest: float = 3.0
    blur: float = 1.0
    doubt: float = 0.03
    band: float = 0.06
    renewal: float = 0.05
    renewal_beside: float = 0.05
    beyond: float = 3.0
    least_area: float = 0.03
    comes_out: float = 2.0
    mix: bool = False
    cut: float = 0.6
    settling: float = 0.8


class Followed(NamedTuple):
    """What is remembered of one object.

    Attributes:
        window: where its map lies in the last frame.
        prob: (S, S) how surely each pixel of the window was its; all 0 where it is out of sight.
        colours: (4, K) models of the prompt's frame (on, beside) and of late (on, beside).
        area: its usual visible area, frame pixels.
        frames_gone: frames since it was in sight.
        band: half width of the zone around the carried contour where the cut may lie, as a share
            of the root of the object's area; wide after a loose prompt, then narrow.
    """

    window: Window
    prob: Map
    colours: Float32[np.ndarray, "4 K"]
    area: float
    frames_gone: float
    band: float


def begin(image: UInt8[np.ndarray, "H W 3"], window: Window, prob: Map, band: float) -> Followed:
    """Return the memory of an object that a prompt shows in a frame."""
    bins = colour_bins(sample_image(image, window, SIDE))
    inside = inside_frame(window, SIDE, image.shape[:2])
    models = _models(bins, prob * inside, (1 - prob) * inside)
    return Followed(window, prob, np.concatenate([models, models]), _area(prob, window), 0.0, band)


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
        return _look_again(thing, view, expected, config)
    window = _next_window(thing, view)
    prior = _carry(thing, view, window)
    image = sample_image(view.image, window, SIDE)
    inside = inside_frame(window, SIDE, view.image.shape[:2])
    bins = colour_bins(image)
    zoom = SIDE / (window.side * view.scale)
    blurred = cv2.GaussianBlur(prior, (0, 0), max(config.blur, 0.7 * zoom))
    belief = _log_odds(np.asarray(blurred, np.float32), config.doubt)
    belief += _colour_cue(thing, bins, config)
    if moved is not None:
        belief += _motion_cue(sample_field(moved, window, SIDE, view.scale), prior, inside, config)
    may_show = np.zeros((SIDE, SIDE), bool)
    if expected is not None:
        belief -= _beyond(expected, window, config)
        may_show = sample_mask(expected.silhouette, window, SIDE) > 0.5
        belief += config.comes_out * (may_show & (blurred < 0.5))
    prob = _settle(image, prior, may_show, _probability(belief), thing.band, config) * inside
    area = _area(prob, window)
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


def _colour_cue(thing: Followed, bins: Int32[np.ndarray, "S S"], config: FollowConfig) -> Map:
    first_on, first_beside, recent_on, recent_beside = thing.colours
    first = np.clip(
        log_ratio(first_on, recent_beside if config.mix else first_beside, bins),
        -config.largest,
        config.largest,
    )
    recent = np.clip(log_ratio(recent_on, recent_beside, bins), -config.largest, config.largest)
    return np.asarray(config.first_colour * first + config.recent_colour * recent, np.float32)


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


def _beyond(expected: Expectation, window: Window, config: FollowConfig) -> Map:
    """Return what speaks against pixels beyond the expected silhouette: it bounds leaks.

    The silhouette's place is uncertain and it may deform: both widen it.
    """
    silhouette = sample_mask(expected.silhouette, window, SIDE) > 0.5
    if not silhouette.any():
        return np.zeros((SIDE, SIDE), np.float32)
    outside = np.asarray(~silhouette, np.uint8)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, 3)
    zoom = SIDE / window.side
    slack = 3.0 * expected.place_std_px * zoom + 0.15 * np.sqrt(float(silhouette.sum())) + 2.0
    share = np.clip((np.asarray(distance, np.float32) - slack) / slack, 0, 1)
    return np.asarray(config.beyond * share, np.float32)


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
        renewal = np.array([[config.renewal], [config.renewal_beside]], np.float32)
        colours[2:] += renewal * (_models(bins, on, beside) - colours[2:])
    area = thing.area + 0.1 * (_area(prob, window) - thing.area)
    band = config.band + config.settling * (thing.band - config.band)
    return Followed(window, prob, colours, area, 0.0, band)


def _look_again(
    thing: Followed, view: FrameView, expected: Expectation | None, config: FollowConfig
) -> Followed:
    """Return an object out of sight: found again by its colours where it may come back, or not."""
    hidden = thing._replace(frames_gone=thing.frames_gone + 1)
    window = _search_window(thing, view, expected)
    image = sample_image(view.image, window, SIDE)
    bins = colour_bins(image)
    inside = inside_frame(window, SIDE, view.image.shape[:2])
    cue = np.asarray(cv2.GaussianBlur(_colour_cue(thing, bins, config), (0, 0), 2.0), np.float32)
    cue = cue - 1.0 if expected is None else cue - 1.0 - _beyond(expected, window, config)
    blob = _largest_blob(np.asarray((cue > 0) & (inside > 0), np.uint8))
    labels = np.where(blob > 0, LIKELY_OBJECT, BACKGROUND).astype(np.uint8)
    around = np.asarray(cv2.dilate(blob, np.ones((9, 9), np.uint8)), np.uint8)
    labels[(around > 0) & (blob == 0)] = LIKELY_BACKGROUND
    prob = np.float32(0.9) * cut(image, labels).astype(np.float32)
    share = _area(prob, window) / max(thing.area, 1.0)
    if not 0.1 <= share <= 2.0:
        return hidden
    seen = _models(bins, prob, inside)[0]
    if max(similarity(seen, thing.colours[0]), similarity(seen, thing.colours[2])) < 0.4:
        return hidden
    return thing._replace(window=window, prob=prob, frames_gone=0.0, band=LOOSE)


def _search_window(thing: Followed, view: FrameView, expected: Expectation | None) -> Window:
    """Return where to look for an object: around the expected place, else ever wider."""
    widest = 2.0 * max(view.image.shape[:2])
    if expected is not None and expected.silhouette.area:
        box = expected.silhouette.bbox_xyxy
        around = window_around((box[0], box[1], box[2], box[3]), RATIO)
        return around._replace(side=min(around.side + 6 * expected.place_std_px, widest))
    growth = min(1.0 + 0.05 * thing.frames_gone, 3.0)
    return thing.window._replace(side=min(thing.window.side * growth, widest))


def _largest_blob(mask: UInt8[np.ndarray, "S S"]) -> UInt8[np.ndarray, "S S"]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return np.zeros_like(mask)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return np.asarray(labels == largest, np.uint8)


def _models(bins: Int32[np.ndarray, "S S"], on: Map, beside: Map) -> Float32[np.ndarray, "2 K"]:
    return np.stack([colour_model(bins, on), colour_model(bins, beside)])


def _area(prob: Map, window: Window) -> float:
    """Return the area of a map, frame pixels."""
    return float(np.count_nonzero(prob > 0.5)) * (window.side / SIDE) ** 2


def _log_odds(prob: Map, doubt: float) -> Map:
    bounded = np.clip(prob, doubt, 1 - doubt)
    return np.asarray(np.log(bounded / (1 - bounded)), np.float32)


def _probability(log_odds: Map) -> Map:
    return np.asarray(1 / (1 + np.exp(-log_odds)), np.float32)
