"""What is remembered of a live stream, as a value, and its snapshot.

A snapshot is *fat* and *thin* at once: the state's own arrays, which the same model goes on from,
and a few past frames' visible masks, which another model is shown to remember the objects by.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import msgspec
import numpy as np

from amodal_client.stream_messages import StreamObject
from amodal_model.errors import InputError
from amodal_model.masks import BoxedMask, decode_crop_rle
from amodal_model.stream import AmodalSegmenter
from amodal_model.stream_state import StreamState
from amodal_model.visible_source import VisibleMaskSource

FORMAT = 2
PER_AGE = 2
"""Keyframes kept of each power of two of age, in frames: those whose number it divides."""
MAX_KEYFRAMES = 24
MAX_SNAPSHOT_BYTES = 1 << 30
_COMPRESSION = 1

Finder = VisibleMaskSource[Any]


class CodedMask(msgspec.Struct, frozen=True, array_like=True):
    """A visible mask as COCO RLE of its box: x, y, width, height."""

    track_id: int
    bbox: tuple[int, int, int, int]
    counts: str


class Keyframe(msgspec.Struct, frozen=True, array_like=True):
    """The visible masks of a past frame, and how long after the one before it came."""

    number: int
    frame_gap: float
    masks: tuple[CodedMask, ...]


class Clock(NamedTuple):
    """What is known of a stream's time.

    Attributes:
        seq: of the last frame that was worked on; -1 before any.
        capture_ns: its capture time; 0: not known.
        periods_ns: the latest times between two frames of neighbouring seq.
    """

    seq: int = -1
    capture_ns: int = 0
    periods_ns: tuple[float, ...] = ()


class StreamMemory(NamedTuple):
    """All that is remembered of a stream; each frame makes a new one.

    Attributes:
        frame_size: ``(height, width)`` of its frames; ``None`` before the first.
        state: of the segmenter.
        finder: state of the source of visible masks; ``None`` while none was needed.
        clock: the stream's time.
        frames: worked on so far.
        last_seen_ns: capture time of the last frame that showed each object.
        keyframes: past frames, oldest first.
        previous: the last result's objects, for ``delta``.
    """

    frame_size: tuple[int, int] | None = None
    state: StreamState | None = None
    finder: Any = None
    clock: Clock = Clock()
    frames: int = 0
    last_seen_ns: Mapping[int, int] = {}
    keyframes: tuple[Keyframe, ...] = ()
    previous: Mapping[int, StreamObject] = {}


PERIODS = 16
"""Latest times between frames that the frame period is the median of."""
MAX_GAP = 100_000.0
MIN_GAP = 0.05


def gap_and_clock(
    clock: Clock, seq: int, capture_ns: int, fps: float | None
) -> tuple[float, Clock]:
    """Return the frames of time since the last frame, and the clock with this frame.

    Args:
        clock: of the stream.
        seq: of the frame.
        capture_ns: its capture time; 0: not known, the seq tells.
        fps: frame rate as declared; without one the median of recent frames.
    """
    steps = seq - clock.seq
    periods = clock.periods_ns
    if clock.seq < 0:
        return 1.0, Clock(seq, capture_ns, periods)
    passed_ns = capture_ns - clock.capture_ns
    if not (capture_ns and clock.capture_ns and passed_ns > 0):
        return float(min(max(steps, 1), MAX_GAP)), Clock(seq, capture_ns, periods)
    periods = (*periods, passed_ns / max(steps, 1))[-PERIODS:]
    period_ns = 1e9 / fps if fps else median(periods)
    gap = min(max(passed_ns / period_ns, MIN_GAP), MAX_GAP)
    return gap, Clock(seq, capture_ns, periods)


def with_keyframe(keyframes: Sequence[Keyframe], new: Keyframe) -> tuple[Keyframe, ...]:
    """Return the keyframes with a new one, the old ones thinned out the more the older they are."""
    kept = [each for each in keyframes if each.number % _spacing(new.number - each.number) == 0]
    return (*kept[1 - MAX_KEYFRAMES :], new)


def _spacing(age: int) -> int:
    """Return how far apart keyframes of an age are: what is kept now was kept when younger."""
    return max(1, (1 << age.bit_length() - 1) // PER_AGE)


class _Array(msgspec.Struct, array_like=True):
    dtype: str
    shape: tuple[int, ...]
    content: bytes


class _Stored(msgspec.Struct):
    format: int
    model_sha256: str
    masks: str
    frame_size: tuple[int, int]
    seq: int
    capture_ns: int
    periods_ns: tuple[float, ...]
    frames: int
    last_seen_ns: dict[int, int]
    state: dict[str, _Array]
    finder: dict[str, _Array] | None
    keyframes: tuple[Keyframe, ...]


def save_memory(
    memory: StreamMemory, segmenter: AmodalSegmenter, finder: Finder, masks: str
) -> bytes:
    """Return a snapshot of a memory that has seen a frame.

    Args:
        memory: the memory.
        segmenter: of the stream.
        finder: its source of visible masks.
        masks: name of that source.
    """
    assert memory.state is not None  # noqa: S101  a frame was seen
    assert memory.frame_size is not None  # noqa: S101
    own = None if memory.finder is None else _stored_arrays(finder.save_state(memory.finder))
    stored = _Stored(
        FORMAT,
        segmenter.engine.info.sha256,
        masks,
        memory.frame_size,
        memory.clock.seq,
        memory.clock.capture_ns,
        memory.clock.periods_ns,
        memory.frames,
        dict(memory.last_seen_ns),
        _stored_arrays(segmenter.save_state(memory.state)),
        own,
        memory.keyframes,
    )
    return zlib.compress(msgspec.msgpack.encode(stored), _COMPRESSION)


def load_memory(
    content: bytes, segmenter: AmodalSegmenter, finder: Finder, masks: str
) -> StreamMemory:
    """Return the memory of a snapshot; of another model's, what its past frames tell this one.

    Raises:
        InputError: not a snapshot of this format, or of another source of masks.
    """
    stored = _read(content)
    if stored.format != FORMAT or stored.masks != masks:
        raise InputError(
            f"snapshot of format {stored.format} and masks {stored.masks!r}, "
            f"need {FORMAT} and {masks!r}"
        )
    if stored.model_sha256 == segmenter.engine.info.sha256:
        state = segmenter.load_state(_arrays(stored.state))
    else:
        state = _retrace(stored.keyframes, segmenter, stored.frame_size)
    own = None if stored.finder is None else finder.load_state(_arrays(stored.finder))
    clock = Clock(stored.seq, stored.capture_ns, stored.periods_ns)
    return StreamMemory(
        stored.frame_size, state, own, clock, stored.frames, stored.last_seen_ns, stored.keyframes
    )


def _read(content: bytes) -> _Stored:
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(content, MAX_SNAPSHOT_BYTES)
        return msgspec.msgpack.decode(data, type=_Stored)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"snapshot cannot be read: {error}") from None


def _retrace(
    keyframes: Sequence[Keyframe], segmenter: AmodalSegmenter, frame_size: tuple[int, int]
) -> StreamState:
    state, before = segmenter.start(frame_size), None
    for each in keyframes:
        gap = each.frame_gap if before is None else float(max(each.number - before, 1))
        _, state = segmenter.step(None, _decoded(each, frame_size), state, frame_gap=gap)
        before = each.number
    return state


def _stored_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, _Array]:
    stored = {}
    for name, array in arrays.items():
        kept = np.ascontiguousarray(array)
        stored[name] = _Array(kept.dtype.str, kept.shape, kept.tobytes())
    return stored


_KIND = re.compile(r"[<>|]([biuf][1248]|U[0-9]{1,4})")
"""Kinds of arrays that snapshots hold: truths, numbers, texts."""


def _arrays(stored: Mapping[str, _Array]) -> dict[str, np.ndarray]:
    arrays = {}
    try:
        for name, each in stored.items():
            # NumPy reads far more than it writes there, Python expressions among it
            if not _KIND.fullmatch(each.dtype):
                raise InputError(f"snapshot holds an array of kind {each.dtype[:20]!r}")
            array = np.frombuffer(each.content, np.dtype(each.dtype)).reshape(each.shape)
            arrays[name] = array.copy()
    except (ValueError, TypeError) as error:
        raise InputError(f"snapshot holds an array that cannot be read: {error}") from None
    return arrays


def _decoded(keyframe: Keyframe, frame_size: tuple[int, int]) -> dict[int, BoxedMask]:
    return {
        each.track_id: decode_crop_rle(
            each.bbox, {"size": [each.bbox[3], each.bbox[2]], "counts": each.counts}, frame_size
        )
        for each in keyframe.masks
    }
