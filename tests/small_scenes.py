"""What scenes are drawn from, small: two outlines, two textured clips, one real thing cut out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from amodal_training.follow_scenes import write_drawn
from amodal_training.scene_layers import premultiplied
from amodal_training.scenes import SceneParts
from amodal_training.silhouette_limbs import find_limbs
from amodal_training.silhouette_shapes import ShapeLibrary


def small_library() -> ShapeLibrary:
    """Return a library of a disc with two arms and an egg."""
    y, x = np.mgrid[:160, :160]
    disc = (x - 80) ** 2 + (y - 80) ** 2 < 30**2
    armed = disc | ((abs(y - 80) < 7) & (x > 10) & (x < 150))
    shapes = [armed, ((x - 80) / 50) ** 2 + ((y - 80) / 70) ** 2 < 1]
    limbs = [(index, limb) for index, shape in enumerate(shapes) for limb in find_limbs(shape)]
    return ShapeLibrary(
        names=("test:armed", "test:egg"),
        licences=("test: MIT",),
        source_of=np.zeros(2, np.int32),
        packed=np.packbits(np.stack(shapes), axis=-1),
        limb_shapes=np.array([index for index, _ in limbs], np.int32),
        limb_packed=np.packbits(np.stack([limb.pixels for _, limb in limbs]), axis=-1),
        limb_joints=np.array([limb[1:] for _, limb in limbs], np.float32),
    )


def write_small_library(path: Path) -> None:
    """Write that library as `build_library` would."""
    library = small_library()
    np.savez(
        path,
        names=np.array(library.names),
        licences=np.array(library.licences),
        source_of=library.source_of,
        packed=library.packed,
        limb_shapes=library.limb_shapes,
        limb_packed=library.limb_packed,
        limb_joints=library.limb_joints,
    )


def small_clip(seed: int, frames: int = 6) -> np.ndarray:
    """Return a texture that moves, (T, 200, 320, 3)."""
    rng = np.random.default_rng(seed)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (200, 400, 3), dtype=np.uint8), (0, 0), 2.0)
    low, high = float(wide.min()), float(wide.max())
    spread = ((wide - low) * (255 / (high - low))).astype(np.uint8)
    return np.stack([spread[:, 3 * index : 3 * index + 320] for index in range(frames)])


def small_parts() -> SceneParts:
    """Return what scenes are drawn from."""
    disc = cv2.circle(np.zeros((48, 40), np.uint8), (20, 24), 18, 255, -1)
    thing = premultiplied(np.full((48, 40, 3), (200, 60, 20), np.uint8), disc)
    return SceneParts(small_library(), (small_clip(0), small_clip(1)), (((thing,) * 8,),))


def write_small_scenes(folder: Path, count: int = 2) -> Path:
    """Write some drawn scenes and return their folder."""
    write_drawn(folder, small_parts(), range(count))
    return folder
