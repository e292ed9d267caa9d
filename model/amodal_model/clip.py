"""Clips: the stream step over the frames of a whole clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any, Literal, get_args

from amodal_model.errors import InputError
from amodal_model.offline import Image, Visible, segment_offline
from amodal_model.results import FrameResult
from amodal_model.stream import AmodalSegmenter

Mode = Literal["causal", "offline"]
_MISSING: Any = object()
"""In place of the masks or the image of a frame that has none."""


def segment_clip(
    segmenter: AmodalSegmenter,
    visible_frames: Iterable[Visible],
    frame_size: tuple[int, int],
    mode: Mode = "causal",
    images: Iterable[Image | None] | None = None,
) -> Iterator[FrameResult]:
    """Yield the results of a clip's frames.

    Args:
        segmenter: from `amodal_model.load`.
        visible_frames: visible masks of each frame, by track id.
        frame_size: ``(height, width)``, pixels.
        mode: ``causal`` knows the past of each frame, ``offline`` its future as well.
        images: of the frames, RGB, as many; they tell what hides objects without having a mask.

    Raises:
        InputError: an unknown mode, or a mask or an image that does not fit.
    """
    if mode not in get_args(Mode):
        raise InputError(f"mode {mode!r} is not one of {', '.join(get_args(Mode))}")
    frames = _with_images(visible_frames, images)
    if mode == "offline":
        yield from segment_offline(segmenter, frames, frame_size)
        return
    state = segmenter.start(frame_size)
    for visible, image in frames:
        result, state = segmenter.step(image, visible, state)
        yield result


def _with_images(
    visible_frames: Iterable[Visible], images: Iterable[Image | None] | None
) -> Iterator[tuple[Visible, Image | None]]:
    """Yield the masks of each frame with its image.

    Raises:
        InputError: there are more of one than of the other.
    """
    if images is None:
        yield from ((visible, None) for visible in visible_frames)
        return
    pairs = zip_longest(visible_frames, images, fillvalue=_MISSING)
    for index, (visible, image) in enumerate(pairs):
        if visible is _MISSING or image is _MISSING:
            kinds = ("masks", "images") if visible is _MISSING else ("images", "masks")
            raise InputError(f"{kinds[0]} end after {index} frames, {kinds[1]} go on")
        yield visible, image
