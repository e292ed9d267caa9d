"""Moving objects of raw video, found without any prompt: static or moving camera, causal.

    flow -> camera motion -> background moved along -> what differs -> regions -> tracks

All of it works at a reduced size; the masks are brought to the frame's size at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int16, UInt8

from amodal_model.background import (
    BackgroundConfig,
    difference,
    forget,
    learn,
)
from amodal_model.camera_motion import (
    CameraMotion,
    camera_flow,
    fit_camera,
    invert,
    measure_flow,
)
from amodal_model.errors import InputError
from amodal_model.frame_size import check_frame_size
from amodal_model.masks import BoxedMask
from amodal_model.motion_association import Association, Frame, associate
from amodal_model.motion_division import divide_tracks
from amodal_model.motion_evidence import (
    EvidenceConfig,
    doubt,
    mismatch,
    own_motion,
    weigh,
)
from amodal_model.motion_ghosts import find_ghosts
from amodal_model.motion_regions import (
    RegionConfig,
    Views,
    describe,
    find_regions,
)
from amodal_model.motion_scene import Looks, carry_frame, held_pixels, move_scene, reduce
from amodal_model.motion_sightings import MotionFrame, sightings
from amodal_model.motion_state import (
    MotionState,
    arrays_from_state,
    new_state,
    state_from_arrays,
)
from amodal_model.motion_tracks import (
    FollowConfig,
    MotionTracks,
    carry,
    is_kept,
    no_tracks,
    observe,
    take,
)
from amodal_model.visible_source import Arrays, Expectation, Prompt

CUT_SHARE = 0.7
"""Share of a frame that differs from the background from which the scene is another."""

Flow = Float32[np.ndarray, "h w 2"]


class MotionConfig(NamedTuple):
    """Settings of the parts."""

    background: BackgroundConfig = BackgroundConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    regions: RegionConfig = RegionConfig()
    follow: FollowConfig = FollowConfig()


class Weighed(NamedTuple):
    """How a frame differs from the background, and how surely each pixel moves by itself."""

    raw: Float32[np.ndarray, "h w"]
    moves: Float32[np.ndarray, "h w"]


class MotionSource:
    """Finds what moves. A `VisibleMaskSource`; prompts say nothing to it."""

    def __init__(self, config: MotionConfig | None = None) -> None:
        self.config = config or MotionConfig()

    def __repr__(self) -> str:
        return f"MotionSource({self.config!r})"

    def start(self, frame_size: tuple[int, int]) -> MotionState:
        """Return the state before the first frame.

        Raises:
            LimitError: a side is not 1 to 16384.
        """
        check_frame_size(frame_size)
        return new_state(frame_size)

    def find(
        self,
        image: UInt8[np.ndarray, "H W 3"] | None,
        prompts: Sequence[Prompt],
        state: MotionState,
        expected: Mapping[int, Expectation],
    ) -> tuple[dict[int, BoxedMask], MotionState]:
        """Return the masks of what moves, or has moved, by track id, and the new state.

        Raises:
            InputError: no image, or one of another size than the frames.
        """
        if image is None:
            raise InputError("motion needs the image of every frame, got none")
        seen, state = self.look(image, state, expected)
        return {s.track_id: s.mask for s in seen.sightings if s.track_id}, state

    def save_state(self, state: MotionState) -> Arrays:
        """Return a state as plain arrays, to be stored by name."""
        return arrays_from_state(state)

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> MotionState:
        """Return the state of arrays that `save_state` gave.

        Raises:
            InputError: an array is missing or has another shape.
        """
        return state_from_arrays(arrays)

    def look(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        state: MotionState,
        expected: Mapping[int, Expectation] | None = None,
    ) -> tuple[MotionFrame, MotionState]:
        """Return all that a frame shows, tracks that are not confirmed yet too.

        Raises:
            InputError: the image has another size than the frames.
        """
        looks = reduce(image, state.frame_size)
        if state.frames == 0:
            return MotionFrame(), self._restart(looks, state)
        flow = measure_flow(looks.gray, state.previous)
        camera = fit_camera(flow, (looks.gray, state.previous), state.labels > 0)
        motion = camera_flow(camera, state.labels.shape) - flow
        state, moved, weighed = self._weigh(looks, (flow, motion), camera, state)
        if np.mean(weighed.raw > 1) > CUT_SHARE:
            return MotionFrame(), self._restart(looks, state)
        views = Views(state.odds, weighed.moves, motion, looks.colors)
        state, regions, count = self._regions(looks, weighed.moves, state)
        frame = Frame(regions, describe(regions, count, views), moved)
        tracks = carry(state.tracks, invert(camera.previous_from_current))
        tracks = _expect(tracks, expected or {}, state)
        match = associate(tracks, frame, state.next_serial, self.config.follow)
        held = set(expected or ())
        return self._conclude(match, (frame, views), state, held, weighed.raw)

    def _regions(
        self, looks: Looks, moves: Float32[np.ndarray, "h w"], state: MotionState
    ) -> tuple[MotionState, Int16[np.ndarray, "h w"], int]:
        """Return the regions of what moves, and the state without the ghosts among them."""
        regions, count = find_regions(state.odds, self.config.regions)
        ghosts = find_ghosts(regions, count, moves, looks.colors, state.background.mean)
        if not ghosts.any():
            return state, regions, count
        is_ghost = np.concatenate([[False], ghosts])[regions]
        renumber = np.zeros(count + 1, np.int16)
        renumber[1:][~ghosts] = np.arange(1, int((~ghosts).sum()) + 1)
        state = state._replace(
            background=forget(state.background, looks.colors, is_ghost),
            odds=np.where(is_ghost, np.float32(self.config.evidence.lowest), state.odds),
        )
        return state, renumber[regions], int((~ghosts).sum())

    def _weigh(
        self, looks: Looks, flows: tuple[Flow, Flow], camera: CameraMotion, state: MotionState
    ) -> tuple[MotionState, Int16[np.ndarray, "h w"], Weighed]:
        """Bring the state into the frame's pixels, and weigh what they show.

        Returns:
            The state, the labels of the last frame moved along the flow, and what was weighed.
        """
        flow, motion = flows
        config = self.config
        carried = carry_frame(state, flow, camera)
        still_error = mismatch(looks.gray, carried.still)
        moved_error = mismatch(looks.gray, carried.gray)
        least_speed = max(config.follow.least_speed, 4 * camera.spread_px)
        moves = own_motion(motion, still_error, moved_error, least_speed, config.evidence)
        state = move_scene(state, camera, looks)
        differs = difference(
            state.background, looks.colors, config.background, unsteadiness=state.unsteadiness
        )
        odds = weigh(carried.odds, differs, moves, state.background, config.evidence)
        background = doubt(state.background, differs, moves)
        return (
            state._replace(odds=odds, background=background),
            carried.labels,
            Weighed(differs.score, moves),
        )

    def warm_up(
        self, images: Iterable[UInt8[np.ndarray, "H W 3"]], state: MotionState
    ) -> MotionState:
        """Return the state of a stream about to begin that knows the scene from other frames.

        Args:
            images: frames of the scene; the last one should be near the first of the stream.
            state: that has seen nothing.
        """
        for image in images:
            _, state = self.look(image, state)
        return state._replace(
            labels=np.zeros_like(state.labels), tracks=no_tracks(), next_serial=1, next_id=1
        )

    def _restart(self, looks: Looks, state: MotionState) -> MotionState:
        """Return the state of a scene whose first frame this is; numbers go on."""
        fresh = new_state(state.frame_size)
        background = learn(
            fresh.background,
            looks.colors,
            np.zeros_like(fresh.background.age),
            np.zeros(fresh.labels.shape, np.uint8),
            self.config.background,
            unsteadiness=0.0,
        )
        return fresh._replace(
            frames=state.frames + 1,
            previous=looks.gray,
            background=background,
            next_serial=state.next_serial,
            next_id=state.next_id,
        )

    def _conclude(
        self,
        match: Association,
        passed: tuple[Frame, Views],
        state: MotionState,
        expected: set[int],
        raw: Float32[np.ndarray, "h w"],
    ) -> tuple[MotionFrame, MotionState]:
        """Return what was seen, and the state with the frame learned."""
        frame, views = passed
        follow = self.config.follow
        found = describe(match.labels, len(match.tracks.serial), views)
        first = int(max(match.tracks.serial.max(initial=0) + 1, state.next_serial))
        divided = divide_tracks(match, found, first, follow)
        if divided.labels is not match.labels:
            match = divided
            found = describe(match.labels, len(match.tracks.serial), views)
        match = match._replace(tracks=divided.tracks)
        tracks, next_id = observe(match.tracks, found, state.next_id, follow)
        stays = is_kept(tracks, follow) | np.isin(tracks.track_id, list(expected - {0}))
        stays[[*match.split, *(part for part, _ in match.absorbed)]] = False
        serials = tracks.serial.tolist()
        seen = MotionFrame(
            sightings(tracks, found, match.labels, frame.moved, state.frame_size),
            tuple(serials[row] for row in match.split),
            tuple((serials[part], serials[whole]) for part, whole in match.absorbed),
        )
        held = held_pixels(tracks, match.labels)
        background = learn(
            state.background,
            views.colors,
            raw,
            held,
            self.config.background,
            unsteadiness=state.unsteadiness,
        )
        renumber = np.zeros(len(stays) + 1, np.int16)
        renumber[1:][stays] = np.arange(1, int(stays.sum()) + 1)
        return seen, state._replace(
            frames=state.frames + 1,
            background=background,
            labels=renumber[match.labels],
            tracks=take(tracks, stays),
            next_serial=max([*serials, state.next_serial - 1]) + 1,
            next_id=next_id,
        )


def _expect(
    tracks: MotionTracks, expected: Mapping[int, Expectation], state: MotionState
) -> MotionTracks:
    """Put tracks that are out of sight where the amodal state expects them."""
    center = tracks.center.copy()
    scale = np.array(state.labels.shape[::-1]) / np.array(state.frame_size[::-1])
    for row, track_id in enumerate(tracks.track_id.tolist()):
        place = expected.get(track_id)
        if track_id and place is not None and tracks.missed[row] and place.silhouette.area:
            x0, y0, x1, y1 = place.silhouette.bbox_xyxy
            center[row] = np.array([x0 + x1, y0 + y1]) / 2 * scale
    return tracks._replace(center=center)
