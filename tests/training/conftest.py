"""A small dataset with amodal truth: a ball that stands still while a bar passes over it."""

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from amodal_model.masks import box_mask, encode_rle

if sys.platform == "linux":
    # mujoco asks for it when it is imported, by whichever test comes first
    os.environ.setdefault("MUJOCO_GL", "egl")

HEIGHT, WIDTH, LENGTH = 48, 64, 16
BALL, BAR = 4, 9
"""Track ids."""


def scene(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the whole ball and the bar in front of it, bool (48, 64)."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    ball = (rows - 24) ** 2 + (columns - 32) ** 2 < 100
    left = 5 * index - 30
    return ball, (columns >= left) & (columns < left + 24)


def _annotation(track_id: int, video_id: int, masks: list[np.ndarray]) -> dict[str, Any]:
    rles = [encode_rle(box_mask(mask)) if mask.any() else None for mask in masks]
    return {"id": track_id, "video_id": video_id, "category_id": 1, "segmentations": rles}


def write_dataset(folder: Path, clips: int = 2) -> Path:
    """Write clips of one scene, each its own source; the truth of the ball alone is known."""
    scenes = [scene(index) for index in range(LENGTH)]
    videos, visible, amodal = [], [], []
    for number in range(clips):
        frames = folder / "videos" / f"clip{number}"
        frames.mkdir(parents=True)
        for index, (ball, bar) in enumerate(scenes):
            image = np.random.default_rng(0).integers(0, 99, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            image[ball], image[bar] = (200, 90, 30), (20, 120, 220)
            cv2.imwrite(str(frames / f"{index:05d}.png"), image)
        size = {"width": WIDTH, "height": HEIGHT, "length": LENGTH, "fps": 10}
        name = {"id": number, "file_name": frames.name, "source": f"source{number}"}
        videos.append({**name, **size})
        visible.append(_annotation(BALL, number, [ball & ~bar for ball, bar in scenes]))
        visible.append(_annotation(BAR, number, [bar for _, bar in scenes]))
        amodal.append(_annotation(BALL, number, [ball for ball, _ in scenes]))
    for file_name, annotations in (("visible.json", visible), ("amodal.json", amodal)):
        content = {"videos": videos, "categories": [], "annotations": annotations}
        (folder / file_name).write_text(json.dumps(content))
    return folder


@pytest.fixture
def passing_dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "passing")


@pytest.fixture
def edit_json() -> Callable[[Path, Callable[[Any], None]], None]:
    """Changes a JSON file in place."""

    def edit(path: Path, change: Callable[[Any], None]) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


@pytest.fixture
def quick_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `amodal train` measure and fit on a few drawn sequences: how well is not asked here."""
    from amodal_training import train_command, trainer  # noqa: PLC0415  (torch is optional)

    few = functools.partial(trainer.selection_batches, count=1, sequences=6, frames=12)
    monkeypatch.setattr(trainer, "selection_batches", few)
    monkeypatch.setattr(train_command, "FIT_MOST", 6)
