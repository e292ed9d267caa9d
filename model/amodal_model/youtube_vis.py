"""The dataset format at the edges: YouTube-VIS files of visible and amodal masks.

`formats.md` of the design, in code: one annotation a tracklet, one entry a frame, ``None`` where
the object has no pixel. ``visible.json`` and ``amodal.json`` share video and track ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amodal_model.errors import DatasetError, InputError, LimitError
from amodal_model.frame_size import MAX_SIDE
from amodal_model.masks import BoxedMask, Rle, decode_rle

MAX_JSON_BYTES = 2 << 30
MAX_FRAMES = 1_000_000
MAX_TRACKS = 100_000


@dataclass(frozen=True)
class VideoEntry:
    """One video of a dataset: ``length`` frames of ``height`` x ``width`` pixels.

    ``other`` holds the keys this format does not know; they pass through.
    """

    video_id: int
    file_name: str
    width: int
    height: int
    length: int
    fps: float
    other: dict[str, Any] = field(default_factory=dict)

    @property
    def frame_size(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.height, self.width


@dataclass(frozen=True, eq=False)
class Tracklet:
    """One object's masks over the frames of one video, ``None`` where it has no pixel."""

    track_id: int
    video_id: int
    segmentations: tuple[Rle | None, ...]
    category_id: int = 1
    other: dict[str, Any] = field(default_factory=dict)

    def mask(self, frame_index: int) -> BoxedMask | None:
        """Return the mask in a frame, or ``None`` where the object has no pixel there.

        Raises:
            DatasetError: the RLE of that frame is broken; names the track and the frame.
        """
        rle = self.segmentations[frame_index]
        if rle is None:
            return None
        try:
            decoded = decode_rle(rle)
        except InputError as error:
            raise DatasetError(f"track {self.track_id}, frame {frame_index}: {error}") from None
        return decoded if decoded.area else None


@dataclass(frozen=True, eq=False)
class MaskFile:
    """The content of one ``visible.json`` or ``amodal.json``."""

    videos: tuple[VideoEntry, ...]
    tracklets: tuple[Tracklet, ...]
    categories: tuple[dict[str, Any], ...] = ()
    other: dict[str, Any] = field(default_factory=dict)

    def tracklets_of(self, video_id: int) -> list[Tracklet]:
        """Return the tracklets of one video, by ascending track id."""
        own = [track for track in self.tracklets if track.video_id == video_id]
        return sorted(own, key=lambda track: track.track_id)

    def masks_at(self, video_id: int, frame_index: int) -> dict[int, BoxedMask]:
        """Return the masks of one frame by track id; objects without a pixel are left out."""
        found = {t.track_id: t.mask(frame_index) for t in self.tracklets_of(video_id)}
        return {track_id: mask for track_id, mask in found.items() if mask is not None}

    def video_named(self, file_name: str) -> VideoEntry:
        """Return the video entry of a file or folder name under ``videos/``.

        Raises:
            DatasetError: no video of that name.
        """
        for video in self.videos:
            if video.file_name == file_name:
                return video
        known = ", ".join(video.file_name for video in self.videos[:5])
        raise DatasetError(f"no video named {file_name!r} in the mask file; it has {known}, ...")


def read_mask_file(path: Path) -> MaskFile:
    """Read a YouTube-VIS mask file and check it against itself.

    Raises:
        DatasetError: missing, not JSON, or a list, id, size or length that does not fit.
        LimitError: larger than 2 GiB.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise LimitError(f"{path}: {path.stat().st_size} bytes, limit {MAX_JSON_BYTES}")
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: not JSON: {error}") from None
    try:
        return mask_file_from_json(content)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None


def mask_file_from_json(content: object) -> MaskFile:
    """Return the mask file of a parsed JSON value.

    Raises:
        DatasetError: a list, id, size or length that does not fit.
    """
    if not isinstance(content, dict):
        raise DatasetError(f"the top level must be an object, got {type(content).__name__}")
    videos = tuple(_video(entry) for entry in _list(content, "videos"))
    by_id = {video.video_id: video for video in videos}
    if len(by_id) != len(videos):
        raise DatasetError("two videos share an id")
    annotations = _list(content, "annotations")
    if len(annotations) > MAX_TRACKS:
        raise DatasetError(f"{len(annotations)} annotations, limit {MAX_TRACKS}")
    tracklets = tuple(_tracklet(entry, by_id) for entry in annotations)
    keys = [(track.video_id, track.track_id) for track in tracklets]
    if len(set(keys)) != len(keys):
        raise DatasetError("two annotations of one video share an id")
    categories = content.get("categories") or []
    other = {k: v for k, v in content.items() if k not in {"videos", "annotations", "categories"}}
    return MaskFile(videos, tracklets, tuple(categories), other)


def _list(content: dict[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    if not isinstance(value, list):
        raise DatasetError(f"{key!r} must be a list, got {type(value).__name__}")
    return value


def _integer(entry: dict[str, Any], key: str, low: int, high: int) -> int:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise DatasetError(f"{key!r} must be an integer from {low} to {high}, got {value!r}")
    return value


_VIDEO_KEYS = {"id", "file_name", "file_names", "width", "height", "length", "fps"}


def _video(entry: object) -> VideoEntry:
    if not isinstance(entry, dict):
        raise DatasetError(f"a video must be an object, got {type(entry).__name__}")
    name = entry.get("file_name")
    if name is None and isinstance(entry.get("file_names"), list) and entry["file_names"]:
        name = str(Path(str(entry["file_names"][0])).parent)  # the YouTube-VIS original
    if not isinstance(name, str) or not name or name in {".", ".."} or "\x00" in name:
        raise DatasetError(f"a video needs a 'file_name', got {name!r}")
    if Path(name).name != name:
        raise DatasetError(f"'file_name' must be a plain name under videos/, got {name!r}")
    fps = entry.get("fps", 25.0)
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 1000:
        raise DatasetError(f"'fps' must be a number from 0 to 1000, got {fps!r}")
    return VideoEntry(
        video_id=_integer(entry, "id", -(2**53), 2**53),
        file_name=name,
        width=_integer(entry, "width", 1, MAX_SIDE),
        height=_integer(entry, "height", 1, MAX_SIDE),
        length=_integer(entry, "length", 0, MAX_FRAMES),
        fps=float(fps),
        other={k: v for k, v in entry.items() if k not in _VIDEO_KEYS},
    )


_DERIVED_KEYS = {"id", "video_id", "category_id", "segmentations", "bboxes", "areas"}


def _tracklet(entry: object, videos: dict[int, VideoEntry]) -> Tracklet:
    if not isinstance(entry, dict):
        raise DatasetError(f"an annotation must be an object, got {type(entry).__name__}")
    track_id = _integer(entry, "id", -(2**53), 2**53)
    video = videos.get(_integer(entry, "video_id", -(2**53), 2**53))
    if video is None:
        raise DatasetError(f"track {track_id}: video id {entry['video_id']} is not in 'videos'")
    segmentations = entry.get("segmentations")
    if not isinstance(segmentations, list) or len(segmentations) != video.length:
        count = len(segmentations) if isinstance(segmentations, list) else repr(segmentations)
        raise DatasetError(
            f"track {track_id}: {count} segmentations, video {video.file_name!r} has "
            f"{video.length} frames"
        )
    for index, rle in enumerate(segmentations):
        _check_size(rle, video, track_id, index)
    category = entry.get("category_id", 1)
    other = {k: v for k, v in entry.items() if k not in _DERIVED_KEYS}
    return Tracklet(track_id, video.video_id, tuple(segmentations), category, other)


def _check_size(rle: object, video: VideoEntry, track_id: int, index: int) -> None:
    if rle is None:
        return
    size = rle.get("size") if isinstance(rle, dict) else None
    if size != [video.height, video.width]:
        raise DatasetError(
            f"track {track_id}, frame {index}: mask size {size}, the video is "
            f"[{video.height}, {video.width}]"
        )


def mask_file_json(masks: MaskFile) -> dict[str, Any]:
    """Return the JSON value of a mask file, with areas and boxes (COCO ``bbox_xywh``) derived."""
    return {
        **masks.other,
        "videos": [video_json(video) for video in masks.videos],
        "categories": list(masks.categories) or [{"id": 1, "name": "object"}],
        "annotations": [_tracklet_json(track) for track in masks.tracklets],
    }


def video_json(video: VideoEntry) -> dict[str, Any]:
    """Return the JSON value of one video entry."""
    return {
        **video.other,
        "id": video.video_id,
        "file_name": video.file_name,
        "width": video.width,
        "height": video.height,
        "length": video.length,
        "fps": video.fps,
    }


def _tracklet_json(track: Tracklet) -> dict[str, Any]:
    masks = [track.mask(index) for index in range(len(track.segmentations))]
    return {
        "iscrowd": 0,
        **track.other,
        "id": track.track_id,
        "video_id": track.video_id,
        "category_id": track.category_id,
        "segmentations": list(track.segmentations),
        "bboxes": [None if mask is None else bbox_xywh(mask) for mask in masks],
        "areas": [None if mask is None else mask.area for mask in masks],
    }


def bbox_xywh(mask: BoxedMask) -> list[int]:
    """Return the COCO box ``[x, y, width, height]`` of a mask, pixels."""
    x0, y0, x1, y1 = mask.bbox_xyxy
    return [x0, y0, x1 - x0, y1 - y0]
