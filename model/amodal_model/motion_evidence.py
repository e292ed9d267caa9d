"""Whether each pixel belongs to something that moves: log odds, carried along with the flow.

Evidence comes from two sides. What differs from the background is foreground, what looks like it
is not, as far as the background is known. What moves by itself, and would not look as it does had
it stood still, is foreground as well; a background that looks like it was learned from the object,
and is not believed there any more.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from amodal_model.background import Background, Difference

MARGIN = 8
"""Pixels at the image's edge whose flow says nothing."""


class EvidenceConfig(NamedTuple):
    """How evidence is weighed.

    Attributes:
        known_age: frames after which a background is fully believed.
        differs: log odds of a pixel that differs from the background by far.
        alike: log odds of one that looks like it.
        moves: log odds of one that moves by itself.
        lowest: log odds are kept above; low magnitudes let objects in and out quickly.
        highest: and below.
        fade: what is left of log odds after a frame.
        least_change: grey levels by which standing still must be contradicted.
    """

    known_age: float = 15.0
    differs: float = 1.2
    alike: float = 2.2
    moves: float = 1.5
    lowest: float = -0.6
    highest: float = 2.0
    fade: float = 0.92
    least_change: float = 4.0


def weigh(
    odds: Float32[np.ndarray, "h w"],
    differs: Difference,
    moves: Float32[np.ndarray, "h w"],
    model: Background,
    config: EvidenceConfig,
) -> Float32[np.ndarray, "h w"]:
    """Return the log odds after a frame.

    Args:
        odds: of the last frame, moved into this one.
        differs: from the background.
        moves: of `own_motion`.
        model: the background.
        config: weights.
    """
    belief = np.minimum(model.age * np.float32(1 / config.known_age), 1)
    score = np.where(differs.is_shadow, np.float32(0.5), differs.score)
    away = np.clip(score - 1, -0.75, 1)
    scene = np.where(away > 0, away * config.differs, away * (config.alike / 0.75) * belief)
    total = config.fade * odds + scene + config.moves * moves
    return np.asarray(np.clip(total, config.lowest, config.highest), np.float32)


def own_motion(
    motion: Float32[np.ndarray, "h w 2"],
    still_error: Float32[np.ndarray, "h w"],
    moved_error: Float32[np.ndarray, "h w"],
    least_speed: float,
    config: EvidenceConfig,
) -> Float32[np.ndarray, "h w"]:
    """Return how surely each pixel moves by itself, 0 to 1.

    Where the scene comes into view behind an object, flow is a guess: it must explain the pixel,
    and clearly better than standing still does.

    Args:
        motion: displacement that the camera does not explain, pixels.
        still_error: of `mismatch`, moved with the camera alone.
        moved_error: of `mismatch`, moved along the flow.
        least_speed: what counts as motion, pixels.
        config: thresholds.
    """
    speed = cv2.magnitude(motion[..., 0], motion[..., 1])
    surely = np.clip(speed / np.float32(least_speed) - 1, 0, 1)
    surely *= np.clip((still_error - 2 * moved_error) / np.float32(config.least_change) - 1, 0, 1)
    kept = np.zeros(surely.shape, np.float32)
    part = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    kept[part] = surely[part]
    return kept


def mismatch(
    current: UInt8[np.ndarray, "h w"], previous: UInt8[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w"]:
    """Return by how much the frame differs from the last one as it was moved, grey levels."""
    return np.asarray(cv2.boxFilter(cv2.absdiff(current, previous), cv2.CV_32F, (5, 5)), np.float32)


def doubt(model: Background, differs: Difference, moves: Float32[np.ndarray, "h w"]) -> Background:
    """Return the background, believed less where it looks like something that moves."""
    is_doubtful = (moves > 0.5) & (differs.score < 1)
    return model._replace(age=np.where(is_doubtful, 0.7 * model.age, model.age))
