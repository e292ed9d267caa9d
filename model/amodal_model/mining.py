"""Tracklets mined from raw video: what moved, whole clips at a time, and only what is good.

Unlike a stream, a clip can be looked at twice: the scene is learned from its first frames, played
backwards, before the first one is searched; and a tracklet is judged by all of its frames.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from amodal_model.masks import BoxedMask, Rle, encode_rle, union
from amodal_model.motion_sightings import MotionFrame, Sighting
from amodal_model.motion_state import MotionState
from amodal_model.source_motion import MotionSource
from amodal_model.tracklet_contour import evenness
from amodal_model.tracklet_quality import (
    Moment,
    Quality,
    QualityConfig,
    cut,
    judge,
    touches_edge,
)
from amodal_model.video import Clip, Frame
from amodal_model.youtube_vis import MaskFile, Tracklet, VideoEntry

WARM_FRAMES = 60
WARM_PIXELS = 80_000_000
"""Bound of what is held of the first frames, pixels."""
MAX_TRACKLETS = 2000
"""Of one clip; the best are kept."""
LEAST_FRAMES = 8
"""Shorter tracklets are no use to training, whatever their quality."""
LEAST_AREA = 40
"""Median pixels of a mask: smaller ones have no shape to learn."""
LONGEST_PART = 8
"""Frames: what was followed by itself for longer is no part of what it is absorbed by later."""
CATEGORIES = ({"id": 1, "name": "object"},)

Watch = Callable[[int], None]


class MineConfig(NamedTuple):
    """What is mined.

    Attributes:
        least_quality: score that a tracklet must reach, 0 to 1.
        quality: how it is judged.
    """

    least_quality: float = 0.5
    quality: QualityConfig = QualityConfig()


class MinedTracklet(NamedTuple):
    """One tracklet: its masks by frame index, and how good it is."""

    masks: dict[int, Rle]
    quality: Quality


class MinedClip(NamedTuple):
    """The tracklets of a clip, by first frame, and how many frames were looked at."""

    length: int
    tracklets: tuple[MinedTracklet, ...]


class _Packed(NamedTuple):
    """A mask in an eighth of its memory."""

    mask: BoxedMask
    shape: tuple[int, int]

    def unpack(self) -> BoxedMask:
        height, width = self.shape
        bits = np.unpackbits(self.mask.pixels.view(np.uint8), count=height * width)
        return BoxedMask(self.mask.bbox_xyxy, bits.reshape(height, width) > 0, self.mask.frame_size)


def _pack(mask: BoxedMask) -> _Packed:
    height, width = mask.pixels.shape
    bits = np.packbits(mask.pixels).view(bool).reshape(1, -1)
    return _Packed(BoxedMask(mask.bbox_xyxy, bits, mask.frame_size), (height, width))


class _Track:
    """Everything seen of one track so far."""

    def __init__(self) -> None:
        self.moments: dict[int, Moment] = {}
        self.masks: dict[int, list[_Packed]] = defaultdict(list)
        self.split_at: int | None = None


def mine_clip(
    clip: Clip,
    config: MineConfig,
    *,
    watch: Watch = lambda count: None,
    until_s: float = float("inf"),
) -> MinedClip:
    """Return the good tracklets of a clip.

    Args:
        clip: to look at.
        config: what is good.
        watch: called with the number of frames done since the last call.
        until_s: value of ``time.monotonic`` at which to stop with what there is.

    Raises:
        DatasetError: damaged, truncated, or a frame of another size.
        LimitError: more frames than ``MAX_FRAMES``.
    """
    source = MotionSource()
    state = _warm_state(source, clip)
    tracks: dict[int, _Track] = defaultdict(_Track)
    length = 0
    for frame in clip.frames():
        seen, state = source.look(frame.image, state)
        _note(tracks, frame, seen)
        length = frame.index + 1
        watch(1)
        if time.monotonic() >= until_s:
            break
    found = [kept for track in tracks.values() for kept in _tracklets(track, config)]
    found.sort(key=lambda tracklet: -tracklet.quality.score)
    best = sorted(found[:MAX_TRACKLETS], key=lambda tracklet: min(tracklet.masks))
    return MinedClip(length, tuple(best))


def _warm_state(source: MotionSource, clip: Clip) -> MotionState:
    """Return a state that knows the scene from the first frames, seen backwards."""
    height, width = clip.frame_size
    count = min(WARM_FRAMES, max(WARM_PIXELS // (height * width), 1))
    ahead: list[Frame] = []
    for frame in clip.frames():
        ahead.append(frame)
        if len(ahead) == count:
            break
    return source.warm_up((frame.image for frame in reversed(ahead)), source.start(clip.frame_size))


def _note(tracks: dict[int, _Track], frame: Frame, seen: MotionFrame) -> None:
    index = frame.index
    for sighting in seen.sightings:
        track = tracks[sighting.serial]
        track.moments[index] = _moment(frame, sighting)
        track.masks[index].append(_pack(sighting.mask))
    for serial in seen.split:
        tracks[serial].split_at = index
    for part, whole in seen.absorbed:
        if len(tracks[part].moments) > LONGEST_PART:
            continue
        for at, masks in tracks.pop(part).masks.items():
            if at in tracks[whole].moments:
                tracks[whole].masks[at].extend(masks)


def _moment(frame: Frame, sighting: Sighting) -> Moment:
    mask = sighting.mask
    return Moment(
        frame.index,
        float(max(mask.area, 1)),
        sighting.travel_px,
        mask.bbox_xyxy,
        sighting.stability,
        sighting.contrast,
        sighting.moving,
        evenness(mask, frame.image),
        sighting.is_merged,
        touches_edge(mask),
    )


def _tracklets(track: _Track, config: MineConfig) -> Iterator[MinedTracklet]:
    """Yield the good stretches of a track; the last one of a track that was several is not one."""
    stretches = cut([track.moments[index] for index in sorted(track.moments)], config.quality)
    if track.split_at is not None:
        stretches = stretches[:-1]
    for stretch in stretches:
        quality = judge(stretch, config.quality)
        large = float(np.median([moment.area for moment in stretch])) >= LEAST_AREA
        if len(stretch) >= LEAST_FRAMES and large and quality.score >= config.least_quality:
            masks = {m.frame_index: _whole(track.masks[m.frame_index]) for m in stretch}
            yield MinedTracklet(masks, quality)


def _whole(parts: list[_Packed]) -> Rle:
    mask = parts[0].unpack()
    for part in parts[1:]:
        mask = union(mask, part.unpack())
    return encode_rle(mask)


def mask_file(names: list[str], clips: list[Clip], mined: list[MinedClip]) -> MaskFile:
    """Return mined clips as a mask file; ids count from 1, each tracklet has its quality."""
    videos, tracklets = [], []
    for video_id, (name, clip, found) in enumerate(zip(names, clips, mined, strict=True), 1):
        height, width = clip.frame_size
        videos.append(VideoEntry(video_id, name, width, height, found.length, clip.fps))
        for track_id, tracklet in enumerate(found.tracklets, 1):
            masks = tuple(tracklet.masks.get(index) for index in range(found.length))
            quality = {name: round(value, 3) for name, value in tracklet.quality._asdict().items()}
            other = {"quality": round(tracklet.quality.score, 3), "quality_parts": quality}
            tracklets.append(Tracklet(track_id, video_id, masks, 1, other))
    return MaskFile(tuple(videos), tuple(tracklets), CATEGORIES)
