"""One object from frame to frame: its mask carried by flow, corrected by its looks, cut anew.

    last mask --flow--> prior --colours, motion--> belief --GrabCut in a band--> mask

What the amodal state expects comes in twice: a pixel far beyond the expected silhouette is
doubted, one inside it that was hidden may show again.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from amodal_model.carried_map import carried, next_window
from amodal_model.colours import colour_bins
from amodal_model.followed_object import (
    SIDE,
    FollowConfig,
    Followed,
    Map,
    area_of,
    beyond_expected,
    colour_cue,
    looks_of,
)
from amodal_model.geometry import Window
from amodal_model.graph_cut import BACKGROUND, LIKELY_BACKGROUND, LIKELY_OBJECT, OBJECT, cut
from amodal_model.image_motion import (
    FrameView,
    inside_frame,
    sample_field,
    sample_image,
    sample_mask,
)
from amodal_model.reappearance import look_again
from amodal_model.visible_source import Expectation

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
    window = next_window(thing, view)
    prior = carried(thing, view, window)
    image = sample_image(view.image, window, SIDE)
    inside = inside_frame(window, SIDE, view.image.shape[:2])
    bins = colour_bins(image)
    cue = colour_cue(thing, bins, config)
    if moved is not None:
        cue += motion_cue(sample_field(moved, window, SIDE, view.scale), prior, inside, config)
    may_show = np.zeros((SIDE, SIDE), bool)
    if expected is not None:
        cue -= beyond_expected(expected, window, config)
        may_show = sample_mask(expected.silhouette, window, SIDE) > 0.5
    zoom = SIDE / (window.side * view.scale)
    seen = Evidence(image, prior, cue, may_show, zoom, thing.band)
    prob = cut_map(seen, config) * inside
    area = area_of(prob, window)
    if area < max(config.least_area * thing.area, 4.0):
        gone = np.zeros_like(prob)
        return thing._replace(window=window, prob=gone, frames_gone=1.0)
    return _remember(thing, window, prob, bins, inside, config)


class Evidence(NamedTuple):
    """What says where an object is, in a window of any side.

    Attributes:
        image: RGB.
        prior: the carried map.
        cue: what colours and motion say, log odds.
        may_show: where it may come out of hiding.
        zoom: window pixels a working pixel.
        band: see `Followed.band`.
    """

    image: UInt8[np.ndarray, "S S 3"]
    prior: Map
    cue: Map
    may_show: Bool[np.ndarray, "S S"]
    zoom: float
    band: float


def cut_map(seen: Evidence, config: FollowConfig) -> Map:
    """Return the map that the evidence comes to: a belief, mixed with a cut along edges."""
    blurred = cv2.GaussianBlur(seen.prior, (0, 0), max(config.blur, 0.7 * seen.zoom))
    belief = _log_odds(np.asarray(blurred, np.float32), config.doubt) + seen.cue
    belief += config.comes_out * (seen.may_show & (blurred < 0.5))
    return _settle(seen, _probability(belief), config)


def motion_cue(
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


def _settle(seen: Evidence, prob: Map, config: FollowConfig) -> Map:
    """Return the belief mixed with a cut along the image's edges, in a band around the prior."""
    was_on = np.asarray(seen.prior > 0.5, np.uint8)
    depth = np.asarray(cv2.distanceTransform(was_on, cv2.DIST_L2, 3), np.float32)
    height = np.asarray(cv2.distanceTransform(1 - was_on, cv2.DIST_L2, 3), np.float32)
    band = max(1.5, seen.band * float(np.sqrt(was_on.sum())))
    labels = np.where(prob > 0.5, LIKELY_OBJECT, LIKELY_BACKGROUND).astype(np.uint8)
    labels[(depth > band) & (prob > 0.3)] = OBJECT
    labels[(height > band) & ~(seen.may_show & (prob > 0.5))] = BACKGROUND
    labels[(prob < 0.05) & (labels == LIKELY_BACKGROUND)] = BACKGROUND
    found = cut(seen.image, labels)
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
