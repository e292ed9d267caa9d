"""The segmenter over a clip, into its journal: frame by frame, or both directions at once.

Visible masks come with the clip, or its finder finds them, told by the segmenter's state where
each object is expected. Offline, a finder still looks at the past only: its masks are found on
the way, and both directions of the segmenter are given the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from amodal_model.clip import Mode, segment_clip
from amodal_model.masks import BoxedMask
from amodal_model.stream import AmodalSegmenter
from amodal_model.stream_state import StreamState
from amodal_model.video import Frame
from amodal_service.journal import Journal
from amodal_service.progress import Advance
from amodal_service.records import frame_record
from amodal_service.sources import ClipSource

Arrays = dict[str, np.ndarray]
Masks = Mapping[int, BoxedMask]

_FINDER = "finder/"
"""Begins the names of the finder's arrays in a checkpoint, beside those of the segmenter."""


class RunState(NamedTuple):
    """What is remembered between the frames of a clip.

    Attributes:
        stream: the segmenter's state.
        finder: the finder's state; ``None`` where the clip has no finder.
    """

    stream: StreamState
    finder: Any


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
) -> Arrays:
    state = (
        _load(source, segmenter, journal.arrays) if journal.arrays else _start(source, segmenter)
    )
    for frame in source.clip.frames(first=journal.checkpoint.frames):
        masks, state = _visible_masks(source, segmenter, frame, state)
        result, stream = segmenter.step(frame.image, masks, state.stream)
        state = state._replace(stream=stream)
        given = source.given(frame.index)
        record = frame_record(source.video, frame.index, frame.pts_s, result, given)
        journal.append(record, overlap_pixels=overlapping_pixels(masks, source.video.frame_size))
        advance(1)
        if journal.is_full:
            journal.save(_save(source, segmenter, state))
    return _save(source, segmenter, state)


def _segment_offline(
    source: ClipSource, segmenter: AmodalSegmenter, journal: Journal, advance: Advance
) -> Arrays:
    """Segment in both directions; frames are read ahead of their results, so times are kept."""
    ahead: list[tuple[float, int]] = []

    def visible_frames() -> Iterator[Masks]:
        state = _start(source, segmenter)
        for frame in source.clip.frames():
            masks, state = _visible_masks(source, segmenter, frame, state)
            if source.finder is not None:  # only it asks what the state expects
                state = state._replace(stream=segmenter.advance(masks, state.stream)[1])
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


def _visible_masks(
    source: ClipSource, segmenter: AmodalSegmenter, frame: Frame, state: RunState
) -> tuple[Masks, RunState]:
    """Return the visible masks of a frame and the state with the finder's moved on."""
    finder = source.finder
    if finder is None:
        return source.masks(frame.index), state
    expected = segmenter.expect(state.stream)
    prompts = finder.prompts.get(frame.index, ())
    masks, found = finder.source.find(frame.image, prompts, state.finder, expected)
    return masks, state._replace(finder=found)


def _start(source: ClipSource, segmenter: AmodalSegmenter) -> RunState:
    size = source.video.frame_size
    finder = source.finder
    return RunState(segmenter.start(size), finder.source.start(size) if finder else None)


def _save(source: ClipSource, segmenter: AmodalSegmenter, state: RunState) -> Arrays:
    arrays = segmenter.save_state(state.stream)
    if source.finder is not None:
        own = source.finder.source.save_state(state.finder)
        arrays |= {_FINDER + name: array for name, array in own.items()}
    return arrays


def _load(source: ClipSource, segmenter: AmodalSegmenter, arrays: Arrays) -> RunState:
    own = {n.removeprefix(_FINDER): a for n, a in arrays.items() if n.startswith(_FINDER)}
    finder = source.finder
    return RunState(segmenter.load_state(arrays), finder.source.load_state(own) if finder else None)


def overlapping_pixels(masks: Mapping[int, BoxedMask], frame_size: tuple[int, int]) -> int:
    """Return the number of pixels that lie in more than one mask."""
    covered = np.zeros(frame_size, bool)
    twice = np.zeros(frame_size, bool)
    for mask in masks.values():
        x0, y0, x1, y1 = mask.bbox_xyxy
        twice[y0:y1, x0:x1] |= covered[y0:y1, x0:x1] & mask.pixels
        covered[y0:y1, x0:x1] |= mask.pixels
    return int(np.count_nonzero(twice))
