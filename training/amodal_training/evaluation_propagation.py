"""How well a prompted object is followed: J and F from one box in its first frame.

The protocol of DAVIS 2017, semi-supervised, but for the prompt: in place of the first mask only
its box is given. J (IoU) and F (contours) are taken over the frames between the first and the
last of each object, averaged over frames, then over objects. CPU time is that of the source.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from amodal_model.errors import DatasetError
from amodal_model.masks import BoxedMask, empty_mask, mask_iou
from amodal_model.pictures import Picture
from amodal_model.stream import AmodalSegmenter
from amodal_model.video import Clip, open_clip
from amodal_model.visible_source import Prompt, VisibleMaskSource
from amodal_model.youtube_vis import MaskFile, Tracklet, VideoEntry, read_mask_file
from amodal_training.contours import contour_accuracy


class Followed(NamedTuple):
    """How well one object was followed.

    Attributes:
        file_name: of its video.
        track_id: of the object.
        first: IoU of the mask that its box gave, in the frame of the box.
        j: mean IoU over the frames measured.
        f: mean contour accuracy over them.
        frames: how many they are.
        cpu_ms: CPU time of the source, milliseconds a frame of the video.
    """

    file_name: str
    track_id: int
    first: float
    j: float
    f: float
    frames: int
    cpu_ms: float


class Means(NamedTuple):
    """Means over the objects; CPU time over the videos."""

    first: float
    j: float
    f: float
    j_and_f: float
    cpu_ms: float


def evaluate_propagation(
    dataset: Path,
    source: VisibleMaskSource[Any],
    segmenter: AmodalSegmenter | None,
    *,
    limit_clips: int | None = None,
    progress: bool = False,
) -> list[Followed]:
    """Return the figures of every object of a dataset, prompted by its first box.

    Args:
        dataset: a folder with ``videos/`` and ``visible.json``.
        source: follows the objects.
        segmenter: says where objects are expected; without it the source is on its own.
        limit_clips: only the first so many videos.
        progress: show a progress bar on standard error.

    Raises:
        DatasetError: no visible masks, or none with a frame between its first and last.
    """
    masks = read_mask_file(dataset / "visible.json")
    videos = masks.videos[:limit_clips]
    console = Console(stderr=True)
    found: list[Followed] = []
    with _one_thread():
        for video in track(videos, "following", console=console, disable=not progress):
            clip = open_clip(dataset / "videos" / video.file_name)
            found += _follow_clip(clip, video, masks, source, segmenter)
    if not found:
        raise DatasetError(f"{dataset}: no object that shows between its first and last frame")
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep OpenCV to one thread, so that CPU time is that of one core."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


class _Scores(NamedTuple):
    """J and F of one object by frame, from the frame of its prompt on."""

    j: list[float]
    f: list[float]


def _follow_clip(
    clip: Clip,
    video: VideoEntry,
    masks: MaskFile,
    source: VisibleMaskSource[Any],
    segmenter: AmodalSegmenter | None,
) -> list[Followed]:
    tracks = masks.tracklets_of(video.video_id)
    prompts = {t.track_id: prompt for t in tracks if (prompt := _first_box(t)) is not None}
    scores = {track_id: _Scores([], []) for track_id in prompts}
    state = source.start(video.frame_size)
    stream = segmenter.start(video.frame_size) if segmenter else None
    cpu_s = 0.0
    for frame in clip.frames():
        said = [prompt for index, prompt in prompts.values() if index == frame.index]
        expected = segmenter.expect(stream) if segmenter and stream else {}
        before = time.process_time()
        found, state = source.find(frame.image, said, state, expected)
        cpu_s += time.process_time() - before
        if segmenter and stream:
            _, stream = segmenter.advance(found, stream, picture=Picture(frame.image))
        for each in tracks:
            if each.track_id in prompts and frame.index >= prompts[each.track_id][0]:
                _score(scores[each.track_id], each.mask(frame.index), found.get(each.track_id))
    cpu_ms = 1e3 * cpu_s / max(video.length, 1)
    return [
        _summary(video.file_name, track_id, each, cpu_ms)
        for track_id, each in scores.items()
        if len(each.j) > 2
    ]


def _first_box(tracklet: Tracklet) -> tuple[int, Prompt] | None:
    """Return the first frame that an object shows in, and its box there as a prompt."""
    for index in range(len(tracklet.segmentations)):
        mask = tracklet.mask(index)
        if mask is not None:
            x0, y0, x1, y1 = mask.bbox_xyxy
            return index, Prompt(tracklet.track_id, bbox_xyxy=(x0, y0, x1, y1))
    return None


def _score(scores: _Scores, true: BoxedMask | None, found: BoxedMask | None) -> None:
    size = (true or found or empty_mask((1, 1))).frame_size
    true, found = true or empty_mask(size), found or empty_mask(size)
    scores.j.append(mask_iou(found, true))
    scores.f.append(contour_accuracy(found.full(), true.full()))


def _summary(file_name: str, track_id: int, scores: _Scores, cpu_ms: float) -> Followed:
    j, f = scores.j[1:-1], scores.f[1:-1]
    return Followed(
        file_name, track_id, scores.j[0], float(np.mean(j)), float(np.mean(f)), len(j), cpu_ms
    )


def means_of(found: Sequence[Followed]) -> Means:
    """Return the means over objects, the benchmark's figures."""
    first, j, f = (
        float(np.mean([getattr(each, n) for each in found])) for n in ("first", "j", "f")
    )
    by_video = {each.file_name: each.cpu_ms for each in found}
    return Means(first, j, f, (j + f) / 2, float(np.mean(list(by_video.values()))))


def propagation_json(found: Sequence[Followed]) -> dict[str, Any]:
    """Return the figures as a JSON value."""
    return {
        "means": means_of(found)._asdict(),
        "halves": {
            name: means_of(part)._asdict()
            for name, part in (("even", found[::2]), ("odd", found[1::2]))
            if part
        },
        "objects": [each._asdict() for each in found],
    }


def print_propagation(console: Console, found: Sequence[Followed]) -> None:
    """Print a table, an object a row, the means last."""
    table = Table("video", "object", "first", "J", "F", "frames", "CPU ms/frame")
    for each in found:
        figures = (f"{value:.3f}" for value in (each.first, each.j, each.f))
        row = (each.file_name, str(each.track_id), *figures, str(each.frames))
        table.add_row(*row, f"{each.cpu_ms:.1f}")
    console.print(table)
    means = means_of(found)
    console.print(
        f"{len(found)} objects from a box each: J&F {means.j_and_f:.3f}, J {means.j:.3f}, "
        f"F {means.f:.3f}; first mask {means.first:.3f}; {means.cpu_ms:.1f} CPU ms a frame"
    )
