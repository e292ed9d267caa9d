"""Short clips, segmented while the client waits: the frames of a job, held in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amodal_model.clip import Mode
from amodal_model.errors import InputError, LimitError
from amodal_model.masks import Rle
from amodal_model.stream import AmodalSegmenter
from amodal_model.video import Clip, Frame, FrameCheck, no_check
from amodal_model.youtube_vis import Tracklet, VideoEntry
from amodal_service.records import Record
from amodal_service.segmentation import finished_frames
from amodal_service.settings import Limits
from amodal_service.sources import ClipSource

MASKS_NAME = "masks"


class ObjectMask(NamedTuple):
    """The visible mask of one object in one frame."""

    track_id: int
    rle: Rle


class MaskFrames(NamedTuple):
    """A clip as visible masks alone: an entry a frame, in it an entry an object."""

    frame_size: tuple[int, int]
    fps: float
    frames: Sequence[Sequence[ObjectMask]]


@dataclass(frozen=True)
class _BlankClip:
    """A clip whose pictures are not known: black, and without cost."""

    path: Path
    frame_size: tuple[int, int]
    fps: float
    length: int

    def frames(self, first: int = 0) -> Iterator[Frame]:
        black = np.broadcast_to(np.uint8(0), (*self.frame_size, 3))
        for index in range(first, self.length):
            yield Frame(index, index / self.fps, black)

    def count(self, check: FrameCheck = no_check) -> int:
        check(self.length)
        return self.length


def source_of_masks(given: MaskFrames) -> ClipSource:
    """Return a clip of visible masks alone.

    Raises:
        InputError: a mask of another size than the frames, or two of one object in a frame.
    """
    height, width = given.frame_size
    length = len(given.frames)
    found: dict[int, list[Rle | None]] = {}
    for index, objects in enumerate(given.frames):
        for track_id, rle in objects:
            if list(rle["size"]) != [height, width]:
                raise InputError(
                    f"track {track_id}, frame {index}: mask size {list(rle['size'])}, the frames "
                    f"are [{height}, {width}]"
                )
            track = found.setdefault(track_id, [None] * length)
            if track[index] is not None:
                raise InputError(f"track {track_id}, frame {index}: two masks of one object")
            track[index] = rle
    video = VideoEntry(1, MASKS_NAME, width, height, length, given.fps)
    clip = _BlankClip(Path(MASKS_NAME), given.frame_size, given.fps, length)
    tracks = tuple(Tracklet(key, 1, tuple(found[key])) for key in sorted(found))
    return ClipSource(MASKS_NAME, clip, video, tracks)


def check_short(clip: Clip, limits: Limits, frames: int) -> None:
    """Raise LimitError where a clip of so many frames is not short; names the limit."""
    seconds = frames / clip.fps
    if seconds > limits.segment_seconds:
        raise LimitError(
            f"clip is {seconds:.2f} s, limit {limits.segment_seconds:.2f} s "
            "(AMODAL_LIMIT_SEGMENT_SECONDS); longer ones are for /v1/jobs"
        )
    height, width = clip.frame_size
    pixels = frames * width * height
    if pixels > limits.segment_pixels:
        raise LimitError(
            f"clip has {pixels} pixels over its frames, limit {limits.segment_pixels} "
            "(AMODAL_LIMIT_SEGMENT_PIXELS); larger ones are for /v1/jobs"
        )


def segment_short(
    source: ClipSource, segmenter: AmodalSegmenter, mode: Mode, limits: Limits
) -> list[Record]:
    """Return the records of all frames of a clip.

    Raises:
        LimitError: the clip is too long or has too many pixels; names the limit.
        DatasetError: a damaged clip, a broken mask, or masks for another number of frames.
    """
    check_short(source.clip, limits, source.video.length)
    records = [frame.record for frame in finished_frames(source, segmenter, mode)]
    source.check_length(len(records))
    return records
