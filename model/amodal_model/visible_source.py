"""The seam for visible masks: where they come from when no file of them is given.

A source turns a frame and what a client says about it (`Prompt`) into visible masks with track
ids. It is causal, and its state is a value, as the segmenter's is: taken in, a new one returned,
saved as plain arrays. `Expectation` is what the amodal state adds: where each known object is now,
hidden ones too, so that a source neither leaks onto an occluder nor gives a returning object a new
id.

    expected = segmenter.expect(stream_state)
    visible, source_state = source.find(image, prompts, source_state, expected)
    result, stream_state = segmenter.step(image, visible, stream_state)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from jaxtyping import UInt8

from amodal_model.masks import BoxedMask

Arrays = dict[str, np.ndarray]
StateT = TypeVar("StateT")


@dataclass(frozen=True, eq=False)
class Prompt:
    """What a client says about one object in one frame.

    Exactly one of ``bbox_xyxy``, ``points``, ``mask`` and ``remove`` is set.

    Attributes:
        track_id: of the object; ``None`` where the client's segmenter has no ids.
        bbox_xyxy: half-open box around what is visible, frame pixels.
        points: ``(x, y, is_object)``, frame pixels.
        mask: the visible mask itself.
        remove: whether the object is to be forgotten.
    """

    track_id: int | None
    bbox_xyxy: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float, bool], ...] = ()
    mask: BoxedMask | None = None
    remove: bool = False


class Expectation(NamedTuple):
    """Where the amodal state expects one object in the coming frame.

    Attributes:
        silhouette: the remembered whole silhouette at its predicted place, clipped to the frame.
        place_std_px: standard deviation of that place, frame pixels.
        frames_hidden: frames since the object was visible; 0 where it was in the last one.
        unclipped: the silhouette, where it reaches beyond the frame: its box may, as that of no
            other mask does.
    """

    silhouette: BoxedMask
    place_std_px: float
    frames_hidden: float
    unclipped: BoxedMask | None = None

    @property
    def whole(self) -> BoxedMask:
        """The silhouette with what lies beyond the frame."""
        return self.unclipped or self.silhouette


class VisibleMaskSource(Protocol[StateT]):
    """Finds the visible masks of a frame; causal, with explicit state."""

    def start(self, frame_size: tuple[int, int]) -> StateT:
        """Return the state before the first frame.

        Args:
            frame_size: ``(height, width)`` of the frames, pixels.
        """
        ...

    def find(
        self,
        image: UInt8[np.ndarray, "H W 3"] | None,
        prompts: Sequence[Prompt],
        state: StateT,
        expected: Mapping[int, Expectation],
    ) -> tuple[dict[int, BoxedMask], StateT]:
        """Return the visible mask of each object that shows, by track id, and the new state.

        Args:
            image: RGB; ``None`` where the source needs none.
            prompts: what the client says about this frame.
            state: as the last call returned it.
            expected: where the amodal state expects the objects that it follows, by track id;
                empty where there is no amodal state.

        Raises:
            InputError: an image or a prompt that does not fit the frames.
        """
        ...

    def save_state(self, state: StateT) -> Arrays:
        """Return a state as plain arrays, to be stored by name."""
        ...

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> StateT:
        """Return the state of arrays that `save_state` gave.

        Raises:
            InputError: an array is missing or has another shape.
        """
        ...
