"""Real frames that drawn scenes are made of: moving backgrounds and textures.

No label of them is used. Clips are kept small in memory, every few frames of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from amodal_model.errors import DatasetError
from amodal_model.video import open_clip

FOOTAGE_WIDTH = 480
FRAMES_KEPT = 150
"""Of each clip, consecutive ones from its middle."""

Image = UInt8[np.ndarray, "H W 3"]
Texture = UInt8[np.ndarray, "S S 3"]
Footage = tuple[UInt8[np.ndarray, "_ _ _ 3"], ...]
"""Clips of RGB frames."""


def read_footage(videos: Sequence[Path]) -> Footage:
    """Return the frames of some videos, resized.

    Raises:
        DatasetError: no video.
    """
    if not videos:
        raise DatasetError("no video to draw scenes with")
    return tuple(_read(path) for path in videos)


def _read(path: Path) -> UInt8[np.ndarray, "T H W 3"]:
    clip = open_clip(path)
    start = max((clip.count() - FRAMES_KEPT) // 2, 0)
    kept: list[Image] = []
    for frame in clip.frames():
        if frame.index < start:
            continue
        height, width = frame.image.shape[:2]
        size = (FOOTAGE_WIDTH, round(height * FOOTAGE_WIDTH / width))
        kept.append(np.asarray(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)))
        if len(kept) == FRAMES_KEPT:
            break
    return np.stack(kept)


def random_frame(footage: Footage, rng: np.random.Generator) -> Image:
    """Return any frame."""
    clip = footage[rng.integers(len(footage))]
    return np.asarray(clip[rng.integers(len(clip))])


def random_texture(source: Image, rng: np.random.Generator, side: int) -> Texture:
    """Return a square piece of an image, turned, stretched, mostly of other colours."""
    height, width = source.shape[:2]
    reach = float(np.exp(rng.uniform(np.log(0.25), np.log(1.2)))) * height
    angle = rng.uniform(0, 360) if rng.random() < 0.5 else rng.choice([0, 180])
    centre = (rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height)
    matrix = cv2.getRotationMatrix2D(centre, float(angle), side / reach)
    matrix = matrix + np.array([[0, 0, side / 2 - centre[0]], [0, 0, side / 2 - centre[1]]])
    piece = cv2.warpAffine(
        source, matrix, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101
    )
    if rng.random() < 0.35:
        piece = cv2.GaussianBlur(piece, (0, 0), float(rng.uniform(2, 14)))
    piece = np.asarray(piece, np.uint8)
    return recoloured(piece, rng) if rng.random() < 0.65 else piece


def recoloured(image: Image, rng: np.random.Generator) -> Image:
    """Return an image of other hues, saturation, contrast and brightness."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
    if rng.random() < 0.7:
        hsv[..., 0] = (hsv[..., 0] + rng.uniform(0, 180)) % 180
    hsv[..., 1] *= rng.uniform(0.3, 1.8)
    mean = float(hsv[..., 2].mean())
    hsv[..., 2] = (hsv[..., 2] - mean) * rng.uniform(0.6, 1.5) + rng.uniform(30, 215)
    return np.asarray(
        cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB), np.uint8
    )
