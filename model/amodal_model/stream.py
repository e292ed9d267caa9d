"""The stream step: visible masks of a frame in, whole silhouettes out, state in and out.

    visible masks -> windows -> crops -> engine.step -> paste back -> union with visible -> order

State is a value held by the caller; streams share an engine and nothing else. The step comes in
two halves: `AmodalSegmenter.advance` moves the state and gives estimates, `compose` turns them
into results. Clips, jobs, streams and evaluation all run through here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from amodal_model.engine import Engine, take_rows
from amodal_model.errors import InputError, LimitError
from amodal_model.geometry import Window, paste_logits, paste_values
from amodal_model.masks import (
    Box,
    BoxedMask,
    empty_mask,
    enclose_boxes,
    overlap_area,
    subtract,
    tighten,
)
from amodal_model.memory import CROP_SIDE, MAP_NAMES, SCALAR_NAMES, MemoryState
from amodal_model.placement import PlacementConfig
from amodal_model.results import PARTIAL_FROM, FrameResult, ObjectResult, ObjectState
from amodal_model.tracks import MotionConfig, Tracks, View, follow, new_tracks

MAX_OBJECTS = 1024
MAX_SIDE = 16384
OPEN_LOGIT = 2.0
"""Logit above which a hidden part is believed where no other mask could hide it."""


class StreamConfig(NamedTuple):
    """How objects are kept and reported.

    Attributes:
        max_hidden_frames: an object without a visible pixel for longer is given up.
        max_outside_frames: the same for one whose silhouette left the image.
        least_overlap: pixels of the hidden part under another mask from which that one occludes.
        placement: weights of the registration.
        motion: what is expected of the motion.
    """

    max_hidden_frames: float = 900.0
    max_outside_frames: float = 60.0
    least_overlap: int = 6
    placement: PlacementConfig = PlacementConfig()
    motion: MotionConfig = MotionConfig()


class StreamState(NamedTuple):
    """All that is remembered of one stream; constant in size for a number of objects.

    Attributes:
        frame_size: ``(height, width)`` of its frames, pixels.
        track_ids: ids of the N objects that are followed, in the order of the rows.
        tracks: where they are.
        memory: what the network remembers; the engine's own arrays.
        frames_hidden: (N,) frames since each was visible.
        frames_outside: (N,) frames since its place reached into the image.
        lost_ids: ids of objects that were given up.
    """

    frame_size: tuple[int, int]
    track_ids: tuple[int, ...]
    tracks: Tracks
    memory: MemoryState[Any]
    frames_hidden: Float32[np.ndarray, " N"]
    frames_outside: Float32[np.ndarray, " N"]
    lost_ids: tuple[int, ...]


class Evidence(NamedTuple):
    """What is remembered of one object, in its window.

    Attributes:
        window: the square of the frame that the map spans.
        template: (2, 48, 48) of [0, 1]: the pixel's last seen label, and how far it is known.
    """

    window: Window
    template: Float32[np.ndarray, "2 s s"]


class Estimate(NamedTuple):
    """What the network says of one object in one frame.

    Attributes:
        track_id: of the object.
        visible: its visible mask; empty while hidden.
        window: the square of the frame that ``logits`` span.
        logits: (S, S), silhouette where above 0.
        confidence: expected IoU of the silhouette and of its hidden part.
        frames_hidden: frames since it was visible.
        evidence: what is remembered of it.
    """

    track_id: int
    visible: BoxedMask
    window: Window
    logits: Float32[np.ndarray, "S S"]
    confidence: tuple[float, float]
    frames_hidden: float
    evidence: Evidence


class Silhouette(NamedTuple):
    """Logits of one object's silhouette in frame coordinates.

    Attributes:
        track_id: of the object.
        visible: its visible mask; empty while hidden.
        bbox_xyxy: the part of the frame that ``logits`` cover.
        logits: (h, w) over that box; elsewhere the object is not.
        confidence: expected IoU of the silhouette and of its hidden part.
        evidence: what each direction of time remembers of it.
    """

    track_id: int
    visible: BoxedMask
    bbox_xyxy: Box
    logits: Float32[np.ndarray, "h w"]
    confidence: tuple[float, float]
    evidence: tuple[Evidence, ...]


class AmodalSegmenter:
    """Completes the visible masks of streams, frame by frame."""

    def __init__(self, engine: Engine, config: StreamConfig | None = None) -> None:
        self.engine = engine
        self.config = config or StreamConfig()

    def start(self, frame_size: tuple[int, int]) -> StreamState:
        """Return the state of a stream that has seen nothing.

        Args:
            frame_size: ``(height, width)`` of its frames, pixels.

        Raises:
            LimitError: a side is not 1 to 16384.
        """
        if not all(1 <= side <= MAX_SIDE for side in frame_size):
            raise LimitError(f"frame size {frame_size}, each side must be 1 to {MAX_SIDE}")
        memory: MemoryState[Any] = MemoryState(
            np.zeros((0, len(MAP_NAMES), CROP_SIDE, CROP_SIDE), np.float32),
            np.zeros((0, len(SCALAR_NAMES)), np.float32),
        )
        nothing = np.zeros(0, np.float32)
        return StreamState(frame_size, (), new_tracks(0), memory, nothing, nothing, ())

    def step(
        self,
        frame: UInt8[np.ndarray, "H W 3"] | None,
        visible: Mapping[int, BoxedMask],
        state: StreamState,
        *,
        frame_gap: float = 1.0,
    ) -> tuple[FrameResult, StreamState]:
        """Return the whole silhouettes of one frame and the state for the next.

        Args:
            frame: the image, or ``None``: the present network works on masks alone.
            visible: visible mask of each object that shows, by track id.
            state: of this stream, as the last step returned it.
            frame_gap: frames since the last step; above 1 after drops.

        Raises:
            InputError: an image or a mask of another size than the stream's frames.
            LimitError: more than 1024 objects.
        """
        if frame is not None and frame.shape[:2] != state.frame_size:
            raise InputError(
                f"frame is {frame.shape[1]}x{frame.shape[0]}, the stream's frames are "
                f"{state.frame_size[1]}x{state.frame_size[0]}"
            )
        estimates, state = self.advance(visible, state, frame_gap=frame_gap)
        silhouettes = [paste(estimate, state.frame_size) for estimate in estimates]
        result = compose(silhouettes, state.lost_ids, state.frame_size, self.config.least_overlap)
        return result, state

    def advance(
        self, visible: Mapping[int, BoxedMask], state: StreamState, *, frame_gap: float = 1.0
    ) -> tuple[list[Estimate], StreamState]:
        """Return the network's estimates of one frame and the moved state.

        Raises:
            InputError: a mask of another size than the stream's frames, or a bad gap.
            LimitError: more than 1024 objects.
        """
        _check_visible(visible, state, frame_gap)
        visible = {key: mask for key, mask in sorted(visible.items()) if mask.area}
        state = self._drop_lost(state)
        state = _add_new(state, visible, self.engine)
        if not state.track_ids:
            return [], state
        coverage = cover(visible.values(), state.frame_size)
        nothing = empty_mask(state.frame_size)
        own = [visible.get(track_id, nothing) for track_id in state.track_ids]
        inputs, tracks = follow(
            state.tracks,
            [View(mask, coverage) for mask in own],
            frame_gap,
            self.config.placement,
            self.config.motion,
        )
        outputs, memory = self.engine.step(inputs, state.memory)
        is_seen = np.array([mask.area > 0 for mask in own])
        hidden = np.where(is_seen, 0, state.frames_hidden + frame_gap).astype(np.float32)
        estimates = [
            Estimate(
                track_id,
                mask,
                Window(*window),
                logits,
                (float(whole), float(part)),
                float(h),
                Evidence(Window(*window), template),
            )
            for track_id, mask, window, logits, (whole, part), h, template in zip(
                state.track_ids,
                own,
                tracks.window.tolist(),
                outputs.logits,
                outputs.confidence,
                hidden,
                outputs.template,
                strict=True,
            )
        ]
        is_inside = _reaches_frame(tracks.window, state.frame_size)
        outside = np.where(is_inside, 0, state.frames_outside + frame_gap).astype(np.float32)
        state = state._replace(
            tracks=tracks._replace(template=outputs.template),
            memory=memory,
            frames_hidden=hidden,
            frames_outside=outside,
        )
        return estimates, state

    def _drop_lost(self, state: StreamState) -> StreamState:
        """Stop following objects that were hidden, or outside the image, for too long."""
        is_lost = (state.frames_hidden > self.config.max_hidden_frames) | (
            (state.frames_outside > self.config.max_outside_frames) & (state.frames_hidden > 0)
        )
        if not is_lost.any():
            return state
        gone = {state.track_ids[row] for row in np.flatnonzero(is_lost).tolist()}
        kept = np.flatnonzero(~is_lost).tolist()
        state = _take(state, kept, [state.track_ids[row] for row in kept], self.engine)
        return state._replace(lost_ids=tuple(sorted({*state.lost_ids, *gone})))

    def save_state(self, state: StreamState) -> dict[str, np.ndarray]:
        """Return a state as plain arrays, to be stored by name (``np.savez``)."""
        memory = self.engine.to_host(state.memory)
        arrays = {f"tracks_{name}": value for name, value in state.tracks._asdict().items()}
        arrays |= {f"memory_{name}": value for name, value in memory._asdict().items()}
        arrays["frame_size"] = np.array(state.frame_size, np.int64)
        arrays["track_ids"] = np.array(state.track_ids, np.int64)
        arrays["lost_ids"] = np.array(state.lost_ids, np.int64)
        arrays["frames_hidden"] = state.frames_hidden
        arrays["frames_outside"] = state.frames_outside
        return arrays

    @staticmethod
    def load_state(arrays: Mapping[str, np.ndarray]) -> StreamState:
        """Return the state of arrays that `save_state` gave.

        Raises:
            InputError: an array is missing, or the numbers of objects differ.
        """
        try:
            tracks = Tracks(**{name: arrays[f"tracks_{name}"] for name in Tracks._fields})
            memory = MemoryState(**{n: arrays[f"memory_{n}"] for n in MemoryState._fields})
            height, width = arrays["frame_size"].tolist()
            state = StreamState(
                (int(height), int(width)),
                tuple(arrays["track_ids"].tolist()),
                tracks,
                memory,
                arrays["frames_hidden"],
                arrays["frames_outside"],
                tuple(arrays["lost_ids"].tolist()),
            )
            per_object = (*tracks, *memory, state.track_ids, *state[4:6])
            rows = {len(field) for field in per_object}
        except KeyError as error:
            raise InputError(f"stream state has no array {error}") from None
        except (ValueError, TypeError) as error:
            raise InputError(f"stream state has an array of another shape: {error}") from None
        if len(rows) != 1:
            raise InputError(f"stream state has arrays of {sorted(rows)} objects, need one number")
        return state


def _check_visible(visible: Mapping[int, BoxedMask], state: StreamState, frame_gap: float) -> None:
    if len(visible) > MAX_OBJECTS:
        raise LimitError(f"{len(visible)} objects in a frame, limit {MAX_OBJECTS}")
    if not 0 < frame_gap < 1e6:
        raise InputError(f"frame gap {frame_gap}, must be above 0 and below 1000000")
    for track_id, mask in visible.items():
        if mask.frame_size != state.frame_size:
            raise InputError(
                f"mask of track {track_id} is of a frame {mask.frame_size[1]}x"
                f"{mask.frame_size[0]}, the stream's frames are "
                f"{state.frame_size[1]}x{state.frame_size[0]}"
            )


def _reaches_frame(
    window: Float64[np.ndarray, "N 3"], frame_size: tuple[int, int]
) -> Bool[np.ndarray, " N"]:
    """Return whether the middle half of each window, where the object is, meets the frame."""
    height, width = frame_size
    quarter = window[:, 2] / 4
    x, y = window[:, 0], window[:, 1]
    return np.asarray(
        (x + quarter > 0) & (x - quarter < width) & (y + quarter > 0) & (y - quarter < height)
    )


def _add_new(state: StreamState, visible: Mapping[int, BoxedMask], engine: Engine) -> StreamState:
    """Begin to follow objects that show for the first time, or again after they were lost."""
    known = set(state.track_ids)
    new = [track_id for track_id in visible if track_id not in known]
    if not new:
        return state
    rows = [*range(len(known)), *(-1 for _ in new)]
    state = _take(state, rows, [*state.track_ids, *new], engine)
    lost = tuple(track_id for track_id in state.lost_ids if track_id not in visible)
    return state._replace(lost_ids=lost)


def _take(
    state: StreamState, rows: Sequence[int], track_ids: Sequence[int], engine: Engine
) -> StreamState:
    """Return the state of some rows; -1 is an object that nothing is known of."""
    blank = new_tracks(1)
    tracks = Tracks(
        *(
            np.concatenate([field, fresh])[list(rows)]
            for field, fresh in zip(state.tracks, blank, strict=True)
        )
    )
    zero = np.zeros(1, np.float32)
    return state._replace(
        track_ids=tuple(track_ids),
        tracks=tracks,
        memory=take_rows(engine.to_host(state.memory), rows),
        frames_hidden=np.concatenate([state.frames_hidden, zero])[list(rows)],
        frames_outside=np.concatenate([state.frames_outside, zero])[list(rows)],
    )


def cover(masks: Any, frame_size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """Return how many masks hold each pixel, at most 255."""
    coverage = np.zeros(frame_size, np.uint8)
    for mask in masks:
        x0, y0, x1, y1 = mask.bbox_xyxy
        part = coverage[y0:y1, x0:x1]
        part += mask.pixels & (part < 255)
    return coverage


def paste(estimate: Estimate, frame_size: tuple[int, int]) -> Silhouette:
    """Return an estimate in frame coordinates."""
    box, logits = paste_values(estimate.logits, estimate.window, frame_size, outside=-10.0)
    evidence = (estimate.evidence,)
    return Silhouette(
        estimate.track_id, estimate.visible, box, logits, estimate.confidence, evidence
    )


def compose(
    silhouettes: Sequence[Silhouette],
    lost_ids: Sequence[int],
    frame_size: tuple[int, int],
    least_overlap: int,
) -> FrameResult:
    """Return the results of one frame: silhouettes that hold their visible part, and the order.

    Args:
        silhouettes: of all objects that are followed.
        lost_ids: of those that were given up.
        frame_size: ``(height, width)``, pixels.
        least_overlap: pixels from which a mask over the hidden part counts as its occluder.
    """
    shown = [entry for entry in silhouettes if entry.visible.area]
    coverage = cover((entry.visible for entry in shown), frame_size)
    results, order = [], []
    for entry in silhouettes:
        amodal = _amodal_mask(entry, coverage)
        inferred = subtract(amodal, entry.visible)
        occluders = _occluders(entry.track_id, inferred, shown, least_overlap)
        order += [(front, entry.track_id) for front in occluders]
        remembered = _remembered(inferred, entry.evidence)
        results.append(_result(entry, amodal, occluders, remembered))
    nothing = empty_mask(frame_size)
    results += [
        ObjectResult(track_id, nothing, nothing, 1.0, "lost", (), 0.0, 0.0, 0.0, nothing)
        for track_id in lost_ids
    ]
    results.sort(key=lambda result: result.track_id)
    return FrameResult(tuple(results), tuple(sorted(order)))


def _amodal_mask(entry: Silhouette, coverage: UInt8[np.ndarray, "H W"]) -> BoxedMask:
    """Return the visible part and what the network adds to it.

    Under other masks it is believed from even odds on. In the open only an occluder that has no
    mask can hide something, so there it must be nearly certain.
    """
    frame_size = entry.visible.frame_size
    x0, y0, x1, y1 = entry.bbox_xyxy
    covered = coverage[y0:y1, x0:x1] > entry.visible.within(entry.bbox_xyxy)
    predicted = BoxedMask(
        entry.bbox_xyxy, entry.logits > np.where(covered, 0.0, OPEN_LOGIT), frame_size
    )
    box = enclose_boxes(entry.bbox_xyxy, entry.visible.bbox_xyxy)
    return tighten(BoxedMask(box, predicted.within(box) | entry.visible.within(box), frame_size))


def _remembered(inferred: BoxedMask, evidence: Sequence[Evidence]) -> BoxedMask:
    """Return the part of a hidden part that was seen as the object in another frame."""
    if inferred.area == 0:
        return inferred
    x0, y0 = inferred.bbox_xyxy[:2]
    shape = inferred.pixels.shape
    seen = np.zeros(shape, bool)
    for (x, y, side), (latest, known) in evidence:
        was_object = np.where(known > 0, latest, 0).astype(np.float32) - 0.5
        # the box as a small frame: most of the window is of no interest
        seen |= paste_logits(was_object, Window(x - x0, y - y0, side), shape).full()
    return tighten(BoxedMask(inferred.bbox_xyxy, inferred.pixels & seen, inferred.frame_size))


def _occluders(
    track_id: int, inferred: BoxedMask, shown: Sequence[Silhouette], least_overlap: int
) -> tuple[int, ...]:
    overlaps = [
        (overlap_area(inferred, other.visible), other.track_id)
        for other in shown
        if other.track_id != track_id
    ]
    found = sorted((-area, other) for area, other in overlaps if area >= least_overlap)
    return tuple(other for _, other in found)


def _result(
    entry: Silhouette, amodal: BoxedMask, occluders: tuple[int, ...], remembered: BoxedMask
) -> ObjectResult:
    visible_area, whole_area = entry.visible.area, amodal.area
    rate = 1 - visible_area / whole_area if whole_area else 1.0
    state: ObjectState = "visible" if rate < PARTIAL_FROM else "partial"
    if not visible_area:
        state, rate = "hidden", 1.0
    whole, part = entry.confidence
    seen = 1.0 if visible_area else 0.0
    return ObjectResult(
        entry.track_id, entry.visible, amodal, rate, state, occluders, whole, seen, part, remembered
    )
