"""What is known of where each object is, and how it is expected to move. Rows are objects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from amodal_model.contour_noise import KEPT_JITTERS, UNKNOWN
from amodal_model.geometry import Window, paste_logits
from amodal_model.masks import BoxedMask
from amodal_model.templates import TEMPLATE_SIDE

FIRST_MISFIT = 0.1
"""The usual misfit of an object of which nothing is known."""
LEAST_KNOWN = 1e-6
"""Of ``known``: below, nothing is."""


class MotionConfig(NamedTuple):
    """How objects are expected to move, in template pixels (1/48 of the window) and frames.

    Attributes:
        first_surprise: what an object's motion is expected to miss before it is known: variance
            of a frame's displacement, and of the log scale.
        least_surprise: the least of both, for objects that move as predicted.
        surprise_gain: how far one frame's miss replaces what was expected.
        turn_surprise: variance of a frame's turn, radians².
        velocity_gain: how far one frame's displacement replaces the remembered velocity.
        velocity_fade: what is left of the velocity after a frame without information.
        window_ratio: side of a new window over the larger side of the object's box.
        middle: how far from a window's centre the centre of a visible box may be, as a share of
            the side; beyond, the window is brought after it.
        forget_from: misfit (`placement.Registration`), beyond ``forget_usual`` times the object's
            usual one, from which what is remembered is taken to be of another shape; and so much
            of it must be more than the noise of contours.
        forget_usual: see there. What walks or bends misfits always, and is not forgotten for it.
    """

    first_surprise: tuple[float, float] = (1.5, 0.03**2)
    least_surprise: tuple[float, float] = (0.1, 0.008**2)
    surprise_gain: float = 0.1
    turn_surprise: float = 0.02**2
    velocity_gain: float = 0.3
    velocity_fade: float = 0.96
    window_ratio: float = 1.5
    middle: float = 0.3
    forget_from: float = 0.2
    forget_usual: float = 1.0


class Tracks(NamedTuple):
    """Windows and motion of N objects.

    Attributes:
        window: (N, 4) centre x, centre y and side, frame pixels, and angle, radians: `Window`.
        velocity: (N, 4) change of the centre in frame pixels, of the log side and of the angle, per
            frame.
        variance: (N,) of the place, template pixels².
        surprise: (N, 2) variance by which a frame's displacement (template pixels², each axis) and
            log scale miss their prediction; learned while the object shows.
        misfit: (N,) usual misfit of the remembered silhouette, see `placement.Registration`.
        jitters: (N, 8) by how much its last contours were off, see `contour_noise`.
        areas: (N, 2) visible pixels two frames and one frame ago, 0 where it did not show.
        template: (N, 2, 48, 48) remembered silhouette and how far it is known.
        usual: (N, 48, 48) what is usually seen of it, see `veils`.
        veil: (N, 48, 48) where a veil hides it, see `veils`.
        look: (N, 48, 48, 4) the last frame's picture in its window, RGB, and its mask there.
        colours: (N, 48, 48, 4) its own where it showed last, RGB, and where they are known.
        has_look: (N,) whether the last frame had a picture.
        is_new: (N,) whether nothing is remembered yet.
    """

    window: Float64[np.ndarray, "N 4"]
    velocity: Float64[np.ndarray, "N 4"]
    variance: Float32[np.ndarray, " N"]
    surprise: Float32[np.ndarray, "N 2"]
    misfit: Float32[np.ndarray, " N"]
    jitters: Float32[np.ndarray, "N 8"]
    areas: Float32[np.ndarray, "N 2"]
    template: Float32[np.ndarray, "N 2 48 48"]
    usual: Float32[np.ndarray, "N 48 48"]
    veil: Bool[np.ndarray, "N 48 48"]
    look: UInt8[np.ndarray, "N 48 48 4"]
    colours: UInt8[np.ndarray, "N 48 48 4"]
    has_look: Bool[np.ndarray, " N"]
    is_new: np.ndarray


def new_tracks(count: int) -> Tracks:
    """Return tracks of objects that have not been seen yet."""
    return Tracks(
        np.tile(np.array([0.0, 0.0, 8.0, 0.0]), (count, 1)),
        np.zeros((count, 4)),
        np.ones(count, np.float32),
        np.tile(np.array(MotionConfig().first_surprise, np.float32), (count, 1)),
        np.full(count, FIRST_MISFIT, np.float32),
        np.full((count, KEPT_JITTERS), UNKNOWN, np.float32),
        np.zeros((count, 2), np.float32),
        np.zeros((count, 2, TEMPLATE_SIDE, TEMPLATE_SIDE), np.float32),
        np.zeros((count, TEMPLATE_SIDE, TEMPLATE_SIDE), np.float32),
        np.zeros((count, TEMPLATE_SIDE, TEMPLATE_SIDE), bool),
        np.zeros((count, TEMPLATE_SIDE, TEMPLATE_SIDE, 4), np.uint8),
        np.zeros((count, TEMPLATE_SIDE, TEMPLATE_SIDE, 4), np.uint8),
        np.zeros(count, bool),
        np.ones(count, bool),
    )


def template_of(remembered: Float32[np.ndarray, "N 2 s s"]) -> Float32[np.ndarray, "N 2 s s"]:
    """Return what objects are placed by, of what the network remembers (`StepOutputs.template`).

    To the network what was not seen for a second is half forgotten. Of an object that is hidden
    nothing newer is known, so where it is to be found what was seen last counts in full.
    """
    known = remembered[:, 1:]
    newest = known.max((2, 3), keepdims=True)
    return np.concatenate([remembered[:, :1], known / np.maximum(newest, LEAST_KNOWN)], 1)


def predict(tracks: Tracks, gap: float, motion: MotionConfig) -> Tracks:
    """Move the windows on, and widen what is not known of their place."""
    moved = tracks.window.copy()
    moved[:, :2] += tracks.velocity[:, :2] * gap
    moved[:, 2] *= np.exp(np.clip(tracks.velocity[:, 2] * gap, -0.5, 0.5))
    moved[:, 3] += np.clip(tracks.velocity[:, 3] * gap, -0.5, 0.5)
    added = np.maximum(tracks.surprise[:, 0], motion.least_surprise[0])
    variance = np.minimum(tracks.variance + added * gap, TEMPLATE_SIDE**2)
    return tracks._replace(window=moved, variance=variance.astype(np.float32))


def silhouette_of(tracks: Tracks, row: int, frame_size: tuple[int, int]) -> BoxedMask:
    """Return what is remembered of an object, where it is."""
    latest, known = tracks.template[row]
    return paste_logits(latest * known - 0.5, Window(*tracks.window[row].tolist()), frame_size)
