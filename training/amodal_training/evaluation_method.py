"""What can be evaluated: a named way to complete the masks of a clip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from amodal_model.clip import Mode, segment_clip
from amodal_model.masks import BoxedMask
from amodal_model.results import FrameResult
from amodal_model.stream import AmodalSegmenter
from amodal_training.evaluation_clip import EvaluationClip


class TrackPrediction(NamedTuple):
    """What a method says about one object, one entry a frame.

    Attributes:
        masks: P, ``None`` where it says nothing.
        confidence_occluded: expected IoU of the hidden part, in [0, 1]; ``None`` where the method
            states no confidence, NaN in frames without one.
        order: the (front, back) pairs that name the object, in both roles; ``None`` where the
            method states no order.
    """

    masks: Sequence[BoxedMask | None]
    confidence_occluded: Sequence[float] | None = None
    order: Sequence[Sequence[tuple[int, int]]] | None = None


class Method(NamedTuple):
    """A named way to complete masks.

    Attributes:
        name: as the tables show it.
        predict: gives the predictions of a clip by track id; must not read ``clip.amodal``.
        sees_future: whether a frame's prediction may depend on later frames.
    """

    name: str
    predict: Callable[[EvaluationClip], Mapping[int, TrackPrediction]]
    sees_future: bool = False


def segmenter_method(name: str, segmenter: AmodalSegmenter, mode: Mode) -> Method:
    """Return a segmenter as a method; it sees visible masks, and frames that are looked at."""

    def predict(clip: EvaluationClip) -> dict[int, TrackPrediction]:
        images = clip.frames() if clip.is_looked_at else None
        results = segment_clip(segmenter, clip.visible_frames, clip.video.frame_size, mode, images)
        return collect_results(results, clip.amodal)

    return Method(name, predict, sees_future=mode == "offline")


def collect_results(
    results: Iterable[FrameResult], track_ids: Iterable[int]
) -> dict[int, TrackPrediction]:
    """Return a segmenter's results for one clip as predictions of the evaluated objects.

    Args:
        results: one a frame, in order.
        track_ids: the evaluated objects.
    """
    masks: dict[int, list[BoxedMask | None]] = {track_id: [] for track_id in track_ids}
    confidence: dict[int, list[float]] = {track_id: [] for track_id in masks}
    order: dict[int, list[list[tuple[int, int]]]] = {track_id: [] for track_id in masks}
    for result in results:
        objects = {one.track_id: one for one in result.objects}
        for track_id in masks:
            one = objects.get(track_id)
            masks[track_id].append(None if one is None else one.amodal)
            confidence[track_id].append(np.nan if one is None else one.confidence_occluded)
            order[track_id].append([pair for pair in result.order if track_id in pair])
    return {
        track_id: TrackPrediction(masks[track_id], confidence[track_id], order[track_id])
        for track_id in masks
    }
