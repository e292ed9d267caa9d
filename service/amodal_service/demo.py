"""``amodal demo``: the bundled clips, annotated, drawn and measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from amodal_model.errors import DatasetError
from amodal_model.masks import BoxedMask, mask_iou, subtract
from amodal_model.results import FrameResult, ObjectResult
from amodal_model.video import Frame
from amodal_model.video_writer import VideoWriter
from amodal_model.youtube_vis import read_mask_file
from amodal_service.annotation import AnnotateOptions, annotate
from amodal_service.progress import Reporter
from amodal_service.records import frame_result
from amodal_service.rendering import Image, SheetColumn, contact_sheet, draw_overlay
from amodal_service.sources import ClipSource, find_sources

OVERLAY_SIZE = (480, 640)
COLUMNS_A_CLIP = 3
SMALLEST_AREA = 50
"""A silhouette of fewer pixels is not counted (evaluation.md)."""
OCCLUDED_FROM = 0.05


class Figures(NamedTuple):
    """Means over tracks of IoU(P, A), and of IoU(P - V, A - V) where hidden is 5 % or more."""

    miou_full: float
    miou_occ: float
    visible_miou_full: float


def run_demo(clips: Path, output: Path, reporter: Reporter) -> list[str]:
    """Annotate every dataset under ``clips`` and return what to print.

    Raises:
        DatasetError: no dataset there.
    """
    datasets = sorted(path.parent for path in clips.glob("*/visible.json"))
    if not datasets:
        raise DatasetError(f"{clips}: no demo clips; run it in a clone, or name them with --clips")
    output.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for dataset in datasets:
        options = AnnotateOptions(dataset, output / dataset.name, formats=("coco-rle",))
        lines.append(f"masks:         {annotate(options, reporter)}")
        if (dataset / "amodal.json").exists():
            lines.append(_figures_line(measure(dataset, _records(output, dataset))))
    _write_pictures(datasets, output, reporter)
    return [
        f"overlay video: {output / 'overlay.mp4'}",
        f"contact sheet: {output / 'contact_sheet.png'}",
        *lines,
    ]


def _records(output: Path, dataset: Path) -> Path:
    return output / dataset.name / "coco-rle.jsonl"


def _write_pictures(datasets: list[Path], output: Path, reporter: Reporter) -> None:
    """Write one overlay video of all clips, one after the other, and the contact sheet."""
    columns: list[SheetColumn] = []
    time_s = 0.0
    with VideoWriter(output / "overlay.mp4", fps=30.0) as writer:
        for dataset in datasets:
            for source in find_sources(dataset, None, reporter.line).clips:
                shown = list(_results(source, _records(output, dataset)))
                time_s = _draw(writer, shown, time_s, 1.0 / source.clip.fps)
                columns += _moments(source, shown)
    cv2.imwrite(str(output / "contact_sheet.png"), contact_sheet(columns)[..., ::-1])


def _results(source: ClipSource, records: Path) -> Iterator[tuple[Frame, FrameResult]]:
    """Yield the frames of a clip with their results."""
    size = source.video.frame_size
    with records.open(encoding="utf-8") as lines:
        own = (r for r in map(json.loads, lines) if r["video_id"] == source.video.video_id)
        for frame, record in zip(source.clip.frames(), own, strict=True):
            yield frame, frame_result(record, size)


def _draw(
    writer: VideoWriter, shown: list[tuple[Frame, FrameResult]], start_s: float, step_s: float
) -> float:
    """Append a clip to the video and return when the next one starts, seconds."""
    first_s = shown[0][0].pts_s
    for frame, result in shown:
        picture = _fit(draw_overlay(frame.image, result))
        writer.write(picture, start_s + frame.pts_s - first_s)
    return start_s + shown[-1][0].pts_s - first_s + step_s


def _fit(image: Image) -> Image:
    """Return the picture scaled into the frame of the demo video, centred on black."""
    height, width = OVERLAY_SIZE
    scale = min(height / image.shape[0], width / image.shape[1])
    small = cv2.resize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)))
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas


def _moments(source: ClipSource, shown: list[tuple[Frame, FrameResult]]) -> list[SheetColumn]:
    """Return the frames with most filled in, one from each part of the clip."""
    hidden = [sum(each.inferred.area for each in result.objects) for _, result in shown]
    parts = [part for part in np.array_split(np.arange(len(shown)), COLUMNS_A_CLIP) if part.size]
    chosen = [max(part.tolist(), key=hidden.__getitem__) for part in parts]
    return [
        SheetColumn(f"{source.name}  {shown[i][0].pts_s:.1f} s", shown[i][0].image, shown[i][1])
        for i in chosen
    ]


def measure(dataset: Path, records: Path) -> Figures:
    """Return the figures of the results against a dataset's exact silhouettes."""
    full, occluded, visible = _Means(), _Means(), _Means()
    for track, each, whole in _pairs(dataset, records):
        full.add(track, mask_iou(each.amodal, whole))
        visible.add(track, mask_iou(each.visible, whole))
        hidden = subtract(whole, each.visible)
        if hidden.area >= OCCLUDED_FROM * whole.area:
            occluded.add(track, mask_iou(each.inferred, hidden))
    return Figures(full.mean(), occluded.mean(), visible.mean())


def _pairs(
    dataset: Path, records: Path
) -> Iterator[tuple[tuple[int, int], ObjectResult, BoxedMask]]:
    """Yield (video id, track id), result and true silhouette of every pair that counts."""
    truth = read_mask_file(dataset / "amodal.json")
    sizes = {video.video_id: video.frame_size for video in truth.videos}
    with records.open(encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            video_id = record["video_id"]
            masks = truth.masks_at(video_id, record["frame_index"])
            for each in frame_result(record, sizes[video_id]).objects:
                whole = masks.get(each.track_id)
                if whole is not None and whole.area >= SMALLEST_AREA:
                    yield (video_id, each.track_id), each, whole


class _Means:
    """Values by track; their mean is over tracks first, then over the set."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, int], list[float]] = {}

    def add(self, track: tuple[int, int], value: float) -> None:
        self._values.setdefault(track, []).append(value)

    def mean(self) -> float:
        tracks = [sum(values) / len(values) for values in self._values.values()]
        return sum(tracks) / len(tracks) if tracks else float("nan")


def _figures_line(figures: Figures) -> str:
    return (
        f"    against exact truth: miou_full {figures.miou_full:.3f} "
        f"(visible masks alone {figures.visible_miou_full:.3f}), "
        f"miou_occ {figures.miou_occ:.3f}"
    )
