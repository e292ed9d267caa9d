"""One followed object: what is remembered of it, and what its memory says of a window.

An object lives in a square window around it, of one size whatever the object's, so that it costs
the same near and far. What it looks like is remembered twice: as the prompt showed it, for good,
and as it looked lately.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from amodal_model.colours import colour_bins, colour_model, log_ratio
from amodal_model.geometry import Window
from amodal_model.image_motion import inside_frame, sample_image, sample_mask
from amodal_model.visible_source import Expectation

SIDE = 112
"""Side of an object's window, pixels."""
RATIO = 1.7
"""Side of the window over the larger side of the object."""
LOOSE, TIGHT = 0.12, 0.06
"""How wide a band a box, and a mask, leaves to the next cut; see `Followed.band`."""

Map = Float32[np.ndarray, "S S"]


class FollowConfig(NamedTuple):
    """How much each cue weighs; log odds unless said otherwise.

    Attributes:
        first_colour: the colours of the prompt's frame.
        recent_colour: those of late.
        motion: moving as the object does.
        largest: bound of each cue.
        comes_out: what speaks for a pixel that is not carried but inside the expected silhouette.
        beyond: what speaks against a pixel far beyond the expected silhouette.
        blur: uncertainty of the carried contour, window pixels.
        doubt: the carried mask is believed up to this and 1 minus this, probability.
        cut: weight of the cut along edges in the mask, 0 to 1; the rest is the belief.
        band: the zone that the cut may lie in, once it has settled; see `Followed.band`.
        settling: how fast it narrows to that: share of the excess left after a frame.
        renewal: share of the recent colours that each frame renews.
        least_area: an object with less than this share of its usual area is out of sight.
    """

    first_colour: float = 0.6
    recent_colour: float = 0.6
    motion: float = 0.8
    largest: float = 3.0
    comes_out: float = 2.0
    beyond: float = 3.0
    blur: float = 1.0
    doubt: float = 0.03
    cut: float = 0.6
    band: float = 0.06
    settling: float = 0.8
    renewal: float = 0.05
    least_area: float = 0.03


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
    models = looks_of(bins, prob * inside, (1 - prob) * inside)
    return Followed(
        window, prob, np.concatenate([models, models]), area_of(prob, window), 0.0, band
    )


def colour_cue(thing: Followed, bins: Int32[np.ndarray, "S S"], config: FollowConfig) -> Map:
    """Return how much likelier each pixel's colour is on the object than beside it, log odds."""
    first_on, first_beside, recent_on, recent_beside = thing.colours
    bound = config.largest
    first = np.clip(log_ratio(first_on, first_beside, bins), -bound, bound)
    recent = np.clip(log_ratio(recent_on, recent_beside, bins), -bound, bound)
    return np.asarray(config.first_colour * first + config.recent_colour * recent, np.float32)


def beyond_expected(
    expected: Expectation, window: Window, config: FollowConfig, side: int = SIDE
) -> Map:
    """Return what speaks against pixels beyond the expected silhouette: it bounds leaks.

    The silhouette's place is uncertain and it may deform: both widen it.
    """
    silhouette = sample_mask(expected.silhouette, window, side) > 0.5
    if not silhouette.any():
        return np.zeros((side, side), np.float32)
    outside = np.asarray(~silhouette, np.uint8)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, 3)
    zoom = side / window.side
    slack = 3.0 * expected.place_std_px * zoom + 0.15 * np.sqrt(float(silhouette.sum())) + 2.0
    share = np.clip((np.asarray(distance, np.float32) - slack) / slack, 0, 1)
    return np.asarray(config.beyond * share, np.float32)


def looks_of(bins: Int32[np.ndarray, "S S"], on: Map, beside: Map) -> Float32[np.ndarray, "2 K"]:
    """Return the colour models of what is on an object and beside it."""
    return np.stack([colour_model(bins, on), colour_model(bins, beside)])


def area_of(prob: Map, window: Window) -> float:
    """Return the area of a map, frame pixels."""
    pixel = window.side / prob.shape[0]
    return float(np.count_nonzero(prob > 0.5)) * float(pixel) ** 2
