"""What a client gives in a frame, checked and made masks: masks, boxes and polygons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from amodal_model.errors import InputError, LimitError
from amodal_model.frame_size import MAX_SIDE
from amodal_model.masks import BoxedMask, box_mask, empty_mask
from amodal_model.visible_source import Prompt

MAX_OBJECTS = 1024
MAX_ID = 2**53
"""Largest id of either sign: what JSON carries exactly."""
MAX_POLYGONS = 256
MAX_VERTICES = 10_000
MAX_OUTLINE = 50
"""Longest outline of polygons, in (height + width) of the frame: what it costs to draw them."""
MAX_COORDINATE = 4 * MAX_SIDE


class GivenMask(NamedTuple):
    """A visible mask, not empty, and the id that the client gave it, if any."""

    track_id: int | None
    mask: BoxedMask


def read_prompts(
    prompts: Sequence[Prompt], frame_size: tuple[int, int]
) -> tuple[list[GivenMask], set[int]]:
    """Return the masks of a frame's prompts in their order, and the ids to forget.

    A box is a mask of all pixels whose centre it holds.

    Args:
        prompts: masks, boxes and removals; of the same id one at most.
        frame_size: ``(height, width)`` of the frames, pixels.

    Raises:
        InputError: points, more or less than one thing in a prompt, an id twice or out of range,
            a removal without id, a mask of another size, nothing inside the frame.
        LimitError: more than 1024 prompts.
    """
    if len(prompts) > MAX_OBJECTS:
        raise LimitError(f"{len(prompts)} prompts in a frame, limit {MAX_OBJECTS}")
    given, removed, seen = [], set(), set()
    for index, prompt in enumerate(prompts):
        name = _name(prompt, index)
        _check_prompt(prompt, name)
        if prompt.track_id is not None:
            if prompt.track_id in seen:
                raise InputError(f"{name}: track {prompt.track_id} is there twice in one frame")
            seen.add(prompt.track_id)
        if prompt.remove and prompt.track_id is not None:
            removed.add(prompt.track_id)
        else:
            given.append(GivenMask(prompt.track_id, _mask(prompt, name, frame_size)))
    return given, removed


def _name(prompt: Prompt, index: int) -> str:
    suffix = "" if prompt.track_id is None else f" (track {prompt.track_id})"
    return f"prompt {index}{suffix}"


def _check_prompt(prompt: Prompt, name: str) -> None:
    kinds = {
        "a box": prompt.bbox_xyxy is not None,
        "points": bool(prompt.points),
        "a mask": prompt.mask is not None,
        "a removal": prompt.remove,
    }
    stated = [kind for kind, is_there in kinds.items() if is_there]
    if len(stated) != 1:
        raise InputError(f"{name}: has {' and '.join(stated) or 'nothing'}, must be one thing")
    if prompt.points:
        raise InputError(f"{name}: points; given masks are masks, boxes or polygons")
    track_id = prompt.track_id
    if prompt.remove and track_id is None:
        raise InputError(f"{name}: a removal needs the track id of what to forget")
    if track_id is not None and not -MAX_ID <= track_id <= MAX_ID:
        raise InputError(f"{name}: the id must be from {-MAX_ID} to {MAX_ID}")


def _mask(prompt: Prompt, name: str, frame_size: tuple[int, int]) -> BoxedMask:
    """Return the mask of a prompt that has a mask or a box."""
    height, width = frame_size
    if prompt.mask is None:
        mask = mask_from_box(prompt.bbox_xyxy or (0, 0, 0, 0), frame_size)
        if not mask.area:
            raise InputError(
                f"{name}: box {prompt.bbox_xyxy} holds no pixel of the frame {width}x{height}"
            )
        return mask
    mask = prompt.mask
    if mask.frame_size != frame_size:
        raise InputError(
            f"{name}: mask is of a frame {mask.frame_size[1]}x{mask.frame_size[0]}, the stream's "
            f"frames are {width}x{height}"
        )
    x0, y0, x1, y1 = mask.bbox_xyxy
    fits = 0 <= x0 <= x1 <= width and 0 <= y0 <= y1 <= height
    if not fits or mask.pixels.shape != (y1 - y0, x1 - x0):
        raise InputError(
            f"{name}: mask of {mask.pixels.shape} pixels on box {mask.bbox_xyxy}, the frame is "
            f"{width}x{height}"
        )
    if not mask.area:
        raise InputError(f"{name}: mask has no pixel; leave out what does not show")
    return mask


def mask_from_box(
    bbox_xyxy: tuple[float, float, float, float], frame_size: tuple[int, int]
) -> BoxedMask:
    """Return the mask of all pixels of the frame whose centre a box holds; maybe none.

    Args:
        bbox_xyxy: half-open, frame pixels; may reach beyond the frame.
        frame_size: ``(height, width)`` of the frame, pixels.

    Raises:
        InputError: a side that is not a number, or a box that ends before it begins.
    """
    if not all(math.isfinite(side) for side in bbox_xyxy):
        raise InputError(f"box {bbox_xyxy} must be of finite numbers")
    x0, y0, x1, y1 = bbox_xyxy
    if x1 < x0 or y1 < y0:
        raise InputError(f"box {bbox_xyxy} ends before it begins: (x0, y0, x1, y1) is needed")
    height, width = frame_size
    columns, rows = ((x0, x1, width), (y0, y1, height))
    left, right = (_first_pixel(side, columns[2]) for side in columns[:2])
    top, bottom = (_first_pixel(side, rows[2]) for side in rows[:2])
    if right <= left or bottom <= top:
        return empty_mask(frame_size)
    box = (left, top, right, bottom)
    return BoxedMask(box, np.ones((bottom - top, right - left), bool), frame_size)


def _first_pixel(edge: float, limit: int) -> int:
    """Return the first pixel of a side of the frame whose centre is not before an edge."""
    return math.ceil(min(max(edge, 0.0), float(limit)) - 0.5)


def mask_from_polygons(
    polygons: Sequence[Sequence[float]], frame_size: tuple[int, int]
) -> BoxedMask:
    """Return the mask of COCO polygons: the union of all of them, rasterised as COCO does.

    Args:
        polygons: each ``[x, y, x, y, ...]``, frame pixels; may reach beyond the frame.
        frame_size: ``(height, width)`` of the frame, pixels.

    Raises:
        InputError: no polygon, fewer than three vertices, an odd number of coordinates, one that
            is not a number or too far away, or no pixel inside the frame.
        LimitError: more than 256 polygons or 10000 vertices, or an outline too long to draw.
    """
    if not 1 <= len(polygons) <= MAX_POLYGONS:
        error = InputError if not polygons else LimitError
        raise error(f"{len(polygons)} polygons in a mask, must be 1 to {MAX_POLYGONS}")
    vertices = sum(len(polygon) // 2 for polygon in polygons)
    if vertices > MAX_VERTICES:
        raise LimitError(f"{vertices} vertices in a mask's polygons, limit {MAX_VERTICES}")
    outlines = [_outline(polygon, index) for index, polygon in enumerate(polygons)]
    height, width = frame_size
    length = sum(
        float(np.abs(np.diff(points, axis=0, append=points[:1])).max(1).sum())
        for points in outlines
    )
    if length > MAX_OUTLINE * (height + width):
        raise LimitError(
            f"polygons have an outline of {length:.0f} pixels, limit "
            f"{MAX_OUTLINE * (height + width)} in a frame {width}x{height}"
        )
    runs = coco_mask.frPyObjects([points.ravel().tolist() for points in outlines], height, width)
    mask = box_mask(coco_mask.decode(coco_mask.merge(runs)).astype(bool))
    if not mask.area:
        raise InputError(f"polygons hold no pixel of the frame {width}x{height}")
    return mask


def _outline(polygon: Sequence[float], index: int) -> np.ndarray:
    """Return the vertices of a polygon, (K, 2)."""
    if len(polygon) < 6 or len(polygon) % 2:
        raise InputError(
            f"polygon {index} has {len(polygon)} coordinates, must be x, y of at least 3 vertices"
        )
    try:
        points = np.asarray(polygon, float).reshape(-1, 2)
    except (ValueError, TypeError):
        raise InputError(f"polygon {index} holds something that is not a number") from None
    if not (np.abs(points) <= MAX_COORDINATE).all():
        raise InputError(
            f"polygon {index} has a coordinate that is not from {-MAX_COORDINATE} to "
            f"{MAX_COORDINATE}"
        )
    return points
