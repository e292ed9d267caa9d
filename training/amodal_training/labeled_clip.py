"""A clip with its masks: what a benchmark generator makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from amodal_model.masks import BoxedMask, box_mask, encode_rle
from amodal_model.youtube_vis import Tracklet

MaskTracks = Mapping[int, tuple[BoxedMask, ...]]
"""Per track id one mask a frame; a mask without pixels where the object has none."""


@dataclass(frozen=True, eq=False)
class LabeledClip:
    """A clip with visible and, where they are known, amodal masks.

    Attributes:
        name: the name of the clip, without extension.
        source: what the bootstrap of `evaluate` resamples over: clips of one source are not
            independent of each other.
        frames: uint8 (T, H, W, 3), RGB.
        fps: frames a second.
        visible: visible masks by track id.
        amodal: whole silhouettes by track id, clipped to the frame.
    """

    name: str
    source: str
    frames: UInt8[np.ndarray, "T H W 3"]
    fps: float
    visible: MaskTracks
    amodal: MaskTracks


def box_masks(masks: Iterable[Bool[np.ndarray, "H W"]]) -> tuple[BoxedMask, ...]:
    """Return full-frame bool masks (H, W), one a frame, as boxed masks."""
    return tuple(box_mask(mask) for mask in masks)


def tracklets_of(tracks: MaskTracks, video_id: int) -> list[Tracklet]:
    """Return the tracklets of a dataset file: RLE a frame, ``None`` where there is no pixel."""
    return [
        Tracklet(track_id, video_id, tuple(encode_rle(m) if m.area else None for m in masks))
        for track_id, masks in sorted(tracks.items())
    ]
