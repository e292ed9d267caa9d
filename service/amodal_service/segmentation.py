"""The segmenter over a clip: frame by frame, or both directions at once.

Visible masks come with the clip, or its finder finds them, told by the segmenter's state where
each object is expected. Offline, a finder still looks at the past only: its masks are found on
the way, and both directions of the segmenter are given the same ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from amodal_model.clip import Mode
from amodal_model.masks import BoxedMask
from amodal_model.offline import Image, segment_offline
from amodal_model.pictures import Picture
from amodal_model.stream import AmodalSegmenter
from amodal_model.stream_state import StreamState
from amodal_model.video import Frame
from amodal_service.journal import Arrays, Journal
from amodal_service.progress import Advance
from amodal_service.records import Record, frame_record
from amodal_service.sources import ClipSource
from amodal_service.version import amodal_version

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


class FinishedFrame(NamedTuple):
    """The record of one frame and what to go on from.

    Attributes:
        record: of the frame.
        overlap_pixels: pixels of it in more than one visible mask.
        state: of the run after the frame; ``None`` offline, where frames are not gone on from.
    """

    record: Record
    overlap_pixels: int
    state: RunState | None


def segment(
    source: ClipSource, segmenter: AmodalSegmenter, journal: Journal, mode: Mode, advance: Advance
) -> None:
    """Run the segmenter over the frames that the journal does not have yet.

    Raises:
        DatasetError: a damaged clip, a broken mask, or masks for another number of frames.
    """
    if journal.checkpoint.is_finished:
        return
    first, state = journal.checkpoint.frames, None
    for frame in finished_frames(source, segmenter, mode, first=first, arrays=journal.arrays):
        journal.append(frame.record, overlap_pixels=frame.overlap_pixels)
        advance(1)
        state = frame.state
        if journal.is_full:
            journal.save(state_arrays(source, segmenter, state))
    source.check_length(journal.checkpoint.frames)
    journal.save(state_arrays(source, segmenter, state), is_finished=True)


def state_arrays(source: ClipSource, segmenter: AmodalSegmenter, state: RunState | None) -> Arrays:
    """Return a run's state as plain arrays; none where there is no state."""
    if state is None:
        return {}
    arrays = segmenter.save_state(state.stream)
    if source.finder is not None:
        own = source.finder.source.save_state(state.finder)
        arrays |= {_FINDER + name: array for name, array in own.items()}
    return arrays


def finished_frames(
    source: ClipSource,
    segmenter: AmodalSegmenter,
    mode: Mode,
    *,
    first: int = 0,
    arrays: Arrays | None = None,
) -> Iterator[FinishedFrame]:
    """Yield the frames of a clip from number ``first`` on.

    Args:
        source: the clip and its visible masks.
        segmenter: what completes them.
        mode: ``causal`` or ``offline``; offline, earlier frames are worked out again and left out.
        first: number of the first frame to yield.
        arrays: the run's state before that frame, from `state_arrays`; empty at the start.

    Raises:
        DatasetError: a damaged clip, a broken mask, or more frames than masks.
    """
    if mode == "causal":
        return _causal_frames(source, segmenter, first, arrays or {})
    return islice(_offline_frames(source, segmenter), first, None)


def _causal_frames(
    source: ClipSource, segmenter: AmodalSegmenter, first: int, arrays: Arrays
) -> Iterator[FinishedFrame]:
    state = _load(source, segmenter, arrays) if arrays else _start(source, segmenter)
    for frame in source.clip.frames(first=first):
        masks, state = _visible_masks(source, segmenter, frame, state)
        result, stream = segmenter.step(_looked_at(source, frame), masks, state.stream)
        state = state._replace(stream=stream)
        given = source.given(frame.index)
        record = frame_record(source.video, frame.index, frame.pts_s, result, given)
        yield FinishedFrame(record, overlapping_pixels(masks, source.video.frame_size), state)


def _offline_frames(source: ClipSource, segmenter: AmodalSegmenter) -> Iterator[FinishedFrame]:
    """Segment in both directions; frames are read ahead of their results, so times are kept."""
    ahead: dict[int, tuple[float, int]] = {}
    size = source.video.frame_size

    def frames() -> Iterator[tuple[Masks, Image | None]]:
        state = _start(source, segmenter)
        for frame in source.clip.frames():
            masks, state = _visible_masks(source, segmenter, frame, state)
            if source.finder is not None:  # only it asks what the state expects
                picture = Picture(frame.image)
                stream = segmenter.advance(masks, state.stream, picture=picture)[1]
                state = state._replace(stream=stream)
            ahead[frame.index] = (frame.pts_s, overlapping_pixels(masks, size))
            yield masks, _looked_at(source, frame)

    results = segment_offline(segmenter, frames(), size)
    for index, result in enumerate(results):
        pts_s, overlap = ahead.pop(index)
        record = frame_record(source.video, index, pts_s, result, source.given(index))
        yield FinishedFrame(record, overlap, None)


def _looked_at(source: ClipSource, frame: Frame) -> Image | None:
    """Return the image of a frame where it is looked at.

    Given masks are completed as a stream of them is: with images only where that is asked for.
    """
    return frame.image if source.is_looked_at else None


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


def _load(source: ClipSource, segmenter: AmodalSegmenter, arrays: Arrays) -> RunState:
    own = {n.removeprefix(_FINDER): a for n, a in arrays.items() if n.startswith(_FINDER)}
    finder = source.finder
    return RunState(segmenter.load_state(arrays), finder.source.load_state(own) if finder else None)


def results_fingerprint(
    source: ClipSource, mode: Mode, segmenter: AmodalSegmenter, files: Sequence[object] = ()
) -> str:
    """Return a digest of everything the results of a clip depend on.

    Args:
        source: the clip's entry and its visible masks.
        mode: of the segmenter.
        segmenter: its model, its settings and what it runs on.
        files: what tells the clip's files from others, where they may change.
    """
    made_by = [amodal_version(), mode, segmenter.engine.info, repr(segmenter.config)]
    how = [made_by, source.is_looked_at, list(files), asdict(source.video)]
    digest = hashlib.sha256(json.dumps(how).encode())
    for track in source.tracklets:
        digest.update(json.dumps([track.track_id, track.segmentations]).encode())
    if source.finder is not None:
        digest.update(source.finder.settings.encode())
    return digest.hexdigest()


def overlapping_pixels(masks: Mapping[int, BoxedMask], frame_size: tuple[int, int]) -> int:
    """Return the number of pixels that lie in more than one mask."""
    covered = np.zeros(frame_size, bool)
    twice = np.zeros(frame_size, bool)
    for mask in masks.values():
        x0, y0, x1, y1 = mask.bbox_xyxy
        twice[y0:y1, x0:x1] |= covered[y0:y1, x0:x1] & mask.pixels
        covered[y0:y1, x0:x1] |= mask.pixels
    return int(np.count_nonzero(twice))
