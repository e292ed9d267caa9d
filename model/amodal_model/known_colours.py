"""Whose colours a mask has: what tells objects apart that come back from behind one occluder.

What is asked is how many of the *mask's* colours an object has, not whether both look alike: a
fragment has few of the object's colours, but all of its own must be among them.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from amodal_model.colours import colour_bins, colour_model
from amodal_model.masks import BoxedMask

BITS = 4
"""Bits of each Lab channel."""
BINS = 1 << (3 * BITS)
NEUTRAL = 0.7
"""Likeness where colours say nothing."""

_LEAST = 0.2
"""Light changes: colours alone never rule an object out."""
_ENOUGH_PX = 60.0
"""Pixels of a mask from which its colours count half."""
_ROOM = 3.0
"""How much more of a colour a fragment may have than the whole object."""
_RATE = 0.2
_LEAST_SHARE = 0.5
"""Of the largest area, what an object must show for its colours to be learned."""

Colours = Float32[np.ndarray, " _"]
"""Share of each colour, `BINS` of them, or none where nothing is known."""


def nothing_known() -> Colours:
    """Return the colours of an object that no image has shown yet: none at all."""
    return np.zeros(0, np.float32)


def image_bins(image: UInt8[np.ndarray, "H W 3"]) -> Int32[np.ndarray, "H W"]:
    """Return the colour of each pixel of a frame."""
    return colour_bins(image, BITS)


def mask_colours(bins: Int32[np.ndarray, "H W"], mask: BoxedMask) -> Colours:
    """Return how a mask's pixels are spread over the colours, its rim left out where it can be."""
    x0, y0, x1, y1 = mask.bbox_xyxy
    whole = mask.pixels.view(np.uint8)
    inner = np.asarray(cv2.erode(whole, np.ones((3, 3), np.uint8)), np.uint8)
    chosen = inner if 2 * int(inner.sum()) >= mask.area else whole
    return colour_model(bins[y0:y1, x0:x1], chosen.astype(np.float32), BITS)


def likeness(seen: Colours, pixels: int, known: Colours) -> float:
    """Return how well a mask's colours fit an object, `NEUTRAL` where they say nothing.

    Args:
        seen: of the mask.
        pixels: of the mask; a sliver says little.
        known: of the object.
    """
    if not known.size:
        return NEUTRAL
    share = float(np.minimum(seen, _ROOM * known).sum())
    weight = pixels / (pixels + _ENOUGH_PX)
    return (1 - weight) * NEUTRAL + weight * max(share, _LEAST)


def learn(known: Colours, seen: Colours, area: float, largest: float) -> Colours:
    """Return an object's colours after a frame that showed ``area`` pixels of it."""
    if area < _LEAST_SHARE * largest:
        return known
    if not known.size:
        return seen
    return np.asarray(known + np.float32(_RATE) * (seen - known), np.float32)
