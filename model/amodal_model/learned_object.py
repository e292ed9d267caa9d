"""What is remembered of an object that the network follows, and how a frame changes it.

    object, frame --> sight (`follow_sight`)
    sight, remembered keys --network--> map, keys
    object, sight, map, keys --> object

Training's rollouts call the same functions, so that they see what is served.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from amodal_model.followed_object import Map, area_of, looks_of
from amodal_model.geometry import Window
from amodal_model.reappearance import Candidate, is_it

SIDE = 96
"""Side of an object's window, pixels."""
CUES = 12
"""Channels beside the picture's three."""
KEY_SIDE = 12
KEYS = KEY_SIDE**2
KEY_CHANNELS = 32
SLOTS = 2
"""Frames remembered by their features: that of the prompt, and one of late."""
RENEWAL_FRAMES = 5
_COLOUR_RENEWAL = np.float32(0.05)
_LEAST_AREA = 0.03
"""An object with less than this share of its usual area is out of sight."""
_WHOLE_AREA = 0.5
"""Of its usual area, from which a frame is remembered."""


class LearnedObject(NamedTuple):
    """What is remembered of one object.

    Attributes:
        window: where its map lies in the last frame.
        prob: (S, S) how surely each pixel of the window was its.
        colours: (4, K) models of the prompt's frame (on, beside) and of late (on, beside).
        area: its usual visible area, frame pixels.
        frames_gone: frames since it was in sight.
        keys: (slots, channels, keys) features of remembered frames.
        weights: (slots, 2, keys) how far each lies on the object, and beside it; 0 where empty.
        age: frames since the prompt.
    """

    window: Window
    prob: Map
    colours: Float32[np.ndarray, "4 K"]
    area: float
    frames_gone: float
    keys: Float32[np.ndarray, "M C L"]
    weights: Float32[np.ndarray, "M 2 L"]
    age: float


class Sight(NamedTuple):
    """What is seen of an object in a frame.

    Attributes:
        window: where.
        image: (S, S, 3) RGB.
        cues: (cues, S, S) about -1 to 1.
        bins: (S, S) of colours.
        inside: (S, S) 1 in the frame.
    """

    window: Window
    image: UInt8[np.ndarray, "S S 3"]
    cues: Float32[np.ndarray, "C S S"]
    bins: Int32[np.ndarray, "S S"]
    inside: Map


def begun(sight: Sight, prob: Map, keys: Float32[np.ndarray, "C L"]) -> LearnedObject:
    """Return the memory of an object whose first map is known."""
    looks = looks_of(sight.bins, prob * sight.inside, (1 - prob) * sight.inside)
    remembered = np.stack([keys] * SLOTS)
    weights = np.stack([key_weights(prob, sight.inside)] * SLOTS)
    area = area_of(prob, sight.window)
    colours = np.concatenate([looks, looks])
    return LearnedObject(sight.window, prob, colours, area, 0.0, remembered, weights, 0.0)


def gone_on(
    thing: LearnedObject,
    sight: Sight,
    prob: Map,
    keys: Float32[np.ndarray, "C L"],
    usual: float | None = None,
) -> LearnedObject:
    """Return an object as it was found in the next frame, or out of sight.

    Args:
        thing: as it was remembered.
        sight: what was seen of it.
        prob: its map, by the network.
        keys: of the frame, by the network.
        usual: area to expect of an object that was out of sight, frame pixels.
    """
    prob = prob * sight.inside
    seen, age = area_of(prob, sight.window), thing.age + 1
    is_lost = seen < max(_LEAST_AREA * thing.area, 4.0)
    if thing.frames_gone > 0 and not is_lost:
        found = Candidate(prob, sight.window, sight.bins, sight.inside)
        is_lost = not is_it(found, usual or thing.area, thing.colours)
    if is_lost:
        return thing._replace(
            window=sight.window,
            prob=np.zeros_like(prob),
            frames_gone=thing.frames_gone + 1,
            age=age,
        )
    on = (prob > 0.7).astype(np.float32)
    beside = (prob < 0.3).astype(np.float32) * sight.inside
    colours = thing.colours.copy()
    if on.sum() > 20:
        colours[2:] += _COLOUR_RENEWAL * (looks_of(sight.bins, on, beside) - colours[2:])
    remembered, weights = thing.keys, thing.weights
    if age % RENEWAL_FRAMES == 0 and seen > _WHOLE_AREA * thing.area:
        remembered, weights = remembered.copy(), weights.copy()
        remembered[1], weights[1] = keys, key_weights(prob, sight.inside)
    # shrinking is more often an occluder than distance: it is forgotten slowly
    area = thing.area + (0.1 if seen > thing.area else 0.005) * (seen - thing.area)
    return LearnedObject(sight.window, prob, colours, area, 0.0, remembered, weights, age)


def key_weights(prob: Map, inside: Map) -> Float32[np.ndarray, "2 L"]:
    """Return how far the square of each key lies on the object, and beside it."""
    both = cv2.merge([prob * inside, (1 - prob) * inside])
    small = cv2.resize(both, (KEY_SIDE, KEY_SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small.reshape(KEYS, 2).T, np.float32)
