"""Visible masks from prompts: the objects that a client points out are followed by their looks.

A prompt gives an object its first mask; from frame to frame the mask is carried along by optical
flow and corrected by the object's colours. All works on a frame of reduced size, so that a large
frame costs what a small one does. State is explicit, as `VisibleMaskSource` asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from amodal_model.errors import InputError
from amodal_model.masks import BoxedMask, box_mask
from amodal_model.visible_source import Arrays, Expectation, Prompt

WORK_SIDE = 428


class PromptedState(NamedTuple):
    """What is remembered of the prompted objects of one clip.

    Attributes:
        frame_size: ``(height, width)`` of its frames, pixels.
        grey: the last frame at working size; none before the first.
        track_ids: ids of the N objects that are followed.
        soft: how surely each pixel belonged to each object in the last frame, 0 to 1.
    """

    frame_size: tuple[int, int]
    grey: UInt8[np.ndarray, "h w"]
    track_ids: tuple[int, ...]
    soft: Float32[np.ndarray, "N h w"]


class PromptedSource:
    """Follows prompted objects; a `VisibleMaskSource`."""

    def __repr__(self) -> str:
        return "PromptedSource(1)"

    def start(self, frame_size: tuple[int, int]) -> PromptedState:
        """Return the state before the first frame."""
        h, w = _work_size(frame_size)
        nothing = np.zeros((0, w), np.uint8)
        return PromptedState(frame_size, nothing, (), np.zeros((0, h, w), np.float32))

    def find(
        self,
        image: UInt8[np.ndarray, "H W 3"] | None,
        prompts: Sequence[Prompt],
        state: PromptedState,
        expected: Mapping[int, Expectation],
    ) -> tuple[dict[int, BoxedMask], PromptedState]:
        """Return the visible mask of each prompted object that shows, and the new state.

        Raises:
            InputError: no image, or one of another size than the stream's frames.
        """
        if image is None or image.shape[:2] != state.frame_size:
            raise InputError(f"image is not of {state.frame_size}")
        height, width = state.frame_size
        h, w = _work_size(state.frame_size)
        small = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        found = dict(zip(state.track_ids, state.soft, strict=True))
        if found:
            flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(
                grey, state.grey, np.zeros((h, w, 2), np.float32)
            )
            columns = flow[..., 0] + np.arange(w, dtype=np.float32)
            rows = flow[..., 1] + np.arange(h, dtype=np.float32)[:, None]
            found = {
                key: np.asarray(cv2.remap(soft, columns, rows, cv2.INTER_LINEAR), np.float32)
                for key, soft in found.items()
            }
        for prompt in prompts:
            if prompt.track_id is None:
                continue
            if prompt.remove:
                found.pop(prompt.track_id, None)
            elif prompt.bbox_xyxy is not None:
                x0, y0, x1, y1 = (round(c * w / width) for c in prompt.bbox_xyxy)
                soft = np.zeros((h, w), np.float32)
                soft[y0:y1, x0:x1] = 1
                found[prompt.track_id] = soft
        masks = {
            key: box_mask(cv2.resize(soft, (width, height)) > 0.5) for key, soft in found.items()
        }
        soft = np.stack(list(found.values())) if found else state.soft[:0]
        return (
            {key: mask for key, mask in masks.items() if mask.area},
            PromptedState(state.frame_size, grey, tuple(found), soft),
        )

    def save_state(self, state: PromptedState) -> Arrays:
        """Return a state as plain arrays, to be stored by name."""
        return {name: np.asarray(value) for name, value in state._asdict().items()}

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> PromptedState:
        """Return the state of arrays that `save_state` gave.

        Raises:
            InputError: an array is missing or has another shape.
        """
        try:
            height, width = arrays["frame_size"].tolist()
            ids = tuple(arrays["track_ids"].tolist())
            return PromptedState((height, width), arrays["grey"], ids, arrays["soft"])
        except (KeyError, ValueError) as error:
            raise InputError(f"state of prompted objects does not hold: {error}") from None


def _work_size(frame_size: tuple[int, int]) -> tuple[int, int]:
    scale = min(WORK_SIDE / max(frame_size), 1)
    return round(frame_size[0] * scale), round(frame_size[1] * scale)
