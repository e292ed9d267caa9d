"""From what the network says of a frame to estimates of its objects, and the state for the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from amodal_model.composition import Estimate, Evidence, smooth
from amodal_model.geometry import Window, paste_logits
from amodal_model.masks import BoxedMask
from amodal_model.memory import MemoryState, StepOutputs
from amodal_model.stream_state import StreamState
from amodal_model.track_state import template_of
from amodal_model.tracks import Placed
from amodal_model.veils import widened


def estimate(
    frame: tuple[StreamState, Sequence[BoxedMask], float],
    placed: Placed,
    outputs: StepOutputs[np.ndarray],
    memory: MemoryState[Any],
) -> tuple[list[Estimate], StreamState]:
    """Return the estimates of a frame and the state for the next, from what the network said.

    Args:
        frame: state before it, visible mask of each object, empty where it does not show, and
            frames since the last step.
        placed: where the objects were found.
        outputs: of the network.
        memory: after the frame.
    """
    (state, own, gap), tracks = frame, placed.tracks
    templates = template_of(outputs.template)
    is_seen = np.array([mask.area > 0 for mask in own])
    hidden = np.where(is_seen, 0, state.frames_hidden + gap).astype(np.float32)
    windows = [Window(*window) for window in tracks.window.tolist()]
    estimates = [
        Estimate(
            track_id,
            mask,
            window,
            logits if mask.area else smooth(logits),
            (whole, part),
            h,
            Evidence(window, template),
            placed.stand_ins.get(row),
            placed.views[row].contour_noise,
            _veil_in_frame(tracks.veil[row], window, state.frame_size),
        )
        for row, (track_id, mask, window, logits, (whole, part), h, template) in enumerate(
            zip(
                state.track_ids,
                own,
                windows,
                outputs.logits,
                outputs.confidence.tolist(),
                hidden.tolist(),
                templates,
                strict=True,
            )
        )
    ]
    is_inside = _reaches_frame(tracks.window, state.frame_size)
    outside = np.where(is_inside, 0, state.frames_outside + gap).astype(np.float32)
    in_the_open = np.where(is_seen, 0, state.frames_open + gap * placed.is_open)
    return estimates, state._replace(
        tracks=tracks._replace(template=templates),
        memory=memory,
        frames_hidden=hidden,
        frames_outside=outside,
        frames_open=in_the_open.astype(np.float32),
    )


def _veil_in_frame(
    veil: Bool[np.ndarray, "48 48"], window: Window, frame_size: tuple[int, int]
) -> BoxedMask | None:
    """Return what hides an object without having a mask, in frame pixels."""
    return paste_logits(widened(veil) - 0.5, window, frame_size) if veil.any() else None


def _reaches_frame(
    window: Float64[np.ndarray, "N 4"], frame_size: tuple[int, int]
) -> Bool[np.ndarray, " N"]:
    """Return whether the middle half of each window, where the object is, meets the frame."""
    height, width = frame_size
    quarter = window[:, 2] / 4
    x, y = window[:, 0], window[:, 1]
    return np.asarray(
        (x + quarter > 0) & (x - quarter < width) & (y + quarter > 0) & (y - quarter < height)
    )
