"""Prompts of one frame, checked and put together by object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from amodal_model.errors import InputError, LimitError
from amodal_model.masks import BoxedMask
from amodal_model.segmenter_sam2 import BACKGROUND, BOTTOM_RIGHT, FOREGROUND, TOP_LEFT
from amodal_model.visible_source import Prompt

MAX_PROMPTS = 1024
MAX_POINTS = 1024
MAX_ID = 2**53
"""Largest id of either sign: what JSON carries exactly."""


class ObjectPrompt(NamedTuple):
    """What all prompts of a frame say about one object.

    Attributes:
        track_id: of the object.
        points: (N, 2) x, y, frame pixels; a box is its two corners.
        labels: (N,) what each point is, as decoders number it.
        mask: the visible mask itself.
        remove: whether it is to be forgotten.
    """

    track_id: int
    points: Float32[np.ndarray, "N 2"]
    labels: Float32[np.ndarray, " N"]
    mask: BoxedMask | None
    remove: bool


def gather_prompts(
    prompts: Sequence[Prompt], frame_size: tuple[int, int], next_id: int
) -> tuple[list[ObjectPrompt], int]:
    """Return the prompts of each object, and the next id that is free.

    Args:
        prompts: of one frame.
        frame_size: ``(height, width)``, pixels.
        next_id: that an object without an id gets.

    Raises:
        InputError: a prompt lies outside the frame or is empty, or two contradict each other.
        LimitError: more than 1024 prompts, or points of one object, or an id that is too large.
    """
    if len(prompts) > MAX_PROMPTS:
        raise LimitError(f"{len(prompts)} prompts of one frame, limit {MAX_PROMPTS}")
    by_object: dict[int, list[Prompt]] = {}
    for prompt in prompts:
        track_id = next_id if prompt.track_id is None else prompt.track_id
        if abs(track_id) > MAX_ID:
            raise LimitError(f"track id {track_id}, limit {MAX_ID} of either sign")
        next_id = max(next_id, track_id + 1)
        by_object.setdefault(track_id, []).append(prompt)
    return [_join(key, group, frame_size) for key, group in by_object.items()], next_id


def _join(track_id: int, prompts: list[Prompt], frame_size: tuple[int, int]) -> ObjectPrompt:
    points: list[tuple[float, float, int]] = []
    masks = [prompt.mask for prompt in prompts if prompt.mask is not None]
    boxes = [prompt.bbox_xyxy for prompt in prompts if prompt.bbox_xyxy is not None]
    remove = any(prompt.remove for prompt in prompts)
    shows = bool(masks or boxes or any(prompt.points for prompt in prompts))
    if len(masks) > 1 or len(boxes) > 1 or (remove and shows):
        raise InputError(f"prompts of object {track_id} contradict each other in one frame")
    if not (remove or shows):
        raise InputError(f"the prompt of object {track_id} is empty")
    for box in boxes:
        points += _corners(track_id, box, frame_size)
    for prompt in prompts:
        points += [_point(track_id, point, frame_size) for point in prompt.points]
    if len(points) > MAX_POINTS:
        raise LimitError(f"{len(points)} points of object {track_id}, limit {MAX_POINTS}")
    if masks:
        _check_mask(track_id, masks[0], frame_size)
    array = np.array(points, np.float32).reshape(-1, 3)
    mask = masks[0] if masks else None
    return ObjectPrompt(track_id, array[:, :2], array[:, 2], mask, remove)


def _corners(
    track_id: int, box: tuple[float, float, float, float], frame_size: tuple[int, int]
) -> list[tuple[float, float, int]]:
    """Return the corners of a box, cut to the frame."""
    height, width = frame_size
    if not all(math.isfinite(side) for side in box):
        raise InputError(f"box {list(box)} of object {track_id} is not finite")
    x0, y0 = max(box[0], 0.0), max(box[1], 0.0)
    x1, y1 = min(box[2], float(width)), min(box[3], float(height))
    if x1 <= x0 or y1 <= y0:
        raise InputError(
            f"box {list(box)} of object {track_id} covers nothing of the {width}x{height} frame"
        )
    return [(x0, y0, TOP_LEFT), (x1, y1, BOTTOM_RIGHT)]


def _point(
    track_id: int, point: tuple[float, float, bool], frame_size: tuple[int, int]
) -> tuple[float, float, int]:
    x, y, is_object = point
    height, width = frame_size
    # false for NaN too
    if not (0 <= x <= width and 0 <= y <= height):
        raise InputError(
            f"point ({x:g}, {y:g}) of object {track_id} is outside the {width}x{height} frame"
        )
    return x, y, FOREGROUND if is_object else BACKGROUND


def _check_mask(track_id: int, mask: BoxedMask, frame_size: tuple[int, int]) -> None:
    if mask.frame_size != frame_size:
        raise InputError(
            f"mask of object {track_id} is {mask.frame_size[1]}x{mask.frame_size[0]}, "
            f"frames are {frame_size[1]}x{frame_size[0]}"
        )
    if not mask.area:
        raise InputError(f"mask of object {track_id} is empty")
