"""A raw scene to find motion in: textured blocks that cross a textured ground."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from small_clips import SmallClip

from amodal_model.video_writer import VideoWriter

SIZE = (120, 160)
BLOCKS = {  # x, y, width, height, speed x, speed y, light
    1: (10.0, 20.0, 26, 34, 2.5, 0.0, 210),
    2: (120.0, 70.0, 30, 26, -2.0, 0.0, 20),
}


def texture(shape: tuple[int, int], seed: int, low: int, high: int) -> np.ndarray:
    """Return smooth noise, uint8 RGB."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(low, high, (shape[0] // 4 + 2, shape[1] // 4 + 2, 3)).astype(np.float32)
    image = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


def block_mask(block: int, index: int) -> np.ndarray:
    """Return where a block is in a frame, bool."""
    x, y, width, height, speed_x, speed_y, _ = BLOCKS[block]
    left, top = round(x + speed_x * index), round(y + speed_y * index)
    mask = np.zeros(SIZE, bool)
    mask[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
    return mask


def frame(index: int, camera_x: float = 0.0, blocks: tuple[int, ...] = (1, 2)) -> np.ndarray:
    """Return a frame, uint8 RGB; ``camera_x`` is how far the camera has panned, pixels."""
    ground = texture((SIZE[0], SIZE[1] + 200), 0, 90, 150)
    place = np.array([[1, 0, -camera_x], [0, 1, 0]], np.float64)
    image = np.asarray(cv2.warpAffine(ground, place, (SIZE[1], SIZE[0])), np.uint8)
    for block in blocks:
        width, height, light = BLOCKS[block][2], BLOCKS[block][3], BLOCKS[block][6]
        x = round(BLOCKS[block][0] + BLOCKS[block][4] * index)
        y = round(BLOCKS[block][1] + BLOCKS[block][5] * index)
        cloth = texture((height, width), block, light - 20, light + 20)
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + width, SIZE[1]), min(y + height, SIZE[0])
        if x1 > x0 and y1 > y0:
            image[y0:y1, x0:x1] = cloth[y0 - y : y1 - y, x0 - x : x1 - x]
    return image


def write_scene_clip(path: Path, frames: int) -> SmallClip:
    """Write the scene as a video, with a box of each block in the first frame."""
    with VideoWriter(path, fps=25.0) as writer:
        for index in range(frames):
            writer.write(frame(index), index / 25)
    objects = []
    for block in BLOCKS:
        rows, columns = np.nonzero(block_mask(block, 0))
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        objects.append({"track_id": block, "frame_index": 0, "bbox_xyxy": [int(n) for n in box]})
    prompts = path.with_suffix(".prompts.json")
    prompts.write_text(json.dumps({"objects": objects}))
    return SmallClip(path, path.with_suffix(".json"), prompts)


def write_clip(folder: Path, frames: int = 30) -> Path:
    """Write the scene as a folder of frames."""
    folder.mkdir(parents=True)
    for index in range(frames):
        cv2.imwrite(str(folder / f"{index:05d}.png"), frame(index)[..., ::-1])
    return folder
