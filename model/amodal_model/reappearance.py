"""Objects out of sight: looked for where they may come back, by their colours.

With an amodal state that is around the place where it expects the hidden object; without one it is
around the place where the object was last seen, wider with every frame.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from amodal_model.colours import colour_bins, similarity
from amodal_model.followed_object import (
    LOOSE,
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
from amodal_model.graph_cut import BACKGROUND, LIKELY_BACKGROUND, LIKELY_OBJECT, cut
from amodal_model.image_motion import FrameView, inside_frame, sample_image
from amodal_model.visible_source import Expectation

_LEAST_CUE = 1.5
"""Log odds that a colour must speak for the object to begin with."""
_LEAST_SHARE, _LARGEST_SHARE = 0.1, 2.0
"""Of its usual area, what an object shows when it is found again."""
_LEAST_SIMILARITY = 0.4
_CAUTION = np.float32(0.9)
"""Probability of what is found again: where another object is surer of a pixel, it keeps it."""


def look_again(
    thing: Followed, view: FrameView, expected: Expectation | None, config: FollowConfig
) -> Followed:
    """Return an object out of sight: found again by its colours where it may come back, or not."""
    hidden = thing._replace(frames_gone=thing.frames_gone + 1)
    window = _search_window(thing, view, expected)
    image = sample_image(view.image, window, SIDE)
    bins = colour_bins(image)
    inside = inside_frame(window, SIDE, view.image.shape[:2])
    cue = colour_cue(thing, bins, config)
    if expected is not None:
        cue -= beyond_expected(expected, window, config)
    prob = candidate(image, cue, inside)
    found = Candidate(prob, window, bins, inside)
    if not is_it(found, usual_area(thing.area, expected), thing.colours):
        return hidden
    return thing._replace(window=window, prob=prob, frames_gone=0.0, band=LOOSE)


class Candidate(NamedTuple):
    """A map that may be of an object that was out of sight, and what it was found in."""

    prob: Map
    window: Window
    bins: Int32[np.ndarray, "S S"]
    inside: Map


def candidate(image: UInt8[np.ndarray, "S S 3"], cue: Map, inside: Map) -> Map:
    """Return the largest thing of an object's colours, cut along edges; all 0 where none is."""
    smooth = np.asarray(cv2.GaussianBlur(cue, (0, 0), 2.0), np.float32) - _LEAST_CUE
    blob = _largest_blob(np.asarray((smooth > 0) & (inside > 0), np.uint8))
    labels = np.where(blob > 0, LIKELY_OBJECT, BACKGROUND).astype(np.uint8)
    around = np.asarray(cv2.dilate(blob, np.ones((9, 9), np.uint8)), np.uint8)
    labels[(around > 0) & (blob == 0)] = LIKELY_BACKGROUND
    return np.asarray(_CAUTION * cut(image, labels), np.float32)


def is_it(found: Candidate, usual: float, colours: Float32[np.ndarray, "4 K"]) -> bool:
    """Return whether a map is of an object: about its size, and of its colours.

    Args:
        found: the map.
        usual: area of the object, frame pixels.
        colours: its models, see `Followed.colours`.
    """
    share = area_of(found.prob, found.window) / max(usual, 1.0)
    if not _LEAST_SHARE <= share <= _LARGEST_SHARE:
        return False
    seen = looks_of(found.bins, found.prob, found.inside)[0]
    return max(similarity(seen, colours[0]), similarity(seen, colours[2])) >= _LEAST_SIMILARITY


def usual_area(area: float, expected: Expectation | None) -> float:
    """Return the area to expect of an object, frame pixels."""
    return area if expected is None else max(area, float(expected.silhouette.area))


def expected_window(expected: Expectation | None, frame_size: tuple[int, ...]) -> Window | None:
    """Return where the amodal state says to look for an object; ``None`` where it does not."""
    if expected is None or not expected.silhouette.area:
        return None
    box = expected.silhouette.bbox_xyxy
    around = window_around((box[0], box[1], box[2], box[3]), RATIO)
    widest = 2.0 * max(frame_size[:2])
    return around._replace(side=min(around.side + 6 * expected.place_std_px, widest))


def _search_window(thing: Followed, view: FrameView, expected: Expectation | None) -> Window:
    """Return where to look for an object: around the expected place, else ever wider."""
    size = view.image.shape[:2]
    if (window := expected_window(expected, size)) is not None:
        return window
    growth = min(1.0 + 0.05 * thing.frames_gone, 3.0)
    return thing.window._replace(side=min(thing.window.side * growth, 2.0 * max(size)))


def _largest_blob(mask: UInt8[np.ndarray, "S S"]) -> UInt8[np.ndarray, "S S"]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return np.zeros_like(mask)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return np.asarray(labels == largest, np.uint8)
