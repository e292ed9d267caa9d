"""A wall of 40 columns that passes before a standing ball, and how to play such scenes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np

from amodal_model.masks import BoxedMask, box_mask
from amodal_model.results import FrameResult, ObjectResult
from amodal_model.stream import AmodalSegmenter, StreamConfig
from amodal_model.stream_state import StreamState

SIZE = (90, 140)
WALL = 1
"""Track id of the occluder in these scenes; the object behind it is 2."""


def rectangle(x0: int, y0: int, x1: int, y1: int, size: tuple[int, int] = SIZE) -> BoxedMask:
    mask = np.zeros(size, bool)
    mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return box_mask(mask)


BALL = rectangle(60, 30, 84, 54)


def wall_over_ball(left: int) -> dict[int, BoxedMask]:
    """Return the visible masks of a wall of 40 columns in front of the standing ball."""
    wall = rectangle(left, 5, left + 40, 85)
    visible = box_mask(BALL.full() & ~wall.full())
    return {WALL: wall} | ({2: visible} if visible.area else {})


def object_of(result: FrameResult, track_id: int) -> ObjectResult:
    return next(entry for entry in result.objects if entry.track_id == track_id)


def play(
    segmenter: AmodalSegmenter,
    frames: Iterable[Mapping[int, BoxedMask]],
    state: StreamState | None = None,
) -> tuple[list[FrameResult], StreamState]:
    state = state or segmenter.start(SIZE)
    results = []
    for visible in frames:
        result, state = segmenter.step(None, visible, state)
        results.append(result)
    return results, state


def grow_mask(mask: BoxedMask, pixels: int) -> BoxedMask:
    kernel = np.ones((3, 3), np.uint8)
    apply = cv2.dilate if pixels > 0 else cv2.erode
    grown = apply(mask.full().astype(np.uint8), kernel, iterations=abs(pixels)) if pixels else None
    return mask if grown is None else box_mask(grown.astype(bool))


def with_limits(segmenter: AmodalSegmenter, **limits: Any) -> AmodalSegmenter:
    return AmodalSegmenter(segmenter.engine, StreamConfig(**limits))
