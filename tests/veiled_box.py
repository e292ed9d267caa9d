"""A standing box, and a wall without a mask that passes before it: masks, images, a clip."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from small_clips import SmallClip

from amodal_model.masks import BoxedMask, box_mask, encode_rle, subtract
from amodal_model.video_writer import VideoWriter

SIZE = (120, 200)
LENGTH = 44
HIDDEN = range(16, 32)
"""Frames in which the wall stands before the box."""


def rectangle(x0: float, y0: float, x1: float, y1: float) -> BoxedMask:
    mask = np.zeros(SIZE, bool)
    mask[round(y0) : round(y1), round(x0) : round(x1)] = True
    return box_mask(mask)


def box_at(frame: int) -> BoxedMask:
    """Return a standing box."""
    return rectangle(70, 35, 130, 85)


def wall_at(frame: int) -> BoxedMask:
    """Return a wall that comes from the left, covers three fifths of the box, and goes back."""
    right = 40 + 66 * min(max(frame - 8, 0), 12) / 12 - 70 * max(frame - 32, 0) / 8
    return rectangle(0, 0, max(right, 0), 120)


def frames_without_mask_of_wall() -> list[dict[int, BoxedMask]]:
    """Return the visible masks of the box, whose id is 1."""
    return [{1: subtract(box_at(t), wall_at(t))} for t in range(LENGTH)]


def _texture(seed: int, tint: tuple[int, int, int]) -> np.ndarray:
    """Return a soft texture of a colour, of the frame's size."""
    noise = np.random.default_rng(seed).normal(0, 60, (*SIZE, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2) * 3
    return np.asarray(np.clip(soft + np.array(tint), 0, 255), np.uint8)


BACKGROUND, SKIN, WALL = (
    _texture(seed, tint)
    for seed, tint in ((0, (120, 120, 110)), (1, (190, 70, 60)), (2, (50, 90, 150)))
)


def picture_of(shown: BoxedMask, wall: BoxedMask | None = None) -> np.ndarray:
    """Return an image of an object before a background, and of a wall before both."""
    image = BACKGROUND.copy()
    image[shown.full()] = SKIN[shown.full()]
    if wall is not None:
        image[wall.full()] = WALL[wall.full()]
    return image


def pictures() -> list[np.ndarray]:
    """Return the images of the scene."""
    return [picture_of(box_at(t), wall_at(t)) for t in range(LENGTH)]


def write_veiled_clip(folder: Path, name: str = "veiled.mp4") -> SmallClip:
    """Write the scene as a video, with the visible masks of the box, and a prompt for it."""
    with VideoWriter(folder / name, fps=25.0) as writer:
        for index, image in enumerate(pictures()):
            writer.write(image, index / 25)
    video = {"id": 1, "file_name": name, "width": SIZE[1], "height": SIZE[0]}
    rles = [encode_rle(masks[1]) for masks in frames_without_mask_of_wall()]
    track = {"id": 1, "video_id": 1, "category_id": 1, "segmentations": rles}
    visible = folder / f"{name}.visible.json"
    visible.write_text(
        json.dumps(
            {
                "videos": [{**video, "length": LENGTH, "fps": 25}],
                "categories": [{"id": 1, "name": "thing"}],
                "annotations": [track],
            }
        )
    )
    prompt = {"track_id": 1, "frame_index": 0, "bbox_xyxy": list(box_at(0).bbox_xyxy)}
    prompts = folder / f"{name}.prompts.json"
    prompts.write_text(json.dumps({"objects": [prompt]}))
    return SmallClip(folder / name, visible, prompts)
