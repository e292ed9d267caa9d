"""The segmenter over a clip, into its journal: frame by frame, or both directions at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from amodal_model.clip import Mode, segment_clip
from amodal_model.masks import BoxedMask
from amodal_model.stream import AmodalSegmenter
from amodal_service.journal import Journal
from amodal_service.progress import Advance
from amodal_service.records import frame_record
from amodal_service.sources import ClipSource


def segment(
    source: ClipSource, segmenter: AmodalSegmenter, journal: Journal, mode: Mode, advance: Advance
) -> None:
    """Run the segmenter over the frames that the journal does not have yet.

    Raises:
        DatasetError: a damaged clip, a broken mask, or masks for another number of frames.
    """
    if journal.checkpoint.is_finished:
        return
    if mode == "causal":
        arrays = _segment_causally(source, segmenter, journal, advance)
    else:
        arrays = _segment_offline(source, segmenter, journal, advance)
    source.check_length(journal.checkpoint.frames)
    journal.save(arrays, is_finished=True)


def _segment_causally(
    source: ClipSource, segmenter: AmodalSegmenter, journal: Journal, advance: Advance
) -> dict[str, np.ndarray]:
    if journal.arrays:
        state = segmenter.load_state(journal.arrays)
    else:
        state = segmenter.start(source.video.frame_size)
    for frame in source.clip.frames(first=journal.checkpoint.frames):
        masks = source.masks(frame.index)
        result, state = segmenter.step(frame.image, masks, state)
        given = source.given(frame.index)
        record = frame_record(source.video, frame.index, frame.pts_s, result, given)
        journal.append(record, overlap_pixels=overlapping_pixels(masks, source.video.frame_size))
        advance(1)
        if journal.is_full:
            journal.save(segmenter.save_state(state))
    return segmenter.save_state(state)


def _segment_offline(
    source: ClipSource, segmenter: AmodalSegmenter, journal: Journal, advance: Advance
) -> dict[str, np.ndarray]:
    """Segment in both directions; frames are read ahead of their results, so times are kept."""
    ahead: list[tuple[float, int]] = []

    def visible_frames() -> Iterator[Mapping[int, BoxedMask]]:
        for frame in source.clip.frames():
            masks = source.masks(frame.index)
            overlap = overlapping_pixels(masks, source.video.frame_size)
            ahead.append((frame.pts_s, overlap))
            yield masks

    size = source.video.frame_size
    results = segment_clip(segmenter, visible_frames(), size, mode="offline")
    for index, result in enumerate(results):
        pts_s, overlap = ahead[index]
        record = frame_record(source.video, index, pts_s, result, source.given(index))
        journal.append(record, overlap_pixels=overlap)
        advance(1)
        if journal.is_full:
            journal.save({})
    return {}


def overlapping_pixels(masks: Mapping[int, BoxedMask], frame_size: tuple[int, int]) -> int:
    """Return the number of pixels that lie in more than one mask."""
    covered = np.zeros(frame_size, bool)
    twice = np.zeros(frame_size, bool)
    for mask in masks.values():
        x0, y0, x1, y1 = mask.bbox_xyxy
        twice[y0:y1, x0:x1] |= covered[y0:y1, x0:x1] & mask.pixels
        covered[y0:y1, x0:x1] |= mask.pixels
    return int(np.count_nonzero(twice))
