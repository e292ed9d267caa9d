"""Mask sequences to learn from: tracklets of a dataset, and where other objects were.

Only visible masks are read. `MaskSequence.others` marks pixels where something else was seen, so
that what the target does there is unknown.
"""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import UInt8

from amodal_model.errors import DatasetError
from amodal_model.masks import BoxedMask
from amodal_model.youtube_vis import read_mask_file

MIN_AREA = 40
"""Visible pixels from which a mask is worth learning from."""
MIN_SHOWN = 0.4
"""Share of a sequence's frames in which its target must be visible."""


class MaskSequence(NamedTuple):
    """One target over T frames.

    Attributes:
        frame_size: ``(height, width)``, pixels.
        target: the target's visible mask, ``None`` where it has no pixel.
        others: uint8 (H, W) a frame: 1 where another object is visible, else 0.
        answers: what is to be learned, known in every pixel of every frame, ``None`` where the
            target is not in the frame. Self-supervised learning has none: it asks for what it hid.
    """

    frame_size: tuple[int, int]
    target: list[BoxedMask | None]
    others: list[UInt8[np.ndarray, "H W"]]
    answers: list[BoxedMask | None] | None = None


class SequenceSource(Protocol):
    """Gives mask sequences, at random."""

    def sample(self, rng: np.random.Generator, frames: int) -> MaskSequence:
        """Return a sequence of ``frames`` frames."""
        ...


class Draw(NamedTuple):
    """What was drawn from a dataset: frames of one tracklet, in the order they are played."""

    video_id: int
    track_id: int
    frames: list[int]


HELD_OUT = 10
"""Every so-manyth video is held out for selection; of fewer videos, that share of the frames."""


class DatasetSource:
    """Tracklets of a dataset's ``visible.json``, played at several speeds and both ways.

    Args:
        visible: path of the mask file.
        is_selection: give what is held out for selection, instead of what is learned from;
            ``None`` for both.

    Raises:
        DatasetError: no tracklet is long and large enough to learn from.
    """

    def __init__(self, visible: Path, *, is_selection: bool | None = False) -> None:
        masks = read_mask_file(visible)
        self._sizes: dict[int, tuple[int, int]] = {}
        self._first: dict[int, int] = {}
        self._tracks: dict[int, dict[int, list[BoxedMask | None]]] = {}
        for index, video in enumerate(masks.videos):
            frames = held_out(index, len(masks.videos), video.length, is_selection=is_selection)
            self._sizes[video.video_id] = video.frame_size
            self._first[video.video_id] = frames.start
            self._tracks[video.video_id] = {
                track.track_id: [track.mask(frame) for frame in frames]
                for track in masks.tracklets_of(video.video_id)
            }
        self._index = [
            (video_id, track_id)
            for video_id, tracks in self._tracks.items()
            for track_id, track in tracks.items()
            if sum(mask is not None and mask.area >= MIN_AREA for mask in track) >= 8
        ]
        if not self._index:
            raise DatasetError(
                f"{visible}: no tracklet of 8 frames and {MIN_AREA} pixels in "
                f"{len(masks.videos)} videos"
            )

    def __len__(self) -> int:
        return len(self._index)

    def sample(self, rng: np.random.Generator, frames: int) -> MaskSequence:
        """Return a sequence whose target is visible in enough of its frames."""
        return self.sample_drawn(rng, frames)[0]

    def sample_drawn(self, rng: np.random.Generator, frames: int) -> tuple[MaskSequence, Draw]:
        """Return what `sample` does, and where it comes from, with frame indices of the video."""
        for _ in range(50):
            video_id, track_id = self._index[rng.integers(len(self._index))]
            track = self._tracks[video_id][track_id]
            picked = _pick_frames(rng, len(track), frames)
            target = [track[index] for index in picked]
            shown = sum(mask is not None and mask.area >= MIN_AREA for mask in target)
            if shown >= MIN_SHOWN * frames:
                break
        if all(mask is None for mask in target):
            seen = [index for index, mask in enumerate(track) if mask is not None]
            picked = list(islice(cycle(seen), frames))
            target = [track[index] for index in picked]
        others = [self._others(video_id, track_id, index) for index in picked]
        first = self._first[video_id]
        drawn = Draw(video_id, track_id, [first + index for index in picked])
        return MaskSequence(self._sizes[video_id], target, others), drawn

    def _others(self, video_id: int, track_id: int, index: int) -> UInt8[np.ndarray, "H W"]:
        covered = np.zeros(self._sizes[video_id], np.uint8)
        for other, track in self._tracks[video_id].items():
            mask = track[index]
            if other != track_id and mask is not None:
                x0, y0, x1, y1 = mask.bbox_xyxy
                covered[y0:y1, x0:x1] |= mask.pixels
        return covered


def held_out(index: int, videos: int, length: int, *, is_selection: bool | None) -> range:
    """Return the frames of a video that are held out for selection, those that are not, or all."""
    if is_selection is None:
        return range(length)
    if videos >= HELD_OUT:
        return range(length if (index % HELD_OUT == 1) == is_selection else 0)
    first = length - max(length // HELD_OUT, min(12, length // 2))
    return range(first, length) if is_selection else range(first)


def _pick_frames(rng: np.random.Generator, length: int, frames: int) -> list[int]:
    """Return frame indices at a random speed and direction; a short clip swings back and forth."""
    stride = int(rng.choice([1, 1, 1, 2, 2, 3]))
    start = int(rng.integers(max(length - (frames - 1) * stride, 1)))
    picked = start + stride * np.arange(frames)
    period = max(2 * (length - 1), 1)
    folded = picked % period
    picked = np.where(folded >= length, period - folded, folded)
    if rng.random() < 0.5:
        picked = picked[::-1]
    return [int(index) for index in picked]


def flip(sequence: MaskSequence) -> MaskSequence:
    """Return the sequence mirrored left to right."""
    width = sequence.frame_size[1]

    def mirrored(mask: BoxedMask | None) -> BoxedMask | None:
        if mask is None:
            return None
        x0, y0, x1, y1 = mask.bbox_xyxy
        return BoxedMask((width - x1, y0, width - x0, y1), mask.pixels[:, ::-1], mask.frame_size)

    others = [np.ascontiguousarray(covered[:, ::-1]) for covered in sequence.others]
    answers = None if sequence.answers is None else [mirrored(m) for m in sequence.answers]
    target = [mirrored(m) for m in sequence.target]
    return MaskSequence(sequence.frame_size, target, others, answers)


def centers_and_size(sequence: MaskSequence) -> tuple[np.ndarray, float]:
    """Return the target's centre in each frame (T, 2), interpolated, and its median size, pixels.

    Raises:
        ValueError: the target is visible in no frame.
    """
    seen = [i for i, mask in enumerate(sequence.target) if mask is not None]
    boxes = np.array([sequence.target[i].bbox_xyxy for i in seen], np.float64)  # type: ignore[union-attr]
    frames = np.arange(len(sequence.target))
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    center = np.stack([np.interp(frames, seen, middle[:, axis]) for axis in range(2)], 1)
    return center, float(np.median(np.max(boxes[:, 2:] - boxes[:, :2], axis=1)))
