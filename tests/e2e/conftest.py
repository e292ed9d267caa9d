"""Real clips with known masks: a block that stands, a ball that passes behind it."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest

from amodal_model.masks import Rle, box_mask, encode_rle


class Scene(NamedTuple):
    """A clip and the file of its visible masks."""

    video: Path
    visible: Path


def _masks(index: int, count: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the visible masks of block (1) and ball (2); the ball is hidden in the middle."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    block = (abs(columns - width // 2) < width // 6) & (rows > height // 4)
    x = width * index / max(count - 1, 1)
    ball = (columns - x) ** 2 + (rows - height * 0.6) ** 2 < (height / 7) ** 2
    return block, ball & ~block


def picture(index: int, count: int, size: tuple[int, int]) -> np.ndarray:
    block, ball = _masks(index, count, size)
    image = np.full((*size, 3), 90, np.uint8)
    image[ball] = (220, 160, 40)
    image[block] = (40, 70, 160)
    return image


def _rle(mask: np.ndarray) -> Rle | None:
    return encode_rle(box_mask(mask)) if mask.any() else None


def write_visible(path: Path, name: str, count: int, size: tuple[int, int], fps: float) -> Path:
    masks = [_masks(index, count, size) for index in range(count)]
    tracks = [{"id": 10, "at": 0}, {"id": 20, "at": 1}]
    content: dict[str, Any] = {
        "info": {"made by": "a test"},
        "videos": [
            {
                "id": 3,
                "file_name": name,
                "width": size[1],
                "height": size[0],
                "length": count,
                "fps": fps,
            }
        ],
        "categories": [{"id": 2, "name": "thing"}],
        "annotations": [
            {
                "id": track["id"],
                "video_id": 3,
                "category_id": 2,
                "segmentations": [_rle(pair[track["at"]]) for pair in masks],
            }
            for track in tracks
        ],
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def visible_for() -> Callable[..., Path]:
    """Writes the visible masks of a scene: path, file name, frames, size, fps."""
    return write_visible


@pytest.fixture
def scene(tmp_path: Path) -> Callable[..., Scene]:
    def make(
        name: str = "clip.mp4",
        *,
        count: int = 20,
        size: tuple[int, int] = (96, 128),
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        pts_ms: list[int] | None = None,
    ) -> Scene:
        path = tmp_path / name
        options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream(codec, rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width = size
            stream.pix_fmt = pix_fmt
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
            for index in range(count):
                image = picture(index, count, size)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
                frame.pts = pts_ms[index] if pts_ms else 40 * index
                frame.time_base = Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        visible = write_visible(tmp_path / f"{name}.visible.json", name, count, size, 25.0)
        return Scene(path, visible)

    return make
