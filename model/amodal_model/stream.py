"""The stream step: visible masks of a frame in, whole silhouettes out, state in and out.

    visible masks -> windows -> crops -> engine.step -> paste back -> union with visible -> order

State is a value held by the caller; streams share an engine and nothing else. Frames of several
streams go through the engine together (`AmodalSegmenter.step_many`); one frame is many of one.
`prepare` checks and refuses a request, `step_prepared` works out those that passed: its first
half moves the states and gives estimates, `composition` turns them into results. Clips, jobs,
streams and evaluation all run through here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from amodal_model.composition import Estimate, complete, cover
from amodal_model.engine import Engine, step_together
from amodal_model.errors import InputError, LimitError
from amodal_model.estimation import estimate
from amodal_model.expectation import expect_objects
from amodal_model.frame_size import check_frame_size, check_image
from amodal_model.geometry import Coverage
from amodal_model.masks import BoxedMask, empty_mask
from amodal_model.memory import MemoryState
from amodal_model.pictures import Picture
from amodal_model.placement import PlacementConfig
from amodal_model.results import FrameResult
from amodal_model.stream_state import (
    StreamState,
    add_new,
    arrays_from_state,
    new_state,
    state_from_arrays,
    take,
)
from amodal_model.track_state import MotionConfig
from amodal_model.tracks import Placed, follow
from amodal_model.veils import VeilJudge, recall
from amodal_model.views import View
from amodal_model.visible_source import Expectation

MAX_OBJECTS = 1024


class StreamConfig(NamedTuple):
    """How objects are kept and reported.

    Attributes:
        max_hidden_frames: an object without a visible pixel for longer is given up.
        max_outside_frames: the same for one whose silhouette left the image.
        max_open_frames: one that should have shown in more frames, since it was last visible, is
            given up: nothing was where it should be, neither its mask nor what could hide it.
        least_overlap: pixels of the hidden part under another mask from which that one occludes.
        placement: weights of the registration.
        motion: what is expected of the motion.
    """

    max_hidden_frames: float = 900.0
    max_outside_frames: float = 60.0
    max_open_frames: float = 30.0
    least_overlap: int = 6
    placement: PlacementConfig = PlacementConfig()
    motion: MotionConfig = MotionConfig()


class StepRequest(NamedTuple):
    """One frame of one stream.

    Attributes:
        frame: the image, or ``None``: it tells what hides objects without having a mask. A
            `Picture` where it is kept smaller.
        visible: visible mask of each object that shows, by track id.
        state: of the stream, as its last step returned it.
        frame_gap: frames since the last step; above 1 after drops.
        with_remembered: whether `ObjectResult.remembered` is wanted; it is empty otherwise.
    """

    frame: UInt8[np.ndarray, "H W 3"] | Picture | None
    visible: Mapping[int, BoxedMask]
    state: StreamState
    frame_gap: float = 1.0
    with_remembered: bool = True


class PreparedStep(NamedTuple):
    """A request that was checked, and whom it follows.

    Attributes:
        state: of the stream before the frame, new objects added and lost ones gone.
        own: visible mask of each object of ``state``, empty where it does not show.
        frame_gap: frames since the last step.
        with_remembered: whether `ObjectResult.remembered` is wanted.
        picture: the frame's image, where there is one.
    """

    state: StreamState
    own: tuple[BoxedMask, ...]
    frame_gap: float
    with_remembered: bool
    picture: Picture | None = None


class _Advanced(NamedTuple):
    """Estimates of a frame, the moved state, and how many masks hold each pixel."""

    estimates: list[Estimate]
    state: StreamState
    coverage: UInt8[np.ndarray, "H W"] | None


class AmodalSegmenter:
    """Completes the visible masks of streams, frame by frame."""

    def __init__(
        self,
        engine: Engine,
        config: StreamConfig | None = None,
        judge: VeilJudge | None = None,
        *,
        sees_pictures: bool = False,
    ) -> None:
        """Keep what completes masks.

        Args:
            engine: runs the network.
            config: how objects are kept and reported.
            judge: of what hides objects without having a mask; without one nothing does.
            sees_pictures: whether images tell the judge something.
        """
        self.engine = engine
        self.config = config or StreamConfig()
        self.judge = judge
        self.sees_pictures = sees_pictures and judge is not None

    def with_engine(self, engine: Engine) -> AmodalSegmenter:
        """Return the same on another engine."""
        return AmodalSegmenter(engine, self.config, self.judge, sees_pictures=self.sees_pictures)

    def start(self, frame_size: tuple[int, int]) -> StreamState:
        """Return the state of a stream that has seen nothing.

        Args:
            frame_size: ``(height, width)`` of its frames, pixels.

        Raises:
            LimitError: a side is not 1 to 16384.
        """
        check_frame_size(frame_size)
        return new_state(frame_size)

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
            frame: the image, or ``None``: it tells what hides objects without having a mask.
            visible: visible mask of each object that shows, by track id.
            state: of this stream, as the last step returned it.
            frame_gap: frames since the last step; above 1 after drops.

        Raises:
            InputError: an image or a mask of another size than the stream's frames.
            LimitError: more than 1024 objects.
        """
        (stepped,) = self.step_many([StepRequest(frame, visible, state, frame_gap)])
        return stepped

    def step_many(self, requests: Sequence[StepRequest]) -> list[tuple[FrameResult, StreamState]]:
        """Return what `step` gives for each request, out of one call of the engine.

        Requests do not touch each other: they are of different streams, of any frame sizes.

        Raises:
            InputError: as `step`, for the first request that is wrong; none is worked out then.
                Where others must go on, `prepare` each and give `step_prepared` those that pass.
            LimitError: the same.
        """
        return self.step_prepared([self.prepare(request) for request in requests])

    def prepare(self, request: StepRequest) -> PreparedStep:
        """Check one request; what it gives is for `step_prepared` and cannot be refused there.

        Raises:
            InputError: an image or a mask of another size than the stream's frames, or a bad gap.
            LimitError: more than 1024 objects.
        """
        state = request.state
        picture = _picture_of(request.frame, state.frame_size)
        _check_visible(request.visible, state, request.frame_gap)
        visible = {key: mask for key, mask in sorted(request.visible.items()) if mask.area}
        state = add_new(self._drop_lost(state), visible, self.engine)
        nothing = empty_mask(state.frame_size)
        own = tuple(visible.get(track_id, nothing) for track_id in state.track_ids)
        return PreparedStep(state, own, request.frame_gap, request.with_remembered, picture)

    def step_prepared(self, steps: Sequence[PreparedStep]) -> list[tuple[FrameResult, StreamState]]:
        """Return result and new state of each prepared step, out of one call of the engine."""
        least_overlap = self.config.least_overlap
        return [
            (
                complete(
                    found,
                    state.lost_ids,
                    state.frame_size,
                    least_overlap,
                    counts,
                    with_remembered=step.with_remembered,
                ),
                state,
            )
            for step, (found, state, counts) in zip(
                steps, self._advance_prepared(steps), strict=True
            )
        ]

    def advance(
        self,
        visible: Mapping[int, BoxedMask],
        state: StreamState,
        *,
        frame_gap: float = 1.0,
        picture: Picture | None = None,
    ) -> tuple[list[Estimate], StreamState]:
        """Return the network's estimates of one frame and the moved state.

        Args:
            visible: visible mask of each object that shows, by track id.
            state: of this stream, as the last step returned it.
            frame_gap: frames since the last step.
            picture: the frame's image, where there is one.

        Raises:
            InputError: a mask of another size than the stream's frames, or a bad gap.
            LimitError: more than 1024 objects.
        """
        step = self.prepare(StepRequest(picture, visible, state, frame_gap))
        ((estimates, state, _),) = self._advance_prepared([step])
        return estimates, state

    def _advance_prepared(self, steps: Sequence[PreparedStep]) -> list[_Advanced]:
        advanced = [_Advanced([], step.state, None) for step in steps]
        busy = [index for index, step in enumerate(steps) if step.own]
        followed = [self._follow(steps[index]) for index in busy]
        parts = [
            (placed.inputs, self._kept_memory(steps[index].state.memory, placed))
            for index, placed in zip(busy, followed, strict=True)
        ]
        stepped = step_together(self.engine, parts)
        for index, placed, result in zip(busy, followed, stepped, strict=True):
            coverage = placed.views[0].coverage.counts
            advanced[index] = _Advanced(
                *estimate(
                    (steps[index].state, steps[index].own, steps[index].frame_gap), placed, *result
                ),
                coverage,
            )
        return advanced

    def _kept_memory(self, memory: MemoryState[Any], placed: Placed) -> MemoryState[Any]:
        """Return the memory without objects that begin again, veiled ones as usually seen."""
        if not placed.has_begun.any() and not placed.recalled:
            return memory
        kept = MemoryState(*(field.copy() for field in self.engine.to_host(memory)))
        for field in kept:
            field[placed.has_begun] = 0
        recall(kept.maps, placed.recalled)
        return kept

    def _follow(self, step: PreparedStep) -> Placed:
        coverage = Coverage(cover(step.own, step.state.frame_size))
        picture = step.picture if self.sees_pictures else None
        return follow(
            step.state.tracks,
            [View(mask, coverage, picture=picture) for mask in step.own],
            step.frame_gap,
            self.config.placement,
            self.config.motion,
            self.judge,
        )

    def expect(self, state: StreamState, *, frame_gap: float = 1.0) -> dict[int, Expectation]:
        """Return where each followed object is expected in the coming frame, by track id.

        The remembered silhouette, moved as the object was last seen to move; a hidden object's
        too. Made for visible-mask sources, before `step` is given what they find.
        """
        return expect_objects(state, frame_gap, self.config.motion)

    def forget(self, state: StreamState, track_ids: Collection[int]) -> StreamState:
        """Return the state without some objects, as if they had never been; others are ignored."""
        gone = set(track_ids)
        kept = [row for row, key in enumerate(state.track_ids) if key not in gone]
        if len(kept) < len(state.track_ids):
            state = take(state, kept, [state.track_ids[row] for row in kept], self.engine)
        lost_ids = tuple(key for key in state.lost_ids if key not in gone)
        return state._replace(lost_ids=lost_ids)

    def _drop_lost(self, state: StreamState) -> StreamState:
        """Stop following objects that were hidden, outside or in the open for too long."""
        limits, is_hidden = self.config, state.frames_hidden > 0
        is_lost = state.frames_hidden > limits.max_hidden_frames
        is_lost |= is_hidden & (state.frames_outside > limits.max_outside_frames)
        is_lost |= is_hidden & (state.frames_open > limits.max_open_frames)
        if not is_lost.any():
            return state
        gone = {state.track_ids[row] for row in np.flatnonzero(is_lost).tolist()}
        kept = np.flatnonzero(~is_lost).tolist()
        state = take(state, kept, [state.track_ids[row] for row in kept], self.engine)
        return state._replace(lost_ids=tuple(sorted({*state.lost_ids, *gone})))

    def save_state(self, state: StreamState) -> dict[str, np.ndarray]:
        """Return a state as plain arrays, to be stored by name (``np.savez``)."""
        return arrays_from_state(state._replace(memory=self.engine.to_host(state.memory)))

    @staticmethod
    def load_state(arrays: Mapping[str, np.ndarray]) -> StreamState:
        """Return the state of arrays that `save_state` gave.

        Raises:
            InputError: an array is missing, or the numbers of objects differ.
        """
        return state_from_arrays(arrays)


def _picture_of(
    frame: UInt8[np.ndarray, "H W 3"] | Picture | None, frame_size: tuple[int, int]
) -> Picture | None:
    """Return the picture of a frame.

    Raises:
        InputError: an image of another size than the stream's frames.
    """
    if isinstance(frame, Picture):
        return frame
    check_image(frame, frame_size, "frame")
    return None if frame is None else Picture(frame)


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
