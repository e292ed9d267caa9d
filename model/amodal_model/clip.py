"""Clips: the stream step over the frames of a whole clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8

from amodal_model.errors import InputError
from amodal_model.masks import BoxedMask
from amodal_model.offline import segment_offline
from amodal_model.results import FrameResult
from amodal_model.stream import AmodalSegmenter

Mode = Literal["causal", "offline"]


def segment_clip(
    segmenter: AmodalSegmenter,
    visible_frames: Iterable[Mapping[int, BoxedMask]],
    frame_size: tuple[int, int],
    mode: Mode = "causal",
    images: Iterable[UInt8[np.ndarray, "H W 3"] | None] | None = None,
) -> Iterator[FrameResult]:
    """Yield the results of a clip's frames.

    Args:
        segmenter: from `amodal_model.load`.
        visible_frames: visible masks of each frame, by track id.
        frame_size: ``(height, width)``, pixels.
        mode: ``causal`` knows the past of each frame, ``offline`` its future as well.
        images: of the frames, RGB; they tell what hides objects without having a mask.

    Raises:
        InputError: an unknown mode, or a mask or an image that does not fit.
    """
    if mode not in get_args(Mode):
        raise InputError(f"mode {mode!r} is not one of {', '.join(get_args(Mode))}")
    frames = zip(visible_frames, repeat(None) if images is None else images, strict=False)
    if mode == "offline":
        yield from segment_offline(segmenter, frames, frame_size)
        return
    state = segmenter.start(frame_size)
    for visible, image in frames:
        result, state = segmenter.step(image, visible, state)
        yield result
