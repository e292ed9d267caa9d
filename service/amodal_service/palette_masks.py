"""Palette PNG images: one label a pixel, as the DAVIS data sets keep their masks.

The layout is described in `amodal_service.foreign_formats`.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amodal_model.errors import LimitError
from amodal_model.masks import Rle, decode_rle
from amodal_service.amodal_json import Segmented
from amodal_service.sources import ClipSource

MAX_LABELS = 255


def check_labels(source: ClipSource) -> None:
    """Raise LimitError where a clip has more objects than a palette has labels."""
    if len(source.tracklets) > MAX_LABELS:
        raise LimitError(
            f"{source.clip.path}: {len(source.tracklets)} objects, a palette PNG holds "
            f"{MAX_LABELS} (format davis)"
        )


def write_davis(folder: Path, clips: Sequence[Segmented]) -> None:
    """Write the visible masks of all objects and the amodal masks of each, as palette PNG."""
    folder.mkdir(parents=True)
    labels = {clip.source.name: _labels(clip.source) for clip in clips}
    (folder / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    for clip in clips:
        _write_clip(folder, clip, labels[clip.source.name])


def _labels(source: ClipSource) -> dict[int, int]:
    ids = [track.track_id for track in source.tracklets]
    if all(1 <= track_id <= MAX_LABELS for track_id in ids):
        return {track_id: track_id for track_id in ids}
    return {track_id: label for label, track_id in enumerate(ids, start=1)}


def _write_clip(folder: Path, clip: Segmented, labels: dict[int, int]) -> None:
    palette = davis_palette()
    visible = folder / "visible" / clip.source.name
    amodal = folder / "amodal" / clip.source.name
    for place in (visible, *(amodal / str(track_id) for track_id in labels)):
        place.mkdir(parents=True, exist_ok=True)
    for record in clip.journal.records():
        name = f"{record['frame_index']:05d}.png"
        seen = {each["track_id"]: each["visible_segmentation"] for each in record["objects"]}
        whole = {each["track_id"]: each["segmentation"] for each in record["objects"]}
        size = clip.source.video.frame_size
        write_palette_png(visible / name, _paint(size, labels, seen), palette)
        for track_id, label in labels.items():
            alone = _paint(size, {track_id: label}, whole)
            write_palette_png(amodal / str(track_id) / name, alone, palette)


def _paint(
    size: tuple[int, int], labels: dict[int, int], masks: dict[int, Rle | None]
) -> NDArray[np.uint8]:
    image = np.zeros(size, np.uint8)
    for track_id, label in labels.items():
        rle = masks.get(track_id)
        if rle is not None:
            mask = decode_rle(rle)
            x0, y0, x1, y1 = mask.bbox_xyxy
            image[y0:y1, x0:x1][mask.pixels] = label
    return image


def davis_palette() -> bytes:
    """Return the 256 RGB colours of DAVIS and PASCAL VOC: the label's bits, spread and reversed.

    Source: Everingham et al., the PASCAL VOC development kit, function ``VOClabelcolormap``.
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (labels >> (3 * bit + channel) & 1) << (7 - bit)
    return colours.astype(np.uint8).tobytes()


def write_palette_png(path: Path, labels: NDArray[np.uint8], palette: bytes) -> None:
    """Write labels (H, W), uint8, as an 8-bit palette PNG."""
    height, width = labels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # a row starts with its filter, here none
    rows[:, 1:] = labels
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 3)
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", body), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks))


def _chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)
