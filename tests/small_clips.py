"""Small clips with their visible masks: a block that stands, a disc that passes behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from amodal_model.masks import Rle, box_mask, encode_rle
from amodal_service.annotation import AnnotateOptions

FPS = 25


class SmallClip(NamedTuple):
    """A clip, the file of its visible masks, and one of prompts: a box of each object."""

    video: Path
    visible: Path
    prompts: Path

    def options(self, output: Path, masks: str, **how: Any) -> AnnotateOptions:
        """Return what `annotate` does with it, its masks given, prompted or found by motion."""
        visible = self.visible if masks == "given" else None
        prompts = self.prompts if masks == "prompted" else None
        kind = None if masks == "given" else masks
        return AnnotateOptions(self.video, output, visible, prompts, kind, **how)


def write_small_clip(
    folder: Path,
    name: str,
    frames: int,
    size: tuple[int, int] = (48, 64),
    *,
    shift: float = 0.0,
    objects: int = 2,
) -> SmallClip:
    """Write a clip; another ``shift`` gives another one. ``objects``: the block, and discs."""
    masks = [_masks(index, frames, size, shift, objects) for index in range(frames)]
    with av.open(str(folder / name), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for pair in masks:
            image = np.full((*size, 3), 90, np.uint8)
            for number, mask in enumerate(pair):
                image[mask] = (40 + 30 * number, 70, 160)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    visible = folder / f"{name}.visible.json"
    visible.write_text(json.dumps(_mask_file(name, size, masks)))
    prompts = folder / f"{name}.prompts.json"
    prompts.write_text(json.dumps(_prompt_file(masks)))
    return SmallClip(folder / name, visible, prompts)


def _masks(
    index: int, frames: int, size: tuple[int, int], shift: float, objects: int
) -> list[np.ndarray]:
    """Return the visible masks, nearest first: what is in front takes from what is behind."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    visible = [(abs(columns - width // 2) < width // 6) & (rows > height // 4)]
    for number in range(1, objects):
        x = width * ((index / max(frames - 1, 1) + (number - 1) / objects) % 1.0)
        y = height * (0.5 + 0.2 * np.sin(shift + number - 1))
        disc = (columns - x) ** 2 + (rows - y) ** 2 < (height / 7) ** 2
        visible.append(disc & ~np.logical_or.reduce(visible))
    return visible


def _mask_file(name: str, size: tuple[int, int], masks: list[list[np.ndarray]]) -> dict[str, Any]:
    height, width = size
    video = {"id": 3, "file_name": name, "width": width, "height": height}
    return {
        "videos": [{**video, "length": len(masks), "fps": FPS}],
        "categories": [{"id": 2, "name": "thing"}],
        "annotations": [
            {
                "id": 10 * (at + 1),
                "video_id": 3,
                "category_id": 2,
                "segmentations": [_rle(pair[at]) for pair in masks],
            }
            for at in range(len(masks[0]))
        ],
    }


def _prompt_file(masks: list[list[np.ndarray]]) -> dict[str, Any]:
    """Return a box of each object, in the first frame in which much of it shows."""
    objects = []
    for at, most in enumerate(
        max(int(pair[at].sum()) for pair in masks) for at in range(len(masks[0]))
    ):
        index = next(i for i, pair in enumerate(masks) if pair[at].sum() * 2 > most)
        rows, columns = np.nonzero(masks[index][at])
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        entry = {
            "track_id": 10 * (at + 1),
            "frame_index": index,
            "bbox_xyxy": [int(n) for n in box],
        }
        objects.append(entry)
    return {"objects": objects}


def _rle(mask: np.ndarray) -> Rle | None:
    return encode_rle(box_mask(mask)) if mask.any() else None
