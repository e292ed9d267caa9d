"""Where followed objects are expected in the coming frame, hidden ones too."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from amodal_model.geometry import Window, paste_logits, paste_unclipped
from amodal_model.stream_state import StreamState
from amodal_model.templates import TEMPLATE_SIDE
from amodal_model.track_state import MotionConfig, predict
from amodal_model.visible_source import Expectation


def expect_objects(
    state: StreamState, frame_gap: float, motion: MotionConfig
) -> dict[int, Expectation]:
    """Return the remembered silhouette of each object, moved as it was last seen to, by track id.

    Args:
        state: of the stream.
        frame_gap: frames from the last step to the coming one.
        motion: what is expected of the motion.
    """
    moved = predict(state.tracks, frame_gap, motion)
    place_std = np.sqrt(moved.variance) * moved.window[:, 2] / TEMPLATE_SIDE
    return {
        track_id: _expect(
            latest * known - 0.5, Window(*window), (float(std), float(hidden)), state.frame_size
        )
        for track_id, (latest, known), window, std, hidden in zip(
            state.track_ids,
            moved.template,
            moved.window.tolist(),
            place_std,
            state.frames_hidden,
            strict=True,
        )
    }


def _expect(
    logits: Float32[np.ndarray, "S S"],
    window: Window,
    known: tuple[float, float],
    frame_size: tuple[int, int],
) -> Expectation:
    """Return where a silhouette is expected; known: deviation of its place, frames hidden."""
    silhouette, half = paste_logits(logits, window, frame_size), window.side / 2
    height, width = frame_size
    x, y = window.center_x, window.center_y
    is_inside = min(x, y, width - x, height - y) >= half
    unclipped = None if is_inside else paste_unclipped(logits, window, frame_size)
    return Expectation(silhouette, *known, unclipped)
