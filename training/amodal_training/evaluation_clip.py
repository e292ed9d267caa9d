"""What evaluation reads: the clips of a dataset with visible and with true amodal masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from amodal_model.errors import DatasetError
from amodal_model.masks import BoxedMask, box_mask, empty_mask, subtract
from amodal_model.video import open_clip
from amodal_model.youtube_vis import MaskFile, Tracklet, VideoEntry, read_mask_file
from amodal_training.baselines import ObjectClip


@dataclass(frozen=True, eq=False)
class EvaluationClip:
    """One video of a dataset with all its masks; its frames are decoded only on demand.

    Attributes:
        video: name, size and length.
        video_path: the video file, or the folder of frames.
        visible_frames: per frame, V by track id, of every object with a visible pixel.
        amodal: per evaluated track id, A of each frame.
        unknown: of each frame, where A is not known: taken off from what is measured; A has no
            pixel there. ``None`` where it is known everywhere.
        is_looked_at: whether methods see the frames; with given masks they do not.
        images: of the frames, RGB, where they are not those of a video.
    """

    video: VideoEntry
    video_path: Path
    visible_frames: tuple[Mapping[int, BoxedMask], ...]
    amodal: Mapping[int, tuple[BoxedMask | None, ...]]
    unknown: tuple[BoxedMask, ...] | None = None
    is_looked_at: bool = False
    images: Sequence[UInt8[np.ndarray, "H W 3"]] | None = None

    @property
    def source(self) -> str:
        """The source sequence, which the bootstrap resamples; the file name where none is said."""
        return str(self.video.other.get("source", self.video.file_name))

    def visible(self, track_id: int) -> list[BoxedMask | None]:
        """Return V of one object in each frame."""
        return [masks.get(track_id) for masks in self.visible_frames]

    def frames(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Yield the frames of the video, RGB.

        Raises:
            DatasetError: the video cannot be read, or its size or length is not what the mask
                files say.
        """
        if self.images is not None:
            yield from self.images
            return
        clip, count = open_clip(self.video_path), 0
        if clip.frame_size != self.video.frame_size:
            raise DatasetError(
                f"{self.video_path}: frames are {clip.frame_size} (height, width), the masks "
                f"{self.video.frame_size}"
            )
        for frame in clip.frames():
            count += 1
            if count <= self.video.length:
                yield frame.image
        if count != self.video.length:
            raise DatasetError(
                f"{self.video_path}: {count} frames, the mask files say {self.video.length}"
            )

    def objects(self) -> Iterator[tuple[int, ObjectClip]]:
        """Yield the evaluated objects by track id, with the others' visible masks beside them."""
        covered = [_union_of(masks, self.video.frame_size) for masks in self.visible_frames]
        for track_id, amodal in self.amodal.items():
            visible = self.visible(track_id)
            others = [
                cover if seen is None else subtract(cover, seen)
                for cover, seen in zip(covered, visible, strict=True)
            ]
            yield track_id, ObjectClip(visible, others, amodal)


def _union_of(masks: Mapping[int, BoxedMask], frame_size: tuple[int, int]) -> BoxedMask:
    """Return the union of all masks: less the object's own it is O."""
    if not masks:
        return empty_mask(frame_size)
    full = np.zeros(frame_size, bool)
    for mask in masks.values():
        x0, y0, x1, y1 = mask.bbox_xyxy
        full[y0:y1, x0:x1] |= mask.pixels
    return box_mask(full)


class ClipSet(Protocol):
    """Clips to be evaluated, one at a time."""

    @property
    def name(self) -> str:
        """As tables show it."""
        ...

    def __len__(self) -> int: ...

    def clips(self) -> Iterator[EvaluationClip]:
        """Yield the clips."""
        ...


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """The clips of a dataset folder, decoded one at a time.

    Attributes:
        folder: the dataset.
        visible_file: content of ``visible.json``.
        amodal_file: content of ``amodal.json``.
        videos: the entries of ``amodal.json`` to be evaluated.
    """

    folder: Path
    visible_file: MaskFile
    amodal_file: MaskFile
    videos: tuple[VideoEntry, ...]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    def __len__(self) -> int:
        return len(self.videos)

    def clips(self) -> Iterator[EvaluationClip]:
        """Yield the clips, masks decoded."""
        for video in self.videos:
            given = self.visible_file.video_named(video.file_name)
            tracks = {t.track_id: _masks(t) for t in self.visible_file.tracklets_of(given.video_id)}
            yield EvaluationClip(
                video,
                self.folder / "videos" / video.file_name,
                tuple(_frame(tracks, index) for index in range(video.length)),
                {t.track_id: _masks(t) for t in self.amodal_file.tracklets_of(video.video_id)},
            )


def _masks(tracklet: Tracklet) -> tuple[BoxedMask | None, ...]:
    return tuple(tracklet.mask(index) for index in range(len(tracklet.segmentations)))


def _frame(
    tracks: Mapping[int, tuple[BoxedMask | None, ...]], frame_index: int
) -> dict[int, BoxedMask]:
    found = {track_id: masks[frame_index] for track_id, masks in tracks.items()}
    return {track_id: mask for track_id, mask in found.items() if mask is not None}


def open_evaluation_set(folder: Path, limit_clips: int | None = None) -> EvaluationSet:
    """Open a dataset folder for evaluation and check that its two mask files belong together.

    Args:
        folder: holds ``videos/``, ``visible.json`` and ``amodal.json``.
        limit_clips: only the first so many videos.

    Raises:
        DatasetError: a file is missing or broken, or the two do not fit; nothing to evaluate.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such dataset folder")
    amodal, visible = (read_mask_file(folder / name) for name in ("amodal.json", "visible.json"))
    videos = amodal.videos[:limit_clips]
    for video in videos:
        given = visible.video_named(video.file_name)
        sizes = [(entry.length, entry.height, entry.width) for entry in (video, given)]
        if sizes[0] != sizes[1]:
            raise DatasetError(
                f"{folder}: {video.file_name} is {sizes[0]} (length, height, width) in "
                f"amodal.json and {sizes[1]} in visible.json"
            )
    if not any(amodal.tracklets_of(video.video_id) for video in videos):
        raise DatasetError(f"{folder}: amodal.json has no annotation to evaluate")
    return EvaluationSet(folder, visible, amodal, videos)
